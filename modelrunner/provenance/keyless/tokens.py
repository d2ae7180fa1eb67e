"""Identity tokens (OpenID Connect): where they come from, and what can be known of one beforehand.

A token is not verified here: the authority that makes certificates does that. What would be
refused there in words that help nobody is found before it is sent: a token that has expired, or one
that was made for somebody else.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlsplit

from modelrunner.errors import ConfigError, IdentityTokenError
from modelrunner.text import mask, os_reason, sanitize_line
from modelrunner.units import format_moment
from modelrunner.wire import parse_object

AMBIENT = "auto"
"""Stands for the token of the pipeline that this runs in."""

_LIMIT = 64 * 1024
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_INSIDE = re.compile(r"ey[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")
"""The begin of a token, wherever it stands: JSON in base64, a dot, and more of the same."""

_SHAPES = "use --identity-token FILE, env:NAME, - for stdin, or auto in a pipeline"
_VARIABLE = "SIGSTORE_ID_TOKEN"
_REQUEST_URL, _REQUEST_TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
_SKEW_S = 5
"""Seconds that clocks may differ."""


@dataclass(frozen=True, slots=True)
class IdentityToken:
    """Who somebody is, by the word of an identity provider.

    Attributes:
        raw: What is sent; never shown.
        issuer: The provider.
    """

    raw: str = field(repr=False)
    issuer: str


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Where a pipeline gives out a token.

    Attributes:
        url: The address.
        bearer: What is shown there; never shown elsewhere.
    """

    url: str = field(repr=False)
    bearer: str = field(repr=False)

    def token_in(self, answer: bytes) -> str:
        """Return the token of an answer.

        Raises:
            IdentityTokenError: It has none.
        """
        try:
            found = parse_object(answer).get("value")
        except ValueError:
            found = None
        if not isinstance(found, str):
            raise IdentityTokenError(
                "the pipeline gave out no identity token",
                hint="check the job's permissions: it needs `id-token: write`",
            )
        return found


def token_text(text: str, environ: Mapping[str, str], stdin: Callable[[int], bytes]) -> str:
    """Return the token that a text names: `FILE`, `env:NAME` or `-`.

    Args:
        text: As people write it.
        environ: The environment.
        stdin: Reads up to a number of bytes of the standard input.

    Raises:
        ConfigError: There is no such token.
    """
    kind, colon, rest = text.partition(":")
    if _INSIDE.search(text):
        # whoever sees the processes of this machine sees it
        raise ConfigError(
            "--identity-token needs a file or a variable, got a token",
            hint=f"command lines are seen by others: {_SHAPES}",
        )
    if text == "-":
        raw = stdin(_LIMIT)
    elif colon and kind == "env":
        if not environ.get(rest):
            raise ConfigError(
                f"--identity-token env:{sanitize_line(rest, 80)}: the variable is not set",
                hint="set it to an identity token",
            )
        raw = environ[rest].encode(errors="replace")
    else:
        try:
            # outside: a token that a person names
            with Path(text).open("rb") as file:
                raw = file.read(_LIMIT)
        except OSError as exc:
            raise ConfigError(
                f"cannot read the identity token {sanitize_line(text, 200)}: {os_reason(exc)}",
                hint=_SHAPES,
                path=text,
            ) from exc
    return raw.decode("ascii", errors="replace").strip()


def ambient(environ: Mapping[str, str], audience: str) -> str | TokenRequest:
    """Return the token of the pipeline that this runs in, or where it gives one out.

    A token in `SIGSTORE_ID_TOKEN` (GitLab and others), else what GitHub Actions gives to jobs.

    Raises:
        ConfigError: There is none.
    """
    if environ.get(_VARIABLE):
        return environ[_VARIABLE].strip()
    url, bearer = environ.get(_REQUEST_URL), environ.get(_REQUEST_TOKEN)
    if url and bearer:
        mask(bearer)
        query = f"audience={quote(audience, safe='')}"
        return TokenRequest(f"{url}{'&' if urlsplit(url).query else '?'}{query}", bearer)
    raise ConfigError(
        "--identity-token auto: no identity token in this environment",
        hint=f"in GitHub Actions, give the job `id-token: write`; elsewhere set {_VARIABLE}, or"
        " name a file",
    )


def read_token(text: str, *, audience: str | None, now: datetime | None = None) -> IdentityToken:
    """Return a token that may be sent.

    Args:
        text: The token.
        audience: Whom it has to be for; None where the authority decides.
        now: The time; None for the clock's.

    Raises:
        IdentityTokenError: It is malformed, has expired, is not valid yet, or for somebody else.
    """
    mask(text)
    if _SHAPE.fullmatch(text) is None:
        raise _malformed("expected three parts with dots between")
    part = text.split(".")[1]
    try:
        claims = parse_object(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError) as exc:
        raise _malformed("its claims are not JSON") from exc
    issuer, expires, begins = claims.get("iss"), claims.get("exp"), claims.get("nbf")
    if not isinstance(issuer, str) or not isinstance(expires, int | float):
        raise _malformed("it has no issuer, or no time at which it expires")
    moment = (now or datetime.now(UTC)).timestamp()
    if moment >= expires + _SKEW_S:
        raise IdentityTokenError(
            f"the identity token has expired{_at(expires)}",
            hint="get a new one: a token is valid for some minutes",
        )
    if isinstance(begins, int | float) and moment < begins - _SKEW_S:
        raise IdentityTokenError(
            f"the identity token is not valid yet{_at(begins, 'before')}",
            hint="check the clock of this machine",
        )
    said = claims.get("aud")
    meant = [each for each in (said if isinstance(said, list) else [said]) if isinstance(each, str)]
    if audience is not None and audience not in meant:
        shown = sanitize_line(", ".join(meant), 200) or "nobody"
        raise IdentityTokenError(
            f"the identity token is for {shown}, expected {audience}",
            hint=f"ask the identity provider for a token with the audience {audience}",
        )
    return IdentityToken(text, sanitize_line(issuer, 500))


def _malformed(problem: str) -> IdentityTokenError:
    return IdentityTokenError(
        f"malformed identity token: {problem}", hint="give a token of OpenID Connect (a JWT)"
    )


def _at(seconds: float, word: str = "at") -> str:
    try:
        return f" {word} {format_moment(datetime.fromtimestamp(seconds, UTC))}"
    except (OverflowError, OSError, ValueError):
        return ""
