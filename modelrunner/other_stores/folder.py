"""GGUF files that lie about: a file with its shards, or all below a directory."""

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import count
from pathlib import Path

from modelrunner.errors import InvalidReferenceError, ModelRunnerError, UsageError
from modelrunner.frozen import replace
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.projector import misfit
from modelrunner.gguf.reader import read_header
from modelrunner.huggingface.files import HubModel, check_shards, every, names_model
from modelrunner.huggingface.names import (
    Kind,
    around_quantization,
    kinds,
    quantization_of,
    stem_of,
    without_quantization,
)
from modelrunner.oci.model.naming import shard_names
from modelrunner.oci.reference import LOCAL, Reference
from modelrunner.other_stores.found import Found, FoundFile, FoundModel, Unusable
from modelrunner.text import file_text, with_article

_UNUSUAL = re.compile(r"[^a-z0-9.]+")
_DOUBLE = re.compile(r"[-.]{2,}")


def find(place: Path) -> Iterator[Found]:
    """The model of a file, or all models below a directory, by path.

    Raises:
        UsageError: There is nothing there, or no GGUF file.
    """
    if not place.exists():
        raise UsageError(
            f"{place}: file or directory not found",
            hint="name a GGUF file or a directory of them; models of a registry are pulled",
        )
    if not place.is_dir():
        yield _of_file(place)
        return
    folders = sorted({path.parent for path in place.rglob("*") if _is_gguf(path)})
    if not folders:
        raise UsageError(
            f"{place}: no GGUF file found",
            hint="convert other formats, such as safetensors, to GGUF first",
        )
    for folder in folders:
        yield from _of_folder(folder)


def name_of(file: str) -> str:
    """`local/NAME:QUANT`, or `local/NAME`, for a file."""
    quantization = quantization_of(file)
    stem = "-".join(filter(None, around_quantization(stem_of(file))))
    return f"{LOCAL}/{_part(stem)}" + (f":{quantization}" if quantization else "")


def with_own_names(found: Sequence[Found]) -> list[Found]:
    """The models, none of which has the name of another one.

    Those of one name are told apart by their directories, those of one directory by a number.
    """
    models = [entry for entry in found if isinstance(entry, FoundModel)]
    taken: set[str] = set()
    named: dict[int, Reference] = {}
    for model in models:
        same = [other for other in models if str(other.reference) == str(model.reference)]
        folders = {other.files[0].file.parent for other in same}
        name = model.reference
        if len(folders) > 1:
            name = _prefixed(name, _distinct(model.files[0].file.parent, folders))
        named[id(model)] = _numbered(name, taken)
        taken.add(str(named[id(model)]))
    return [
        replace(entry, reference=named[id(entry)]) if isinstance(entry, FoundModel) else entry
        for entry in found
    ]


def _distinct(folder: Path, folders: Collection[Path]) -> str:
    """The shortest end of a directory's path that no other of them has."""
    for depth in range(1, len(folder.parts) + 1):
        end = folder.parts[-depth:]
        if sum(other.parts[-depth:] == end for other in folders) == 1:
            return "-".join(end)
    return "-".join(folder.parts)


def _prefixed(name: Reference, text: str) -> Reference:
    own = name.repository.removeprefix(f"{LOCAL}/")
    return _renamed(name, f"{_part(text)}-{own}")


def _numbered(name: Reference, taken: Collection[str]) -> Reference:
    own = name.repository.removeprefix(f"{LOCAL}/")
    names = (_renamed(name, own if n == 1 else f"{own}-{n}") for n in count(1))
    return next(each for each in names if str(each) not in taken)


def _renamed(name: Reference, own: str) -> Reference:
    repository = f"{LOCAL}/{own}"
    return replace(name, repository=repository, original_repository=repository)


def _part(text: str) -> str:
    """A part of a repository's name: lower-case letters, digits, and single dots and hyphens."""
    return _DOUBLE.sub("-", _UNUSUAL.sub("-", text.lower())).strip("-.") or "model"


def _is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf" and path.is_file()


def _of_file(file: Path) -> Found:
    paths = [file.with_name(name) for name in shard_names(file.name) or [file.name]]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        return Unusable(str(file), f"{len(missing)} of {len(paths)} shards are missing")
    return _named(str(file), [_found(path) for path in paths])


def _of_folder(folder: Path) -> Iterator[Found]:
    """Its models, each with the projector that goes with it; drafts are models too."""
    files = [_found(path) for path in sorted(folder.iterdir()) if _is_gguf(path)]
    said = kinds([file.path for file in files])
    projectors = [file for file in files if said[file.path] is Kind.PROJECTOR]
    models = every(files)
    if not models:
        for file in files:
            yield Unusable(
                str(file.file), f"not a model: {with_article(said[file.path])} by its name"
            )
        return
    # quantizations of one model share what goes with it
    several = len({without_quantization(stem_of(model.path)) for model in models}) > 1
    others = [
        f"{file.name}: {with_article(said[file.path])}"
        for file in files
        if not said[file.path].loads_alone and file not in projectors
    ]
    for model in models:
        title = str(model.files[0].file)
        try:
            check_shards(model, str(folder))
        except ModelRunnerError as exc:
            yield Unusable(title, exc.message)
            continue
        projector, left_out = _projector(model, projectors, several=several)
        found = [] if projector is None else [replace(projector, role="projector")]
        yield _named(title, [*model.files, *found], (*left_out, *others))
        others = []


def _projector(
    model: HubModel[FoundFile], projectors: Sequence[FoundFile], *, several: bool
) -> tuple[FoundFile | None, tuple[str, ...]]:
    """The projector that a model's header fits, and why others are left out."""
    if model.kind is not Kind.MODEL:
        return None, ()
    usual = [] if model.projector is None else [model.projector, *model.others]
    left_out: list[str] = []
    for file in (*usual, *(file for file in projectors if file not in usual)):
        problem = _problem(file.file, model.files[0].file)
        if problem is None and several and not names_model(file.path, model.path):
            problem = "ambiguous: there are several models in its directory"
        if problem is None:
            return file, tuple(left_out)
        left_out.append(f"{file.name}: {problem}")
    return None, tuple(left_out)


def _problem(projector: Path, model: Path) -> str | None:
    try:
        metadata = Metadata.from_header(read_header(model))
    except ModelRunnerError:
        # what is wrong with the model is said where it is read
        return None
    try:
        header = read_header(projector)
        kind = Metadata.from_header(header).kind
    except ModelRunnerError as exc:
        return exc.message
    if kind != "projector":
        return f"expected a projector, got {with_article(kind)}"
    return misfit(header, metadata.embedding_length)


def _found(path: Path) -> FoundFile:
    return FoundFile(path, file_text(path.name), path.stat().st_size)


def _named(title: str, files: Sequence[FoundFile], left_out: tuple[str, ...] = ()) -> Found:
    try:
        reference = Reference.parse(name_of(files[0].name))
    except InvalidReferenceError as exc:
        return Unusable(title, exc.message)
    return FoundModel(title, reference, tuple(files), left_out)
