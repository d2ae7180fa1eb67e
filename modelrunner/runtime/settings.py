"""The settings of a launch that a person may choose: known by name, checked, with a line of help.

    parse(["kv-type=q8_0", "mmap=off"])  ->  {"kv-type": "q8_0", "mmap": False}
    changes(...)                         ->  {"cache_type_k": "q8_0", "cache_type_v": "q8_0", ...}

What a `LaunchSpec` has beyond them the program says: where the model is, its key, its port.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from modelrunner.errors import UsageError
from modelrunner.frozen import frozen
from modelrunner.runtime.base import CACHE_TYPES, LAST_PORT
from modelrunner.runtime.capabilities.think import WORDS as THINK_WORDS
from modelrunner.runtime.capabilities.think import ThinkKind
from modelrunner.runtime.chat_templates import NAMES
from modelrunner.runtime.sampling import LIMITS, WHOLE
from modelrunner.text import sanitize_line, suggest
from modelrunner.wire import parse_json

Value: TypeAlias = int | float | bool | str

_WORDS = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}
_MOST = 2**31 - 1
_SCALE = re.compile(r"-?\d{1,6}(?:\.\d{1,6})?")
RPC_WARNING = (
    "llama.cpp's RPC is a proof of concept, fragile and insecure: anyone who can reach an "
    "RPC server can control it, so use it only in a network that you trust"
)

# llama.cpp splits at the first colon: it takes no IPv6 address
_PLACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?:([0-9]{1,5})")


@frozen
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


@frozen
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


@frozen
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


@frozen
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


@frozen
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


@frozen
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


@frozen
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


@frozen
class Number:
    """A number within limits."""

    least: float
    most: float

    def parse(self, text: str) -> float | None:
        """Return the number; None for another text, or beyond the limits."""
        try:
            # bounded: what a person types; a `ValueError` is an answer
            number = float(text)
        except ValueError:
            return None
        return number if self.least <= number <= self.most else None

    def __str__(self) -> str:
        return f"a number from {self.least:g} to {self.most:g}"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return f"{min(self.most, max(self.least, 0.8)):g}"


@frozen
class Text:
    """Any text; an empty one replaces what counts less, too."""

    def parse(self, text: str) -> str | None:
        """The text, or nothing where it is blank."""
        return text if text.strip() else ""

    def __str__(self) -> str:
        return "any text, or nothing"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return '"Answer in French."'


@frozen
class Devices:
    """Devices of a runtime, by its names for them or by those of their makers."""

    def parse(self, text: str) -> str | None:
        """The names, separated by commas alone; None where one is empty."""
        names = [name.strip() for name in text.split(",")]
        return ",".join(names) if text.isprintable() and all(names) else None

    def __str__(self) -> str:
        return "NAME,... as `modelrunner devices` shows them, or none"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return "CUDA0"


@frozen
class Shares:
    """What each of several devices gets of the whole."""

    def parse(self, text: str) -> str | None:
        """The shares, separated by commas alone; None where one is not a number, or all are 0."""
        try:
            # bounded: what a person types; a `ValueError` is an answer
            shares = [float(share) for share in text.split(",")]
        except ValueError:
            return None
        right = all(0 <= share < math.inf for share in shares) and any(shares)
        return ",".join(f"{share:g}" for share in shares) if right else None

    def __str__(self) -> str:
        return "a share for each GPU, such as 3,1"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return "3,1"


@frozen
class AdapterFiles:
    """Adapters (LoRA), each with its scale: `FILE[:SCALE],...`."""

    def parse(self, text: str) -> str | None:
        """The text; None where a scale is not a number. Files are read when they are used."""
        return text if text.isprintable() and adapters_of(text) else None

    def __str__(self) -> str:
        return "FILE[:SCALE],... of GGUF adapters"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return "style.gguf:0.5"


def adapters_of(text: str) -> tuple[tuple[str, float], ...]:
    """Return files and scales of `FILE[:SCALE],...`; nothing where one of them is not right."""
    found = []
    for entry in text.split(","):
        file, colon, scale = entry.strip().rpartition(":")
        if not colon or not _SCALE.fullmatch(scale):
            file, scale = entry.strip(), "1"
        if not file:
            return ()
        # bounded: by the pattern
        found.append((file, float(scale)))
    return tuple(found)


@frozen
class Arguments:
    """Values for a chat template: a JSON object."""

    def parse(self, text: str) -> str | None:
        """Return the object, in the shortest form; None for another text."""
        try:
            value = parse_json(text)
        except ValueError:
            return None
        return json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else None

    def __str__(self) -> str:
        return "a JSON object"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return "'{\"enable_thinking\": false}'"


Kind: TypeAlias = (
    Whole
    | Positive
    | Number
    | Choice
    | Switch
    | Name
    | Servers
    | Template
    | Text
    | Devices
    | Shares
    | AdapterFiles
    | Arguments
    | ThinkKind
)


@frozen
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


def _sampled(name: str, help_: str) -> Setting:
    """The setting of a sampler's value."""
    least, most = LIMITS[name]
    # bounded: our own table
    kind = Whole(int(least), int(most)) if name in WHOLE else Number(least, most)
    return Setting(kind, (name,), help_)


