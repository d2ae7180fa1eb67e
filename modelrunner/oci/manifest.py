"""Manifests and indexes: raw bytes and what they say, side by side.

Only the raw bytes have the digest, so they are kept as they came; a manifest of ours is made by
`Manifest.build` and is then read back like anybody's.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

from modelrunner.errors import MalformedManifestError
from modelrunner.frozen import field, frozen
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor, annotations_of
from modelrunner.oci.digest import Digest
from modelrunner.wire import parse_document

MAX_BYTES = 4 * 1024 * 1024
"""The distribution specification lets registries refuse manifests beyond 4 MiB."""
_MAX_LAYERS = 10_000
_LAYER = (
    r"application/vnd\.oci\.image\.layer\.v1\.tar(?:\+gzip|\+zstd)?"
    r"|application/vnd\.docker\.image\.rootfs\.diff\.tar(?:\.gzip|\.zstd)?"
)
_HALF_CHARACTER = r"\\u[dD][89a-fA-F]"


@frozen
class Manifest:
    """An OCI image manifest, or Docker's of the same shape."""

    raw: bytes = field(repr=False)
    media_type: str
    artifact_type: str | None
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(hash=False)

    @classmethod
    def build(
        cls,
        config: Descriptor,
        layers: Sequence[Descriptor],
        *,
        artifact_type: str | None = None,
        subject: Descriptor | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Self:
        """A manifest of ours, in one canonical spelling.

        Args:
            config: Its config.
            layers: Its layers, in their order.
            artifact_type: What it is, where the config does not say.
            subject: The manifest that it refers to.
            annotations: What is said of it.
        """
        value: dict[str, Any] = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST}
        if artifact_type is not None:
            value["artifactType"] = artifact_type
        value["config"] = config.to_dict()
        value["layers"] = [layer.to_dict() for layer in layers]
        if subject is not None:
            value["subject"] = subject.to_dict()
        if annotations:
            value["annotations"] = dict(annotations)
        return cls.from_bytes(json.dumps(value, separators=(",", ":")).encode())

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Reads a manifest.

        Raises:
            MalformedManifestError: It is too large, no JSON, or no manifest.
        """
        manifest = parse_manifest(raw)
        if not isinstance(manifest, cls):
            raise MalformedManifestError("expected a manifest, got an index")
        return manifest

    @property
    def digest(self) -> Digest:
        """The digest of the raw bytes: the model's ID."""
        return Digest.of(self.raw)

    @property
    def descriptor(self) -> Descriptor:
        """The manifest as an index names it."""
        return Descriptor(self.media_type, self.digest, len(self.raw))

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each digest once."""
        return tuple({entry.digest: entry for entry in (self.config, *self.layers)}.values())

    @property
    def is_image(self) -> bool:
        """Whether it is of a container image: by its config, and all its layers are archives."""
        known = self.config.media_type in media_types.IMAGE_CONFIGS
        return known and bool(self.layers) and self.other_layer is None

    @property
    def other_layer(self) -> Descriptor | None:
        """The first layer that is not one of an image; None where all are."""
        others = (entry for entry in self.layers if not re.fullmatch(_LAYER, entry.media_type))
        return next(others, None)

    @property
    def total_bytes(self) -> int:
        """What all blobs take on disk."""
        return sum(entry.size for entry in self.blobs)


@frozen
class Index:
    """A list of manifests: one name, several images."""

    raw: bytes = field(repr=False)
    media_type: str
    manifests: tuple[Descriptor, ...]

    @property
    def digest(self) -> Digest:
        """The digest of its bytes."""
        return Digest.of(self.raw)


def parse_manifest(raw: bytes, content_type: str | None = None) -> Manifest | Index:
    """Reads whatever a registry keeps under a tag; `content_type` decides where the bytes do not.

    Raises:
        MalformedManifestError: It is too large, no JSON, or neither a manifest nor an index.
    """
    value = parse_json(raw, "the manifest")
    _check_schema(value)
    media_type = _text(value, "mediaType") or (content_type or "").split(";")[0].strip()
    if media_type in media_types.INDEXES or ("manifests" in value and "config" not in value):
        _refuse_both(value, "config", "layers")
        return Index(raw, media_type or media_types.OCI_INDEX, _entries(value, "manifests", {}))
    if "config" not in value:
        raise MalformedManifestError("the manifest has no config")
    _refuse_both(value, "manifests")
    config = Descriptor.from_dict(value["config"], "the config")
    return Manifest(
        raw,
        media_type if media_type in media_types.MANIFESTS else media_types.OCI_MANIFEST,
        _text(value, "artifactType"),
        config,
        _entries(value, "layers", {config.digest: config.size}),
        annotations_of(value, "the manifest"),
    )


def parse_json(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object of bounded size.

    Raises:
        MalformedManifestError: Too large, no JSON, nested beyond reason, or no object.
    """
    if len(raw) > MAX_BYTES:
        raise MalformedManifestError(f"{what} has {len(raw)} bytes, more than {MAX_BYTES}")
    try:
        text = raw.decode()
        value = parse_document(text)
        if "\\u" in text and re.search(_HALF_CHARACTER, text):
            # half a surrogate pair: no text that a file, a terminal or JSON could take
            json.dumps(value, ensure_ascii=False).encode()
    except ValueError as exc:
        raise MalformedManifestError(f"{what} is not JSON") from exc
    if not isinstance(value, dict):
        raise MalformedManifestError(f"{what} is not a JSON object")
    return value


def _check_schema(value: Mapping[str, Any]) -> None:
    version = value.get("schemaVersion")
    if version != 2:  # noqa: PLR2004
        said = version if isinstance(version, int) else "none"
        raise MalformedManifestError(
            f"unsupported schema version of the manifest: expected 2, got {said!s:.20}"
        )


def _refuse_both(value: Mapping[str, Any], *others: str) -> None:
    # the image specification asks for this: two readers would see two different things
    if any(value.get(other) is not None for other in others):
        raise MalformedManifestError("invalid manifest: it is both an index and an image")


def _text(value: Mapping[str, Any], key: str) -> str | None:
    text = value.get(key)
    if text is not None and not isinstance(text, str):
        raise MalformedManifestError(f"the manifest's {key} must be a string")
    return text or None


def _entries(
    value: Mapping[str, Any], key: str, sized: dict[Digest, int]
) -> tuple[Descriptor, ...]:
    entries = value.get(key) or []
    if not isinstance(entries, list) or len(entries) > _MAX_LAYERS:
        raise MalformedManifestError(
            f"the manifest's {key} must be a list of at most {_MAX_LAYERS} entries"
        )
    noun = key.removesuffix("s")
    found = []
    for number, entry in enumerate(entries, start=1):
        descriptor = Descriptor.from_dict(entry, f"{noun} {number}")
        if sized.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise MalformedManifestError(
                f"{noun} {number}: two different sizes for {descriptor.digest.short}"
            )
        found.append(descriptor)
    return tuple(found)
