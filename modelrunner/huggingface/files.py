"""Which files of a repository on the Hugging Face Hub make up a model.

A repository holds many quantizations of one model, or of several; a name says which:
`Model-Q4_K_M.gguf`, `UD-Q4_K_XL/Model-00001-of-00002.gguf`, `13B/model-Q4_K_M.gguf`. A file is
known by its whole path: several directories may have files of one name. What else a repository
keeps in GGUF files (see `hub_names`) is never taken for a model, but where it is asked for.

A model's label is the shortest tag that means it and no other: its quantization, else
`DIRECTORY/QUANTIZATION`, else the path of its file.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import PurePosixPath
from typing import Generic, Protocol, TypeVar

from modelrunner.errors import (
    MalformedManifestError,
    ManifestNotFoundError,
    UnsupportedArtifactError,
)
from modelrunner.frozen import frozen
from modelrunner.huggingface.names import (
    Kind,
    kinds,
    normalized,
    quantization_of,
    stem_of,
    whole_of,
    without_quantization,
)
from modelrunner.oci.digest import Digest
from modelrunner.oci.hub_address import tag_of, unquoted
from modelrunner.oci.model.formats import Format, by_suffix
from modelrunner.oci.model.naming import SHARD
from modelrunner.text import sanitize_line, with_article
from modelrunner.units import counted, format_size

DEFAULTS = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q8_0", "F16", "BF16")
"""What is taken where nothing is asked for: the usual one, else the nearest to it."""

_LESS_USUAL = (
    *("UD-Q4_K_XL", "Q4_K_L", "MXFP4_MOE", "MXFP4", "NVFP4", "IQ4_NL", "IQ4_XS", "Q4_1", "Q4_K"),
    *("UD-Q5_K_XL", "Q5_K_S", "Q5_K_L", "Q5_0", "Q5_1", "UD-Q6_K_XL", "Q6_K", "Q6_K_L"),
    *("UD-Q3_K_XL", "Q3_K_M", "Q3_K_L", "Q3_K_S", "UD-Q8_K_XL", "F32"),
)
_PROJECTORS = ("F16", "BF16", "F32", "Q8_0")
_SHOWN = 40
_FULL_NAMES = 6
_SAID = {"fits": ", fits", "no": ", too large"}
_WORDS = r"[^a-z0-9]+"


class VariantNotFoundError(ManifestNotFoundError):
    """The repository has models, but not the one that was asked for, or several such.

    Args:
        message: What is asked for.
        choices: The tags that can be used, and the bytes of each.
        verdicts: Whether each would fit, as far as that is known.
        repository: What to write before a tag.
    """

    def __init__(
        self,
        message: str,
        choices: Sequence[tuple[str, int]] = (),
        verdicts: Sequence[str] = (),
        repository: str = "",
    ) -> None:
        said = [_SAID.get(verdict, "") for verdict in verdicts] or [""] * len(choices)
        # few are written so that they can be pasted
        before = f"{repository}:" if repository and len(choices) <= _FULL_NAMES else ""
        names = ", ".join(
            f"{before}{label} ({format_size(size)}{fit})"
            for (label, size), fit in zip(choices, said, strict=True)
        )
        how = f"write {repository}:TAG; available" if repository and not before else "available"
        super().__init__(
            message,
            hint=f"{how}: {names}",
            missing="tag",
            near=[label for label, _ in choices],
            fit=list(verdicts) or None,
        )
        self.choices = choices
        self.repository = repository


@frozen
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


@frozen
class HubModel(Generic[File]):
    """One quantization of one model.

    Attributes:
        quantization: As its file's name, or its directory, says.
        files: Its weights, in order.
        projector: The projector that goes with it.
        label: The shortest tag that means it and no other.
        kind: What it is for; most are models.
        others: Further projectors that would go with it.
    """

    quantization: str | None
    files: tuple[File, ...]
    projector: File | None = None
    label: str = ""
    kind: Kind = Kind.MODEL
    others: tuple[File, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def path(self) -> str:
        """The path of its first file in the repository."""
        return self.files[0].path

    @property
    def directory(self) -> str:
        """The directory that its files lie in; empty at the top."""
        parent = str(PurePosixPath(self.path).parent)
        return "" if parent == "." else parent


def choose(files: Sequence[File], tag: str | None, repository: str) -> HubModel[File]:
    """The model that a tag asks for: a quantization, a file, a directory, or both.

    Args:
        files: What the repository has.
        tag: As the reference has it; None, `latest` and an empty one ask for the usual.
        repository: What to write before a tag, for errors.

    Raises:
        ManifestNotFoundError: There is none, or there are several; the choices are named.
        MalformedManifestError: A shard is missing.
        UnsupportedArtifactError: What is asked for is not a model, or is cut into raw parts.
    """
    contents = _Contents(files, repository)
    chosen = contents.usual() if tag in {None, "", "latest"} else contents.named(str(tag))
    check_shards(chosen, repository)
    return chosen


def every(files: Sequence[File]) -> tuple[HubModel[File], ...]:
    """Every model that the files make up, and what else could be loaded as one."""
    contents = _Contents(files, "")
    return tuple(contents.complete(model) for model in (*contents.models, *contents.companions))


def names_model(projector: str, model: str) -> bool:
    """Whether a projector's name says that it is this model's, by the paths of both."""
    own = _words_of_projector(projector)
    return bool(own) and own <= _words_of(model)


def labels(files: Sequence[Listed]) -> tuple[str, ...]:
    """The tags that can be asked for: the label of each model."""
    return tuple(model.label for model in _Contents(files, "").models)


def quantizations(paths: Iterable[str]) -> tuple[str, ...]:
    """The quantizations of the models among a repository's files, each once."""
    said = kinds([path for path in paths if _is_gguf(path)])
    models = [path for path, kind in said.items() if kind is Kind.MODEL and not whole_of(path)]
    return tuple(dict.fromkeys(filter(None, map(quantization_of, models))))