_CACHE = Choice(CACHE_TYPES)

KNOWN: Mapping[str, Setting] = {
    "context": Setting(Whole(1), ("context",), "context size in tokens of one conversation"),
    "think": Setting(ThinkKind(), ("think",), "how much to think before the answer"),
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
    "device": Setting(Devices(), ("devices",), "devices to use, in this order"),
    "main-gpu": Setting(Whole(0, 127), ("main_gpu",), "GPU for what is not split, by its number"),
    "split-mode": Setting(
        Choice(("layer", "row", "tensor", "none")),
        ("split_mode",),
        "how to split a model across GPUs",
    ),
    "tensor-split": Setting(Shares(), ("tensor_split",), "share of the model on each GPU"),
    "n-cpu-moe": Setting(
        Whole(0, 4096), ("cpu_moe_layers",), "number of layers whose experts stay on the CPU"
    ),
    "swa-full": Setting(Switch(), ("swa_full",), "full-size cache for sliding-window attention"),
    "kv-unified": Setting(
        Switch(), ("kv_unified",), "one KV cache that all parallel requests share"
    ),
    "cache-ram": Setting(
        Whole(0, 2**20), ("cache_ram",), "host memory for earlier prompts, in MiB"
    ),
    "checkpoints": Setting(
        Whole(0, 1024), ("checkpoints",), "states to go back to, for each parallel request"
    ),
    "lora": Setting(AdapterFiles(), ("adapters",), "adapters (LoRA) to apply"),
    "draft": Setting(
        Name(),
        ("draft_model",),
        "draft model for speculative decoding, or auto, mtp or ngram",
    ),
    "draft-tokens": Setting(Whole(1, 1024), ("draft_tokens",), "number of tokens to draft"),
    "rope-scaling": Setting(
        Choice(("none", "linear", "yarn")), ("rope_scaling",), "RoPE scaling method"
    ),
    "rope-scale": Setting(Positive(), ("rope_scale",), "RoPE scaling factor"),
    "rope-freq-base": Setting(Positive(), ("rope_freq_base",), "RoPE base frequency"),
    "chat-template": Setting(Template(), ("chat_template",), "chat template to use"),
    "chat-template-kwargs": Setting(
        Arguments(), ("template_arguments",), "values for the chat template"
    ),
    "system": Setting(Text(), ("system",), "system prompt"),
    "temperature": _sampled("temperature", "sampling temperature"),
    "top-k": _sampled("top_k", "sample from the K likeliest tokens; 0 is all"),
    "top-p": _sampled("top_p", "nucleus sampling"),
    "min-p": _sampled("min_p", "minimum share of the likeliest token"),
    "xtc-probability": _sampled("xtc_probability", "XTC sampling probability"),
    "xtc-threshold": _sampled("xtc_threshold", "XTC sampling threshold"),
    "repeat-last-n": _sampled("repeat_last_n", "tokens that penalties look back at; -1 is all"),
    "repeat-penalty": _sampled("repeat_penalty", "repeat penalty; 1 turns it off"),
    "presence-penalty": _sampled("presence_penalty", "presence penalty"),
    "frequency-penalty": _sampled("frequency_penalty", "frequency penalty"),
    "mirostat": _sampled("mirostat", "Mirostat version; 0 is off"),
    "mirostat-tau": _sampled("mirostat_tau", "Mirostat target entropy"),
    "mirostat-eta": _sampled("mirostat_eta", "Mirostat learning rate"),
    "seed": Setting(Whole(0, 2**31 - 1), ("seed",), "random seed"),
    "rpc": Setting(Servers(), ("rpc",), "llama.cpp RPC servers to offload to"),
}


_ALIASES = {
    "temp": "temperature",
    "presence": "presence-penalty",
    "frequency": "frequency-penalty",
    "ctx-checkpoints": "checkpoints",
}
"""What llama-server, or people, call some of them."""


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
    written = key.strip().replace("_", "-")
    return _ALIASES.get(written, written)


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
    words: Sequence[str] = THINK_WORDS if isinstance(kind, ThinkKind) else ()
    words = kind.words if isinstance(kind, Choice) else words
    near = suggest(text, words) if words else None
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


def merged(*layers: Mapping[str, Value]) -> dict[str, Value]:
    """The settings of several sources, of which the last counts most.

    What a source says of a whole replaces what those before say of its parts: of `kv-type-v` in the
    first and `kv-type` in the second the second is left.
    """
    found: dict[str, Value] = {}
    for layer in layers:
        said = {field for key in layer for field in KNOWN[key].fields}
        found = {
            key: value for key, value in found.items() if not said.issuperset(KNOWN[key].fields)
        }
        found.update(layer)
    return found


def as_text(value: Value) -> str:
    """A value as it is written."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
