"""How tokens are chosen where a request does not say: as the makers of a model recommend.

    of_header({"general.sampling.temp": 0.6})   ->  Sampling(temperature=0.6)
    of_parameters({"temperature": 1, "top_k": 20, "do_sample": True})
                                                ->  Sampling(temperature=1.0, top_k=20)

The fields are called as llama.cpp's server calls them in a request. llama.cpp reads the header's
values by itself since the end of 2025 (`common_init_sampler_from_model`); older builds and
llama-cpp-python do not, so a launch says them. What a request says counts more, everywhere.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Literal, Self

from modelrunner.frozen import frozen

Number = int | float

Source = Literal["option", "configured", "config.toml", "artifact", "header"]
"""Who said a value; the first counts most."""

SOURCES: Mapping[Source, str] = {
    "option": "option",
    "configured": "`modelrunner configure`",
    "config.toml": "config.toml",
    "artifact": "the artifact",
    "header": "the GGUF header",
}
"""What to call them in a sentence."""


@frozen(kw_only=True)
class Sampling:
    """Values of samplers; None leaves one to the runtime.

    Attributes:
        temperature: How even the choice is; 0 takes the likeliest token.
        top_k: How many of the likeliest tokens are considered; 0 is all.
        top_p: Only the likeliest tokens with this probability together.
        min_p: Only tokens with this share of the likeliest one's probability.
        xtc_probability: How often the likeliest tokens are left out.
        xtc_threshold: The probability from which on they are.
        repeat_last_n: Tokens that penalties look back at.
        repeat_penalty: Divides the weight of tokens that were there; 1 disables it.
        presence_penalty: Taken off the weight of tokens that were there.
        frequency_penalty: The same, as often as they were there.
        mirostat: Which Mirostat is used; 0 disables it.
        mirostat_tau: The entropy that it aims at.
        mirostat_eta: How fast it learns.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Return those of some values that are for a sampler, and that one can work with."""
        found = {name: _number(name, values.get(name)) for name in NAMES}
        return cls(**found)  # type: ignore[arg-type]  # `_number` makes what the name says

    def __iter__(self) -> Iterator[tuple[str, Number]]:
        """Yield each value that is set, with its name."""
        for name in NAMES:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def over(self, other: Self) -> Self:
        """Return these values, and the other's where these say nothing."""
        return type(self).of(dict(other) | dict(self))


NAMES = tuple(Sampling.__annotations__)
WHOLE = {"top_k", "repeat_last_n", "mirostat"}
"""Those that are whole numbers."""

LIMITS: Mapping[str, tuple[float, float]] = {
    "temperature": (0, 5),
    "top_k": (0, 2**20),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    # -1 is the whole context
    "repeat_last_n": (-1, 2**20),
    "repeat_penalty": (0.01, 10),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "mirostat": (0, 2),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 1),
}
"""What samplers work with. A file says what it likes; what is beyond is left out."""

HEADER_KEYS: Mapping[str, str] = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "xtc_probability": "general.sampling.xtc_probability",
    "xtc_threshold": "general.sampling.xtc_threshold",
    "repeat_last_n": "general.sampling.penalty_last_n",
    "repeat_penalty": "general.sampling.penalty_repeat",
    "mirostat": "general.sampling.mirostat",
    "mirostat_tau": "general.sampling.mirostat_tau",
    "mirostat_eta": "general.sampling.mirostat_eta",
}
"""The keys of a GGUF header: `src/llama-arch.cpp` of llama.cpp. The order of samplers,
`general.sampling.sequence`, is for llama.cpp alone."""

_OTHER_WORDS: Mapping[str, str] = {
    "repetition_penalty": "repeat_penalty",
    "temp": "temperature",
}
"""What the Hugging Face Hub's `generation_config.json` calls them."""


def of_header(values: Mapping[str, object]) -> Sampling:
    """Return what a GGUF header recommends; values of another type than they should be are not."""
    return Sampling.of({name: values.get(key) for name, key in HEADER_KEYS.items()})


def of_parameters(values: Mapping[str, object]) -> Sampling:
    """Return what a file of parameters recommends: `generation_config.json`, or Ollama's `params`.

    The Hub's files may say that nothing is sampled, and leave values of another model in place.
    """
    if values.get("do_sample") is False:
        return Sampling()
    return Sampling.of({_OTHER_WORDS.get(key, key): value for key, value in values.items()})


@frozen
class Recommended:
    """The sampling of a launch, and who said each value.

    Attributes:
        parts: What each source said, the one that counts most first.
    """

    parts: tuple[tuple[Source, Sampling], ...] = ()

    @property
    def values(self) -> Sampling:
        """What is in force."""
        found = Sampling()
        for _source, part in self.parts:
            found = found.over(part)
        return found

    def sources(self) -> dict[str, Source]:
        """Return who said each value that is in force."""
        found: dict[str, Source] = {}
        for source, part in reversed(self.parts):
            found |= {name: source for name, _value in part}
        return {name: found[name] for name in NAMES if name in found}

    def to_dict(self) -> dict[str, object]:
        """Return the values and their sources, as JSON has them."""
        values = dict(self.values)
        return {
            name: {"value": values[name], "source": source}
            for name, source in self.sources().items()
        }

    def line(self) -> str:
        """Return one sentence: `temperature 0.6 (the GGUF header), top_k 20 (option)`."""
        values = dict(self.values)
        parts = [
            f"{name} {values[name]:g} ({SOURCES[source]})"
            for name, source in self.sources().items()
        ]
        return ", ".join(parts)


def _number(name: str, value: object) -> Number | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    least, most = LIMITS[name]
    if not math.isfinite(value) or not least <= value <= most:
        return None
    # a header keeps 32 bits of 0.6
    # bounded: a number already, within its limits
    return int(value) if name in WHOLE else float(f"{value:.7g}")
