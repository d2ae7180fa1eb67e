"""A model at a source: its manifest, found in an index too.

An index (a manifest list of Docker's) names manifests, of platforms most often. The one that is a
model counts, whatever platform it is said to be for: weights have none. Attestations are not
models.
"""

from collections.abc import Iterator

from modelrunner.errors import (
    IntegrityError,
    ManifestNotFoundError,
    ModelRunnerError,
    UnsupportedArtifactError,
)
from modelrunner.frozen import replace
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.configs import raw_of_remote
from modelrunner.registry.source import Source
from modelrunner.text import sanitize_line
from modelrunner.units import counted, format_size

MAX_MANIFESTS = 32
"""Manifests of one index that are looked at."""

MAX_NESTING = 3
_IMAGES = 4
"""Images of one index whose configs are looked at."""

_SHOWN = 6


class _Findings:
    """What an index has: models, and why the rest is none."""

    def __init__(self) -> None:
        self.models: list[ModelArtifact] = []
        self.images: list[Manifest] = []
        self.errors: list[ModelRunnerError] = []
        self.looked_at = 0


def artifact_at(
    source: Source, reference: Reference, manifest: Manifest | Index | None = None
) -> ModelArtifact:
    """The model that a reference names, be it by an index; its own manifest says its digest.

    Args:
        source: Where it is.
        reference: Its name.
        manifest: What it names, where that was downloaded already.

    Raises:
        UnsupportedArtifactError: It is not a model; or an index of none, or of several.
        MalformedManifestError: As with `ModelArtifact.from_manifest`.
        ManifestNotFoundError, AccessError, TransferError: The source does not deliver.
    """
    manifest = manifest or source.manifest(reference)
    if not isinstance(manifest, Index):
        return _understood(source, reference, manifest)
    found = _Findings()
    _look(source, reference, manifest, found, 0)
    if not found.models:
        found.models = [
            _as_image(reference, image)
            for image in found.images[:_IMAGES]
            if _says_model(source, reference, image)
        ]
    several = {tuple(layer.digest for layer in model.manifest.layers) for model in found.models}
    if len(several) == 1:
        return found.models[0]
    count = counted(len(manifest.manifests), "manifest")
    digests = [str(entry.digest) for entry in manifest.manifests[:20]]
    if not found.models:
        first = found.errors[0] if found.errors else None
        why = f", none of them a model: {first.message}" if first else ""
        usual = "name a model manifest by digest, or pull a multi-platform image with `docker pull`"
        raise UnsupportedArtifactError(
            f"this is an index of {count}{why}",
            hint=(first and first.hint) or usual,
            manifests=digests,
        )
    shown = ", ".join(_described(reference, model) for model in found.models[:_SHOWN])
    raise UnsupportedArtifactError(
        f"this is an index of {count}, and {len(found.models)} of them are models",
        hint=f"name the one you want by digest: {shown}",
        manifests=[str(model.manifest.digest) for model in found.models],
    )


def _look(source: Source, reference: Reference, index: Index, found: _Findings, depth: int) -> None:
    for entry in _candidates(index):
        if found.looked_at >= MAX_MANIFESTS:
            return
        found.looked_at += 1
        manifest = None
        try:
            manifest = source.manifest(reference.with_digest(entry.digest))
            if not isinstance(manifest, Index):
                found.models.append(
                    ModelArtifact.from_manifest(
                        manifest, _for_others(reference), image=reference.image
                    )
                )
            elif depth < MAX_NESTING:
                _look(source, reference, manifest, found, depth + 1)
        except (UnsupportedArtifactError, ManifestNotFoundError, IntegrityError) as exc:
            found.errors.append(exc)
            if isinstance(manifest, Manifest) and manifest.is_image:
                found.images.append(manifest)


def _understood(source: Source, reference: Reference, manifest: Manifest) -> ModelArtifact:
    """A manifest as a model; of an image, its config may say that there is one in it."""
    name = _for_others(reference)
    try:
        return ModelArtifact.from_manifest(manifest, name, image=reference.image)
    except UnsupportedArtifactError:
        if not (manifest.is_image and _says_model(source, reference, manifest)):
            raise
        return _as_image(reference, manifest)


def _as_image(reference: Reference, manifest: Manifest) -> ModelArtifact:
    return ModelArtifact.from_manifest(manifest, _for_others(reference), image=True)


def _says_model(source: Source, reference: Reference, image: Manifest) -> bool:
    """Whether the config of an image says that there is a model in it."""
    # few look into images
    from modelrunner.oci.model.families.image import config_says_model

    return config_says_model(raw_of_remote(source, reference, image.config))


def _for_others(reference: Reference) -> str:
    """The reference as other programs take it: in full, by its tag where it has one."""
    return str(replace(reference, digest=None) if reference.tag else reference)


def _candidates(index: Index) -> Iterator[Descriptor]:
    for entry in index.manifests:
        known = entry.media_type in (*media_types.MANIFESTS, *media_types.INDEXES)
        if known and media_types.ANNOTATION_ATTESTATION not in entry.annotations:
            yield entry


def _described(reference: Reference, model: ModelArtifact) -> str:
    name = sanitize_line(reference.short.partition("@")[0].rpartition(":")[0], 120)
    size = format_size(model.manifest.total_bytes)
    what = model.format if model.main is None else model.main.path
    return f"{name}@{model.manifest.digest} ({what}, {size})"
