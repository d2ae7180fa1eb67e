"""The families, in the order in which a manifest is looked at."""

from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.families.docker import DOCKER
from modelrunner.oci.model.families.family import ArtifactFamily
from modelrunner.oci.model.families.modelpack import MODELPACK

# late imports: most models are of the first family


def family_of(manifest: Manifest, *, image: bool = False) -> ArtifactFamily | None:
    """The family that a manifest is of, None where it is not a model.

    Args:
        manifest: It.
        image: Whether an image is known to have a model in it, whatever its manifest says.
    """
    if image and manifest.is_image:
        from modelrunner.oci.model.families.image import IMAGE_FAMILY

        return IMAGE_FAMILY
    for family in (DOCKER, MODELPACK):
        if family.recognizes(manifest):
            return family
    return next((family for family in _others() if family.recognizes(manifest)), None)


def _others() -> tuple[ArtifactFamily, ...]:
    from modelrunner.oci.model.families.files import FILES_FAMILY
    from modelrunner.oci.model.families.image import IMAGE_FAMILY
    from modelrunner.oci.model.families.kitops import KITOPS_FAMILY
    from modelrunner.oci.model.families.ollama import OLLAMA_FAMILY

    return OLLAMA_FAMILY, KITOPS_FAMILY, IMAGE_FAMILY, FILES_FAMILY
