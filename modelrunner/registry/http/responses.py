"""What a registry's answer means, in our words: status codes and the specification's errors."""

import re
from collections.abc import Mapping
from time import time
from typing import Any
from urllib.parse import urljoin

from modelrunner.errors import (
    DeniedError,
    ManifestNotFoundError,
    ModelRunnerError,
    RateLimitedError,
    RegistryAnswerError,
    RegistryUnavailableError,
    RequestTooLargeError,
    UnauthorizedError,
)
from modelrunner.oci.reference import DOCKER_HUB
from modelrunner.registry.http.connections import Response
from modelrunner.registry.http.destinations import origin
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_count, parse_json

BODY_LIMIT = 64 * 1024
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TIMEOUT, _TOO_LARGE, _TOO_MANY = (
    401,
    403,
    404,
    408,
    413,
    429,
)
_SERVER_ERROR = 500
_PROXY_LOGIN = 407
_ENOUGH = 16
# what Go's servers, nginx and Apache answer to plain http on a port of TLS
_TLS_SIGNS = (
    b"client sent an http request to an https server",
    b"plain http request was sent to https port",
    b"speaking plain http to an ssl-enabled server port",
)
_MOST_NEAR = 5
_YEAR_S = 366 * 24 * 3600
_QUOTES = " '\""
_SPENT = re.compile(r";\s*r=0\s*;\s*t=([0-9]{1,9})\b")


def error_for(  # noqa: PLR0911 - a table
    status: int, headers: Mapping[str, str], body: bytes, *, what: str, registry: str
) -> ModelRunnerError:
    """The error that a failed request stands for.

    Args:
        status: The HTTP status, 400 or more (or an unexpected one).
        headers: The response's headers, case-insensitive.
        body: The beginning of the body.
        what: What was asked for, as people name it.
        registry: Who was asked.
    """
    codes, message = _spec_errors(body)
    said = f" ({message})" if message else ""
    facts: dict[str, Any] = {"registry": registry, "status": status}
    if status == _NOT_FOUND:
        return _not_found(codes, what, registry, _near(body))
    if status == _UNAUTHORIZED or (status == _FORBIDDEN and "UNAUTHORIZED" in codes):
        return UnauthorizedError(
            f"{what}: not found, or login required ({registry} does not distinguish)",
            hint=f"check the name; if it is private, log in: `modelrunner login {registry}`",
            **facts,
        )
    if status == _PROXY_LOGIN:
        return proxy_login(what, **facts)
    if status == _FORBIDDEN and body.lstrip()[:_ENOUGH].lower().startswith((b"<?xml", b"<error")):
        return RegistryAnswerError(
            f"{what}: the storage behind {registry} returned HTTP 403",
            hint="try again later, or ask the registry's administrator; a login does not help",
            **facts,
        )
    if status == _FORBIDDEN:
        return DeniedError(
            f"{what}: {registry} denies access{said}",
            hint=f"request access, or log in as another user: `modelrunner login {registry}`",
            **facts,
        )
    if status == _TOO_MANY:
        return rate_limited(headers, what, registry, facts)
    if status == _TOO_LARGE:
        return RequestTooLargeError(f"{what}: {registry} returned HTTP {status}{said}", **facts)
    if status == _TIMEOUT or status >= _SERVER_ERROR:
        return RegistryUnavailableError(
            f"{what}: {registry} returned HTTP {status}{said}",
            hint="try again later: the error is on the registry's side",
            **{**facts, **_retry_after(headers)},
        )
    if (known := _known(codes, body)) is not None:
        facts["hint"], said = known[0], known[1] or said
    return RegistryAnswerError(f"{what}: {registry} returned HTTP {status}{said}", **facts)


def _known(codes: set[str], body: bytes) -> tuple[str, str] | None:
    """The hint for a refusal that says what is wrong with the request, and what is said of it."""
    if any(sign in body.lower() for sign in _TLS_SIGNS):
        return (
            "write https:// in its address, or remove `insecure = true` for it from config.toml",
            ": it expects TLS, but was asked over plain http",
        )
    if "NAME_INVALID" in codes:
        return "use another name: `modelrunner tag MODEL NAME` gives a model one", ""
    return None


def next_link(headers: Mapping[str, str]) -> str | None:
    """The address of a `Link` header to the next page, as it is written there; None without one."""
    found = None
    for entry in re.split(", *<", headers.get("Link", "")):
        target, *parameters = entry.split(";")
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip(_QUOTES).lower() == "rel" and value.strip(_QUOTES) == "next":
                found = target.strip(f"<>{_QUOTES}")
    return found


