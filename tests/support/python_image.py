"""Stand-ins for the images that a Dockerfile starts from: one with Python, pip and a shell."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pip

from tests.support.machine_image import PYTHON, import_image, python_files, tree

_PIP = Path("/opt/pip")
_PACKAGES = Path("/opt/packages")


def import_python(
    host: str,
    name: str,
    folder: Path,
    packages: Path,
    environ: Mapping[str, str],
    programs: Sequence[str] = (),
) -> None:
    """Makes an image known to the daemon whose pip finds these packages and nothing else.

    Args:
        host: The daemon's address.
        name: The image's name.
        folder: For files on the way.
        packages: The wheels.
        environ: Variables of whatever runs in it.
        programs: What it has of this machine, beside a shell.
    """
    found = {each: Path(shutil.which(each) or "") for each in ("sh", *programs)}
    package = Path(pip.__file__).parent
    script = folder / "pip"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={_PIP} exec {PYTHON} -m pip "$@"\n')
    script.chmod(0o755)
    files = python_files(*found.values())
    files |= {_PIP / file.relative_to(package.parent): file for file in tree(package)}
    files |= {_PACKAGES / wheel.name: wheel for wheel in packages.iterdir()}
    files |= {Path("/bin", each): program for each, program in found.items()}
    files |= {Path("/usr/local/bin/pip"): script}
    given = {
        "PATH": f"{PYTHON.parent}:/usr/local/bin:/usr/bin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(_PACKAGES),
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_NO_COMPILE": "1",
        **environ,
    }
    changes = [f'ENV {key}="{value}"' for key, value in given.items()]
    import_image(host, name, folder / "image.tar", files, changes)


def import_empty(host: str, name: str, folder: Path) -> None:
    """Makes an image known to the daemon that has one small file."""
    mark = folder / "mark"
    mark.write_text(f"{name}\n")
    import_image(host, name, folder / "image.tar", {Path("/mark"): mark})
