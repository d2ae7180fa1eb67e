"""Container images packed from the files of this machine: its Python, nothing downloaded."""

import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PYTHON = Path(sys.executable).resolve()
_LIBRARY = re.compile(r"(/\S+) \(0x")
_NOT_NEEDED = {"__pycache__", "ensurepip", "idlelib", "site-packages", "test", "tkinter"}


def import_image(
    host: str, name: str, archive: Path, files: Mapping[Path, Path], changes: Sequence[str] = ()
) -> None:
    """Makes an image known to the daemon.

    Args:
        host: The daemon's address.
        name: The image's name.
        archive: A file to pack it in, which is gone afterwards.
        files: Where each file lies in the image, and here.
        changes: Instructions of a Dockerfile.
    """
    with tarfile.open(archive, "w") as image:
        folders = {parent for path in files for parent in path.parents}
        for folder in sorted(folders - {Path("/")}):
            entry = tarfile.TarInfo(str(folder))
            # anybody may look in: the program that runs in it is nobody's
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            image.addfile(entry)
        for path, file in sorted(files.items()):
            image.add(file.resolve(), str(path), recursive=False)
    options = [option for change in changes for option in ("-c", change)]
    subprocess.run(
        ["docker", "-H", host, "import", *options, str(archive), name],
        check=True,
        capture_output=True,
    )
    archive.unlink()


def python_files(*natives: Path) -> dict[Path, Path]:
    """This Python, its standard library, and the libraries that it and others load."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    native = [PYTHON, *natives, *(stdlib / "lib-dynload").glob("*.so")]
    return {file: file for file in (*tree(stdlib), *_libraries(native), PYTHON)}


def tree(folder: Path) -> Iterator[Path]:
    """The files under a folder, those left out that only developers need."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in _NOT_NEEDED:
            yield from tree(path)
        elif path.is_file() and path.suffix != ".a":
            yield path


def _libraries(files: Sequence[Path]) -> Iterator[Path]:
    done = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False)
    yield from map(Path, _LIBRARY.findall(done.stdout))
