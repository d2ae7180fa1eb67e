"""Server-sent events out of a byte stream, wherever its chunks are cut.

```
: a comment            ignored
event: error           the name of the event, "message" if absent
data: {"a":            its data; several lines are joined with a line feed
data: 1}
                       an empty line ends it
error: {"code": 500}   no standard field: how llama-server reports a failure amid an answer
```

As the standard wants it, lines end in LF, CR LF or CR, and an event that the stream's end cuts
off does not count.
"""

import re
from collections.abc import Iterable, Iterator

from modelrunner.frozen import frozen

DONE = "[DONE]"
"""The data of the event that ends an answer, by OpenAI's convention."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@frozen
class Event:
    """One event: `name` is `message` unless the server says otherwise."""

    name: str
    data: str


def events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream, each as soon as it is complete."""
    name, values = "", list[str]()
    for line in _lines(chunks):
        field, value = _field(line)
        match field:
            case "data":
                values.append(value)
            case "event":
                name = value
            case "error":
                name = "error"
                values.append(value)
            case "" if not line and values:
                yield Event(name or "message", "\n".join(values))
        if not line:
            name, values = "", []


def _field(line: bytes) -> tuple[str, str]:
    """Name and value of a line; a comment and an empty line have no name."""
    name, _, value = line.partition(b":")
    return _text(name), _text(value.removeprefix(b" "))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream without their ends; what follows the last end is dropped.

    Lines are bytes until they are whole: a chunk may end within a character.
    """
    start, after_cr, first = bytearray(), False, True
    for chunk in chunks:
        # the second half of a CR LF that two chunks share
        fresh = chunk[1:] if after_cr and chunk.startswith(b"\n") else chunk
        if chunk:
            after_cr = fresh.endswith(b"\r")
        *ends, rest = _LINE_END.split(fresh)
        for end in ends:
            line = bytes(start) + end
            start.clear()
            yield line.removeprefix(_BYTE_ORDER_MARK) if first else line
            first = False
        start += rest
