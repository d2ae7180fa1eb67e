"""What the files of an artifact contain, compared with what its manifest says of them."""

from pathlib import Path

from modelrunner.disk.inside import open_content
from modelrunner.errors import (
    IntegrityError,
    MalformedGGUFError,
    UnsupportedArtifactError,
    UsageError,
)
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.formats import GGUF, by_suffix
from modelrunner.oci.model.layers import Layer, Role
from modelrunner.oci.model.naming import shard_names
from modelrunner.store.blobs import BlobStore
from modelrunner.store.views import require_names

_MAGIC = b"GGUF"
_GGUF_ROLES = (Role.WEIGHTS, Role.PROJECTOR, Role.ADAPTER)
_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"(\xb5/\xfd", "a zstd archive"),
    (b"ggml", "a file in llama.cpp's old GGML format"),
    (b"ggjt", "a file in llama.cpp's old GGML format"),
    (b"lmgg", "a file in llama.cpp's old GGML format"),
    (b"tjgg", "a file in llama.cpp's old GGML format"),
    (b"fmgg", "a file in llama.cpp's old GGML format"),
)
_NEVER = (b"version https://git-lfs", b"<!DOCTYPE", b"<html")
_TAR = (257, b"ustar")
_SAFETENSORS = (8, b"{")
_SAFETENSORS_NAME = "a safetensors file"
_FRONT = 512


def require_weights(blobs: BlobStore, name: str, layer: Layer) -> None:
    """Accept a layer whose blob is in the store, if it may be what the manifest says.

    What is said to be GGUF has to be that; weights of other formats must not be what stands in
    the place of a file that was not downloaded.

    Args:
        blobs: Where the blob is.
        name: What people call the model.
        layer: The layer.

    Raises:
        MalformedGGUFError: It should be GGUF, and is something else.
        IntegrityError: It is a Git LFS pointer or a web page.
    """
    if layer.role not in _GGUF_ROLES or layer.archived:
        return
    path = blobs.path(layer.descriptor.digest)
    with open_content(path) as file:
        front = file.content(_FRONT)
    what = f"{name}: {layer.path or layer.role}"
    if layer.format != GGUF:
        if front.startswith(_NEVER):
            raise IntegrityError(
                f"{what} is {_named(front)}, not weights",
                hint="the artifact is broken: report it to its publisher",
                digest=str(layer.descriptor.digest),
            )
        return
    if not front.startswith(_MAGIC):
        found = _named(front)
        raise MalformedGGUFError(
            f"{what} is not a GGUF file{f' but {found}' if found else ''}",
            hint="the artifact is broken: report it to its publisher",
            digest=str(layer.descriptor.digest),
        )


def require_unpacked(blobs: BlobStore, name: str, artifact: ModelArtifact) -> None:
    """Unpack the archives of a model, and accept what comes out of them as of any other.

    Raises:
        IntegrityError: An archive is damaged or hostile, or a file in it is not what it should be.
        UnsupportedArtifactError: There is no model in it.
        DiskFullError, StoreAccessError: It cannot be written.
    """
    # few models have archives, and this loads what decompresses
    from modelrunner.store.unpacked.unpack import unpack_model

    found = unpack_model(blobs.layout, artifact)
    require_names(blobs.layout, found)
    for layer in found.layers:
        require_weights(blobs, name, layer)


def refuse_other_formats(path: Path) -> None:
    """Accept a file that a person gives as a model, unless it is one of another format.

    Raises:
        UnsupportedArtifactError: It is; the message says which, the hint what runs it.
    """
    try:
        with open_content(path) as file:
            front = file.content(_FRONT)
    except OSError:
        # whoever reads all of it says why it cannot
        return
    if front.startswith(_MAGIC):
        return
    suffix = path.suffix.lower()
    if _named(front) == _SAFETENSORS_NAME:
        suffix = ".safetensors"
    found = by_suffix(suffix)
    if found is not None:
        raise UnsupportedArtifactError(
            f"{path}: the weights are {found.what}, which llama.cpp does not read",
            hint=f"{found.runs}; `modelrunner search NAME` finds models in GGUF",
            format=suffix.lstrip("."),
        )


def _named(front: bytes) -> str | None:
    """What a file is, by how it begins."""
    for beginning, name in _BEGINNINGS:
        if front.startswith(beginning):
            return name
    if front[_TAR[0] :].startswith(_TAR[1]):
        return "a tar archive"
    if front[_SAFETENSORS[0] :].startswith(_SAFETENSORS[1]):
        return _SAFETENSORS_NAME
    return None if front.strip(b"\0") else "empty or zeros"


def shard_files(weights: Path) -> list[Path]:
    """The file, or all shards of the set that it belongs to, in order.

    Raises:
        UsageError: A file is not there.
        MalformedGGUFError: A shard of the set is not there.
    """
    names = shard_names(weights.name)
    if names is None:
        return [existing_file(weights)]
    paths = [weights.with_name(name) for name in names]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise MalformedGGUFError(
            f"{len(missing)} of {len(paths)} shards of {weights.name} not found: "
            f"{', '.join(missing[:3])}",
            hint="put all shards into one directory and name any of them",
        )
    return paths


def existing_file(path: Path) -> Path:
    """Return the path of a file that is there.

    Raises:
        UsageError: It is not, or is a directory.
    """
    if not path.is_file():
        raise UsageError(
            f"{path} is a directory, not a file" if path.is_dir() else f"{path}: file not found",
            hint="name a GGUF file" + (" in it" if path.is_dir() else ", or check the path"),
        )
    return path
