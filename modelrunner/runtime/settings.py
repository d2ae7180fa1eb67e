"""The settings of a launch that a person may choose: known by name, checked, with a line of help.

    parse(["kv-type=q8_0", "mmap=off"])  ->  {"kv-type": "q8_0", "mmap": False}
    changes(...)                         ->  {"cache_type_k": "q8_0", "cache_type_v": "q8_0", ...}

What a `LaunchSpec` has beyond them the program says: where the model is, its key, its port.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from modelrunner.errors import UsageError
from modelrunner.runtime.base import CACHE_TYPES, LAST_PORT
from modelrunner.runtime.chat_templates import NAMES
from modelrunner.text import sanitize_line, suggest

Value: TypeAlias = int | float | bool | str

_WORDS = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
_MOST = 2**31 - 1
RPC_WARNING = (
    "llama.cpp's RPC is a proof of concept, fragile and insecure: anyone who can reach an "
    "RPC server can control it, so use it only in a network that you trust"
)

# llama.cpp splits at the first colon: it takes no IPv6 address
_PLACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?:([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within limits."""

    least: int
    most: int = _MOST

    def parse(self, text: str) -> int | None:
        """The number; None where it is invalid, or beyond the limits."""
        try:
            # bounded: what a person types; a `ValueError` is an answer
            number = int(text)
        except ValueError:
            return None
        return number if self.least <= number <= self.most else None

    def __str__(self) -> str:
        if self.most == _MOST:
            return f"a whole number of at least {self.least}"
        return f"a whole number from {self.least} to {self.most}"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return "4096" if self.most == _MOST else str(min(self.most, max(self.least, 4)))


@dataclass(frozen=True, slots=True)
class Positive:
    """A number above zero."""

    def parse(self, text: str) -> float | None:
        """The number; None where it is invalid, or not above zero."""
        try:
            # bounded: what a person types; a `ValueError` is an answer
            number = float(text)
        except ValueError:
            return None
        return number if 0 < number < math.inf else None

    def __str__(self) -> str:
        return "a number greater than 0"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return "1.5"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    def parse(self, text: str) -> str | None:
        """The word; None where it is not among them."""
        return text if text in self.words else None

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return self.words[0]


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off."""

    def parse(self, text: str) -> bool | None:
        """Whether it is on; None where that is not clear."""
        return _WORDS.get(text.lower())

    def __str__(self) -> str:
        return "on or off"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return "on"


@dataclass(frozen=True, slots=True)
class Name:
    """Any text: a model's reference, or a file's path."""

    def parse(self, text: str) -> str | None:
        """The text; None where there is nothing to read."""
        return text if text and text.isprintable() else None

    def __str__(self) -> str:
        return "a model or a GGUF file"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return "ai/smollm2"


@dataclass(frozen=True, slots=True)
class Servers:
    """Places on a network, each as `HOST:PORT`."""

    def parse(self, text: str) -> str | None:
        """The places, separated by commas alone; None where one is invalid."""
        places = [place.strip() for place in text.split(",")]
        return ",".join(places) if all(map(_is_place, places)) else None

    def __str__(self) -> str:
        return "HOST:PORT,..., each host by its name or its IPv4 address"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return "192.168.1.20:50052"


def _is_place(text: str) -> bool:
    match = _PLACE.fullmatch(text)
    # bounded: what a person types; a `ValueError` is an answer
    return match is not None and 0 < int(match[1]) <= LAST_PORT


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template: its name, or the path of its file."""

    def parse(self, text: str) -> str | None:
        """The text; None where there is nothing to read. The file is read when it is used."""
        return text if text and text.isprintable() else None

    def __str__(self) -> str:
        return f"one of {', '.join(NAMES)}, or a file with a Jinja template"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return NAMES[0]


