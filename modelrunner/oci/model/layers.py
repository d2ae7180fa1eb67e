"""What the layers of a model are for: by media type, and by file name where that says more.

ModelPack calls weights, projectors and adapters alike "weight"; there the name decides.
"""

from enum import StrEnum
from pathlib import PurePosixPath
from typing import NamedTuple

from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
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
    media_types.DOCKER_PROJECTOR: Role.PROJECTOR,
    media_types.DOCKER_PROJECTOR_SPEC: Role.PROJECTOR,
    media_types.DOCKER_TEMPLATE: Role.TEMPLATE,
    media_types.DOCKER_LICENSE: Role.LICENSE,
    media_types.DOCKER_FILE: Role.FILE,
    media_types.DOCKER_DIRECTORY: Role.FILE,
    media_types.DOCKER_VLLM_CONFIG: Role.FILE,
}


class Layer(NamedTuple):
    """One layer of a model; `path` is its place in the view, None where it has no name."""

    descriptor: Descriptor
    role: Role
    path: PurePosixPath | None


def layer_of(descriptor: Descriptor) -> Layer:
    """A layer under the name that its annotations give it.

    Raises:
        MalformedManifestError: The name leaves its directory.
    """
    path = annotated_path(descriptor.annotations)
    media_type = descriptor.media_type
    if media_type.startswith(media_types.MODELPACK_PREFIX):
        return Layer(descriptor, _modelpack_role(media_type, path), path)
    role = _DOCKER_ROLES.get(media_type, Role.UNKNOWN)
    if media_type.endswith((".lora", ".adapter")):
        role = Role.ADAPTER
    if role is Role.WEIGHTS and path is not None and "mmproj" in path.name.lower():
        # whoever packs a folder gives every GGUF file the same type
        role = Role.PROJECTOR
    return Layer(descriptor, role, path)


def _modelpack_role(media_type: str, path: PurePosixPath | None) -> Role:
    name = path.name.lower() if path else ""
    kind = media_type.removeprefix(media_types.MODELPACK_PREFIX)
    is_gguf = not name or name.endswith(".gguf")
    if kind == "weight.v1.gguf" or (kind == "weight.v1.raw" and is_gguf):
        return Role.PROJECTOR if "mmproj" in name else Role.WEIGHTS
    if kind == "weight.config.v1.raw" and (name.endswith(".jinja") or "chat_template" in name):
        # tokenizer settings and the like are JSON; only a template is one
        return Role.FILE if name.endswith(".json") else Role.TEMPLATE
    if kind == "doc.v1.raw":
        words = ("license", "licence", "copying", "notice")
        return Role.LICENSE if any(word in name for word in words) else Role.DOC
    return Role.FILE if kind.endswith(".raw") else Role.UNKNOWN