class _Contents(Generic[File]):
    """What a repository has, sorted: models, companions of models, projectors, raw parts."""

    def __init__(self, files: Sequence[File], repository: str) -> None:
        self._files = files
        self._repository = repository
        listed = sorted((file for file in files if _is_gguf(file.path)), key=lambda f: f.path)
        self._parts = {
            file.path: whole
            for file in sorted(files, key=lambda each: each.path)
            if (whole := whole_of(file.path)) is not None
        }
        self._whole = [file for file in listed if file.path not in self._parts]
        self._kinds = kinds([file.path for file in self._whole])
        groups = dict[str, list[File]]()
        for file in self._whole:
            groups.setdefault(_key(file.path), []).append(file)
        self._groups = [
            HubModel(quantization_of(group[0].path), tuple(group), kind=self._kinds[group[0].path])
            for group in groups.values()
        ]

    @cached_property
    def models(self) -> tuple[HubModel[File], ...]:
        """The models, labeled, by path."""
        return self._labelled(lambda kind: kind is Kind.MODEL)

    @cached_property
    def companions(self) -> tuple[HubModel[File], ...]:
        """What goes with a model and could be loaded by itself: draft models, say."""
        return self._labelled(lambda kind: kind is not Kind.MODEL and kind.loads_alone)

    @cached_property
    def projectors(self) -> tuple[File, ...]:
        """The projectors, by path."""
        return tuple(f for f in self._whole if self._kinds[f.path] is Kind.PROJECTOR)

    def usual(self) -> HubModel[File]:
        """The model of somebody who names none: the only one, else the most usual one."""
        if not self.models:
            raise self._nothing()
        if len(self.models) == 1:
            return self.complete(self.models[0])
        for name in (*DEFAULTS, *_LESS_USUAL):
            found = _with_quantization(self.models, name)
            if len(found) == 1:
                return self.complete(found[0])
            if found:
                break
        raise self._several(self.models, f"{self._repository} has several models")

    def named(self, tag: str) -> HubModel[File]:
        """The model that a tag means."""
        wanted = unquoted(tag)
        shown = sanitize_line(wanted, 200)
        for find in (self._by_path, self._by_name):
            found = find(wanted)
            if found:
                return self._only(found, f"{self._repository} has several files named {shown}")
        self._refuse_others(wanted)
        # a companion is never taken for a model, but where there is nothing else
        among = self.models or self.companions
        for look in (_with_quantization, _in_directory, _in_directory_with, _ending):
            found = look(among, wanted)
            if found:
                return self._only(found, f"{self._repository} has several models for {shown}")
        self._refuse_parts(lambda path: _matches_part(path, wanted))
        if not among:
            raise self._nothing()
        raise self._several(among, f"{self._repository} has no model {shown}")

    def complete(self, model: HubModel[File]) -> HubModel[File]:
        """The model with the projector that goes with it."""
        if model.kind is not Kind.MODEL:
            return model
        found = self._projectors_for(model)
        first, others = (found[0], tuple(found[1:])) if found else (None, ())
        return HubModel(model.quantization, model.files, first, model.label, model.kind, others)

    def _labelled(self, wanted: Callable[[Kind], bool]) -> tuple[HubModel[File], ...]:
        found = [model for model in self._groups if wanted(model.kind)]
        short = Counter(model.quantization for model in found)
        long = Counter((model.directory, model.quantization) for model in found)
        # a name that both a file and a quantization have would not say which
        labelled = []
        for model in found:
            name, directory = model.quantization, model.directory
            if name and short[name] == 1:
                label = name
            elif name and directory and long[directory, name] == 1:
                label = tag_of(f"{directory}/{name}")
            else:
                label = tag_of(model.path)
            labelled.append(HubModel(model.quantization, model.files, label=label, kind=model.kind))
        return tuple(labelled)

    def _by_path(self, wanted: str) -> list[HubModel[File]]:
        everything = (*self.models, *self.companions)
        paths = {wanted, f"{wanted}.gguf"}
        for same in (str, str.lower):
            found = [
                m for m in everything if {same(f.path) for f in m.files} & set(map(same, paths))
            ]
            if found:
                return found
        return []

    def _by_name(self, wanted: str) -> list[HubModel[File]]:
        """By a file's name alone; a model counts before what only goes with one."""
        name = wanted.lower()
        if "/" in name:
            return []
        for among in (self.models, self.companions):
            found = [
                model
                for model in among
                if any(
                    name in {file.name.lower(), file.name.lower().removesuffix(".gguf")}
                    for file in model.files
                )
                or name == stem_of(model.path).lower()
            ]
            if found:
                return found
        return []

    def _only(self, found: Sequence[HubModel[File]], several: str) -> HubModel[File]:
        if len(found) > 1:
            raise self._several(found, several)
        return self.complete(found[0])

    def _several(self, found: Sequence[HubModel[File]], message: str) -> VariantNotFoundError:
        choices = tuple((model.label, model.size) for model in islice(found, _SHOWN))
        return VariantNotFoundError(message, choices, repository=self._repository)

    def _refuse_others(self, wanted: str) -> None:
        """Refuses a file that is asked for by its name and is not a model."""
        names = {wanted.lower(), f"{wanted.lower()}.gguf"}
        for file in self._whole:
            kind = self._kinds[file.path]
            if not kind.loads_alone and {file.path.lower(), file.name.lower()} & names:
                raise UnsupportedArtifactError(
                    f"{self._repository}: {sanitize_line(file.path, 200)} is "
                    f"{with_article(kind)} by its name, not a model",
                    hint=f"`modelrunner tags {self._repository}` lists the models"
                    if self.models
                    else "name the repository of the model that it belongs to",
                )
        self._refuse_parts(lambda path: path.lower() in names or _name(path).lower() in names)

    def _refuse_parts(self, asked: Callable[[str], bool]) -> None:
        """Refuses a model whose file was cut at any byte."""
        found = [path for path, whole in self._parts.items() if asked(path) or asked(whole)]
        if not found:
            return
        whole = self._parts[found[0]]
        parts = [path for path, of in self._parts.items() if of == whole]
        names = " ".join(_shell_word(_name(path)) for path in parts[:_FULL_NAMES])
        more = " ..." if len(parts) > _FULL_NAMES else ""
        target = _shell_word(_name(whole))
        shown = sanitize_line(whole, 200)
        raise UnsupportedArtifactError(
            f"{self._repository}: {shown} is split into {counted(len(parts), 'raw part')}, "
            "which llama.cpp cannot load",
            hint=f"download the parts and join them: cat {names}{more} > {target} &&"
            f" modelrunner import {target}",
            parts=parts,
        )

    def _nothing(self) -> ManifestNotFoundError | UnsupportedArtifactError:
        """Why there is no model to take."""
        if self.companions:
            what = ", ".join(sorted({with_article(model.kind) for model in self._groups}))
            return VariantNotFoundError(
                f"{self._repository} has no model, only {what}",
                tuple((model.label, model.size) for model in islice(self.companions, _SHOWN)),
                repository=self._repository,
            )
        if self._parts:
            self._refuse_parts(lambda _path: True)
        if self._groups:
            what = ", ".join(sorted({with_article(model.kind) for model in self._groups}))
            return ManifestNotFoundError(
                f"{self._repository} has no model, only {what}",
                hint="pull the model that it belongs to: `modelrunner search NAME`",
                missing="repository",
            )
        return ManifestNotFoundError(
            f"{self._repository} has no GGUF file",
            hint=_what_else(self._files, self._repository),
            missing="repository",
        )

    def _projectors_for(self, model: HubModel[File]) -> list[File]:
        """The projectors that go with a model, the first one to be taken.

        A directory's projectors go with the models in it and below it; one without models of its
        own (`mmproj/`) counts as the one above. Of the nearest ones those are left out that name
        another model.
        """
        inside = _ancestors(model.path)
        near = dict[int, list[File]]()
        for file in self.projectors:
            home = self._home(file.path)
            if home in inside:
                near.setdefault(len(home.parts), []).append(file)
        for depth in sorted(near, reverse=True):
            found = [file for file in near[depth] if self._may_go_with(file, model)]
            if found:
                return sorted(found, key=lambda file: _preference(file.path, model.path))
        return []

    def _home(self, path: str) -> PurePosixPath:
        home = PurePosixPath(path).parent
        while home.parts and not any(home in _ancestors(model.path) for model in self.models):
            home = home.parent
        return home

    def _may_go_with(self, projector: File, model: HubModel[File]) -> bool:
        """Whether a projector's name does not rather name another model of the repository."""
        own = _words_of_projector(projector.path)
        if not own:
            return True
        score = {other.path: len(own & _words_of(other.path)) for other in self.models}
        return score[model.path] == max(score.values())


