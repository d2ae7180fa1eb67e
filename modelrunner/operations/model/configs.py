"""The config of a model: what it says that the manifest does not; one small blob, verified."""

from functools import partial

from modelrunner.errors import DigestMismatchError, SizeMismatchError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.model.families.image import config_says_model
from modelrunner.oci.reference import Reference
from modelrunner.registry.source import Source


def understood(
    manifest: Manifest | Index, config: bytes | None, *, known: bool = False
) -> ModelArtifact:
    """Accept the manifest of a model, or of an image whose config says that it has one.

    Args:
        manifest: It.
        config: The config of an image, None where it has not come yet.
        known: Whether a person has said so.

    Raises:
        UnsupportedArtifactError: It is something else.
    """
    image = isinstance(manifest, Manifest) and manifest.is_image
    return ModelArtifact.from_manifest(
        manifest, image=image and (known or config is None or config_says_model(config))
    )


def of_remote(source: Source, reference: Reference, artifact: ModelArtifact) -> ModelConfig:
    """What the config of a model in a registry says.

    Raises:
        IntegrityError: It is not what the manifest promises.
        TransferError: The registry does not deliver.
    """
    raw = raw_of_remote(source, reference, artifact.manifest.config)
    return artifact.config(raw, partial(raw_of_remote, source, reference))


def raw_of_remote(source: Source, reference: Reference, descriptor: Descriptor) -> bytes:
    """Return a config, or another small blob, in a registry as it is.

    Raises:
        IntegrityError: It is not what the manifest promises.
        TransferError: The registry does not deliver.
    """
    if descriptor.size > MAX_BYTES:
        raise SizeMismatchError(f"{reference.short}: the config has {descriptor.size} bytes")
    found = bytearray()
    with source.open_blob(reference, descriptor, 0) as stream:
        for chunk in stream.chunks:
            found += chunk
            if len(found) > descriptor.size:
                break
    raw = bytes(found)
    if Digest.of(raw) != descriptor.digest:
        raise DigestMismatchError(
            f"{reference.short}: the config does not match its digest in the manifest",
            expected=str(descriptor.digest),
            got=str(Digest.of(raw)),
        )
    return raw
