"""Stamps: how a blob's file looked when its hash was made.

Hashing gigabytes at every use is slow; trusting a file's size is careless. A stamp records device,
inode, size and modification time at the moment the hash was right. As long as the file looks the
same it is believed; otherwise, as after a restored back-up or cache, it is hashed once and stamped
again. Not seen are a disk that rots and a time that is set back on purpose: for these there is
`verify --deep`.

A device without a number of its own (an overlay of a container, NFS, Btrfs) is noted as 0: what it
is called changes with every mount, and a model in a container's image would be hashed at each
start. A stamp only saves time, so failing to write one is not a failure.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from modelrunner.disk.files import write_lightly
from modelrunner.disk.inside import make_new, open_content, read_inside, read_small
from modelrunner.oci.digest import Digest, sha256
from modelrunner.store.layout import Layout

CHUNK = 4 * 1024 * 1024
_COPIES = 16
"""How many copies of one blob are known: in views of several models, and of earlier ones."""


def look(path: Path) -> str:
    """What a file looks like from outside, as one line."""
    return looks(path.stat())


def looks(status: os.stat_result) -> str:
    """What a file looks like, from what the system says of it, see `look`."""
    device = _lasting(status.st_dev)
    return f"{device} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def write_stamp(layout: Layout, digest: Digest, looked: str) -> None:
    """Records that the blob had its digest when it looked so; if that can be recorded.

    The look is from before the hashing: what changes meanwhile is to be hashed again.
    """
    with suppress(OSError):
        write_lightly(layout.stamp(digest), looked.encode(), tidy=False)


def write_new_stamp(layout: Layout, digest: Digest, looked: str) -> None:
    """Like `write_stamp`, in the fewest steps where there is no stamp yet.

    One that is half written, by a process that was killed, looks like no file.
    """
    path = f"{layout.stamps}/{digest.hex}"
    try:
        handle = make_new(path)
    except OSError:
        write_stamp(layout, digest, looked)
        return
    try:
        with suppress(OSError):
            os.write(handle, looked.encode())
    finally:
        os.close(handle)


def remove_stamp(layout: Layout, digest: Digest) -> None:
    """Forgets how the blob looked; if the store may be written."""
    with suppress(OSError):
        layout.stamp(digest).unlink()


def is_stamped(layout: Layout, digest: Digest, found: os.stat_result | None = None) -> bool:
    """Whether the blob looks as it did when it was hashed; `found` is what it is known to be."""
    try:
        stamp = read_small(f"{layout.stamps}/{digest.hex}", 200)
        return stamp == looks(found or layout.blob(digest).stat()).encode()
    except OSError:
        # no stamp, or none that can be read
        return False


def is_copy(layout: Layout, digest: Digest, path: Path) -> bool:
    """Whether a file is a copy of a blob: by how it looks, else by hashing it once."""
    looked = look(path)
    known = _known_copies(layout, digest)
    if looked in known:
        return True
    if hash_file(path) != digest:
        return False
    _write_copies(layout, digest, [*known, looked])
    return True


def is_known_copy(layout: Layout, digest: Digest, path: Path) -> bool:
    """Whether a file is a copy of a blob by how it looks, without reading it."""
    return look(path) in _known_copies(layout, digest)


def is_copy_indeed(
    layout: Layout,
    digest: Digest,
    path: Path,
    on_bytes: Callable[[int], None] = lambda _count: None,
) -> bool:
    """Whether a file is a copy of a blob, by reading every byte; one that is not is forgotten."""
    looked = look(path)
    right = hash_file(path, on_bytes) == digest
    known = [entry for entry in _known_copies(layout, digest) if entry != looked]
    _write_copies(layout, digest, [*known, looked] if right else known)
    return right


def _known_copies(layout: Layout, digest: Digest) -> list[str]:
    try:
        return read_inside(layout.copies(digest), 4096).decode("ascii").splitlines()
    except (OSError, ValueError):
        return []


def _write_copies(layout: Layout, digest: Digest, looks: list[str]) -> None:
    with suppress(OSError):
        write_lightly(
            layout.copies(digest),
            "".join(f"{each}\n" for each in looks[-_COPIES:]).encode(),
            tidy=False,
        )


def hash_file(path: Path, on_bytes: Callable[[int], None] = lambda _count: None) -> Digest:
    """The digest of a whole file; `on_bytes` hears how much was read, piece by piece."""
    hasher = sha256()
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with open_content(path) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := file.readinto(buffer):
            hasher.update(view[:count])
            on_bytes(count)
    return Digest(hasher.hexdigest())


def _lasting(device: int) -> int:
    """The device's number, 0 where it is made up at every mount: such have no major number."""
    major = getattr(os, "major", None)
    return device if major is None or major(device) else 0