Kind: TypeAlias = Whole | Positive | Choice | Switch | Name | Servers | Template


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        kind: What its value may be.
        fields: The fields of a `LaunchSpec` that it sets.
        doc: What it does, in a line.
    """

    kind: Kind
    fields: tuple[str, ...]
    doc: str


_CACHE = Choice(CACHE_TYPES)

KNOWN: Mapping[str, Setting] = {
    "context": Setting(Whole(1), ("context",), "context size in tokens of one conversation"),
    "kv-type": Setting(_CACHE, ("cache_type_k", "cache_type_v"), "data type of the KV cache"),
    "kv-type-k": Setting(_CACHE, ("cache_type_k",), "data type of the keys in the KV cache"),
    "kv-type-v": Setting(_CACHE, ("cache_type_v",), "data type of the values in the KV cache"),
    "flash-attention": Setting(
        Choice(("auto", "on", "off")), ("flash_attention",), "flash attention"
    ),
    "threads": Setting(Whole(1, 4096), ("threads",), "number of CPU threads"),
    "gpu-layers": Setting(Whole(0, 4096), ("gpu_layers",), "number of layers on the GPU"),
    "parallel": Setting(Whole(1, 256), ("parallel",), "number of parallel requests"),
    "batch": Setting(Whole(1), ("batch",), "logical batch size in tokens"),
    "micro-batch": Setting(Whole(1), ("micro_batch",), "physical batch size in tokens"),
    "mmap": Setting(Switch(), ("memory_map",), "memory-map the weights"),
    "mlock": Setting(Switch(), ("memory_lock",), "keep the weights in RAM, never swap them out"),
    "draft": Setting(Name(), ("draft_model",), "draft model for speculative decoding"),
    "draft-tokens": Setting(Whole(1, 1024), ("draft_tokens",), "number of tokens to draft"),
    "rope-scaling": Setting(
        Choice(("none", "linear", "yarn")), ("rope_scaling",), "RoPE scaling method"
    ),
    "rope-scale": Setting(Positive(), ("rope_scale",), "RoPE scaling factor"),
    "rope-freq-base": Setting(Positive(), ("rope_freq_base",), "RoPE base frequency"),
    "chat-template": Setting(Template(), ("chat_template",), "chat template to use"),
    "rpc": Setting(Servers(), ("rpc",), "llama.cpp RPC servers to offload to"),
}


def parse(assignments: Iterable[str]) -> dict[str, Value]:
    """The settings that `KEY=VALUE` texts make; of two for one key the last counts.

    Raises:
        UsageError: Malformed text, unknown key, or invalid value.
    """
    found = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f"{sanitize_line(text, 80)!r} is not KEY=VALUE", hint="write --set context=8192"
            )
        found[canonical(key)] = value_of(key, value)
    return found


def canonical(key: str) -> str:
    """A setting's name as it is kept: `kv_type`, as in JSON, is `kv-type`."""
    return key.strip().replace("_", "-")


def to_dict(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Settings as JSON has them."""
    return {key.replace("-", "_"): value for key, value in settings.items()}


def value_of(key: str, text: str, option: str | None = None) -> Value:
    """The value of a setting.

    Args:
        key: The setting.
        text: The value as it was written.
        option: The option of the command line that it was written for, where it is not `--set`.

    Raises:
        UsageError: The key is not known, or the value is not for it.
    """
    kind = known(key).kind
    value = kind.parse(text)
    if value is None:
        raise UsageError(
            f"{option or key} must be {kind}, got {sanitize_line(text, 80)!r}",
            hint=_hint(canonical(key), kind, text, option),
            setting=key,
        )
    return value


def _hint(key: str, kind: Kind, text: str, option: str | None) -> str:
    near = suggest(text, kind.words) if isinstance(kind, Choice) else None
    written = f"--set {key}={kind.example}" if option is None else f"{option} {kind.example}"
    return near or f"write it like {written}"


def known(key: str) -> Setting:
    """The setting of a name.

    Raises:
        UsageError: Unknown setting; the near ones are named.
    """
    setting = KNOWN.get(canonical(key))
    if setting is None:
        raise UsageError(
            f"unknown setting {sanitize_line(key, 80)!r}",
            hint=suggest(canonical(key), KNOWN)
            or "`modelrunner configure --help` lists the settings",
        )
    return setting


def changes(settings: Mapping[str, Value]) -> dict[str, Value]:
    """The fields of a `LaunchSpec` that settings set; what is said for one part beats both."""
    wide_first = sorted(settings, key=lambda key: -len(KNOWN[key].fields))
    return {field: settings[key] for key in wide_first for field in KNOWN[key].fields}


def as_text(value: Value) -> str:
    """A value as it is written."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
