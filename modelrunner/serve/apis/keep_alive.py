"""`keep_alive`: how long a model stays in memory after a request.

parse("5m") == parse(300) == 300.0
parse(-1) == inf
"""

import math
import re

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(h|ms|us|µs|ns|m|s)")
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{0,12})?")
_LONGEST = 100
_MOST_S = 100 * 365 * 86400.0


class InvalidDurationError(ValueError):
    """A value that is not a duration."""


def parse(value: object) -> float | None:
    """Return the seconds of a duration: infinity for ever, None where it is not said.

    Numbers are seconds; texts are Go's durations (`1h30m`, `300ms`), or a number of seconds.
    Everything below zero is for ever.

    Raises:
        InvalidDurationError: The value is not a duration.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise InvalidDurationError
    if isinstance(value, int | float):
        if math.isnan(value):
            raise InvalidDurationError
        return _limited(value)
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise InvalidDurationError
    text = value.strip()
    sign = -1 if text.startswith("-") else 1
    text = text[text[:1] in {"-", "+"} :]
    if _NUMBER.fullmatch(text):
        # bounded: by its expression
        return _limited(sign * float(text))
    seconds, end = 0.0, 0
    while match := _PART.match(text, end):
        # bounded: by its expression
        seconds += float(match[1]) * _UNITS[match[2]]
        end = match.end()
    if not end or end != len(text):
        raise InvalidDurationError
    return _limited(sign * seconds)


def _limited(seconds: float) -> float:
    return math.inf if seconds < 0 or seconds > _MOST_S else 1.0 * seconds
