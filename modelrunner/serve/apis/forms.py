"""Forms with files, read as far as the name of a model."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelrunner.serve.bodies.fields import InvalidBodyError

_BOUNDARY = re.compile(rb'boundary=(?:"([^"\r\n]{1,200})"|([^\s;,"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb'\bname="([^"\r\n]{0,200})"', re.IGNORECASE)
_MOST_PARTS = 100
_LONGEST_HEAD = 4096
_LONGEST_NAME = 1100


def read_form(raw: bytes, kind: bytes) -> tuple[Mapping[str, Any], Sequence[bytes]]:
    """Return the model that a form is for.

    Args:
        raw: The body.
        kind: Its content type, which has the boundary.

    Raises:
        InvalidBodyError: It is not a form, or has no file.
    """
    boundary = _BOUNDARY.search(kind)
    if boundary is None:
        raise InvalidBodyError("the form has no boundary", "invalid_form")
    mark = b"--" + (boundary[1] or boundary[2])
    names: set[bytes] = set()
    model = None
    place = raw.find(mark)
    while place >= 0 and len(names) <= _MOST_PARTS:
        start = place + len(mark)
        end = raw.find(b"\r\n\r\n", start, start + _LONGEST_HEAD)
        place = raw.find(b"\r\n" + mark, start)
        if end < 0 or place < 0:
            break
        name = _NAME.search(raw, start, end)
        names.add(name[1] if name else b"")
        if name and name[1] == b"model":
            value = bytes(raw[end + 4 : min(place, end + 4 + _LONGEST_NAME)])
            model = value.decode(errors="replace").strip() or None
        place += 2
    if b"file" not in names:
        raise InvalidBodyError("the form has no field `file`", "invalid_form")
    return {"model": model}, ()
