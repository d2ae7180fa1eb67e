"""The image around layers that hold a model's files: for each platform a config and a manifest.

A model is the same for all processors, but a runtime of containers asks an image which one it is
for. So there is an index of images that differ in that alone and share every layer. They have no
base: nothing in them can be started, they are mounted or copied from.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.image import Platform
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.modelcar.layer import FOLDER

PLATFORMS = (Platform("linux", "amd64"), Platform("linux", "arm64"))

_KIND = ("org.containers.type", "ai.image.model.raw")
"""By which Podman and RamaLama know the image of a model."""
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class About:
    """What an image says of its model.

    Attributes:
        title: What people call it.
        name: The full name of the model; None where no registry has it.
        digest: Its digest; None where no registry has it.
        facts: What is known of it, by short names such as `architecture`.
    """

    title: str
    name: str | None = None
    digest: Digest | None = None
    facts: Mapping[str, str | None] | None = None

    def to_dict(self) -> dict[str, str]:
        """Return labels, which are annotations too, by their names."""
        said = {
            _KIND[0]: _KIND[1],
            media_types.ANNOTATION_TITLE: self.title,
            f"{media_types.MODEL_LABELS}name": self.name,
            f"{media_types.MODEL_LABELS}digest": None if self.digest is None else str(self.digest),
        }
        facts = self.facts or {}
        said |= {f"{media_types.MODEL_LABELS}{key}": text for key, text in facts.items()}
        return {key: text for key, text in sorted(said.items()) if text}


class File(NamedTuple):
    """A file of the model: its path below `/models`, and the layer that holds it."""

    path: str
    digest: Digest
    size: int

    @property
    def descriptor(self) -> Descriptor:
        """The layer."""
        annotations = {media_types.ANNOTATION_PATH: self.path}
        return Descriptor(media_types.OCI_LAYER, self.digest, self.size, annotations)


class Image(NamedTuple):
    """An image for one platform: its manifest, and the bytes of its config."""

    platform: Platform
    manifest: Manifest
    config: bytes


def images(files: Sequence[File], about: About) -> tuple[Image, ...]:
    """Return the images of a model, one for each platform.

    Args:
        files: In the order of the layers.
        about: What is said of the model.
    """
    return tuple(_image(platform, files, about) for platform in PLATFORMS)


def index_of(made: Sequence[Image], about: About) -> Index:
    """Return the index that names images by their platforms."""
    entries = [
        {
            **image.manifest.descriptor.to_dict(),
            "platform": {"architecture": image.platform.architecture, "os": image.platform.os},
        }
        for image in made
    ]
    value = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": entries,
        "annotations": about.to_dict(),
    }
    named = tuple(image.manifest.descriptor for image in made)
    return Index(_json(value), media_types.OCI_INDEX, named)


def _image(platform: Platform, files: Sequence[File], about: About) -> Image:
    config = _json(
        {
            "created": _EPOCH,
            "architecture": platform.architecture,
            "os": platform.os,
            "config": {"Labels": about.to_dict()},
            "rootfs": {"type": "layers", "diff_ids": [str(file.digest) for file in files]},
            "history": [
                {"created": _EPOCH, "created_by": f"modelrunner: /{FOLDER}/{file.path}"}
                for file in files
            ],
        }
    )
    value = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": Descriptor(
            media_types.OCI_IMAGE_CONFIG, Digest.of(config), len(config)
        ).to_dict(),
        "layers": [file.descriptor.to_dict() for file in files],
        "annotations": about.to_dict(),
    }
    return Image(platform, Manifest.from_bytes(_json(value)), config)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
