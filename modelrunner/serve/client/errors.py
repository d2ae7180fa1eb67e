"""Answers that are not the model's: errors, in the shape of the API that was asked.

A `RefusalError` says what is wrong; how it is written is for the `Dialect` of the request, see
`modelrunner.serve.client.dialects`.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelrunner.errors import (
    AccessError,
    CapacityError,
    ConfigError,
    CorruptStoreError,
    DeadlineError,
    IntegrityError,
    ModelRunnerError,
    NotFoundError,
    NotInStoreError,
    RateLimitedError,
    RegistryAnswerError,
    RuntimeFailedError,
    TransferError,
    UnsupportedArtifactError,
    UnverifiedError,
    UsageError,
)
from modelrunner.serve.client.dialects import Failure, Headers, dialect_of

if TYPE_CHECKING:
    # an extra, which `compose` does without
    from starlette.types import Scope, Send

FINAL = (b"x-should-retry", b"false")
"""The header by which OpenAI's and Anthropic's clients know that a retry does not help."""


_STATUSES: Sequence[tuple[type[ModelRunnerError], int]] = (
    # the store, its rights, the configuration: the client is not to blame
    (ConfigError, 500),
    (CorruptStoreError, 500),
    (UsageError, 400),
    (NotFoundError, 404),
    # not 401: that would be about our own key
    (AccessError, 403),
    (UnverifiedError, 403),
    (NotInStoreError, 403),
    (RateLimitedError, 429),
    (DeadlineError, 504),
    (TransferError, 502),
    (IntegrityError, 502),
    (CapacityError, 507),
    (UnsupportedArtifactError, 422),
)
"""The HTTP status of each kind of error; of several that match, the first."""

_DIRECTORIES = re.compile(r"""(?<![^\s'"`(=,])(?!/v[12]/)/(?:[^\s/'"`]+/)+(?=[^\s/'"`])""")
"""Those of an absolute path: not of a URL, a reference, or an address of ours."""


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

    def failure(self, scope: "Scope") -> Failure:
        """The error as a dialect writes it for a request."""
        return Failure(self.status, self.message, self.code, request_id_of(scope))


def refusal_for(error: ModelRunnerError) -> RefusalError:
    """The refusal of a request that an operation could not carry out.

    Clients see which file it is about, and not where that lies on this machine.
    """
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    message = _DIRECTORIES.sub("", message)
    if isinstance(error, RuntimeFailedError) and error.unsupported:
        # the request is right and will fail for as long as model and runtime are these
        return RefusalError(422, message, "unsupported_model", [FINAL])
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    passing = isinstance(error, TransferError) and not isinstance(error, RegistryAnswerError)
    wait = error.retry_after_s if isinstance(error, TransferError) else None
    headers = [] if passing else [FINAL]
    # bounded: a number already, of a header that was parsed
    headers += [] if wait is None else [(b"retry-after", str(int(wait) + 1).encode())]
    return RefusalError(status, message, error.code, headers)


async def refuse(scope: "Scope", send: "Send", refusal: RefusalError) -> None:
    """Answer with an error.

    The connection stays open: what is left of the request's body is read and dropped, or the
    client would see a reset connection instead of the answer.
    """
    dialect = dialect_of(scope)
    body = dialect.body(refusal.failure(scope))
    headers = [
        (b"content-type", dialect.media_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *refusal.headers,
    ]
    if any(name == b"expect" for name, _ in scope["headers"]):
        # whoever waits for a `100 Continue` does not send the body now, and may never
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def request_id_of(scope: "Scope") -> str:
    """The ID of a request, empty before it has one."""
    return str(scope.get("state", {}).get("request_id", ""))


def key_name_of(scope: "Scope") -> str:
    """The name of the API key of a request; empty where it has none."""
    return str(scope.get("state", {}).get("key", ""))
