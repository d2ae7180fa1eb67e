"""What the name of a file in a repository says: its quantization, and whether it is a model.

Repositories keep more than models in GGUF files. Names follow habits, not a standard: the rules
below are those of llama.cpp's own downloader, of the naming convention of the GGUF format
(`-LoRA`, `-vocab` and `-MTP` at the end) and of what publishers do. A file that only *may* be
something else by its name (`Model-MTP-Q8_0.gguf` is a draft head in one repository and a whole
model in another) counts as a model where the repository has nothing but such files.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import PurePosixPath
from typing import NamedTuple

from modelrunner.oci.model.naming import SHARD


class Kind(StrEnum):
    """What a GGUF file is for, in words."""

    MODEL = "model"
    PROJECTOR = "projector (mmproj)"
    DRAFT = "draft model"
    IMATRIX = "importance matrix"
    ADAPTER = "LoRA adapter"
    CONTROL_VECTOR = "control vector"
    VOCABULARY = "vocabulary"
    VOCODER = "vocoder"
    COMPONENT = "part of an image model"

    @property
    def loads_alone(self) -> bool:
        """Whether a runtime may load it as a model where it is asked for by its name."""
        return self in {Kind.MODEL, Kind.DRAFT, Kind.VOCODER, Kind.COMPONENT}


class Said(NamedTuple):
    """What a name says of a file.

    Attributes:
        kind: What it is for.
        certain: Whether the name leaves no doubt.
    """

    kind: Kind = Kind.MODEL
    certain: bool = True


_PART = r"(?:[0-9]|K(?:SS|S|T|L|V)?|BN|NL|X{0,2}S|M|X{0,2}L|R(?:4|8|16)|MOE)"
# compiled where they are used first: `list` needs none of them
_QUANTIZATION = (
    r"(?i)(?<![A-Za-z0-9])"
    rf"(?:(?P<dynamic>UD)[-_])?"
    rf"(?P<name>I?Q[1-9](?:_{_PART})*|TQ[12]_0|(?:MX|NV)FP[468](?:_MOE)?"
    r"|(?P<plain>BF16|FP?(?:16|32)))"
    r"(?![A-Za-z0-9])"
)
_RAW_PART = (
    r"(?i)(?P<whole>.+?)[-.](?:split|part)(?:[-_.]?[0-9]+(?:[-_]?of[-_]?[0-9]+)?|[-_.][a-z]{1,2})"
)
_WORDS = r"[^a-z0-9]+"
_PROJECTOR = r"mm[-_. ]?proj"
_DRAFT = r"mtp|eagle[23]?|dflash[0-9]*|dspark[0-9]*|draft(?:s|er|ers)?|medusa|nextn"
_SURELY_DRAFT = r"eagle3|dflash[0-9]*|dspark[0-9]*|draft(?:s|er|ers)?|medusa"
_MAYBE_DRAFT = r"assistant|speculators?|speculative"
_VOCODER = r"wavtokenizer|vocoders?"
_MAYBE_VOCODER = r"snac|mimi|codec|tokenizer"
_COMPONENT = r"vae|t5xxl"
_UNCHANGED_BY_IMATRIX = frozenset({"F16", "BF16", "F32", "Q8_0", None})
_FOLDERS = {
    Kind.PROJECTOR: r"mmprojs?|mm[-_]proj|projectors?",
    Kind.DRAFT: (
        r"mtp|eagle[0-9]?|dflash[0-9]*|dspark[0-9]*|draft(?:s|er|ers)?(?:[-_]models?)?|assistants?"
        r"|speculat(?:ive|ors?)"
    ),
    Kind.IMATRIX: r"imatrix|imatrices",
    Kind.ADAPTER: r"q?loras?|adapters?",
    Kind.CONTROL_VECTOR: r"control[-_]?vectors?|cvectors?",
    Kind.VOCABULARY: r"vocabs?",
    Kind.VOCODER: r"vocoders?",
    Kind.COMPONENT: r"vae|text[-_]encoders?",
}


def quantization_of(path: str) -> str | None:
    """The quantization that a file's name says, or else the nearest of its directories."""
    for text in (stem_of(path), *(parent.name for parent in PurePosixPath(path).parents)):
        found = _quantization_in(text)
        if found is not None:
            return found
    return None


def normalized(text: str) -> str | None:
    """A quantization as a user writes it (`q4_k_m`, `fp16`, `ud_q4_k_xl`) in its usual form."""
    match = re.fullmatch(_QUANTIZATION, text)
    return None if match is None else _spelled(match)


def without_quantization(stem: str) -> str:
    """A name before its quantization and what follows it: what the model itself is called."""
    return around_quantization(stem)[0]


def around_quantization(stem: str) -> tuple[str, str]:
    """What a name has before its quantization, and behind it."""
    match = _found_in(stem)
    if match is None:
        return stem, ""
    return stem[: match.start()].strip("-_. "), stem[match.end() :].strip("-_. ")


def stem_of(path: str) -> str:
    """A file's name without its suffix, and without its number of several shards."""
    name = PurePosixPath(path).name
    match = re.fullmatch(SHARD, name)
    if match is not None:
        return match["stem"]
    return name[: -len(".gguf")] if name.lower().endswith(".gguf") else name


