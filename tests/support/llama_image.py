"""An image with the stand-in for `llama-server`, packed from the files of this machine.

It has this Python, its standard library and the shared libraries that are loaded, where they are
here, and xllamacpp in a folder of its own: `/tmp`, where a checkout may be, is empty in the
container. Nothing is downloaded.
"""

import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

IMAGE = "stand-in:1"
STAND_IN = Path(__file__).parent / "llama_server.py"
PROGRAM = "/app/llama_server.py"
_PACKAGES = Path("/app/packages")
_LIBRARY = re.compile(r"(/\S+) \(0x")
_NOT_NEEDED = {"__pycache__", "ensurepip", "idlelib", "site-packages", "test", "tkinter"}


def import_image(host: str, folder: Path) -> None:
    """Makes `IMAGE` known to the daemon."""
    import xllamacpp

    package = Path(xllamacpp.__file__).parent
    python = Path(sys.executable).resolve()
    archive = folder / "image.tar"
    with tarfile.open(archive, "w") as image:
        _pack(image, python, package)
    entry = f'ENTRYPOINT ["{python}", "-P", "{PROGRAM}"]'
    path = f"ENV PYTHONPATH={_PACKAGES}"
    subprocess.run(
        ["docker", "-H", host, "import", "-c", entry, "-c", path, str(archive), IMAGE],
        check=True,
        capture_output=True,
    )
    archive.unlink()


def _pack(image: tarfile.TarFile, python: Path, package: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    native = [python, *package.glob("*.so"), *(stdlib / "lib-dynload").glob("*.so")]
    files = {file: file for file in (*_tree(stdlib), *_libraries(native), python)}
    files |= {_PACKAGES / file.relative_to(package.parent): file for file in _tree(package)}
    files[Path(PROGRAM)] = STAND_IN
    for folder in sorted({parent for name in files for parent in name.parents} - {Path("/")}):
        entry = tarfile.TarInfo(str(folder))
        # anybody may look in: the program that runs in it is nobody's
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        image.addfile(entry)
    for name, file in sorted(files.items()):
        image.add(file.resolve(), str(name), recursive=False)


def _tree(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir() and path.name not in _NOT_NEEDED:
            yield from _tree(path)
        elif path.is_file():
            yield path


def _libraries(files: list[Path]) -> Iterator[Path]:
    done = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False)
    yield from map(Path, _LIBRARY.findall(done.stdout))