def _key(path: str) -> str:
    match = re.fullmatch(SHARD, path)
    return f"{match['stem']}-of-{match['count']}" if match else path


def _is_gguf(path: str) -> bool:
    return path.lower().endswith(".gguf")


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _ancestors(path: str) -> frozenset[PurePosixPath]:
    return frozenset(PurePosixPath(path).parents)


def _with_quantization(among: Sequence[HubModel[File]], wanted: str) -> list[HubModel[File]]:
    """By quantization, however it is written; one of Unsloth's also without its `UD-`."""
    name = normalized(wanted)
    if name is None:
        return [model for model in among if model.label.lower() == wanted.lower()]
    exact = [model for model in among if model.quantization == name]
    dynamic = [model for model in among if model.quantization == f"UD-{name}"]
    return exact or dynamic


def _in_directory(among: Sequence[HubModel[File]], wanted: str) -> list[HubModel[File]]:
    """By a directory, or the last part of its path."""
    name = wanted.lower()
    return [
        model
        for model in among
        if any(_is_at(str(parent), name) for parent in PurePosixPath(model.path.lower()).parents)
    ]


def _in_directory_with(among: Sequence[HubModel[File]], wanted: str) -> list[HubModel[File]]:
    """By a directory and a quantization: `13B/Q4_K_M`; by a directory and a file's name."""
    directory, slash, rest = wanted.rpartition("/")
    if not slash:
        return []
    inside = _in_directory(among, directory)
    names = {rest.lower(), f"{rest.lower()}.gguf"}
    found = [
        m for m in inside if names & {*(f.name.lower() for f in m.files), stem_of(m.path).lower()}
    ]
    return found or _with_quantization(inside, rest)


