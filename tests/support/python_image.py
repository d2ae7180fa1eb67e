"""Images with this Python, packed from the files of this machine: nothing is downloaded.

Python, its standard library and the shared libraries that are loaded lie where they are here.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path

_LIBRARY = re.compile(r"(/\S+) \(0x")
_NOT_NEEDED = {"__pycache__", "ensurepip", "idlelib", "site-packages", "test", "tkinter"}
PYTHON = Path(sys.executable).resolve()


def import_python_image(
    host: str,
    folder: Path,
    name: str,
    files: Mapping[Path, Path],
    *,
    settings: Sequence[str] = (),
    scripts: Mapping[str, str] | None = None,
    programs: Sequence[str] = (),
) -> None:
    """Makes an image known to a daemon.

    Args:
        host: The daemon.
        folder: Where the archive is made.
        name: The image's name and tag.
        files: What else is in it: where it is there, and where it is here.
        settings: Instructions of a Dockerfile, `ENV` and the like.
        scripts: Texts that are programs, by their paths.
        programs: Programs of this machine that are put into `/bin`.
    """
    archive = folder / "image.tar"
    with tarfile.open(archive, "w") as image:
        _pack(image, files, scripts or {}, programs)
    changes = [word for setting in settings for word in ("-c", setting)]
    subprocess.run(
        ["docker", "-H", host, "import", *changes, str(archive), name],
        check=True,
        capture_output=True,
    )
    archive.unlink()


def tree(folder: Path) -> Iterator[Path]:
    """The files under a folder, without what no program needs."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in _NOT_NEEDED:
            yield from tree(path)
        elif path.is_file():
            yield path


def _pack(
    image: tarfile.TarFile,
    more: Mapping[Path, Path],
    scripts: Mapping[str, str],
    programs: Sequence[str],
) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    found = [Path(shutil.which(program) or program).resolve() for program in programs]
    native = [PYTHON, *found, *(stdlib / "lib-dynload").glob("*.so")]
    native += [file for file in more.values() if ".so" in file.suffixes]
    files = {file: file for file in (*tree(stdlib), *_libraries(native), PYTHON)}
    files |= {Path("/bin") / name: file for name, file in zip(programs, found, strict=True)}
    files |= more
    names = {*files, *map(Path, scripts), Path("/tmp/x")}
    for folder in sorted({parent for name in names for parent in name.parents} - {Path("/")}):
        entry = tarfile.TarInfo(str(folder))
        # anybody may look in: the program that runs in it is nobody's
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder.name == "tmp" else 0o755
        image.addfile(entry)
    for name, file in sorted(files.items()):
        image.add(file.resolve(), str(name), recursive=False)
    for path, text in scripts.items():
        entry = tarfile.TarInfo(path)
        entry.mode, entry.size = 0o755, len(text.encode())
        image.addfile(entry, BytesIO(text.encode()))


def _libraries(files: Sequence[Path]) -> Iterator[Path]:
    done = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False)
    yield from map(Path, _LIBRARY.findall(done.stdout))
