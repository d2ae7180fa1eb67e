"""A model's numbers by name, out of a GGUF header or a configuration."""

from collections.abc import Mapping
from math import isfinite

from modelrunner.frozen import frozen
from modelrunner.gguf.header import Array, Value

Number = int | float
Plain = Number | str | tuple[Number, ...]

MAX_LAYERS = 512
MAX_EXPERTS_USED = 512
"""More than any model has; a header that claims more is not believed."""


@frozen
class Hyperparameters:
    """Typed looks at `<architecture>.<name>` keys: what has another type is as good as absent."""

    architecture: str
    values: Mapping[str, Plain]

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Value]) -> "Hyperparameters":
        """From the key-values of a GGUF header."""
        values = {key: plain for key, value in metadata.items() if (plain := _plain(value)) != ()}
        return cls(str(values.get("general.architecture", "")), values)

    @classmethod
    def from_strings(cls, values: Mapping[str, str]) -> "Hyperparameters":
        """From a Docker model's configuration, which keeps the same key-values as text."""
        return cls(
            values.get("general.architecture", ""),
            {key: _parsed(text) for key, text in values.items()},
        )

    def get(self, name: str) -> Plain | None:
        """The value of `<architecture>.<name>`."""
        return self.values.get(f"{self.architecture}.{name}")

    def count(self, name: str, default: int = 0) -> int:
        """A whole number that is not negative; of a list, the largest."""
        value = self.get(name)
        if isinstance(value, tuple):
            value = max(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            return default
        return _whole(value, default)

    def scale(self, name: str) -> float:
        """A factor; 0 where there is none."""
        value = self.get(name)
        return float(value) if isinstance(value, int | float) else 0.0

    def per_layer(self, name: str, layers: int, default: int = 0) -> tuple[int, ...]:
        """A whole number for each layer: a list of them, or the same for all."""
        value = self.get(name)
        if isinstance(value, tuple):
            some = tuple(max(_whole(item), 0) for item in value[:layers])
            return some + (some[-1] if some else default,) * (layers - len(some))
        return (self.count(name, default),) * layers


def _whole(value: Number, default: int = 0) -> int:
    """The number without its fraction; what is infinite or none at all is not believed."""
    return int(value) if isinstance(value, int) or isfinite(value) else default


def _plain(value: Value) -> Plain:
    if not isinstance(value, Array):
        return value
    items = value.items or ()
    return tuple(item for item in items if not isinstance(item, str))


def _parsed(text: str) -> Plain:
    parts = [_number(part.strip()) for part in text.strip("[] \n").split(",")]
    numbers = tuple(part for part in parts if part is not None)
    if len(numbers) != len(parts):
        return text
    return numbers if len(numbers) > 1 else numbers[0]


def _number(text: str) -> Number | None:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
