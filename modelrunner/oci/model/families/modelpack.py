"""CNCF ModelPack, and the format of `modctl` before it: known by config, or by artifact type."""

from modelrunner.oci import media_types
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.families.family import ArtifactFamily
from modelrunner.oci.model.layers import layer_of

_CONFIGS = (media_types.MODELPACK_CONFIG, media_types.CNAI_CONFIG)
_ARTIFACTS = (media_types.MODELPACK_ARTIFACT, media_types.CNAI_ARTIFACT)


def _recognizes(manifest: Manifest) -> bool:
    return manifest.config.media_type in _CONFIGS or manifest.artifact_type in _ARTIFACTS


MODELPACK = ArtifactFamily("modelpack", _recognizes, layer_of)