def _ending(among: Sequence[HubModel[File]], wanted: str) -> list[HubModel[File]]:
    """By the end of a file's name that says the quantization: `i1-Q4_K_M`, `4b-q4_k_m`."""
    if quantization_of(wanted) is None:
        return []
    name = wanted.lower().replace("/", "-")
    return [
        model
        for model in among
        if name == model.label.lower().replace("/", "-") or _ends_with(_path_words(model), name)
    ]


def _path_words(model: HubModel[File]) -> str:
    place = PurePosixPath(model.path.lower())
    return "-".join((*place.parent.parts, stem_of(model.path).lower()))


def _ends_with(text: str, end: str) -> bool:
    return text == end or (text.endswith(end) and text[-len(end) - 1] in "-_.")


def _is_at(path: str, wanted: str) -> bool:
    return path == wanted or path.endswith(f"/{wanted}")


def _matches_part(path: str, wanted: str) -> bool:
    name = normalized(wanted)
    return name is not None and quantization_of(path) == name


def _words_of(path: str) -> frozenset[str]:
    place = PurePosixPath(path)
    text = "/".join((*place.parent.parts, without_quantization(stem_of(path))))
    return frozenset(re.split(_WORDS, text.lower())) - {""}


def _words_of_projector(path: str) -> frozenset[str]:
    said = {"mmproj", "mm", "proj", "projector", "projectors", "mmprojs", "model", "gguf", "vision"}
    return _words_of(path) - said


