"""What the layers of a model are for: by media type, and by file name where that says more.

ModelPack calls weights, projectors and adapters alike "weight"; there the name decides.
"""

from enum import StrEnum
from pathlib import PurePosixPath
from typing import NamedTuple

from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.model.formats import GGUF, SAFETENSORS, by_suffix, format_of
from modelrunner.oci.model.paths import annotated_path


class Role(StrEnum):
    """What a layer is for."""

    WEIGHTS = "weights"
    PROJECTOR = "projector"
    TEMPLATE = "template"
    LICENSE = "license"
    DOC = "doc"
    FILE = "file"
    ADAPTER = "adapter"
    UNKNOWN = "unknown"


_DOCKER_ROLES = {
    media_types.DOCKER_GGUF: Role.WEIGHTS,
    media_types.DOCKER_SAFETENSORS: Role.WEIGHTS,
    media_types.DOCKER_DDUF: Role.WEIGHTS,
    media_types.DOCKER_PROJECTOR: Role.PROJECTOR,
    media_types.DOCKER_PROJECTOR_SPEC: Role.PROJECTOR,
    media_types.DOCKER_TEMPLATE: Role.TEMPLATE,
    media_types.DOCKER_LICENSE: Role.LICENSE,
    media_types.DOCKER_FILE: Role.FILE,
    media_types.DOCKER_DIRECTORY: Role.FILE,
    media_types.DOCKER_VLLM_CONFIG: Role.FILE,
}
_DOCKER_FORMATS = {
    media_types.DOCKER_GGUF: GGUF,
    media_types.DOCKER_PROJECTOR: GGUF,
    media_types.DOCKER_PROJECTOR_SPEC: GGUF,
    media_types.DOCKER_SAFETENSORS: SAFETENSORS,
    media_types.DOCKER_DDUF: "dduf",
}
_LICENSE_WORDS = ("license", "licence", "copying", "notice")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.zst")


class Layer(NamedTuple):
    """One layer of a model.

    Attributes:
        descriptor: The blob.
        role: What it is for.
        path: Its place in the view, None where it has no name.
        format: The format of weights, an adapter or a projector, as far as the manifest says it.
        archived: Whether the blob is an archive of what the layer is for.
    """

    descriptor: Descriptor
    role: Role
    path: PurePosixPath | None
    format: str | None = None
    archived: bool = False


def layer_of(descriptor: Descriptor) -> Layer:
    """A layer of the families with typed layers, under the name that its annotations give it.

    Raises:
        MalformedManifestError: The name leaves its directory.
    """
    path = annotated_path(descriptor.annotations)
    media_type = descriptor.media_type
    if ".tar" in media_type and media_type.startswith(_TYPED):
        return _archive(descriptor, path)
    kind = _modelpack_kind(media_type)
    if kind is not None:
        return _modelpack_layer(descriptor, kind, path)
    role = _DOCKER_ROLES.get(media_type, Role.UNKNOWN)
    form = _DOCKER_FORMATS.get(media_type)
    if media_type.endswith((".lora", ".adapter")):
        role, form = Role.ADAPTER, GGUF
    if role is Role.WEIGHTS and form == GGUF and path and "mmproj" in path.name.lower():
        # whoever packs a folder gives every GGUF file the same type
        role = Role.PROJECTOR
    if role is Role.FILE:
        form = format_of(path)
    return Layer(descriptor, role, path, form)


_MODELPACK = (media_types.MODELPACK_PREFIX, media_types.CNAI_PREFIX)
_TYPED = (*_MODELPACK, media_types.DOCKER_PREFIX)


def plain_role(path: PurePosixPath) -> Role:
    """What a file without a type of its own is for, by its name; weights are for the format."""
    name = path.name.lower()
    if name.endswith(".jinja"):
        return Role.TEMPLATE
    is_text = path.suffix.lower() in ("", ".txt", ".md")
    is_license = is_text and any(name.startswith(word) for word in _LICENSE_WORDS)
    return Role.LICENSE if is_license else Role.FILE


def archive_name(path: PurePosixPath, media_type: str) -> PurePosixPath:
    """The name of an archive whose layer is named for what is in it."""
    if path.name.lower().endswith(_ARCHIVES):
        return path
    packed = next((end for word, end in _COMPRESSED if word in media_type), "")
    return path.with_name(f"{path.name[:200]}.tar{packed}")


_COMPRESSED = (("gzip", ".gz"), ("zstd", ".zst"))


def _archive(descriptor: Descriptor, path: PurePosixPath | None) -> Layer:
    media_type = descriptor.media_type
    weights = (_modelpack_kind(media_type) or "").startswith("weight.v1.")
    role = Role.WEIGHTS if weights else Role.FILE
    named = None if path is None else archive_name(path, media_type)
    return Layer(descriptor, role, named, format_of(path), archived=True)


def _modelpack_kind(media_type: str) -> str | None:
    """What ModelPack says of a layer, `weight.v1.raw` say; None where it is of another family."""
    prefix = next((each for each in _MODELPACK if media_type.startswith(each)), None)
    return None if prefix is None else media_type.removeprefix(prefix)


def _modelpack_layer(descriptor: Descriptor, kind: str, path: PurePosixPath | None) -> Layer:
    name = path.name.lower() if path else ""
    if kind.startswith("weight.v1."):
        ending = kind.removeprefix("weight.v1.")
        said = None if ending == "raw" else by_suffix(f".{ending}")
        form = said.name if said else format_of(path)
        if ending == GGUF or not name:
            form = form or GGUF
        if form == GGUF and "mmproj" in name:
            return Layer(descriptor, Role.PROJECTOR, path, form)
        return Layer(descriptor, Role.WEIGHTS, path, form)
    return Layer(descriptor, _modelpack_role(kind, name), path, format_of(path))


def _modelpack_role(kind: str, name: str) -> Role:
    if kind == "weight.config.v1.raw" and (name.endswith(".jinja") or "chat_template" in name):
        # tokenizer settings and the like are JSON; only a template is one
        return Role.FILE if name.endswith(".json") else Role.TEMPLATE
    if kind == "doc.v1.raw":
        return Role.LICENSE if any(word in name for word in _LICENSE_WORDS) else Role.DOC
    return Role.FILE if kind.endswith(".raw") else Role.UNKNOWN
