"""Files that were pushed as they are: by `oras push`, `podman artifact add` and the like.

They have titles, any media type (`oras` calls a file a tar archive where no type is given)
and any config, an empty one most often. They are a model where one of them is weights; files
that were chosen out of a repository are delivered without any, too.
"""

from pathlib import PurePosixPath

from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.families.family import ArtifactFamily
from modelrunner.oci.model.formats import GGUF, SAFETENSORS, format_of
from modelrunner.oci.model.layers import Layer, Role, archive_name, plain_role
from modelrunner.oci.model.paths import annotated_path
from modelrunner.oci.model.unsupported import is_of_others

_IMAGES = (media_types.OCI_IMAGE_CONFIG, media_types.DOCKER_IMAGE_CONFIG)
_NAMES = (media_types.ANNOTATION_PATH, media_types.ANNOTATION_TITLE)


def _recognizes(manifest: Manifest) -> bool:
    if manifest.artifact_type == media_types.FILES_ARTIFACT:
        return True
    if is_of_others(manifest):
        return False
    is_image = manifest.config.media_type in _IMAGES
    # layers of images are archives, whatever they are called
    layers = [layer for layer in manifest.layers if not (is_image and ".tar" in layer.media_type)]
    return any(map(_speaks_of_weights, layers))


def _speaks_of_weights(descriptor: Descriptor) -> bool:
    """Whether a layer is weights, be its name one to be trusted or not."""
    names = (descriptor.annotations.get(key, "") for key in _NAMES)
    given = next(filter(None, names), "")
    return _typed_format(descriptor) is not None or format_of(PurePosixPath(given)) is not None


def _typed_format(descriptor: Descriptor) -> str | None:
    media_type = descriptor.media_type.lower()
    return next((form for form in (GGUF, SAFETENSORS) if form in media_type), None)


def _layer_of(descriptor: Descriptor) -> Layer:
    path = annotated_path(descriptor.annotations)
    if path is not None and descriptor.annotations.get(media_types.ANNOTATION_UNPACK) == "true":
        named = archive_name(path, descriptor.media_type)
        return Layer(descriptor, Role.FILE, named, archived=True)
    form = format_of(path) or _typed_format(descriptor)
    if form is not None:
        is_projector = form == GGUF and path is not None and "mmproj" in path.name.lower()
        return Layer(descriptor, Role.PROJECTOR if is_projector else Role.WEIGHTS, path, form)
    if path is None:
        return Layer(descriptor, Role.UNKNOWN, None)
    return Layer(descriptor, plain_role(path), path)


FILES_FAMILY = ArtifactFamily("files", _recognizes, _layer_of, one_model=False, typed_config=False)
