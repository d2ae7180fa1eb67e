"""Real file systems whose power is cut: what is only in memory is lost, a journal is replayed.

    with volume("ext4", folder) as disk:
        ...                  # files below disk.place
        disk.cut("all")      # nothing more is written, as when the lights go out
        disk.power_on()      # what is on the disk is mounted again

The file system lies in a file that is mounted as a device; it is in memory where it can be, as the
machine's own disk takes its time to flush. What ends it is the ioctl by which such cuts are tried
on Linux's file systems: it forgets what it has only in memory.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.faults.calls import LOSSES, Loss

_SHUTDOWN = 0x8004587D
_MIB = 1 << 20
_MAKE = ("mkfs.ext4", "-q", "-F")
_KINDS = {
    # a block of a file gets its place when it is written out
    "ext4": (64 * _MIB, _MAKE, ""),
    # it gets it at once, and comes before the name
    "ext4 without delayed allocation": (64 * _MIB, _MAKE, ",nodelalloc"),
    # in any order
    "ext4 without ordered data": (64 * _MIB, _MAKE, ",data=writeback,noauto_da_alloc"),
    # less than that mkfs.xfs refuses to make; it is all hole
    "xfs": (320 * _MIB, ("mkfs.xfs", "-q", "-f"), ""),
}
KINDS = tuple(_KINDS)


@dataclass(frozen=True, slots=True)
class Volume:
    """A file system of its own, mounted at a folder."""

    place: Path
    image: Path
    options: str

    def flush(self) -> None:
        """Writes out all that is not yet on the disk."""
        subprocess.run(["sync", "-f", self.place], check=True, timeout=60)

    def cut(self, loss: Loss) -> None:
        """Takes the power away."""
        folder = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", LOSSES[loss]))
        finally:
            os.close(folder)

    def power_on(self) -> None:
        """Mounts again what has come to the disk."""
        _call("umount", self.place)
        self.mount()

    def mount(self) -> None:
        _call("mount", "-o", f"loop{self.options}", self.image, self.place)


@contextmanager
def volume(kind: str, folder: Path) -> Iterator[Volume]:
    """A new file system in a folder; skips the test where the machine can have none."""
    size, (maker, *how), options = _KINDS[kind]
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    if shutil.which(maker) is None:
        pytest.skip(f"{maker} is not installed")
    memory = Path("/dev/shm")
    place = folder / "disk"
    place.mkdir(parents=True)
    with tempfile.NamedTemporaryFile(dir=memory if memory.is_dir() else folder) as file:
        file.truncate(size)
        disk = Volume(place, Path(file.name), options)
        _call(maker, *how, disk.image)
        try:
            disk.mount()
        except OSError as error:
            pytest.skip(f"mounting is not allowed here: {error}")
        try:
            yield disk
        finally:
            _call("umount", "-l", disk.place)


def _call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {done.stderr.decode().strip()}")
