"""What is asked and what is answered: requests as remembered, replies before they are sent."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import parse_qs, urlsplit

SLICE = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(slots=True)
class Request:
    """One request, as the server saw it; `status` and `sent` are filled in while it is answered."""

    method: str
    target: str
    headers: Message
    body: bytes
    connection: int
    """The client's port: equal for two requests that shared a connection."""
    kind: str = "other"
    """`ping`, `manifest`, `blob`, `tags`, `referrers`, `upload`, `token` or `other`."""
    repository: str = ""
    reference: str = ""
    """The tag, digest or upload session that the path names."""
    status: int = 0
    sent: int = 0
    """Bytes of body handed to the socket: the client may have read fewer."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in self.query_lists.items()}

    @property
    def query_lists(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def host(self) -> str:
        return self.headers.get("Host", "")

    @property
    def authorization(self) -> str | None:
        return self.headers.get("Authorization")

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")

    @property
    def accept(self) -> str:
        return ", ".join(self.headers.get_all("Accept", []))


@dataclass(slots=True)
class Reply:
    """An answer before it is sent: faults bend it, the range is cut from it, then it travels."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | memoryview = b""
    digest: str = ""
    """Of the stored content that this serves: faults that aim at a digest go by it."""
    ranges: bool = False
    tail: Iterable[bytes] = ()
    """What follows the content without being held in memory; then `declared` is the length."""
    declared: int | None = None

    @property
    def length(self) -> int | None:
        """What `Content-Length` says; None sends the body in chunks that announce no end."""
        return self.declared if self.tail else len(self.content)

    def pieces(self) -> Iterator[memoryview]:
        whole = memoryview(self.content)
        for start in range(0, len(whole), SLICE):
            yield whole[start : start + SLICE]
        for piece in self.tail:
            yield memoryview(piece)


def json_reply(status: int, document: object, headers: dict[str, str] | None = None) -> Reply:
    content = json.dumps(document).encode()
    return Reply(status, {"Content-Type": "application/json", **(headers or {})}, content)


def error(
    status: int,
    code: str,
    message: str,
    detail: object = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """The error body of the distribution specification."""
    body = {"errors": [{"code": code, "message": message, "detail": detail}]}
    return json_reply(status, body, headers)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `first` to `last`, both included."""

    first: int
    last: int

    def of(self, size: int) -> str:
        return f"bytes {self.first}-{self.last}/{size}"

    def shifted(self, by: int, size: int) -> "Span":
        return Span(min(self.first + by, size - 1), min(self.last + by, size - 1))

    def shortened(self, limit: int) -> "Span":
        return Span(self.first, min(self.last, self.first + limit - 1))


class UnsatisfiableRangeError(Exception):
    """The range starts behind the end."""


def requested_span(request: Request, size: int, etag: str) -> Span | None:
    """The one range asked for, or None where the whole is the right answer.

    Raises:
        UnsatisfiableRangeError: Nothing of the range is there.
    """
    match = _RANGE.fullmatch(request.range or "")
    if match is None or not any(match.groups()):
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition != etag:
        return None
    if not match[1]:
        first, last = max(size - int(match[2]), 0), size - 1
    else:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < first:
            return None
    if first >= size:
        raise UnsatisfiableRangeError
    return Span(first, last)
