"""Answers that are not the model's: errors, as OpenAI's clients expect them."""

import json
from collections.abc import Sequence

from starlette.types import Send

Headers = Sequence[tuple[bytes, bytes]]

FINAL = (b"x-should-retry", b"false")
"""The header by which OpenAI's and Anthropic's clients know that a retry does not help."""


class RefusalError(Exception):
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        message: What is wrong, and what to do.
        code: What programs tell errors apart by.
        headers: More headers.
    """

    def __init__(self, status: int, message: str, code: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers

    @property
    def body(self) -> bytes:
        """The JSON."""
        return json.dumps({"error": self.to_dict()}).encode()

    def to_dict(self) -> dict[str, object]:
        """The error in OpenAI's words."""
        kind = _KINDS.get(self.status) or (
            "server_error" if self.status >= 500 else "invalid_request_error"  # noqa: PLR2004
        )
        return {"message": self.message, "type": kind, "param": None, "code": self.code}

    @property
    def event(self) -> bytes:
        """The same as the last event of a stream: whatever was cut off before it ends here."""
        return b"\n\ndata: " + self.body + b"\n\n"


_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}


async def refuse(send: Send, refusal: RefusalError) -> None:
    """Answers with an error; the connection is closed, for the body may not have been read."""
    body = refusal.body
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
