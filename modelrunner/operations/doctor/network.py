"""Registries: do they answer, whom do they know, how much may still be pulled, what time is it.

Only HEAD requests, and those that a token takes: Docker Hub does not count them as pulls. It shows
what is left in `ratelimit-remaining: 76;w=21600`, for a manifest that it keeps for this question.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from modelrunner.errors import AccessError, ExitStatus, ModelRunnerError, UnauthorizedError
from modelrunner.oci.reference import DOCKER_HUB, HUGGING_FACE, Reference
from modelrunner.operations.doctor.finding import Finding, broken, doubtful, failed, well
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.ping import Greeting, greet
from modelrunner.registry.registries import Registries
from modelrunner.units import format_duration

SILENCE_S = 6.0
_ASKED_OF_THE_HUB = ("ratelimitpreview/test", "latest")
_LIMIT = re.compile(r"\s*(\d{1,9})(?:\s*;\s*w=(\d{1,9}))?")
_FEW = 10
_SKEW_S = 60
_SKEW_TOO_FAR_S = 3600
_MISSING = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


@dataclass(frozen=True, slots=True)
class _Look:
    """One place that was asked: its answer, or why there is none."""

    endpoint: Endpoint
    answer: Greeting | ModelRunnerError


def registry(places: Registries, name: str, model: Reference | None) -> Iterator[Finding]:
    """A registry and its mirrors.

    Args:
        places: Where they are.
        name: The registry, as references name it.
        model: One to ask for, instead of the registry alone.
    """
    if name == HUGGING_FACE:
        yield _hub(places, model)
        return
    try:
        endpoints = (*places.mirrors_of(name), places.endpoint_of(name))
    except ModelRunnerError as exc:
        yield failed("registry", exc, "modelrunner config")
        return
    looks = [_look(places, endpoint, model) for endpoint in endpoints]
    answered = any(isinstance(look.answer, Greeting) for look in looks)
    for look in looks:
        yield from _findings(look, model, elsewhere=answered)


def _hub(places: Registries, model: Reference | None) -> Finding:
    """The Hugging Face Hub, which is asked in its own way."""
    # nobody else waits for the Hub's package
    from modelrunner.registry.huggingface.api import HubApi
    from modelrunner.registry.huggingface.source import HuggingFaceHub

    try:
        hub = HubApi(places.hub, replace(places.backoff, attempts=1), places.ca_file)
    except ModelRunnerError as exc:
        return failed("registry", exc, "modelrunner config")
    try:
        with closing(HuggingFaceHub(hub, places.listings, places.known_files)) as source:
            if model is None:
                hub.search("", 1)
            else:
                source.manifest(model)
    except ModelRunnerError as exc:
        return failed("registry", exc, f"curl -sSI {hub.endpoint.base}")
    return _answers(hub.endpoint.label, model)


def _answers(label: str, model: Reference | None) -> Finding:
    return well("registry", f"{label} answers" + (f", has {model.short}" if model else ""))


def _look(places: Registries, endpoint: Endpoint, model: Reference | None) -> _Look:
    asked = _ASKED_OF_THE_HUB if endpoint.registry == DOCKER_HUB else None
    if model is not None:
        asked = (model.repository, str(model.digest or model.tag))
    try:
        answer = greet(endpoint, places.credentials, asked, timeout_s=SILENCE_S)
        if answer.status == HTTPStatus.UNAUTHORIZED and places.credentials.find(endpoint.account):
            message = f"{endpoint.label} rejected the stored login"
            return _Look(endpoint, UnauthorizedError(message))
        return _Look(endpoint, answer)
    except ModelRunnerError as exc:
        return _Look(endpoint, exc)


def _findings(look: _Look, model: Reference | None, *, elsewhere: bool) -> Iterator[Finding]:
    label = look.endpoint.label
    match look.answer:
        case AccessError() as error:
            yield failed("registry", error, f"modelrunner login {look.endpoint.account}")
        case ModelRunnerError() as error:
            fix = f"curl -sSI {look.endpoint.base}/v2/"
            found = failed("registry", error, fix)
            # where another place has the same models, pulls work
            yield doubtful("registry", found.message, fix) if elsewhere else found
        case answer:
            yield _reachable(label, answer, look, model)
            yield from _left(label, answer, look.endpoint.account)
            yield from _clock(label, answer)


def _reachable(label: str, answer: Greeting, look: _Look, model: Reference | None) -> Finding:
    status = answer.status
    fix = f"curl -sSI {look.endpoint.base}/v2/"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        message = f"{label}: rate limit reached"
        login = f"modelrunner login {look.endpoint.account}"
        return broken("registry", message, login, ExitStatus.TRANSFER)
    if answer.headers.get("content-type", "").startswith("text/html"):
        message = f"{label} returned a web page: a proxy or a login page may answer instead"
        return broken("registry", message, fix, ExitStatus.TRANSFER)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        message = f"{label} returned HTTP {status}: the error is on the registry's side"
        return broken("registry", message, fix, ExitStatus.TRANSFER)
    if model is not None and status in _MISSING:
        return _missing(label, status, model, look.endpoint.account)
    return _answers(label, model)


def _missing(label: str, status: int, model: Reference, account: str) -> Finding:
    if status == HTTPStatus.NOT_FOUND:
        message = f"{label} answers, but {model.short} was not found"
        return broken("registry", message, f"modelrunner tags {model.name}", ExitStatus.NOT_FOUND)
    message = f"{label} answers, but {model.short} needs another login"
    return broken("registry", message, f"modelrunner login {account}", ExitStatus.ACCESS)


def _left(label: str, answer: Greeting, account: str) -> Iterator[Finding]:
    left = _LIMIT.match(answer.headers.get("ratelimit-remaining", ""))
    if left is None:
        return
    limit = _LIMIT.match(answer.headers.get("ratelimit-limit", ""))
    whole = f" of {limit[1]}" if limit else ""
    # bounded: nine digits, see `_LIMIT`
    window = f" in {format_duration(int(left[2]))}" if left[2] else ""
    said = f"{left[1]}{whole} pulls left{window} at {label}"
    login = f"modelrunner login {account}"
    # bounded: nine digits, see `_LIMIT`
    if int(left[1]) == 0:
        yield broken("limit", said, login, ExitStatus.TRANSFER)
    # bounded: nine digits, see `_LIMIT`
    elif int(left[1]) <= _FEW:
        yield doubtful("limit", said, login)
    else:
        yield well("limit", said)


def _clock(label: str, answer: Greeting) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return
    ahead = round(answer.received - theirs)
    if abs(ahead) <= _SKEW_S:
        yield well("clock", f"as at {label}")
        return
    direction = "ahead of" if ahead > 0 else "behind"
    message = f"{format_duration(abs(ahead))} {direction} {label}: certificates and tokens may fail"
    fix = (
        "sudo sntp -sS time.apple.com"
        if sys.platform == "darwin"
        else ("sudo timedatectl set-ntp true")
    )
    if abs(ahead) > _SKEW_TOO_FAR_S:
        yield broken("clock", message, fix, ExitStatus.TRANSFER)
    else:
        yield doubtful("clock", message, fix)
