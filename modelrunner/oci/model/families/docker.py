"""Docker's family: configs v0.1 and v0.2, with and without annotations of layers."""

from modelrunner.oci import media_types
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.families.family import ArtifactFamily
from modelrunner.oci.model.layers import layer_of

_CONFIGS = (media_types.DOCKER_CONFIG_V01, media_types.DOCKER_CONFIG_V02)


def _recognizes(manifest: Manifest) -> bool:
    return manifest.config.media_type in _CONFIGS


DOCKER = ArtifactFamily("docker", _recognizes, layer_of)
