"""Quantize: a file of weights in another quantization, in the store's own place for new files."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from modelrunner.errors import UnsupportedArtifactError
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import read_header
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.naming import SHARD
from modelrunner.operations.convert.child import run_child
from modelrunner.operations.disk_space import require_room
from modelrunner.operations.model.contents import existing_file, refuse_other_formats, shard_files
from modelrunner.runtime.converters.quantizers import Job, Quantizer
from modelrunner.runtime.converters.recipes import Recipe, quantized_types, recipes
from modelrunner.store.stamps import hash_file
from modelrunner.store.store import Store
from modelrunner.text import file_text, with_article
from modelrunner.units import format_size

SOURCE = "vnd.modelrunner.quantized.from"
"""An annotation: digests of the files that a model was quantized from, with commas between."""
QUANTIZER = "vnd.modelrunner.quantized.by"
"""An annotation: the program that has quantized a model, and its version."""
QUANTIZATION = "vnd.modelrunner.quantized.to"
"""An annotation: the quantization that was asked for."""
MATRIX = "vnd.modelrunner.quantized.imatrix"
"""An annotation: the digest of the importance matrix."""

_GGUF = b"GGUF"
_PROGRESS = re.compile(r"\[\s*(?P<done>\d{1,9})/\s*(?P<total>\d{1,9})\]")


@dataclass(frozen=True, slots=True)
class Quantized:
    """Weights in another quantization.

    Attributes:
        file: The file; it is gone when the block ends in which it was made.
        name: The name that it gets.
        annotations: What it was made of, and by what.
    """

    file: Path
    name: str
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Quantization:
    """What is to be done, and how.

    Attributes:
        recipe: The quantization.
        quantizer: What does it.
        threads: How many threads compute.
        matrix: The file of an importance matrix.
        on_plan: Called with the name of the source and its bytes, before anything is done.
        on_progress: Called with the part that is done of a whole.
        warn: Takes warnings.
    """

    recipe: Recipe
    quantizer: Quantizer
    threads: int
    matrix: Path | None = None
    on_plan: Callable[[str, int], None] = field(default=lambda _name, _size: None)
    on_progress: Callable[[int, int], None] = field(default=lambda _done, _total: None)
    warn: Callable[[str], None] = field(default=lambda _line: None)


@contextmanager
def quantized(
    store: Store, weights: Path, wanted: Quantization, called: str | None = None
) -> Iterator[Quantized]:
    """The block in which a file of weights is there in another quantization.

    Nothing of it stays where this is interrupted, or ends in an error; what a killed process has
    left goes with the next one.

    Args:
        store: Where it is written to, so that it can become a blob without a copy.
        weights: The file, or any of its shards.
        wanted: What to do.
        called: The name of the weights, where that is not their file's.

    Raises:
        UsageError, MalformedGGUFError, UnsupportedArtifactError: The file is not a model in GGUF.
        DiskFullError: There is too little room.
        RuntimeFailedError: The quantizer failed.
    """
    shards = shard_files(weights)
    for path in shards:
        refuse_other_formats(path)
    headers = [read_header(path) for path in shards]
    kind = Metadata.from_header(headers[0], shards=headers[1:]).kind
    if kind != "model":
        raise UnsupportedArtifactError(
            f"{shards[0].name} is {with_article(kind)}, not a model",
            hint="quantize the model that it belongs to",
            kind=kind,
        )
    name, recipe = called or shards[0].name, wanted.recipe
    before = quantized_types(headers)
    if before:
        wanted.warn(
            f"{file_text(name)} is quantized already ({', '.join(before)}): quantizing it again"
            " loses more than quantizing the original weights"
        )
    matrix = {} if wanted.matrix is None else {MATRIX: str(_checked_matrix(wanted.matrix))}
    needed = recipe.bytes_of(headers)
    require_room(store.layout.root, needed, f"about {format_size(needed)} for {recipe.name}")
    wanted.on_plan(file_text(name), sum(path.stat().st_size for path in shards))
    with store.blobs.unnamed() as target:
        job = Job(
            source=shards[0],
            target=target,
            recipe=recipe,
            threads=wanted.threads,
            requantize=bool(before),
            matrix=wanted.matrix,
        )
        what = f"{wanted.quantizer.name} cannot quantize {file_text(name)}"
        said = run_child(wanted.quantizer.command(job), what, _PROGRESS, wanted.on_progress)
        version = "" if said.build is None else f" {said.build}"
        annotations = {
            SOURCE: ",".join(str(digest) for digest in _digests(shards)),
            QUANTIZER: f"{_public_name(wanted.quantizer)}{version}",
            QUANTIZATION: recipe.name,
            **matrix,
        }
        yield Quantized(target, new_name(file_text(name), recipe.name), annotations)


def new_name(name: str, quantization: str) -> str:
    """Return the name of a file in another quantization.

    `Granite-F16.gguf` in Q4_K_M is `Granite-Q4_K_M.gguf`, and `granite.gguf` is
    `granite-Q4_K_M.gguf`.
    """
    shard = re.fullmatch(SHARD, name)
    stem = shard["stem"] if shard is not None else re.sub(r"(?i)\.gguf$", "", name)
    known = sorted([*recipes(), "FP16", "FP32", "IQ2_M", "IQ2_XS"], key=len, reverse=True)
    words = "|".join(re.escape(each) for each in known)
    made = re.sub(rf"(?i)(?<=[-._])(?:{words})$", quantization, stem)
    return (
        f"{made if made != stem or stem.endswith(quantization) else f'{stem}-{quantization}'}.gguf"
    )


def _checked_matrix(path: Path) -> Digest:
    """Return the digest of an importance matrix.

    Raises:
        UsageError: It is not there.
        UnsupportedArtifactError: It is a GGUF file of another kind.
        MalformedGGUFError: It is a damaged one.
    """
    existing_file(path)
    # outside: a file that a person names
    with path.open("rb") as file:
        is_gguf = file.read(len(_GGUF)) == _GGUF
    # older ones have a format of their own, for the program to judge
    kind = Metadata.from_header(read_header(path)).kind if is_gguf else "imatrix"
    if kind != "imatrix":
        raise UnsupportedArtifactError(
            f"{file_text(path.name)} is {with_article(kind)}, not an importance matrix",
            hint="make one with llama.cpp's `llama-imatrix`",
            kind=kind,
        )
    return hash_file(path)


def _digests(shards: list[Path]) -> list[Digest]:
    return [hash_file(path) for path in shards]


def _public_name(quantizer: Quantizer) -> str:
    """What the program is called, without the directories of this machine."""
    return quantizer.name.rpartition("/")[2]
