"""GGUF files that lie about: a file with its shards, or all below a folder."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from modelrunner.errors import InvalidReferenceError, ModelRunnerError, UsageError
from modelrunner.foreign.found import Found, FoundFile, FoundModel, Unusable
from modelrunner.oci.hub_files import choose, labels
from modelrunner.oci.hub_names import quantization_of
from modelrunner.oci.naming import SHARD, shard_names
from modelrunner.oci.reference import LOCAL, Reference

_UNUSUAL = re.compile(r"[^a-z0-9]+")


def find(place: Path) -> Iterator[Found]:
    """The model of a file, or all models below a folder, by path.

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
            hint="other formats, such as safetensors, have to be converted to GGUF first",
        )
    for folder in folders:
        yield from _of_folder(folder)


def name_of(file: str) -> str:
    """`local/NAME:QUANT`, or `local/NAME`, for a file."""
    match = SHARD.fullmatch(file)
    stem = match["stem"] if match else file.rpartition(".")[0] or file
    quantization = quantization_of(f"{stem}.gguf")
    if quantization is not None and stem.upper().endswith(quantization):
        stem = stem[: -len(quantization)]
    name = _UNUSUAL.sub("-", stem.lower()).strip("-") or "model"
    return f"{LOCAL}/{name}" + (f":{quantization}" if quantization else "")


def _is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf" and path.is_file()


def _of_file(file: Path) -> Found:
    paths = [file.with_name(name) for name in shard_names(file.name) or [file.name]]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        return Unusable(str(file), f"{len(missing)} of {len(paths)} shards are not beside it")
    return _named(str(file), [_found(path) for path in paths])


def _of_folder(folder: Path) -> Iterator[Found]:
    """Its models; a projector goes with the one that it has."""
    files = [_found(path) for path in sorted(folder.iterdir()) if _is_gguf(path)]
    names = labels(files)
    for label in names:
        title = str(folder / label)
        try:
            model = choose(files, label, str(folder))
        except ModelRunnerError as exc:
            yield Unusable(title, exc.message)
            continue
        title = str(model.files[0].file)
        if model.projector is None:
            yield _named(title, model.files)
        elif len(names) == 1:
            yield _named(title, [*model.files, replace(model.projector, role="projector")])
        else:
            note = f"{model.projector.name}: several models are beside it"
            yield _named(title, model.files, (note,))


def _found(path: Path) -> FoundFile:
    return FoundFile(path, path.name, path.stat().st_size)


def _named(title: str, files: Sequence[FoundFile], left_out: tuple[str, ...] = ()) -> Found:
    try:
        reference = Reference.parse(name_of(files[0].name))
    except InvalidReferenceError as exc:
        return Unusable(title, exc.message)
    return FoundModel(title, reference, tuple(files), left_out)
