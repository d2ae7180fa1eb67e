"""The tokens of an answer, read from its bytes as they pass."""

import re
from dataclasses import dataclass, field

_FIELD = re.compile(
    rb'"(prompt_tokens|input_tokens|cache_read_input_tokens|cache_creation_input_tokens'
    rb'|completion_tokens|output_tokens|prompt_n|cache_n|predicted_n)":\s*(\d{1,12})(?=[\s,}])'
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

    _values: dict[str, int] = field(default_factory=dict)
    _rest: bytes = b""

    def add(self, piece: bytes) -> None:
        """Read one more piece of the answer."""
        text = self._rest + piece
        for name, value in _FIELD.findall(text):
            # bounded: twelve digits, see `_FIELD`
            self._values[name.decode()] = int(value)
        self._rest = text[-_LONGEST:]

    @property
    def prompt(self) -> int | None:
        """Tokens of the prompt; None where the answer does not say."""
        values = self._values
        if "prompt_tokens" in values:
            return values["prompt_tokens"]
        if "input_tokens" in values:
            # Anthropic's API counts what was cached apart
            return values["input_tokens"] + sum(values.get(name, 0) for name in _CACHED)
        if "prompt_n" in values:
            # what llama.cpp adds to a stream whose client has not asked for its usage
            return values["prompt_n"] + values.get("cache_n", 0)
        return None

    @property
    def completion(self) -> int | None:
        """Tokens of the answer; None where the answer does not say."""
        for name in ("completion_tokens", "output_tokens", "predicted_n"):
            if name in self._values:
                return self._values[name]
        return None
