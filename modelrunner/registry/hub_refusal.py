"""What the Hugging Face Hub means when it says no: `X-Error-Code` first, then the status."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from modelrunner.errors import (
    DeniedError,
    ManifestNotFoundError,
    ModelRunnerError,
    UnauthorizedError,
)
from modelrunner.registry.exchange import read_limited
from modelrunner.registry.responses import BODY_LIMIT, error_for, rate_limited
from modelrunner.registry.settings import HUB_ENDPOINT

if TYPE_CHECKING:
    import requests


def refusal(
    response: "requests.Response", *, what: str, hub: str, repository: str, with_token: bool
) -> ModelRunnerError:
    """The error for an answer.

    Args:
        response: The answer, its body not read yet.
        what: What was asked for.
        hub: The Hub's name, or the address of what stands for it.
        repository: As it stands in an address.
        with_token: Whether a token was shown.
    """
    status, code = response.status_code, response.headers.get("X-Error-Code", "")
    facts: dict[str, Any] = {"registry": hub, "status": status}
    match code, status:
        case "GatedRepo", _:
            return DeniedError(
                f"{what} is gated: its owner has to grant access",
                hint=f"request access at {HUB_ENDPOINT}/{repository}, then set HF_TOKEN to your "
                "token",
                **facts,
            )
        case "EntryNotFound", _:
            message = f"{what}: listed, but not found on {hub}"
            return ManifestNotFoundError(message, missing="blob", **facts)
        case "RevisionNotFound", _:
            return ManifestNotFoundError(
                f"{what}: {hub} has no such revision",
                hint="write a branch, a tag or a commit before the quantization: "
                "hf.co/ORG/REPO@REVISION:QUANT",
                missing="repository",
                **facts,
            )
        case _, HTTPStatus.TOO_MANY_REQUESTS:
            more = (
                "try again later: this is the limit of your token"
                if with_token
                else "set HF_TOKEN for a higher limit"
            )
            return rate_limited(response.headers, what, hub, facts, hint=more)
        case _, (HTTPStatus.UNAUTHORIZED | HTTPStatus.NOT_FOUND):
            return _not_there(status, what, hub, facts, with_token=with_token)
        case _:
            body = read_limited(response, BODY_LIMIT, hub)
            return error_for(status, response.headers, body, what=what, registry=hub)


def _not_there(
    status: int, what: str, hub: str, facts: dict[str, Any], *, with_token: bool
) -> ModelRunnerError:
    if status == HTTPStatus.NOT_FOUND:
        return ManifestNotFoundError(
            f"{what}: {hub} has no such repository",
            hint="check the name and its owner: `modelrunner search` finds models",
            missing="repository",
            **facts,
        )
    if with_token:
        message = f"{hub} rejected the token"
        return UnauthorizedError(
            message, hint="HF_TOKEN may have expired: set it to a new token", **facts
        )
    return UnauthorizedError(
        f"{what}: no such repository, or it is private",
        hint="check the name; for a private repository set HF_TOKEN",
        **facts,
    )
