"""CNCF ModelPack: known by its config, or by its artifact type."""

from modelrunner.oci import media_types
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.families.family import ArtifactFamily
from modelrunner.oci.model.layers import layer_of


def _recognizes(manifest: Manifest) -> bool:
    return (
        manifest.config.media_type == media_types.MODELPACK_CONFIG
        or manifest.artifact_type == media_types.MODELPACK_ARTIFACT
    )


MODELPACK = ArtifactFamily("modelpack", _recognizes, layer_of)
