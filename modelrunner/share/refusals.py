"""What a client is answered where content cannot be had: errors of ours as answers of HTTP."""

from http import HTTPStatus

from modelrunner.errors import (
    AccessError,
    CapacityError,
    CorruptStoreError,
    DeadlineError,
    IntegrityError,
    ModelRunnerError,
    NotFoundError,
    RateLimitedError,
    TransferError,
    UnsupportedArtifactError,
)
from modelrunner.share.repositories import RefusalError

_ANSWERS: tuple[tuple[type[ModelRunnerError], HTTPStatus, str], ...] = (
    (RateLimitedError, HTTPStatus.TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
    (DeadlineError, HTTPStatus.GATEWAY_TIMEOUT, "UNKNOWN"),
    (TransferError, HTTPStatus.BAD_GATEWAY, "UNKNOWN"),
    # no login of the client's would help: this server asks its registries, not the client
    (AccessError, HTTPStatus.FORBIDDEN, "DENIED"),
    (NotFoundError, HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN"),
    (CapacityError, HTTPStatus.INSUFFICIENT_STORAGE, "UNKNOWN"),
    (UnsupportedArtifactError, HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN"),
)


def refusal_for(error: ModelRunnerError) -> RefusalError:
    """The answer for an error; clients do not learn what is wrong with the store itself."""
    if isinstance(error, IntegrityError) and not isinstance(error, CorruptStoreError):
        return RefusalError(HTTPStatus.BAD_GATEWAY, "UNKNOWN", error.message)
    for kind, status, code in _ANSWERS:
        if isinstance(error, kind):
            wait = error.retry_after_s if isinstance(error, TransferError) else None
            return RefusalError(status, code, error.message, retry_after_s=wait)
    return RefusalError(HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", "the store is damaged")
