"""Bytes, counts, durations and moments, parsed and shown.

Memory and files are shown in binary units and say so (`1.81 GiB`). Parameters and contexts are
decimal, as the models' makers print them (`3.2B`, `131K`).
"""

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_FACTORS: dict[str, int] = {
    "": 1,
    "b": 1,
    **{f"{letter}ib": int(1024**power) for power, letter in enumerate("kmgtp", start=1)},
    **{f"{letter}b": int(1000**power) for power, letter in enumerate("kmgtp", start=1)},
    **{letter: int(1024**power) for power, letter in enumerate("kmgtp", start=1)},
}
_SECONDS_END = 19
_EPOCH = 1970
_LEAP_DAYS_BEFORE = 477
"""Between the year 1 and it."""
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SIZE = r"\s*(\d{1,30}(?:\.\d{1,30})?)\s*([a-zA-Z]*)\s*"


SIZE_HINT = "write a number and a unit: 8GiB, 20MB or 512k"
"""What to do about a size that is none."""


def format_size(size: int) -> str:
    """A number of bytes for people, in binary units: `1.81 GiB`, `93.81 MiB`, `512 B`."""
    value, unit = float(size), 0
    while abs(value) >= 1024 and unit < len(_BINARY) - 1:  # noqa: PLR2004
        value, unit = value / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{value:.2f} {_BINARY[unit]}"


def format_share(done: int, total: int) -> str:
    """How much of a number of bytes is there, both in the unit of the whole: `18.9/96.0 MiB`."""
    unit = 0
    while total >= 1024 ** (unit + 1) and unit < len(_BINARY) - 1:
        unit += 1
    digits = 1 if unit else 0
    parts = (f"{size / 1024**unit:.{digits}f}" for size in (done, total))
    return f"{'/'.join(parts)} {_BINARY[unit]}"


def parse_size(text: str) -> int:
    """Bytes from `8GiB`, `20 MB`, `512k` or a plain number.

    `KiB`, `MiB`, ... and bare letters are binary, `KB`, `MB`, ... decimal.

    Raises:
        ValueError: The text is not a size.
    """
    match = re.fullmatch(_SIZE, text)
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"invalid size {text!r} (examples: 8GiB, 20MB, 512k)")
    return round(float(match[1]) * factor)


def format_count(count: int) -> str:
    """A decimal count for people: `135M`, `3.2B`, `999`."""
    for factor, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= factor:
            return f"{count / factor:.3g}{letter}"
    return str(count)


def format_context(tokens: int) -> str:
    """A context length as cards print it: `131K`, `1M`, `512`."""
    for factor, letter in ((10**6, "M"), (10**3, "K")):
        if tokens >= factor:
            return f"{round(tokens / factor)}{letter}"
    return str(tokens)


def format_duration(seconds: float) -> str:
    """A duration for people: `42s`, `3m 05s`, `2h 10m`."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{whole}s"
    if whole < 3600:  # noqa: PLR2004
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def counted(number: int, noun: str) -> str:
    """A number of things: `1 model`, `3 models`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_moment(moment: "datetime") -> str:
    """A moment of UTC as RFC 3339 has it, in whole seconds: `2025-10-02T09:00:00Z`."""
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def format_seconds(seconds: float) -> str:
    """A number of seconds since 1970 in the same form."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def utc_seconds(text: str) -> int | None:
    """Seconds from 1970 to a moment of UTC such as `2025-10-02T09:00:00.5Z`, without its fraction.

    None for every other form, for which there is `datetime`: it takes as long to load as ten of our
    modules.
    """
    numbers = text[:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19]
    digits = "".join(numbers)
    fraction = text[_SECONDS_END:-1]
    if not (
        text[-1:] == "Z"
        and text[4:_SECONDS_END:3] == "--T::"
        and digits.isascii()
        and digits.isdigit()
        and (not fraction or _is_fraction(fraction))
    ):
        return None
    # bounded: two digits each, and four of the year
    year, month, day, hour, minute, second = map(int, numbers)
    months = [*_DAYS]
    months[1] += year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    is_time = text[11:13] < "24" and text[14] < "6" and text[17] < "6"
    is_date = 1 <= month <= len(months) and 1 <= day <= months[month - 1]
    if not (is_time and is_date and year >= _EPOCH):
        return None
    leap_days = (year - 1) // 4 - (year - 1) // 100 + (year - 1) // 400 - _LEAP_DAYS_BEFORE
    days = (year - _EPOCH) * 365 + leap_days + sum(months[: month - 1]) + day - 1
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def _is_fraction(text: str) -> bool:
    return text[0] == "." and text[1:].isascii() and text[1:].isdigit()
