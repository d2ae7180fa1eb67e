"""Settings of `/set`: sampling options, and how answers are shown."""

import math
from collections.abc import Callable
from typing import Any

from modelrunner.cli.chat.session import Session
from modelrunner.errors import UsageError
from modelrunner.frozen import replace
from modelrunner.text import sanitize_line

HOTTEST = 2.0
"""The highest temperature that OpenAI's protocol has."""


def change(session: Session, argument: str) -> str:
    """Apply `KEY VALUE`, and return the message.

    Raises:
        UsageError: The setting is unknown, or its value invalid.
    """
    key, _, value = argument.partition(" ")
    value = value.strip()
    if key in _CHOICES:
        setattr(session, key, _choice(key, value))
    elif key in _NUMBERS:
        number: dict[str, Any] = {key: None if value == "default" else _NUMBERS[key](value)}
        session.options = replace(session.options, **number)
    else:
        keys = ", ".join([*_NUMBERS, *_CHOICES])
        raise UsageError(f"unknown setting `{sanitize_line(key, 80)}`", hint=f"available: {keys}")
    return f"{key} {sanitize_line(value)}"


def settings(session: Session) -> str:
    """Return each setting and its value, in one line each."""
    rows = {key: getattr(session.options, key) for key in _NUMBERS}
    lines = [f"{key:<14} {'default' if value is None else value}" for key, value in rows.items()]
    for key, choices in _CHOICES.items():
        now = getattr(session, key)
        lines.append(f"{key:<14} {next(name for name, value in choices.items() if value == now)}")
    return "\n".join(lines)


def _choice(key: str, name: str) -> object:
    choices = _CHOICES[key]
    if name not in choices:
        names = [f"`{choice}`" for choice in choices]
        raise UsageError(
            f"`{key}` must be {', '.join(names[:-1])} or {names[-1]}",
            hint=f"`/set {key} {next(iter(choices))}`",
        )
    return choices[name]


def _temperature(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= HOTTEST:
        raise _no_value("temperature", f"a number from 0 to {HOTTEST:g}")
    return value


def _top_p(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise _no_value("top_p", "a number above 0 and at most 1")
    return value


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _no_value("seed", "a whole number") from None


def _max_tokens(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise _no_value("max_tokens", "a whole number of at least 1")
    return int(text)


def _repeat_penalty(text: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise _no_value("repeat_penalty", "a number above 0")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _no_value(key: str, rule: str) -> UsageError:
    return UsageError(
        f"`{key}` must be {rule}", hint=f"`/set {key} default` restores the model's default"
    )


_NUMBERS: dict[str, Callable[[str], float]] = {
    "temperature": _temperature,
    "top_p": _top_p,
    "seed": _seed,
    "max_tokens": _max_tokens,
    "repeat_penalty": _repeat_penalty,
}

_SWITCH: dict[str, object] = {"on": True, "off": False}

_CHOICES: dict[str, dict[str, object]] = {
    "verbose": _SWITCH,
    "markdown": _SWITCH,
    "thinking": {"show": "show", "fold": "fold", "hide": "hide"},
}