def whole_of(path: str) -> str | None:
    """The file that the raw part of a file is of (`x.gguf.part1of2`, `x.gguf-split-a`).

    Such parts are cut at any byte: no runtime loads them before they are joined.
    """
    place = PurePosixPath(path)
    name = place.name
    bare = name[: -len(".gguf")] if name.lower().endswith(".gguf") else name
    match = re.fullmatch(_RAW_PART, bare)
    if match is None or re.fullmatch(SHARD, name):
        return None
    whole = match["whole"]
    if whole.lower().endswith(".gguf"):
        return str(place.with_name(whole))
    # a model's name may end in such words: only the parts of something quantized count
    return str(place.with_name(f"{whole}.gguf")) if _quantization_in(whole) else None


def said_of(path: str) -> Said:  # noqa: PLR0911 - one habit a line
    """What a file's name, and the directories that it lies in, say that it is for."""
    place = PurePosixPath(path)
    stem = stem_of(path)
    if re.search(_PROJECTOR, place.name, re.IGNORECASE):
        return Said(Kind.PROJECTOR)
    for parent in place.parents:
        for kind, pattern in _FOLDERS.items():
            if re.fullmatch(pattern, parent.name.lower()):
                return Said(kind)
    words = [word for word in re.split(_WORDS, stem.lower()) if word]
    if "imatrix" in words:
        return _with_imatrix(words, stem)
    if words[:2] == ["ggml", "vocab"] or words[-1:] == ["vocab"]:
        return Said(Kind.VOCABULARY)
    if "cvector" in words or "controlvector" in words or _follow(words, "control", "vector"):
        return Said(Kind.CONTROL_VECTOR)
    if any(re.fullmatch(_VOCODER, word) for word in words):
        return Said(Kind.VOCODER)
    return _adapter(words, stem) or _draft(words, stem) or _maybe(words)


def kinds(paths: Sequence[str]) -> dict[str, Kind]:
    """What each of a repository's GGUF files is for, by path.

    A name that leaves a doubt counts as what it may be only where others are models without one.
    """
    said = {path: said_of(path) for path in paths}
    plain = any(each.kind is Kind.MODEL for each in said.values())
    found = {
        path: each.kind if plain or each.certain else Kind.MODEL for path, each in said.items()
    }
    places = {_place(path) for path, kind in found.items() if kind is Kind.MODEL}
    # `Model-Q4_K_M-imatrix.gguf` beside `Model-Q4_K_M.gguf` is not a second model
    return {
        path: Kind.IMATRIX if kind is Kind.MODEL and _before_imatrix(path) in places else kind
        for path, kind in found.items()
    }


def _place(path: str) -> str:
    return str(PurePosixPath(path).with_name(stem_of(path))).lower()


def _before_imatrix(path: str) -> str | None:
    place = _place(path)
    bare = re.sub(r"[-_.]imatrix$", "", place)
    return None if bare == place else bare


def _found_in(text: str) -> re.Match[str] | None:
    """The last quantization in a name; what is not quantized counts where nothing else does."""
    found = list(re.finditer(_QUANTIZATION, text))
    packed = [match for match in found if not match["plain"]]
    return next(reversed(packed or found), None)


def _quantization_in(text: str) -> str | None:
    match = _found_in(text)
    return None if match is None else _spelled(match)


def _spelled(match: re.Match[str]) -> str:
    name = match["name"].upper()
    if match["plain"]:
        name = name.replace("FP", "F")
    return f"UD-{name}" if match["dynamic"] else name


def _with_imatrix(words: Sequence[str], stem: str) -> Said:
    """An importance matrix; or a model made with one, which says what it is quantized to."""
    named_after_it = words[0] != "imatrix" and _quantization_in(stem) not in _UNCHANGED_BY_IMATRIX
    return Said() if named_after_it else Said(Kind.IMATRIX)


def _adapter(words: Sequence[str], stem: str) -> Said | None:
    found = [word for word in words if word in {"lora", "qlora", "adapter"}]
    if not found or "merged" in words:
        return None
    # the convention's place for it is the end; publishers put the quantization behind it
    bare = [word for word in re.split(_WORDS, without_quantization(stem).lower()) if word]
    outside = {*words[:1], *words[-1:], *bare[-1:]}
    at_start = words[:2] in (["ggml", "lora"], ["ggml", "adapter"])
    return Said(Kind.ADAPTER, certain=at_start or bool(outside & set(found)))


def _draft(words: Sequence[str], stem: str) -> Said | None:
    if not any(re.fullmatch(_DRAFT, word) for word in words):
        return None
    surely = any(re.fullmatch(_SURELY_DRAFT, word) for word in words)
    first_or_last = bool(re.fullmatch(_DRAFT, words[0])) or (
        # behind the quantization is the convention's place for what kind of file it is
        _quantization_in(stem) is not None and bool(re.fullmatch(_DRAFT, words[-1]))
    )
    mtp = "mtp" in words and first_or_last
    return Said(Kind.DRAFT, certain=surely or mtp)


def _maybe(words: Sequence[str]) -> Said:
    for pattern, kind in (
        (_MAYBE_DRAFT, Kind.DRAFT),
        (_MAYBE_VOCODER, Kind.VOCODER),
        (_COMPONENT, Kind.COMPONENT),
    ):
        if any(re.fullmatch(pattern, word) for word in words):
            return Said(kind, certain=False)
    return Said()


def _follow(words: Sequence[str], first: str, second: str) -> bool:
    return any(one == first and other.rstrip("s") == second for one, other in pairwise(words))
