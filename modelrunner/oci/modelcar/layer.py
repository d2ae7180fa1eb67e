"""A layer of an image that holds one file: a tar of which only path and content decide.

No time, no owner, fixed modes: the same file makes the same layer on every machine, whatever
wrote it. The tar is what is put before a file and what is put after it, so that it can be hashed
and sent while the file is read. A record of pax fills what comes before up to whole pages: file
systems that clone can then share the content of a stored layer with the file.
"""

from pathlib import PurePosixPath
from tarfile import BLOCKSIZE, DIRTYPE, REGTYPE, XHDTYPE

FOLDER = "models"
"""Where runtimes look for a model in an image; KServe has named it so."""

PAGE = 4096
_NAME = 100
_LARGEST = 8**11 - 1
"""What the eleven octal digits of a header can say of a size."""
_MODES = {REGTYPE: 0o644, DIRTYPE: 0o755, XHDTYPE: 0o644}
_END = bytes(2 * BLOCKSIZE)


def head(path: PurePosixPath, size: int) -> bytes:
    """Return what comes before the content of a file.

    Args:
        path: Its path below `/models`.
        size: Its size in bytes.
    """
    inside = PurePosixPath(FOLDER) / path
    folders = [f"{folder}/" for folder in reversed(inside.parents) if folder.parts]
    front = b"".join(_entry(folder, 0, DIRTYPE) for folder in folders)
    return front + _entry(str(inside), size, REGTYPE, align=len(front))


def tail(size: int) -> bytes:
    """Return what comes after the content of a file of a size: padding, and the end of a tar."""
    return bytes(-size % BLOCKSIZE) + _END


def _entry(name: str, size: int, kind: bytes, *, align: int | None = None) -> bytes:
    """Return the header of an entry, with one of pax before it where that is needed.

    Args:
        name: The path.
        size: Bytes of content.
        kind: The type.
        align: Bytes before the header; with it, the header ends at a page.
    """
    records = b""
    if len(name.encode()) > _NAME or not name.isascii():
        records += _record("path", name)
    if size > _LARGEST:
        records += _record("size", str(size))
    block = _block(name, size if size <= _LARGEST else 0, kind)
    if align is not None:
        # the shortest record is counted, since less could not be filled
        least = len(records) + len(_record("comment", ""))
        around = align + 2 * BLOCKSIZE
        room = -(-least // BLOCKSIZE) * BLOCKSIZE
        room += -(around + room) % PAGE
        records += _filled("comment", room - len(records))
    if not records:
        return block
    padding = bytes(-len(records) % BLOCKSIZE)
    return _block("pax_header", len(records), XHDTYPE) + records + padding + block


def _record(key: str, value: str) -> bytes:
    """Return a record of pax, which begins with its own length."""
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while length != len(str(length)) + len(rest):
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _filled(key: str, length: int) -> bytes:
    """Return a record of pax of a length."""
    blank = length - len(f"{length} {key}=\n")
    return f"{length} {key}={' ' * blank}\n".encode()


def _block(name: str, size: int, kind: bytes) -> bytes:
    fields = (
        name.encode("ascii", "replace")[:_NAME].ljust(_NAME, b"\0"),
        b"%07o\0" % _MODES[kind],
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        b"%011o\0" % size,
        b"%011o\0" % 0,
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        b"%07o\0" % 0,
        b"%07o\0" % 0,
        bytes(167),
    )
    raw = b"".join(fields)
    at = 148
    return raw[:at] + b"%06o\0 " % sum(raw) + raw[at + 8 :]
