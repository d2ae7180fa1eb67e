"""Where an archive is read from: a file, parts of one, or a stream; gzip and zstd are undone."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from glob import escape
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, cast

from modelrunner.archives.compression import HEAD, Packing, packing_of, unpacked
from modelrunner.errors import (
    IntegrityError,
    SizeMismatchError,
    UnsupportedArtifactError,
    UsageError,
)
from modelrunner.oci.tar import Readable
from modelrunner.operations.archive.output import part
from modelrunner.operations.archive.tar import cut
from modelrunner.text import os_hint, os_reason

_BUFFER = 64 * 1024
"""Much less than what is read at once: that goes past it, and is copied once."""

_NUMBERED = re.compile(r"\.[0-9]{3}")
_OTHER_PACKING = {
    b"\xfd7zX": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}


def find_parts(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The files to read one after the other; all parts where the first one or none is named.

    Raises:
        UsageError: A file is not there.
    """
    if len(paths) == 1:
        (path,) = paths
        if path.suffix == ".000" and path.is_file():
            return _numbered(path.with_suffix(""))
        if not path.exists() and part(path, 0).is_file():
            return _numbered(path)
    for path in paths:
        if path.is_dir():
            raise UsageError(
                f"{path} is a directory, not an archive",
                hint=f"pack it first: tar -C {path} -cf models.tar oci-layout index.json blobs",
            )
        if not path.exists():
            raise UsageError(
                f"{path}: file not found", hint="name an archive that `modelrunner save` wrote"
            )
    return tuple(paths)


def _numbered(path: Path) -> tuple[Path, ...]:
    """All parts of a split archive, from the first one on.

    Raises:
        UsageError: One in the middle is missing.
    """
    numbers = sorted(
        # bounded: three digits
        int(beside.suffix[1:])
        for beside in path.parent.glob(f"{escape(path.name)}.[0-9][0-9][0-9]")
        if beside.is_file()
    )
    missing = sorted(set(range(numbers[-1] + 1)) - set(numbers)) if numbers else []
    if missing:
        names = ", ".join(part(path, number).name for number in missing[:3])
        raise UsageError(
            f"{part(path, 0).name}: missing part {names} of the archive",
            hint="copy every part into one directory, and name the first",
        )
    return tuple(part(path, number) for number in numbers)


def named(error: IntegrityError, paths: Sequence[Path]) -> IntegrityError:
    """Return an error of an archive with its file, and with the part that may be missing.

    Args:
        error: What is wrong with it.
        paths: The files that it was read from.
    """
    about = error.about(str(paths[0]))
    if not all(_NUMBERED.fullmatch(path.suffix) for path in paths):
        return about
    # bounded: three digits
    given = {int(path.suffix[1:]) for path in paths}
    whole = paths[0].with_suffix("")
    missing = sorted(set(range(max(given) + 1)) - given)
    if not missing:
        # the parts that there are follow each other: what is missing comes after them
        ends = isinstance(error, SizeMismatchError)
        following = part(whole, len(paths)).name
        return about.with_hint(f"copy it again: {following} may be missing") if ends else about
    if all(part(whole, number).is_file() for number in missing):
        return about.with_hint(f"load all of its parts: `modelrunner load {part(whole, 0)}`")
    names = ", ".join(part(whole, number).name for number in missing[:3])
    return about.with_hint(f"it may be a part of an archive: copy {names} into its directory too")


@contextmanager
def open_parts(paths: Sequence[Path]) -> Iterator[Readable]:
    """The block in which files are read as if they were one.

    Raises:
        UsageError: One cannot be read.
        UnsupportedArtifactError: It is compressed in a way that is not undone here.
    """
    with ExitStack() as stack:
        try:
            # outside: an archive that a person names
            files = [stack.enter_context(path.open("rb", buffering=0)) for path in paths]
        except OSError as exc:
            raise UsageError(
                f"cannot read {exc.filename}: {os_reason(exc)}", hint=os_hint(exc)
            ) from exc
        joined = stack.enter_context(BufferedReader(_Joined(files), _BUFFER))
        yield plain(joined)


def plain(stream: "BufferedReader[Any]") -> Readable:
    """The tar in a stream, which may be compressed with gzip or zstd.

    Raises:
        UnsupportedArtifactError: It is compressed in another way.
    """
    start = stream.peek(HEAD)
    how = packing_of(start)
    if how is not None:
        return Unpacked(stream.read1, how)
    refuse_packing(start)
    return stream


def refuse_packing(start: bytes) -> None:
    """Refuse an archive that is compressed in a way that is not undone.

    Args:
        start: Its first bytes.

    Raises:
        UnsupportedArtifactError: It is.
    """
    for magic, name in _OTHER_PACKING.items():
        if start.startswith(magic):
            raise UnsupportedArtifactError(
                f"the archive is compressed with {name}",
                hint="decompress it first; tar, tar.gz and tar.zst are supported",
                format=name,
            )


class _Joined(RawIOBase):
    """Files one after the other."""

    def __init__(self, files: Sequence[IO[bytes]]) -> None:
        self._files = list(files)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        while self._files:
            try:
                count = cast("int", self._files[0].readinto(buffer))  # type: ignore[attr-defined]
            except OSError as exc:
                raise IntegrityError(f"cannot read the archive: {os_reason(exc)}") from exc
            if count:
                return count
            self._files.pop(0)
        return 0


class Unpacked:
    """What gzip or zstd has packed; a damaged stream is an archive's damage."""

    def __init__(self, read: Callable[[int], bytes], how: Packing) -> None:
        self._pieces = unpacked(read, how, _damaged)
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Return bytes, up to a number of them, none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        found, self._rest = self._rest[:size], self._rest[size:]
        return bytes(found)


def _damaged(what: str) -> IntegrityError:
    if what == "ends in the middle":
        # as of a plain file
        return cut()
    return IntegrityError(f"the compressed archive {what}; nothing was loaded")
