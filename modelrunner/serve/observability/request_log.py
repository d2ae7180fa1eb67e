"""A line of JSON for each request: what was asked, when, how long it took, how many tokens.

Headers, and so keys, are never in it. Bodies are where the user wants them, up to a limit. The
file is private; when it is full, it becomes the one before, which is then replaced.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from modelrunner.disk.inside import InsideFile, open_inside

SUFFIX = ".requests.jsonl"
BODY_LIMIT = 64 * 1024
"""Bytes that are kept of a request, and of an answer."""

_FILE_LIMIT = 16 * 1024 * 1024
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class RequestLog:
    """The requests of one server.

    Attributes:
        path: The file; None for none.
        bodies: Whether requests and answers are kept too.
        limit: Bytes of the file, and of the one before.
    """

    path: Path | None = None
    bodies: bool = False
    limit: int = _FILE_LIMIT
    _file: InsideFile | None = field(default=None, init=False)
    _size: int = field(default=0, init=False)

    def begin(self) -> None:
        """Replace what an earlier server has left by an empty file.

        Raises:
            OSError: The directory cannot be written.
        """
        if self.path is not None:
            before(self.path).unlink(missing_ok=True)
            self._open(self.path)

    def add(self, entry: Mapping[str, object]) -> None:
        """Write one request; a disk that is full does not end the request."""
        if self.path is None:
            return
        line = json.dumps(entry).encode() + b"\n"
        try:
            self._opened(self.path, len(line)).write(line)
        except OSError as exc:
            _log.warning("cannot write %s: %s", self.path, exc.strerror)
            return
        self._size += len(line)

    def close(self) -> None:
        """Close the file; another request would begin it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self, path: Path, more: int) -> InsideFile:
        if self._file is not None and self._size + more > self.limit:
            self.close()
            path.replace(before(path))
        return self._open(path) if self._file is None else self._file

    def _open(self, path: Path) -> InsideFile:
        path.unlink(missing_ok=True)
        self._file = open_inside(path, "new", private=True)
        self._size = 0
        return self._file


def request_log_of(log: Path) -> Path:
    """The file with the requests of a server, by the path of its log."""
    return log.with_name(f"{log.stem}{SUFFIX}")


def before(path: Path) -> Path:
    """The file with the requests before those of a file."""
    return path.with_name(f"{path.name}.1")


@dataclass(slots=True)
class Recording:
    """What is kept of a request and its answer."""

    request: str = ""
    response: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def asked(self, body: bytes | bytearray) -> None:
        """Keep the body of the request."""
        self.request = bytes(body[:BODY_LIMIT]).decode(errors="replace")
        self.truncated |= len(body) > BODY_LIMIT

    def answered(self, piece: bytes) -> None:
        """Keep a piece of the answer."""
        room = BODY_LIMIT - len(self.response)
        self.response += piece[:room]
        self.truncated |= len(piece) > room

    def to_dict(self) -> dict[str, object]:
        """The bodies as JSON has them."""
        return {
            "request": self.request,
            "response": self.response.decode(errors="replace"),
            "truncated": self.truncated,
        }


def request_logs(folder: Path) -> list[Path]:
    """The requests of all servers, those that have ended too."""
    return list(folder.glob(f"*{SUFFIX}"))


def request_text(entry: Mapping[str, object]) -> str:
    """A request in one line, with its bodies below where they were kept."""
    times = [f"{_seconds(entry, 'duration_s')} s"]
    for name, key in (("queued", "queue_s"), ("first token", "first_token_s")):
        if entry.get(key) is not None:
            times.append(f"{name} {_seconds(entry, key)} s")
    tokens = [entry.get(f"{name}_tokens") for name in ("prompt", "completion", "cached")]
    counts = []
    if tokens[0] is not None:
        cached = f" ({tokens[2]} cached)" if tokens[2] else ""
        counts.append(f"{tokens[0]}{cached} + {tokens[1] or 0} tokens")
    words = [entry.get(name) or "-" for name in ("time", "status", "method", "path", "model")]
    line = " ".join(
        map(str, [*words, ", ".join([*times, *counts]), entry.get("id"), entry.get("key") or ""])
    )
    bodies = [
        f"{mark} {entry[name]}"
        for mark, name in (("request:", "request"), ("response:", "response"))
        if name in entry
    ]
    return "\n".join([line.rstrip(), *bodies])


def _seconds(entry: Mapping[str, object], name: str) -> str:
    value = entry.get(name)
    return f"{value:.2f}" if isinstance(value, int | float) else "-"
