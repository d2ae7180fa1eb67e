"""Stamps: how a blob's file looked when its hash was made.

Hashing gigabytes at every use is slow; trusting a file's size is careless. A stamp records inode,
size and modification time at the moment the hash was right. As long as the file looks the same it
is believed; otherwise it is hashed again and stamped anew. Not seen are a disk that rots and
whoever sets the time back on purpose: for these there is `verify --deep`.

The device has no part in it: its number may change with every start of the machine. A stamp only
saves time, so failing to write one is no failure.
"""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from modelrunner.oci.digest import Digest
from modelrunner.store.files import write_lightly
from modelrunner.store.layout import Layout

CHUNK = 4 * 1024 * 1024


def look(path: Path) -> str:
    """What a file looks like from outside, as one line."""
    status = path.stat()
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def write_stamp(layout: Layout, digest: Digest, looked: str) -> None:
    """Records that the blob had its digest when it looked so; if that can be recorded.

    The look is from before the hashing: what changes meanwhile is to be hashed again.
    """
    with suppress(OSError):
        write_lightly(layout.stamp(digest), looked.encode())


def remove_stamp(layout: Layout, digest: Digest) -> None:
    """Forgets how the blob looked; if the store may be written."""
    with suppress(OSError):
        layout.stamp(digest).unlink()


def is_stamped(layout: Layout, digest: Digest) -> bool:
    """Whether the blob looks as it did when it was hashed."""
    try:
        return layout.stamp(digest).read_bytes() == look(layout.blob(digest)).encode()
    except OSError:
        # no stamp, or none that can be read
        return False


def hash_file(path: Path) -> Digest:
    """The digest of a whole file."""
    hasher = sha256()
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while count := file.readinto(buffer):
            hasher.update(view[:count])
    return Digest(hasher.hexdigest())
