"""The files of a model's directory, in the order in which Docker Model Runner packages them.

Hidden files and caches are left out. What a package must not have is refused: links that lead out
of the directory, and what is not a file.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from modelrunner.disk.files import disk_errors
from modelrunner.errors import MalformedManifestError, UsageError
from modelrunner.oci.model.paths import checked_path, same_names
from modelrunner.text import file_text, sanitize_line

MOST_FILES = 4000
"""So many layers fit into a manifest of 4 MiB, the most that registries have to take."""

_DEEPEST = 16
_CACHES = frozenset({"__pycache__"})
_LEFTOVERS = (".pyc", "~", ".tmp", ".incomplete", ".lock")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of the directory.

    Attributes:
        name: Its path in there.
        path: Where it is; a link inside the directory is its target.
        size: In bytes.
    """

    name: PurePosixPath
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a directory has.

    Attributes:
        files: Its files.
        left_out: Names of files and directories that are left out.
    """

    files: tuple[FoundFile, ...]
    left_out: tuple[str, ...]


def scan(folder: Path) -> Scanned:
    """Return the files of a directory.

    Raises:
        UsageError: One cannot be packaged, or there are too many.
        StoreAccessError: One cannot be read.
    """
    left_out: list[str] = []
    files: list[FoundFile] = []
    with disk_errors(folder, hint="check its permissions with `ls -l`"):
        root = folder.resolve(strict=True)
        for found in _walk(root, root, PurePosixPath(), left_out):
            files.append(found)
            if len(files) > MOST_FILES:
                raise UsageError(
                    f"{_shown(folder)} has more than {MOST_FILES} files",
                    hint="package a directory that has the model alone",
                )
    same = same_names(str(found.name) for found in files)
    if same is not None:
        raise UsageError(
            f"{_shown(folder)}: {same[0]} and {same[1]} are one name on macOS and Windows",
            hint="rename one of them",
        )
    return Scanned(tuple(files), tuple(left_out))


def _walk(
    root: Path, folder: Path, inside: PurePosixPath, left_out: list[str]
) -> Iterator[FoundFile]:
    if len(inside.parts) > _DEEPEST:
        raise UsageError(
            f"{_shown(folder)}: more than {_DEEPEST} directories inside of each other",
            hint="package a directory that has the model alone",
        )
    # outside: a directory that a person names
    for entry in sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name)):
        if entry.name.startswith(".") or entry.name in _CACHES or entry.name.endswith(_LEFTOVERS):
            left_out.append(sanitize_line(str(inside / file_text(entry.name)), 200))
            continue
        name = _checked(inside / file_text(entry.name), Path(entry.path))
        path = _target(root, Path(entry.path)) if entry.is_symlink() else Path(entry.path)
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(root, path, name, left_out)
        elif stat.S_ISREG(found.st_mode):
            yield FoundFile(name, path, found.st_size)
        else:
            raise UsageError(
                f"{_shown(path)} is not a file, and cannot be packaged",
                hint="move it out of the directory",
            )


def _checked(name: PurePosixPath, path: Path) -> PurePosixPath:
    try:
        return checked_path(str(name))
    except MalformedManifestError as exc:
        raise UsageError(
            f"{_shown(path)}: a file of a package cannot have this name",
            hint="rename it: no backslashes, line breaks or control characters",
        ) from exc


def _target(root: Path, link: Path) -> Path:
    """What a link in the directory stands for.

    Raises:
        UsageError: It leads out of the directory, to nothing, or to a directory.
    """
    try:
        target = link.resolve()
    except RuntimeError:
        # a circle of links, as Python up to 3.12 says it
        target = link
    if not target.is_relative_to(root):
        raise UsageError(
            f"{_shown(link)} is a symbolic link that leads out of the directory",
            hint="package a copy with the files themselves: `cp -rL DIR COPY`",
        )
    if not target.is_file():
        raise UsageError(
            f"{_shown(link)} is a symbolic link, but not to a file",
            hint="remove it, or put the files themselves in its place",
        )
    return target


def _shown(path: Path) -> str:
    return sanitize_line(str(path), 300)
