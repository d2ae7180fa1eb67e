"""Errors of a runtime: whether a retry may help, and what clients get.

llama.cpp answers 500 to whatever it throws while it reads a request, whose author is to blame. A
client's library takes a 500 for a passing trouble and asks again, twice. Its real troubles are few
and have words of their own.
"""

import re
from dataclasses import dataclass
from typing import Any

from modelrunner.serve.bodies.request import no_media
from modelrunner.serve.client.errors import FINAL, RefusalError
from modelrunner.serve.models import Served
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_object

_SERVER_ERROR = 500
_UNAVAILABLE = 503
_MESSAGE_CHARACTERS = 2000
_PASSING = re.compile(
    r"compute|decod|kv.?cache|out of memory|memory|alloc|slot|internal|cuda|vulkan|metal|device"
    r"|busy|queue|loading",
    re.IGNORECASE,
)
_PICTURE = re.compile(r"decode (?:image|audio)|image", re.IGNORECASE)
_NO_MEDIA = re.compile(r"^(image|audio|video) input is not supported")
_UNREACHABLE = re.compile(r"cannot make GET request|failed to (?:download|fetch)", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"input \((\d+) tokens\) is (?:too large to process|larger than the max context size)"
)
_KINDS = {"image": "images"}


@dataclass(frozen=True, slots=True)
class RuntimeAnswer:
    """An answer of a runtime that is an error, as far as it can be understood."""

    status: int
    body: bytes

    def refusal(self, model: Served) -> RefusalError | None:
        """The message for a client; None where the body is not an error in JSON."""
        error = self._error()
        if error is None:
            return None
        message = sanitize_line(str(error["message"]), _MESSAGE_CHARACTERS)
        code = error.get("code")
        named = code if isinstance(code, str) else error.get("type")
        if self.status != _SERVER_ERROR or not isinstance(code, int) or _is_passing(message):
            # only llama.cpp has numbers for codes
            final = [FINAL] if self.status > _SERVER_ERROR and self.status != _UNAVAILABLE else []
            return RefusalError(self.status, message, str(named or "runtime_error"), final)
        return _request_error(model, message)

    @property
    def is_final(self) -> bool:
        """Whether the status says that a retry may help, and it may not."""
        error = self._error()
        return (
            self.status == _SERVER_ERROR
            and error is not None
            and isinstance(error.get("code"), int)
            and not _is_passing(str(error["message"]))
        )

    def _error(self) -> dict[str, Any] | None:
        try:
            error = parse_object(self.body).get("error")
        except ValueError:
            return None
        return error if isinstance(error, dict) and "message" in error else None


def _is_passing(message: str) -> bool:
    return bool(_PASSING.search(message)) and not _PICTURE.search(message)


def _request_error(model: Served, message: str) -> RefusalError:
    missing = _NO_MEDIA.match(message)
    if missing:
        return no_media(model, _KINDS.get(missing[1], missing[1]))
    if _UNREACHABLE.search(message):
        return RefusalError(
            400, f"cannot download a URL of the request: {message}", "unreachable_url"
        )
    too_long = _TOO_LONG.search(message)
    if too_long:
        return RefusalError(
            400,
            f"the input has {too_long[1]} tokens, the limit of {model.name} is "
            f"{model.spec.context}",
            "context_length_exceeded",
        )
    return RefusalError(400, message, "invalid_request")
