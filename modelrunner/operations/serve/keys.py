"""The API keys of a server: from options, a file, the environment, or made."""

import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelrunner.errors import UsageError
from modelrunner.serve.client.keys import ApiKey, ApiKeys

GENERATED = "generated"
"""In place of a key: one is made."""

KEY_VARIABLE = "MODELRUNNER_API_KEY"
CONTROL_VARIABLE = "MODELRUNNER_CONTROL_KEY"
_KEY = re.compile(r"[!-~]+")
_NAMED = re.compile(r"([0-9A-Za-z][0-9A-Za-z._-]{0,63})=(.*[^=])", re.DOTALL)
"""A name and a key. What ends in `=`, with none before it, is a key in Base64."""

_FILE_LIMIT = 1024 * 1024
_HINT = "`--api-key generated` creates one"


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """The keys of a server.

    Attributes:
        keys: All of them.
        made: Those that were made: shown once and kept nowhere.
    """

    keys: ApiKeys
    made: tuple[ApiKey, ...] = field(default=(), repr=False)


def choose_keys(
    said: Sequence[str], file: Path | None, environ: Mapping[str, str], *, needed: bool
) -> KeyChoice:
    """Read all keys.

    Args:
        said: What `--api-key` says, each `KEY` or `NAME=KEY`.
        file: A file with one a line.
        environ: Where a key is looked for if neither says one.
        needed: Whether one is made where nothing says one.

    Raises:
        UsageError: One is invalid or said twice, or the file cannot be used.
    """
    found = [_parse(text, "--api-key") for text in said]
    if file is not None:
        found += _read(file)
    usual = environ.get(KEY_VARIABLE)
    if not found and usual:
        # whole: nobody names the only one
        found = [_checked(ApiKey(usual), KEY_VARIABLE)]
    if not found and needed:
        found = [ApiKey(GENERATED)]
    made = []
    for place, key in enumerate(found):
        if key.secret == GENERATED:
            found[place] = ApiKey(secrets.token_urlsafe(32), key.name)
            made.append(found[place])
    _check_different(found)
    return KeyChoice(ApiKeys(tuple(found)), tuple(made))


def choose_control_key(said: str | None, environ: Mapping[str, str]) -> str | None:
    """Return what lets requests change the store from anywhere; None where nothing says it.

    Args:
        said: What `--control-key` says.
        environ: Where it is looked for otherwise.

    Raises:
        UsageError: It is invalid.
    """
    found = said if said is not None else environ.get(CONTROL_VARIABLE) or None
    if found is None:
        return None
    return _checked(ApiKey(found), "--control-key" if said is not None else CONTROL_VARIABLE).secret


def _parse(text: str, origin: str) -> ApiKey:
    named = _NAMED.fullmatch(text)
    return _checked(ApiKey(named[2], named[1]) if named else ApiKey(text), origin)


def _checked(key: ApiKey, origin: str) -> ApiKey:
    if not _KEY.fullmatch(key.secret):
        whose = f" {key.name!r}" if key.name else ""
        raise UsageError(
            f"invalid API key{whose} in {origin}:"
            " expected printable ASCII characters without spaces",
            hint=_HINT,
        )
    return key


def _check_different(keys: Sequence[ApiKey]) -> None:
    names, values = set(), set()
    for key in keys:
        if key.name in names:
            what = (
                f"two API keys have the name {key.name!r}" if key.name else "two keys are unnamed"
            )
            raise UsageError(what, hint="name each: `--api-key NAME=KEY`")
        if key.secret in values:
            raise UsageError(
                f"the API key {key.name!r} has the value of another one",
                hint="give each name a key of its own: `--api-key NAME=generated` creates one",
            )
        names.add(key.name)
        values.add(key.secret)


def _read(file: Path) -> list[ApiKey]:
    """Return the keys of a file, one a line; blank lines and `#` lines are skipped.

    Raises:
        UsageError: It cannot be read, others may read or change it, or it has no key.
    """
    keys = []
    for number, line in enumerate(_lines(file), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            keys.append(_parse(text, f"{file}, line {number}"))
    if not keys:
        raise UsageError(
            f"--api-key-file: {file} has no keys", hint="write one a line: KEY or NAME=KEY"
        )
    return keys


def _lines(file: Path) -> Iterator[str]:
    try:
        # outside: a file that the user names
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            raw = opened.read(_FILE_LIMIT + 1)
    except OSError as exc:
        raise UsageError(
            f"--api-key-file: cannot read {file}: {(exc.strerror or 'error').lower()}",
            hint="name a file with one key a line: KEY or NAME=KEY",
        ) from exc
    # the group may read it, as secrets of containers are often mounted
    if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise UsageError(
            f"--api-key-file: other users can read or change {file}:"
            f" its mode is {stat.S_IMODE(mode):04o}",
            hint=f"`chmod 600 {file}`",
        )
    if len(raw) > _FILE_LIMIT:
        raise UsageError(
            f"--api-key-file: {file} is larger than 1 MiB", hint="write one key a line"
        )
    try:
        yield from raw.decode("ascii").splitlines()
    except UnicodeDecodeError as exc:
        raise UsageError(
            f"--api-key-file: {file} has characters that are not ASCII", hint=_HINT
        ) from exc
