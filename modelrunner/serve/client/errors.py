"""Answers that are not the model's: errors, in the shape of the API that was asked.

A `RefusalError` says what is wrong; how it is written is for the `Dialect` of the request, see
`modelrunner.serve.client.dialects`.
"""

from starlette.types import Scope, Send

from modelrunner.serve.client.dialects import Failure, Headers, dialect_of

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

    def failure(self, scope: Scope) -> Failure:
        """The error as a dialect writes it for a request."""
        return Failure(self.status, self.message, self.code, request_id_of(scope))


async def refuse(scope: Scope, send: Send, refusal: RefusalError) -> None:
    """Answer with an error.

    The connection stays open: what is left of the request's body is read and dropped, or the
    client would see a reset connection instead of the answer.
    """
    body = dialect_of(scope).body(refusal.failure(scope))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *refusal.headers,
    ]
    if any(name == b"expect" for name, _ in scope["headers"]):
        # whoever waits for a `100 Continue` does not send the body now, and may never
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def request_id_of(scope: Scope) -> str:
    """The ID of a request, empty before it has one."""
    return str(scope.get("state", {}).get("request_id", ""))


def key_name_of(scope: Scope) -> str:
    """The name of the API key of a request; empty where it has none."""
    return str(scope.get("state", {}).get("key", ""))
