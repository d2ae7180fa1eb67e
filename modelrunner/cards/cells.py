"""The cells of a variants table, read: parameters, quantization, context and sizes.

```
parameters   3.2B | 334.09 M | 30B-A3B (total, active) | 64x994M (experts x size: no plain count)
context      131K tokens | 1M tokens | 512 tokens | 40,960 tokens: K and M are powers of 1000
size         1.81 GB | 530.18 MB | ~17.2GiB | 24GB¹ | 16.8 (no unit: GB)
```

`-`, an empty cell and anything else give `None`.
"""

import re
from typing import Literal

from modelrunner.cards.markdown import plain, split_breaks

Units = Literal["binary", "decimal"]

_NUMBER = r"(\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})"
_PARAMETERS = rf"(?i){_NUMBER} ?([kmbt]|million|billion|trillion)"
_MIXTURE = rf"(?i){_NUMBER} ?b-a ?{_NUMBER} ?b"
_CONTEXT = rf"(?i){_NUMBER} ?([km]?)(?: ?tokens?)?"
_SIZE = rf"(?i){_NUMBER} ?(?:([kmgt])(i?)b)?"
_REMARK = r"\([^()]*\)"
_THOUSANDS = r"(?<=\d),(?=\d{3}(?:\D|$))"
_HYPHENS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013", "-"))
_PLACEHOLDER = r"\{[^{}]*\}"

_IN_BILLIONS = {"k": 1e-6, "m": 1e-3, "b": 1.0, "t": 1e3}
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_NOTHING = {"", "-", "\u2014", "n/a", "na", "?", "none", "unknown"}

# What models are trained for, with the rarer lengths that a printed 4K or 164K stands for.
_CONTEXTS = (
    *(512, 1024, 2048, 4096, 8192, 16384, 32768, 40960, 65536, 131072, 163840, 262144),
    *(524288, 1048576, 2097152, 4194304, 10485760),
)
_SNAP = 0.05


def parse_parameters(cell: str) -> tuple[float | None, float | None]:
    """The parameters in 10^9, all and active ones, from `3.2B`, `334.09 M` or `30B-A3B`."""
    text = _clean(cell).replace(" - ", "-").replace("B -", "B-").replace("- A", "-A")
    if match := re.fullmatch(_MIXTURE, text):
        # bounded: fifteen digits, see `_NUMBER`
        return float(match[1]), float(match[2])
    if match := re.fullmatch(_PARAMETERS, text):
        # bounded: fifteen digits, see `_NUMBER`
        billions = float(match[1]) * _IN_BILLIONS[match[2][0].lower()]
        return round(billions, 9), None
    return None, None


def parse_quantization(cell: str) -> str | None:
    """The file type: `MOSTLY_Q4_K_M`, `IQ2_XXS/Q4_K_M` and `Q4_K_M (4-bit)` are all `Q4_K_M`."""
    text = _clean(cell).replace("`", "").strip()
    text = text.rpartition("/")[2].strip()
    if text.upper().startswith("MOSTLY_"):
        text = text[len("MOSTLY_") :]
    return None if text.casefold() in _NOTHING else text


def parse_context(cell: str) -> int | None:
    """The tokens: `131K` and `128K` are both 131072, a number without a letter is exact."""
    match = re.fullmatch(_CONTEXT, _clean(cell))
    if match is None:
        return None
    if not match[2]:
        # bounded: fifteen digits, see `_NUMBER`
        return round(float(match[1]))
    # bounded: fifteen digits, see `_NUMBER`
    tokens = float(match[1]) * 1000.0 ** _POWERS[match[2].lower()]
    nearest = min(_CONTEXTS, key=lambda length: abs(length - tokens))
    return nearest if abs(nearest - tokens) <= _SNAP * nearest else round(tokens)


def context_is_rounded_otherwise(cell: str, tokens: int) -> bool:
    """Whether the printed K or M is not the tokens divided by 1000: `32K` for 32768."""
    match = re.fullmatch(_CONTEXT, _clean(cell))
    if match is None or not match[2]:
        return False
    # bounded: fifteen digits, see `_NUMBER`
    return round(tokens / 1000.0 ** _POWERS[match[2].lower()]) != round(float(match[1]))


def parse_bytes(cell: str, units: Units) -> int | None:
    """The bytes of `1.81 GB`: `GiB` is always binary, `GB` is as `units` says."""
    match = re.fullmatch(_SIZE, _clean(cell))
    if match is None:
        return None
    power = _POWERS[(match[2] or "g").lower()]
    base = 1024.0 if match[3] or units == "binary" else 1000.0
    # bounded: fifteen digits, see `_NUMBER`
    return round(float(match[1]) * base**power)


def has_unit(cell: str) -> bool:
    """Whether a size says its unit."""
    match = re.fullmatch(_SIZE, _clean(cell))
    return match is not None and match[2] is not None


def parse_references(cell: str) -> tuple[str, ...]:
    """The references in a cell, in order: what stands between backticks, else each line."""
    quoted = cell.split("`")
    names = quoted[1::2] if len(quoted) > 2 else split_breaks(plain(cell))  # noqa: PLR2004
    cleaned = (plain(line) for name in names for line in split_breaks(name))
    return tuple(dict.fromkeys(name for name in cleaned if name.casefold() not in _NOTHING))


def is_placeholder(cell: str) -> bool:
    """Whether the cell is a template's: `{model_name}`."""
    return re.search(_PLACEHOLDER, cell) is not None


def is_nothing(cell: str) -> bool:
    """Whether the cell says that there is nothing to say: `-` or empty."""
    return _clean(cell).casefold() in _NOTHING


def _clean(cell: str) -> str:
    """A cell with one kind of space and hyphen, without marks, remarks, `~` and commas."""
    text = plain(re.sub(_REMARK, "", plain(cell.replace("&nbsp;", " "))))
    return re.sub(_THOUSANDS, "", " ".join(text.translate(_HYPHENS).lstrip("~≈ ").split()))
