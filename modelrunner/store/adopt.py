"""Files of others that become blobs: their blocks or the file itself shared where that can be.

The content is hashed in every case, once: a copy while it is written. What is theirs stays as it
is: a shared file keeps its name, its mode and its owner. Should its program ever write into it, its
stamp does not fit any more, and the blob is hashed again before it is used.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from modelrunner.disk.clones import share_blocks
from modelrunner.disk.files import disk_errors, flush
from modelrunner.disk.inside import make_read_only, open_content, open_inside
from modelrunner.errors import DigestMismatchError, UsageError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.blobs import BlobStore
from modelrunner.store.hashing import SideHash, buffers
from modelrunner.store.stamps import hash_file, look

Way = Literal["auto", "link", "copy"]
"""`auto` shares blocks, else links, else copies; `link` links or fails; a `copy` may be changed."""

Taken = Literal["here", "reflink", "hardlink", "copy"]
"""How a file came: `here` is one that was there already."""

_ANY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class TakenFile:
    """A file that is a blob now."""

    digest: Digest
    size: int
    how: Taken


def take(
    blobs: BlobStore,
    path: Path,
    claimed: Digest | None = None,
    *,
    way: Way = "auto",
    on_bytes: Callable[[int], None] = lambda _count: None,
    before_copy: Callable[[], None] = lambda: None,
) -> TakenFile:
    """Makes a file a blob.

    Args:
        blobs: Where to.
        path: The file; a symbolic link stands for what it points at.
        claimed: The digest that the other program claims.
        way: How.
        on_bytes: Hears how many bytes were hashed, piece by piece.
        before_copy: Called before a file is copied that cannot be shared; may raise.

    Raises:
        DigestMismatchError: It is not what it is said to be, or changes while it is read.
        UsageError: There can be no link.
        DiskFullError, StoreAccessError: It cannot be kept, or not be read.
    """
    with disk_errors(path):
        path = path.resolve(strict=True)
        looked, size = look(path), path.stat().st_size
        if claimed is not None and blobs.state(Descriptor(_ANY, claimed, size)) == "good":
            return TakenFile(claimed, size, "here")
    with blobs.unnamed() as beside:
        with disk_errors(path):
            how = next((how for how in _WAYS[way] if _SHARED[how](path, looked, beside)), None)
        if how is None and way == "link":
            raise UsageError(
                f"cannot link {path} into the local store",
                hint="leave out --link, or set MODELRUNNER_HOME to a directory on the same disk",
                path=str(path),
            )
        if how is None and blobs.has_one_of(size):
            # likely this one: read to see, and not written for nothing
            with disk_errors(path):
                digest = hash_file(path)
            if blobs.state(Descriptor(_ANY, digest, size)) == "good":
                on_bytes(size)
                _require_claimed(path, claimed, digest)
                return TakenFile(digest, size, "here")
        if how is None:
            before_copy()
            digest = _copy(path, beside, on_bytes)
        else:
            with disk_errors(path):
                digest = hash_file(beside, on_bytes)
        with disk_errors(path):
            _require_same(path, looked)
        _require_claimed(path, claimed, digest)
        adopted = blobs.adopt(Descriptor(_ANY, digest, size), partial(_rename, beside))
    return TakenFile(digest, size, (how or "copy") if adopted else "here")


def _copy(path: Path, target: Path, on_bytes: Callable[[int], None]) -> Digest:
    """Copy a file, and hash on another core what is written; the digest of the copy."""
    hasher, room = SideHash(), buffers()
    with (
        disk_errors(path),
        disk_errors(target),
        open_content(path) as source,
        open_inside(target, "new") as file,
    ):
        while count := source.readinto(buffer := next(room)):
            piece = buffer[:count]
            # each byte is read once: what the digest is of is what was written
            hasher.add(piece)
            while piece:
                piece = piece[file.write(piece) :]
            on_bytes(count)
        flush(file.fileno())
        make_read_only(file, target)
    return Digest(hasher.hexdigest())


def _rename(beside: Path, target: Path) -> bool:
    beside.replace(target)
    return True


def _require_claimed(path: Path, claimed: Digest | None, digest: Digest) -> None:
    if claimed is not None and digest != claimed:
        raise DigestMismatchError(
            f"{path} is damaged: expected {claimed}, got {digest}",
            hint="download it again with the program that owns it; nothing was stored",
            expected=str(claimed),
            got=str(digest),
        )


def _reflink(path: Path, looked: str, target: Path) -> bool:
    if not share_blocks(path, target):
        return False
    with open_inside(target, "read") as file:
        make_read_only(file, target)
    _require_same(path, looked)
    return True


def _hardlink(path: Path, looked: str, target: Path) -> bool:
    try:
        os.link(path, target)
    except OSError:
        return False
    _require_same(path, looked)
    return True


_SHARED: dict[Taken, Callable[[Path, str, Path], bool]] = {
    "reflink": _reflink,
    "hardlink": _hardlink,
}
_WAYS: dict[Way, tuple[Taken, ...]] = {
    "auto": ("reflink", "hardlink"),
    "link": ("hardlink",),
    "copy": ("reflink",),
}


def _require_same(path: Path, looked: str) -> None:
    if look(path) != looked:
        raise DigestMismatchError(
            f"{path} changed while it was read",
            hint="wait until its program has finished writing it",
        )
