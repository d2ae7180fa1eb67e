"""Single calls on files: which a command makes, and what happens at one of them.

A library is loaded before the C library (`calls.c`). Of the calls on files below some places it
notes each; or it ends the process at the n-th of a kind as `kill -9` does, with a write half done
or not begun; or it lets that call fail with an error, and from then on calls of other kinds too; or
all of some kinds fail, as on a file system that lacks something. What mapped memory reads and
writes is no call.
"""

import errno
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

_SOURCE = Path(__file__).with_suffix(".c")

KINDS = (
    *("create", "open", "opendir", "readdir", "write", "read", "stat", "fsync", "ftruncate"),
    *("rename", "link", "symlink", "unlink", "rmdir", "mkdir", "chmod", "utime", "flock"),
    *("close", "copy", "lock", "statvfs"),
)
"""In the order of the library's; `create` opens for writing, `copy` lets the kernel copy, `lock` is
one of `fcntl`."""

CHANGING = frozenset(KINDS) - {"open", "opendir", "readdir", "read", "stat", "statvfs"}
GROWING = frozenset({"create", "write", "mkdir", "link", "symlink", "rename", "ftruncate", "copy"})
"""What may take room on a disk."""

FULL = (errno.ENOSPC, errno.EDQUOT)
_ERRORS = {
    "create": (*FULL, errno.EIO, errno.EROFS, errno.EMFILE),
    "open": (errno.EIO, errno.ESTALE, errno.EMFILE),
    "opendir": (errno.EIO, errno.ESTALE),
    "readdir": (errno.EIO,),
    "write": (*FULL, errno.EIO, errno.EFBIG),
    "read": (errno.EIO,),
    "stat": (errno.EIO,),
    "fsync": (errno.ENOSPC, errno.EDQUOT, errno.EIO),
    "ftruncate": (errno.ENOSPC, errno.EIO, errno.EFBIG),
    "rename": (errno.ENOSPC, errno.EIO, errno.EROFS),
    "link": (*FULL, errno.EIO, errno.EROFS),
    "symlink": (*FULL, errno.EIO, errno.EROFS),
    "unlink": (errno.ENOSPC, errno.EIO, errno.EROFS),
    "rmdir": (errno.EIO, errno.EROFS),
    "mkdir": (*FULL, errno.EIO, errno.EROFS),
    "chmod": (errno.EIO, errno.EROFS, errno.EPERM),
    "utime": (errno.EIO, errno.EROFS, errno.EPERM),
    "flock": (errno.EIO,),
    "close": (errno.ENOSPC, errno.EDQUOT, errno.EIO),
    "copy": (errno.ENOSPC, errno.EIO),
    "lock": (errno.EIO,),
    "statvfs": (errno.EIO, errno.ENOSYS),
}
"""What disks, quotas, mounts and networks say of each; EROFS, a disk that was remounted."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at one call: the `at`-th of its kind, counted from 1."""

    kind: str
    at: int
    error: int = 0
    """0: the process is killed there."""
    then: frozenset[str] = frozenset()
    """The kinds that fail in the same way from then on."""
    half: bool = False
    """Killed in the middle of a write."""

    def __str__(self) -> str:
        where = f"{self.kind} {self.at}"
        if not self.error:
            return f"killed {'in' if self.half else 'before'} {where}"
        return f"{errno.errorcode[self.error]} at {where}{' and from then on' if self.then else ''}"

    def armed(self, places: Path) -> dict[str, object]:
        """What the library is told."""
        mode = 4 if self.error else 3 if self.half else 2
        kind = KINDS.index(self.kind)
        return _order(places, mode, kind, self.at, self.error, _mask(self.then))


Loss = Literal["all", "content"]
"""What a power cut takes of what was not flushed: all, or the content of files whose names come."""

LOSSES: Mapping[Loss, int] = {"content": 1, "all": 2}
"""What a file system is told when it is cut off: write the journal out, then stop; or stop."""


@dataclass(frozen=True, slots=True)
class Outage:
    """The power goes at one call, the `at`-th of its kind, on a file system that can be cut off."""

    kind: str
    at: int
    loss: Loss
    flushed: int = 0
    """The journal is written out before so many calls of any kind; 0 for never."""
    half: bool = False
    """In the middle of a write."""

    def __str__(self) -> str:
        first = f", the journal flushed before call {self.flushed}" if self.flushed else ""
        return (
            f"cut {'in' if self.half else 'before'} {self.kind} {self.at}, {self.loss} lost{first}"
        )

    def armed(self, places: Path) -> dict[str, object]:
        """What the library is told."""
        mode = 6 if self.half else 5
        return _order(
            places, mode, KINDS.index(self.kind), self.at, LOSSES[self.loss], self.flushed
        )


