"""The tokens of an answer, read from its bytes as they pass."""

import re
from dataclasses import dataclass, field

_FIELD = re.compile(rb'"([picoe][a-z]+_[a-z_]{1,40})":\s*(\d{1,12}(?:\.\d{1,20})?)(?=[\s,}])')
"""A field with a number and a name like those below; to look for each name would take thrice as
long, of every piece of every answer.
"""

_NAMES = frozenset(
    {
        *("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "cached_tokens"),
        *("cache_read_input_tokens", "cache_creation_input_tokens"),
        *("prompt_n", "cache_n", "predicted_n", "prompt_ms", "predicted_ms"),
        *("prompt_eval_count", "eval_count", "prompt_eval_duration", "eval_duration"),
    }
)
_LONGEST = 64
"""Bytes of a field with its value: what may be cut in two by the end of a piece."""

_CACHED = ("cache_read_input_tokens", "cache_creation_input_tokens")


@dataclass(slots=True)
class Usage:
    """What an answer says of its tokens.

    A client gets the same numbers: the prompt's tokens with those that came from the cache. A
    quotation mark within a text is escaped, so that no text can pass for a field.
    """

    _values: dict[str, float] = field(default_factory=dict)
    _rest: bytes = b""

    def add(self, piece: bytes) -> None:
        """Read one more piece of the answer."""
        text = self._rest + piece
        for raw, value in _FIELD.findall(text):
            name = raw.decode()
            if name in _NAMES:
                # bounded: few digits, see `_FIELD`
                self._values[name] = float(value)
        self._rest = text[-_LONGEST:]

    @property
    def prompt(self) -> int | None:
        """Tokens of the prompt; None where the answer does not say."""
        values = self._values
        if "prompt_tokens" in values:
            return round(values["prompt_tokens"])
        if "input_tokens" in values:
            # Anthropic's API counts what was cached apart
            return round(values["input_tokens"] + sum(values.get(name, 0) for name in _CACHED))
        if "prompt_n" in values:
            # what llama.cpp adds to a stream whose client has not asked for its usage
            return round(values["prompt_n"] + values.get("cache_n", 0))
        # Ollama's
        return self._first("prompt_eval_count")

    @property
    def completion(self) -> int | None:
        """Tokens of the answer; None where the answer does not say."""
        return self._first("completion_tokens", "output_tokens", "predicted_n", "eval_count")

    @property
    def cached(self) -> int | None:
        """Tokens of the prompt that came from the cache; None where the answer does not say."""
        return self._first("cached_tokens", "cache_read_input_tokens", "cache_n")

    @property
    def prompt_s(self) -> float | None:
        """Seconds that reading the prompt took; None where the answer does not say."""
        return self._seconds("prompt_ms", "prompt_eval_duration")

    @property
    def completion_s(self) -> float | None:
        """Seconds that writing the answer took; None where the answer does not say."""
        return self._seconds("predicted_ms", "eval_duration")

    def _first(self, *names: str) -> int | None:
        found = next((self._values[name] for name in names if name in self._values), None)
        return None if found is None else round(found)

    def _seconds(self, milli: str, nano: str) -> float | None:
        for name, parts in ((milli, 1e3), (nano, 1e9)):
            if name in self._values:
                return self._values[name] / parts
        return None