def next_page(response: Response, endpoint: Endpoint) -> str | None:
    """The address at which a list goes on; None at its end, or where that is another server.

    Raises:
        RegistryAnswerError: The address is not a valid URL.
    """
    link = next_link(response.headers)
    if not link:
        return None
    try:
        url = urljoin(endpoint.current(response.url), link)
    except ValueError as exc:
        raise RegistryAnswerError(
            f"{endpoint.label}: the next page of a list has an invalid URL"
        ) from exc
    return url if origin(url) == origin(endpoint.base) else None


def proxy_login(what: str, **facts: Any) -> RegistryAnswerError:  # noqa: ANN401
    """The error for a proxy that wants to know who asks."""
    return RegistryAnswerError(
        f"{what}: the proxy requires a login (HTTP 407)",
        hint="set HTTPS_PROXY and HTTP_PROXY to http://USER:PASSWORD@HOST:PORT, or list the"
        " host in NO_PROXY",
        **facts,
    )


def is_web_page(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a successful answer to the version check is a page for people.

    What says that it is a registry is believed (Quay's body is `true`, as text/html); of the others
    some send an empty body, some JSON.
    """
    if headers.get("Docker-Distribution-Api-Version", "").startswith("registry/"):
        return body.lstrip()[:1] == b"<"
    kind = headers.get("Content-Type", "")
    return kind.startswith("text/html") or body.lstrip()[:1] == b"<"


def web_page(what: str, registry: str) -> RegistryAnswerError:
    """The error for HTML where a registry should speak."""
    return RegistryAnswerError(
        f"{what}: {registry} returned a web page",
        hint="check HTTPS_PROXY and NO_PROXY: a proxy or a login page answers instead",
        registry=registry,
    )


def _not_found(codes: set[str], what: str, registry: str, near: list[str]) -> ManifestNotFoundError:
    if "NAME_UNKNOWN" in codes and near:
        names = " or ".join(f"`{registry}/{name}`" for name in near)
        return ManifestNotFoundError(
            f"{what}: no such repository on {registry}",
            hint=f"did you mean {names}?",
            registry=registry,
            missing="repository",
            near=[f"{registry}/{name}" for name in near],
        )
    if "NAME_UNKNOWN" in codes:
        return ManifestNotFoundError(
            f"{what}: no such repository on {registry}",
            hint="check the name: `modelrunner cards` lists known models",
            registry=registry,
            missing="repository",
        )
    hint = None
    if registry != DOCKER_HUB:
        hint = (
            "check the name and the tag: "
            f"`modelrunner search --registry {registry}` lists its repositories"
        )
    return ManifestNotFoundError(
        f"{what}: not found on {registry}", hint=hint, registry=registry, missing="manifest"
    )


def rate_limited(
    headers: Mapping[str, str],
    what: str,
    registry: str,
    facts: Mapping[str, Any],
    *,
    hint: str | None = None,
) -> RateLimitedError:
    """The error for too many requests, with the seconds to wait, if they are given."""
    wait = _retry_after(headers)
    when = f", wait {wait['retry_after_s']} s" if wait else ""
    return RateLimitedError(
        f"{what}: {registry}: rate limit reached" + when,
        hint=hint or f"log in for a higher limit: `modelrunner login {registry}`",
        **{**facts, **wait},
    )


def _retry_after(headers: Mapping[str, str]) -> dict[str, Any]:
    value = headers.get("Retry-After", "").strip()
    seconds = parse_count(value)
    if seconds is not None:
        return {"retry_after_s": min(seconds, _YEAR_S)}
    # few registries write a date
    from email.utils import parsedate_to_datetime

    try:
        return {"retry_after_s": max(0, round(parsedate_to_datetime(value).timestamp() - time()))}
    except (TypeError, ValueError, OverflowError):
        pass
    # the IETF's draft for rate limits, which the Hugging Face Hub follows: "api";r=0;t=55
    spent = _SPENT.search(headers.get("RateLimit", ""))
    seconds = parse_count(spent[1]) if spent else None
    return {} if seconds is None else {"retry_after_s": seconds}


def _near(body: bytes) -> list[str]:
    """Repositories that may be meant, as our own `share` names them in an error's detail."""
    try:
        near = parse_json(body)["errors"][0]["detail"]["near"]
        return [sanitize_line(name, 255) for name in near[:_MOST_NEAR] if isinstance(name, str)]
    except (ValueError, LookupError, TypeError):
        return []


def _spec_errors(body: bytes) -> tuple[set[str], str]:
    try:
        errors = parse_json(body)["errors"]
        codes = {str(error.get("code", "")) for error in errors}
        message = "; ".join(str(error.get("message", "")) for error in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return set(), ""
    return codes, sanitize_line(message, 200)
