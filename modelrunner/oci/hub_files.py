"""Which files of a repository on the Hugging Face Hub make up a model.

A repository holds many quantisations of one model; a name says which: `Model-Q4_K_M.gguf`,
`UD-Q4_K_XL/Model-00001-of-00002.gguf`. A projector (`mmproj-F16.gguf`) goes with all of them.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import Generic, Protocol, TypeVar

from modelrunner.errors import MalformedManifestError, ManifestNotFoundError
from modelrunner.oci.digest import Digest
from modelrunner.oci.naming import SHARD
from modelrunner.text import sanitize_line
from modelrunner.units import format_size

DEFAULTS = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q8_0", "F16", "BF16")
"""What is taken where nothing is asked for: the usual one, else the nearest to it."""

_QUANTIZATION = re.compile(
    r"(?:^|[-_./])((?:UD-)?(?:I?Q[1-8](?:_[A-Z0-9]+)*|TQ[12]_0|MXFP4(?:_MOE)?|BF16|F16|F32))$",
    re.IGNORECASE,
)
_PROJECTOR = re.compile(r"mmproj", re.IGNORECASE)
_PROJECTORS = ("F16", "BF16", "F32", "Q8_0")
_SHOWN = 40
_SAID = {"fits": ", fits", "no": ", too large"}


class VariantNotFoundError(ManifestNotFoundError):
    """The repository has models, and none that is meant.

    Args:
        message: What is asked for.
        choices: What there is, and its bytes.
        verdicts: Whether each would fit, as far as that is known.
    """

    def __init__(
        self, message: str, choices: Sequence[tuple[str, int]] = (), verdicts: Sequence[str] = ()
    ) -> None:
        said = [_SAID.get(verdict, "") for verdict in verdicts] or [""] * len(choices)
        names = ", ".join(
            f"{label} ({format_size(size)}{fit})"
            for (label, size), fit in zip(choices, said, strict=True)
        )
        super().__init__(
            message,
            hint=f"there are {names}",
            missing="tag",
            near=[label for label, _ in choices],
            fit=list(verdicts) or None,
        )
        self.choices = choices


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file that is kept as a large one, so that the listing has its digest."""

    path: str
    size: int
    digest: Digest

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name


class Listed(Protocol):
    """A file of a repository, wherever it lies."""

    @property
    def path(self) -> str:
        """Its path in the repository."""
        ...

    @property
    def name(self) -> str:
        """The last part of its path."""
        ...

    @property
    def size(self) -> int:
        """Its bytes."""
        ...


File = TypeVar("File", bound=Listed)


@dataclass(frozen=True, slots=True)
class HubModel(Generic[File]):
    """One quantisation: its files in order, and the projector that goes with it."""

    quantization: str | None
    files: tuple[File, ...]
    projector: File | None = None

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


def choose(files: Sequence[File], tag: str | None, repository: str) -> HubModel[File]:
    """The model that a tag asks for: a quantisation, or a file's name.

    Args:
        files: What the repository has.
        tag: As the reference has it; None, `latest` and an empty one ask for the usual.
        repository: For the error.

    Raises:
        ManifestNotFoundError: There is none; what there is is named with its size.
        MalformedManifestError: A shard is missing.
    """
    found = _by_label(files)
    if not found:
        raise ManifestNotFoundError(
            f"{repository} has no GGUF file",
            hint=_what_else(files),
            missing="repository",
        )
    usual = tag in {None, "", "latest"}
    chosen = _usual(found) if usual else _named(found, str(tag))
    if chosen is None:
        asked = "are several models" if usual else f"is no model {sanitize_line(str(tag), 80)}"
        raise VariantNotFoundError(
            f"{repository}: there {asked}",
            tuple((label, model.size) for label, model in islice(found.items(), _SHOWN)),
        )
    _check_shards(chosen, repository)
    return HubModel(chosen.quantization, chosen.files, _projector(files))


def labels(files: Sequence[Listed]) -> tuple[str, ...]:
    """What can be asked for: each quantisation, or a file's name where that does not say which."""
    return tuple(_by_label(files))


def quantization_of(path: str) -> str | None:
    """The quantisation that a file's name says, or else its folder's."""
    place = PurePosixPath(path)
    match = SHARD.fullmatch(place.name)
    stem = match["stem"] if match else place.stem
    for text in (stem, *(parent.name for parent in place.parents)):
        found = _QUANTIZATION.search(text)
        if found:
            return found[1].upper()
    return None


def _models(files: Iterable[File]) -> list[HubModel[File]]:
    groups = dict[str, list[File]]()
    for file in sorted(files, key=lambda each: each.path):
        if file.path.lower().endswith(".gguf") and not _PROJECTOR.search(file.name):
            match = SHARD.fullmatch(file.path)
            key = f"{match['stem']}-of-{match['count']}" if match else file.path
            groups.setdefault(key, []).append(file)
    return [HubModel(quantization_of(group[0].path), tuple(group)) for group in groups.values()]


def _by_label(files: Iterable[File]) -> dict[str, HubModel[File]]:
    found = _models(files)
    times = Counter(model.quantization for model in found)
    return {
        model.quantization
        if model.quantization and times[model.quantization] == 1
        else sanitize_line(model.files[0].name, 128): model
        for model in found
    }


def _named(found: Mapping[str, HubModel[File]], tag: str) -> HubModel[File] | None:
    """By its label, however it is written; by a file's name; or by a folder that has no other."""
    wanted = tag.lower()
    for label, model in found.items():
        name = model.files[0].name.lower()
        if wanted in {label.lower(), name, name.removesuffix(".gguf")}:
            return model
    inside = [model for model in found.values() if wanted == _folder(model.files[0]).lower()]
    return inside[0] if len(inside) == 1 else None


def _folder(file: Listed) -> str:
    return PurePosixPath(file.path).parent.name


def _usual(found: Mapping[str, HubModel[File]]) -> HubModel[File] | None:
    if len(found) == 1:
        return next(iter(found.values()))
    return next((found[name] for name in DEFAULTS if name in found), None)


def _check_shards(model: HubModel[File], repository: str) -> None:
    match = SHARD.fullmatch(model.files[0].path)
    if match is None:
        return
    count = int(match["count"])
    there = {int(found["number"]) for file in model.files if (found := SHARD.fullmatch(file.path))}
    missing = sorted(set(range(1, count + 1)) - there)
    if missing:
        raise MalformedManifestError(
            f"{repository}: of {count} shards {len(missing)} are missing, the first is number"
            f" {missing[0]}",
            hint="the repository is not complete; choose another quantisation",
        )


def _projector(files: Sequence[File]) -> File | None:
    """The projector that is nearest to what people use: F16 before the others."""
    found = sorted(
        (
            file
            for file in files
            if _PROJECTOR.search(file.name) and file.path.lower().endswith(".gguf")
        ),
        key=lambda file: file.path,
    )
    for name in _PROJECTORS:
        for file in found:
            if quantization_of(file.path) == name:
                return file
    return found[0] if found else None


def _what_else(files: Sequence[Listed]) -> str:
    if any(file.path.endswith(".safetensors") for file in files):
        return "it has safetensors: vLLM or transformers run those; look for a GGUF repository"
    return "look for a repository with GGUF in its name"
