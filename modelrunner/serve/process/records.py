"""Which servers run: a small file for each, private, which outlives a crash and is then swept.

A process ID alone says little, for the system gives it to somebody else: with the time at which the
process was started it is unique.
"""

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from modelrunner.disk.files import STATE_HINT, disk_errors, write_lightly
from modelrunner.disk.inside import read_inside
from modelrunner.net import http_url, local_host
from modelrunner.system.processes import process_start
from modelrunner.wire import parse_json

CONTROL = "/_modelrunner/"
"""Where a server is asked what it serves and told to stop it, with the key in its record."""

_UNUSUAL = re.compile(r"[^0-9A-Za-z.]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A server that runs.

    Attributes:
        name: What its files are called by: the port, and the address where it is unusual.
        pid: Its process.
        started: When that was started, as the system puts it.
        url: Where it listens.
        control_key: What opens its controls.
        models: What it serves.
        fingerprint: The SHA-256 of its certificate; None where it has none.
    """

    name: str
    pid: int
    started: str
    url: str
    models: tuple[str, ...]
    control_key: str = field(repr=False)
    fingerprint: str | None = None

    @property
    def local_url(self) -> str:
        """Where programs on this machine reach it."""
        parts = urlsplit(self.url)
        return http_url(local_host(parts.hostname or ""), parts.port or 0, parts.scheme)

    def runs(self) -> bool:
        """Whether the process is there, and the same."""
        return process_start(self.pid) == self.started


def record_name(host: str, port: int) -> str:
    """The name of the files of a server; it has no hyphen, which begins a model's name there."""
    return str(port) if host == "127.0.0.1" else f"{_UNUSUAL.sub('_', host)}_{port}"


def log_of(logs: Path, name: str) -> Path:
    """The file with what the runtime of a model prints."""
    return logs.with_name(f"{logs.name}-{_safe(name)}.log")


def server_logs(folder: Path) -> list[Path]:
    """The logs of all servers, those that have ended too."""
    return [path for path in folder.glob("*.log") if "-" not in path.stem]


def model_logs(folder: Path, name: str) -> list[Path]:
    """The logs of a model, whichever server it had."""
    wanted = _safe(name)
    return [path for path in folder.glob("*.log") if path.stem.partition("-")[2] == wanted]


def _safe(name: str) -> str:
    return "".join(
        mark if mark.isascii() and (mark.isalnum() or mark in "._") else "-" for mark in name
    )[:100]


@contextmanager
def recorded(folder: Path, record: Record) -> Iterator[None]:
    """The block in which a server is known to others.

    Raises:
        StoreAccessError, DiskFullError: The directory cannot be written.
    """
    path = folder / f"{record.name}.json"
    with disk_errors(folder, STATE_HINT):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_lightly(path, json.dumps(asdict(record)).encode(), private=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running(folder: Path) -> list[Record]:
    """The servers that run; what others have left is swept."""
    found = []
    for path in sorted(folder.glob("*.json")):
        record = _read(path)
        if record is not None and record.runs():
            found.append(record)
        else:
            path.unlink(missing_ok=True)
    return found


def _read(path: Path) -> Record | None:
    try:
        fields = parse_json(read_inside(path))
        return Record(**{**fields, "models": tuple(fields["models"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        # cut off by a power cut, or written by another version
        return None
    except OSError as exc:
        if exc.errno not in (errno.ELOOP, errno.EINVAL):
            raise
        # a link, or something that is not a file
        return None
