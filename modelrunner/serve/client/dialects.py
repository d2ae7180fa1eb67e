"""The shapes of errors, one for each API that a client may be written for.

An error reaches a client in the way that its API defines, or the client misses it: a stream of
Anthropic's that ends in OpenAI's `data: {"error": ...}` passes for a complete answer.

A new API needs a `Dialect` and a line in `dialect_of`.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # an extra, which `compose` does without
    from starlette.types import Scope

Headers = Sequence[tuple[bytes, bytes]]

_SERVER_ERROR = 500
_MESSAGES = ("/messages", "/messages/count_tokens", "/messages/batches")
_DOCKER = (
    "/_configure",
    "/df",
    "/install-backend",
    "/ps",
    "/requests",
    "/status",
    "/uninstall-backend",
    "/unload",
)
_SEQUENCE = re.compile(rb'"sequence_number":\s*(\d{1,12})')
_RESPONSE = re.compile(rb'"id":\s*"(resp[\w-]{1,100})"')


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong.

    Attributes:
        status: The HTTP status; in a stream, the one that the answer would have had.
        message: What is wrong, for people.
        code: What programs tell errors apart by.
        request_id: The ID of the request; empty where it has none.
    """

    status: int
    message: str
    code: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Sent:
    """What the client has of a stream that breaks off: its first and its last bytes."""

    head: bytes = b""
    tail: bytes = b""


class Dialect(ABC):
    """How one API writes errors."""

    request_id_headers: tuple[bytes, ...] = (b"x-request-id",)
    media_type: str = "application/json"

    @abstractmethod
    def error(self, failure: Failure) -> Mapping[str, object]:
        """The JSON object of an answer that is an error."""

    @abstractmethod
    def events(
        self, failure: Failure, sent: Sent
    ) -> Sequence[tuple[str | None, Mapping[str, object]]]:
        """The events with which a stream ends after a failure, as names and data."""

    def body(self, failure: Failure) -> bytes:
        """The body of an answer that is an error."""
        return json.dumps(self.error(failure)).encode()

    def ending(self, failure: Failure, sent: Sent) -> bytes:
        """The last bytes of a stream: what was cut off before them ends there."""
        lines = ["", ""]
        for name, data in self.events(failure, sent):
            lines += [f"event: {name}"] if name else []
            lines += [f"data: {json.dumps(data)}", ""]
        return "\n".join([*lines, ""]).encode()


class _OpenAI(Dialect):
    """Chat completions, completions, embeddings, and everything that no other dialect claims."""

    _kinds: Mapping[int, str] = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }

    def error(self, failure: Failure) -> Mapping[str, object]:
        return {"error": self._fields(failure)}

    def events(
        self,
        failure: Failure,
        sent: Sent,  # noqa: ARG002 - its events have no numbers
    ) -> Sequence[tuple[str | None, Mapping[str, object]]]:
        return [(None, self.error(failure))]

    def _fields(self, failure: Failure) -> Mapping[str, object]:
        usual = "server_error" if failure.status >= _SERVER_ERROR else "invalid_request_error"
        kind = self._kinds.get(failure.status, usual)
        return {"message": failure.message, "type": kind, "param": None, "code": failure.code}


class _Responses(_OpenAI):
    """OpenAI's Responses: its streams end in events with names and numbers."""

    def events(
        self, failure: Failure, sent: Sent
    ) -> Sequence[tuple[str | None, Mapping[str, object]]]:
        numbers = _SEQUENCE.findall(sent.tail)
        # bounded: twelve digits, see `_SEQUENCE`
        number = int(numbers[-1]) + 1 if numbers else 0
        name = _RESPONSE.search(sent.head)
        failed: dict[str, object] = {
            "id": name[1].decode() if name else "",
            "object": "response",
            "status": "failed",
            "error": {"code": "server_error", "message": failure.message},
            "output": [],
        }
        fields = self._fields(failure)
        return [
            (
                "response.failed",
                {"type": "response.failed", "sequence_number": number, "response": failed},
            ),
            (
                "error",
                # flat as it is documented, and nested as OpenAI's own clients look for it
                {**fields, "type": "error", "sequence_number": number + 1, "error": fields},
            ),
        ]


class _Anthropic(Dialect):
    """Anthropic's Messages."""

    request_id_headers = (b"x-request-id", b"request-id")

    _kinds: Mapping[int, str] = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
    }

    def error(self, failure: Failure) -> Mapping[str, object]:
        usual = "api_error" if failure.status >= _SERVER_ERROR else "invalid_request_error"
        kind = self._kinds.get(failure.status, usual)
        found = {"type": "error", "error": {"type": kind, "message": failure.message}}
        return {**found, "request_id": failure.request_id} if failure.request_id else found

    def events(
        self,
        failure: Failure,
        sent: Sent,  # noqa: ARG002 - its events have no numbers
    ) -> Sequence[tuple[str | None, Mapping[str, object]]]:
        return [("error", self.error(failure))]


class _Ollama(Dialect):
    """Ollama's API: a message, and in a stream a line with it."""

    def error(self, failure: Failure) -> Mapping[str, object]:
        return {"error": failure.message}

    def events(
        self,
        failure: Failure,
        sent: Sent,  # noqa: ARG002 - its lines are complete
    ) -> Sequence[tuple[str | None, Mapping[str, object]]]:
        return [(None, self.error(failure))]

    def ending(self, failure: Failure, sent: Sent) -> bytes:
        return b"".join(json.dumps(data).encode() + b"\n" for _, data in self.events(failure, sent))


class _Docker(Dialect):
    """Docker Model Runner's own addresses: a line of text, which its command line prints."""

    media_type = "text/plain; charset=utf-8"

    def error(self, failure: Failure) -> Mapping[str, object]:
        return {"error": failure.message}

    def events(
        self,
        failure: Failure,
        sent: Sent,  # noqa: ARG002 - its streams write their own last line
    ) -> Sequence[tuple[str | None, Mapping[str, object]]]:
        return [(None, self.error(failure))]

    def body(self, failure: Failure) -> bytes:
        return f"{failure.message}\n".encode()


OPENAI: Dialect = _OpenAI()
RESPONSES: Dialect = _Responses()
ANTHROPIC: Dialect = _Anthropic()
OLLAMA: Dialect = _Ollama()
DOCKER: Dialect = _Docker()


def dialect_of(scope: "Scope") -> Dialect:
    """The dialect of a request: by its address, or by a header that only one API has."""
    path: str = scope["path"]
    if path.startswith("/api/"):
        return OLLAMA
    if _is_of_docker(path):
        return DOCKER
    # no regular expression: one that searches takes time that grows with the square of a path
    is_messages = path.endswith(_MESSAGES) or "/messages/batches/" in path
    if is_messages or path.startswith("/anthropic/"):
        return ANTHROPIC
    if any(name == b"anthropic-version" for name, _ in scope["headers"]):
        return ANTHROPIC
    return RESPONSES if path.endswith("/responses") or "/responses/" in path else OPENAI


def _is_of_docker(path: str) -> bool:
    """Whether an address is one of Docker Model Runner that no other API has."""
    if path in {"/models", "/version", "/logs"} or path.startswith("/models/"):
        return True
    return path.startswith("/engines/") and path.endswith(_DOCKER)