def _preference(projector: str, model: str) -> tuple[bool, int, str]:
    """The order of projectors that go with a model: F16 first, one that names another last."""
    own, name = _words_of_projector(projector), quantization_of(projector)
    usual = _PROJECTORS.index(name) if name in _PROJECTORS else len(_PROJECTORS)
    return bool(own) and not own & _words_of(model), usual, projector


def _shell_word(name: str) -> str:
    import shlex

    return shlex.quote(sanitize_line(name, 200))


def check_shards(model: HubModel[File], repository: str) -> None:
    """Accept a model that has all its shards.

    Raises:
        MalformedManifestError: One is missing.
    """
    match = re.fullmatch(SHARD, model.files[0].path)
    if match is None:
        return
    # bounded: five digits, see `SHARD`
    count = int(match["count"])
    numbers = (re.fullmatch(SHARD, file.path) for file in model.files)
    # bounded: five digits, see `SHARD`
    there = {int(found["number"]) for found in numbers if found is not None}
    missing = sorted(set(range(1, count + 1)) - there)
    if missing:
        raise MalformedManifestError(
            f"{repository}: {len(missing)} of {count} shards missing, the first is number "
            f"{missing[0]}",
            hint="the repository is incomplete; choose another quantization",
        )


def _what_else(files: Sequence[Listed], repository: str) -> str:
    """What a repository without GGUF has, what runs that, and how to pull it all the same."""
    groups = dict[Format | None, list[int]]()
    for file in files:
        groups.setdefault(by_suffix(PurePosixPath(file.path).suffix), []).append(file.size)
    ordered = sorted(groups, key=lambda form: -sum(groups[form]))
    said = ", ".join(
        f"{'large files' if form is None else form.what} "
        f"({counted(len(groups[form]), 'file')}, {format_size(sum(groups[form]))})"
        for form in ordered
    )
    runs = next((f"{form.runs}; " for form in ordered if form is not None), "")
    has = f"it has {said}; " if said else ""
    return (
        f"{has}{runs}`modelrunner pull {repository} --all` pulls everything, `modelrunner search "
        "NAME` finds GGUF"
    )