def always(library: Path, places: Path, error: int, *kinds: str) -> dict[str, str]:
    """The variables with which all calls of some kinds fail, from the start of a process."""
    unknown = set(kinds) - set(KINDS)
    if unknown:
        raise ValueError(f"unknown kinds of calls: {unknown}")
    return {
        "LD_PRELOAD": str(library),
        "FAULTS_ERROR": str(error),
        "FAULTS_KINDS": str(_mask(kinds)),
        "FAULTS_PLACES": str(places),
    }


def _mask(kinds: Iterable[str]) -> int:
    return sum(1 << KINDS.index(kind) for kind in kinds)


def noted(places: Path, log: Path, *, with_data: bool = False) -> dict[str, object]:
    """What the library is told so that it notes calls; with data, only those that change."""
    return {**_order(places, 1, 0, 0, 0, 0), "log": str(log), "with_data": with_data}


def _order(places: Path, mode: int, kind: int, at: int, error: int, then: int) -> dict[str, object]:
    return {
        "places": str(places),
        "mode": mode,
        "kind": kind,
        "at": at,
        "error": error,
        "then": then,
        "log": "",
        "with_data": False,
    }


def counted(log: Path) -> Counter[str]:
    """How many calls of each kind were noted."""
    return Counter(KINDS[int(line.split("\t")[0])] for line in log.read_text().splitlines())


def full_disks(log: Path) -> Iterator[Fault]:
    """A disk that is full for a moment: at the first write to each file that was noted."""
    seen: set[str] = set()
    at = 0
    for line in log.read_text().splitlines():
        kind, path = line.split("\t")
        if KINDS[int(kind)] == "write":
            at += 1
            if path not in seen:
                yield Fault("write", at, errno.ENOSPC)
            seen.add(path)


def outages(log: Path, chance: random.Random) -> Iterator[Outage]:
    """A cut before each noted call that changes something, and in the middle of each write.

    All is lost, or only content; or all since some moment before, when the journal was flushed.
    """
    calls: Counter[str] = Counter()
    for number, line in enumerate(log.read_text().splitlines(), 1):
        kind = KINDS[int(line.split("\t")[0])]
        calls[kind] += 1
        if kind in CHANGING:
            halves = (False, True) if kind == "write" else (False,)
            for half in halves:
                for loss in LOSSES:
                    yield Outage(kind, calls[kind], loss, half=half)
                yield Outage(kind, calls[kind], "all", chance.randint(1, number), half=half)


def kills(calls: Counter[str]) -> Iterator[Fault]:
    """A kill before each call that changes something, and in the middle of each write."""
    for kind, at in _each(calls, CHANGING):
        yield Fault(kind, at)
        if kind == "write":
            yield Fault(kind, at, half=True)


def errors(calls: Counter[str]) -> Iterator[Fault]:
    """Each error that each call may end with: once, or from then on as disks have it."""
    for kind, at in _each(calls, KINDS):
        for error in _ERRORS[kind]:
            yield Fault(kind, at, error)
            if error in FULL and kind in GROWING:
                yield Fault(kind, at, error, then=GROWING)
            elif error == errno.EROFS:
                yield Fault(kind, at, error, then=CHANGING - {"flock", "fsync", "close"})
            elif error == errno.EIO and kind not in ("stat", "readdir"):
                yield Fault(kind, at, error, then=frozenset(KINDS))


def _each(calls: Counter[str], kinds: Iterable[str]) -> Iterator[tuple[str, int]]:
    for kind in sorted(kinds):
        for at in range(1, calls[kind] + 1):
            yield kind, at


def build(folder: Path) -> Path:
    """Compiles the library into a directory; skips the test where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not Path("/proc/self/fd").is_dir():
        pytest.skip("needs a C compiler and Linux")
    library = folder / "calls.so"
    how = ("-shared", "-fPIC", "-O1", "-w", "-o", library, _SOURCE, "-ldl", "-lpthread")
    subprocess.run([compiler, *how], check=True, timeout=60)
    return library
