"""The settings that an artifact brings along: the makers' advice for their model.

    Packaged.read({"temperature": 0.6, "kv_type": "q8_0", "lora": "x.gguf"})
        ->  Packaged({"temperature": 0.6, "kv-type": "q8_0"}, ignored=("lora",))

An artifact is a stranger's. It may say how the model is to be asked and computed; it names no
file, no host and no device, and takes no memory beyond the model's own: such a setting is refused
when an artifact is made, and ignored, by its name, where one has it.
"""

from collections.abc import Mapping
from typing import Self

from modelrunner.errors import UsageError
from modelrunner.frozen import field, frozen, replace
from modelrunner.runtime import settings
from modelrunner.runtime.sampling import NAMES as SAMPLERS
from modelrunner.runtime.sampling import Sampling
from modelrunner.runtime.settings import Value
from modelrunner.text import sanitize_line

CONTEXT = "context"
"""The setting that has a field of its own in the config, `context_size`."""

_SAMPLERS = frozenset(name.replace("_", "-") for name in SAMPLERS)

_OF_A_MODEL = _SAMPLERS | {
    "think",
    "kv-type",
    "kv-type-k",
    "kv-type-v",
    "rope-scaling",
    "rope-scale",
    "rope-freq-base",
    "chat-template-kwargs",
    "system",
    "seed",
}
_FILES_AND_HOSTS: Mapping[str, str] = {
    "lora": "set it on each machine: `modelrunner configure REF --set lora=FILE`",
    "draft": "set it on each machine: `modelrunner configure REF --draft REF|FILE`",
    "chat-template": "include the file with --chat-template FILE",
    "rpc": "set it on each machine: `modelrunner configure REF --set rpc=HOST:PORT`",
}
_LONGEST_NAME = 40
_MOST_NAMES = 8


@frozen
class Packaged:
    """The settings of an artifact that are followed, and the names of those that are not.

    Attributes:
        values: Settings by their names, checked.
        ignored: Names of settings that an artifact may not bring, that are unknown or invalid.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    @classmethod
    def read(cls, written: Mapping[str, object]) -> Self:
        """Return the settings of a config."""
        values: dict[str, Value] = {}
        ignored = []
        for name, value in written.items():
            found = _value(name, value)
            if found is None:
                ignored.append(sanitize_line(name, _LONGEST_NAME))
            else:
                values[settings.canonical(name)] = found
        return cls(values, tuple(ignored))

    @property
    def sampling(self) -> Sampling:
        """Those that choose tokens."""
        return Sampling.of(
            {key.replace("-", "_"): value for key, value in self.values.items() if _samples(key)}
        )

    @property
    def others(self) -> dict[str, Value]:
        """All but those."""
        return {key: value for key, value in self.values.items() if not _samples(key)}

    def with_context(self, tokens: int | None) -> Self:
        """Return them with the context, which stands elsewhere in a config, in front."""
        return self if tokens is None else replace(self, values={CONTEXT: tokens, **self.values})

    def to_dict(self) -> dict[str, object]:
        """Return the settings as JSON has them."""
        return dict(settings.to_dict(self.values))

    def line(self) -> str:
        """Return one line: `context=4096, temperature=0.6, system="You are a pirate."`."""
        return ", ".join(f"{key}={_shown(key, value)}" for key, value in self.values.items())

    @property
    def warning(self) -> str | None:
        """What to say of the settings that are not followed."""
        if not self.ignored:
            return None
        names = ", ".join(self.ignored[:_MOST_NAMES])
        more = len(self.ignored) - _MOST_NAMES
        names += f" and {more} more" if more > 0 else ""
        return f"the artifact's settings {names} are ignored: it may not set them"


def checked(wanted: Mapping[str, Value]) -> dict[str, Value]:
    """Return settings, but for the context, as a config has them.

    Raises:
        UsageError: An artifact may not bring one of them.
    """
    found: dict[str, Value] = {}
    for key, value in wanted.items():
        if key == CONTEXT:
            continue
        if not _may_have(key):
            raise UsageError(
                f"{key} cannot be packaged: it names files or hosts of one machine"
                if key in _FILES_AND_HOSTS
                else f"{key} cannot be packaged: its value depends on the machine",
                hint=_FILES_AND_HOSTS.get(key)
                or f"set it on each machine: `modelrunner configure REF --set {key}=VALUE`",
                setting=key,
            )
        found[key] = value
    return dict(settings.to_dict(found))


def _value(name: str, value: object) -> Value | None:
    if not isinstance(value, (bool, int, float, str)):
        return None
    key = settings.canonical(name)
    try:
        found = settings.value_of(key, settings.as_text(value))
    except UsageError:
        return None
    return found if _may_have(key) else None


def _may_have(key: str) -> bool:
    return key in _OF_A_MODEL


def _samples(key: str) -> bool:
    return key in _SAMPLERS


def _shown(key: str, value: Value) -> str:
    if key == "system":
        return f'"{sanitize_line(str(value), 60)}"'
    return sanitize_line(settings.as_text(value), 60)
