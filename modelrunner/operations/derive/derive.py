"""Derive: a model with the weights of another one, and settings or files of its own.

Nothing is copied: the new artifact names the same blobs, under a config of its own. It is of the
family of the other one, unless another is asked for, and what is not different stays as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from modelrunner.errors import UnsupportedArtifactError, UsageError
from modelrunner.gguf.metadata import Metadata
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import Family, ModelConfig
from modelrunner.oci.model.formats import GGUF
from modelrunner.oci.model.layers import Role, layer_of
from modelrunner.oci.reference import Reference
from modelrunner.operations.derive.revise import Revision, revised
from modelrunner.operations.model import headers
from modelrunner.operations.package.build_artifact import LAYER_TYPES, assemble, config_of
from modelrunner.operations.package.parts import (
    Part,
    free_name,
    layer_name,
    part_layer,
    require_projector,
)
from modelrunner.runtime import packaged
from modelrunner.runtime.settings import Value
from modelrunner.store.adopt import take
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_moment

_REPLACED = {"template": Role.TEMPLATE, "projector": Role.PROJECTOR}
"""Roles of which a model has one file."""

_FOR_ALL = {Role.FILE: "file", Role.DOC: "file"}
_TYPES: Mapping[Family, Mapping[str, str]] = {
    "docker": LAYER_TYPES["docker"] | {"file": media_types.DOCKER_FILE},
    "modelpack": LAYER_TYPES["modelpack"] | {"file": media_types.MODELPACK_WEIGHT_CONFIG},
}
_BEGINNING = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """What the new model has that the other has not.

    Attributes:
        settings: Settings that are advised for a launch, by their names.
        parts: Files: a template or a projector in place of the one that there is, licenses beside
            those that there are.
        family: Docker's artifact, or CNCF ModelPack's; None for that of the other model.
        annotations: Annotations of the manifest.
        created: The time in its config; None for that of the other model.
        from_headers: Whether the facts in its config are read from the headers of its files, as for
            a package that is made of files.
    """

    settings: Mapping[str, Value] = field(default_factory=dict)
    parts: Sequence[Part] = ()
    family: Family | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: datetime | None = None
    from_headers: bool = False


@dataclass(frozen=True, slots=True)
class Base:
    """A model that another one is made of, wherever it is.

    Attributes:
        artifact: Its manifest, understood.
        config: The bytes of its config.
        name: Its name, with its digest; None where it has none that others know.
        metadata: Reads what the headers of its weights say.
    """

    artifact: ModelArtifact
    config: bytes
    name: Reference | None
    metadata: Callable[[], Metadata]

    @classmethod
    def of_stored(cls, model: StoredModel, config: bytes) -> Self:
        """Return a model of the store; `config` are the bytes of its config."""
        name = _public_name(model)
        return cls(model.artifact, config, name, lambda: headers.of_stored(model).metadata)

    @property
    def annotations(self) -> Mapping[str, str]:
        """Annotations by which others find what a model was made of."""
        return _annotations(self.artifact.manifest.digest, self.name)


def base_annotations(model: StoredModel) -> Mapping[str, str]:
    """Return annotations by which others find the model that another one was made of."""
    return _annotations(model.digest, _public_name(model))


def _public_name(model: StoredModel) -> Reference | None:
    known = next((name for name in model.references if not name.is_local), None)
    return None if known is None else known.with_digest(model.digest)


def _annotations(digest: Digest, name: Reference | None) -> Mapping[str, str]:
    # the OCI image specification has them
    found = {media_types.ANNOTATION_BASE_DIGEST: str(digest)}
    if name is not None:
        found[media_types.ANNOTATION_BASE_NAME] = str(replace(name, digest=None))
    return found


def derive(
    store: Store, model: StoredModel, name: Reference, differences: Differences
) -> StoredModel:
    """Make a model of another one that is stored, and name it.

    Args:
        store: Where both are.
        model: The other one.
        name: The name of the new one.
        differences: What is not as there.

    Raises:
        UsageError: No artifact may bring one of the settings, or the family has no place for it.
        UnsupportedArtifactError: The other family has no place for what the model has.
        DiskFullError, StoreAccessError: It cannot be stored.
    """
    base = Base.of_stored(model, store.blobs.read(model.manifest.config))
    check(base, differences)
    with store.arriving():

        def arrived(part: Part) -> tuple[Digest, int]:
            if isinstance(part.content, Path):
                taken = take(store.blobs, part.content, way="copy")
                return taken.digest, taken.size
            digest, size = Digest.of(part.content), len(part.content)
            store.blobs.put(Descriptor("", digest, size), part.content)
            return digest, size

        manifest, raw = derived(base, name, differences, arrived)
        store.blobs.put(manifest.config, raw)
        return store.add(manifest, [name])


def check(base: Base, differences: Differences) -> None:
    """Accept what can be made.

    Raises:
        UsageError: No artifact may bring one of the settings, the family has no place for it, or
            a file is something else than it is given for.
        UnsupportedArtifactError: The other family has no place for what the model has.
    """
    packaged.checked(differences.settings)
    family = _family(base, differences)
    if family == "modelpack" and differences.settings:
        first = next(iter(differences.settings))
        named = "--context-size" if first == packaged.CONTEXT else f"cannot package {first}: it"
        raise UsageError(
            f"{named} is not supported by the ModelPack format",
            hint="use --format docker, or leave it out",
        )
    if family != base.artifact.family:
        _require_convertible(base)
    for part in differences.parts:
        if part.role == "projector" and isinstance(part.content, Path):
            require_projector(part.content, base.metadata(), "the model")


def derived(
    base: Base,
    name: Reference,
    differences: Differences,
    arrived: Callable[[Part], tuple[Digest, int]],
) -> tuple[Manifest, bytes]:
    """Return the manifest of the new model, and the bytes of its config.

    Args:
        base: The other model.
        name: The name of the new one.
        differences: What is not as there, see `check`.
        arrived: Returns the digest and the size of a part, once it is kept.
    """
    artifact, config = base.artifact, base.config
    family = _family(base, differences)
    if family != artifact.family or differences.from_headers:
        manifest, config = _converted(base, family, name)
        artifact = ModelArtifact.from_manifest(manifest)
    context = differences.settings.get(packaged.CONTEXT)
    moment = differences.created
    created = None if moment is None else format_moment(moment.astimezone(UTC))
    modified = created or artifact.config(config).created or _BEGINNING
    replaced = {_REPLACED[part.role] for part in differences.parts if part.role in _REPLACED}
    digests = {layer.descriptor.digest for layer in artifact.layers if layer.role in replaced}
    dropped = {
        number
        for number, layer in enumerate(artifact.manifest.layers)
        if layer.digest in digests and layer_of(layer).role in replaced
    }
    taken = {str(layer.path) for layer in artifact.layers if layer.role not in replaced}
    there = {(layer.descriptor.digest, layer.role.value) for layer in artifact.layers}
    added = []
    for part in differences.parts:
        digest, size = arrived(part)
        if part.role == "license" and (digest, part.role) in there:
            continue
        title = free_name(layer_name(part.name, part.role, family), taken)
        taken.add(title)
        added.append(part_layer(part, title, family, digest, size, modified))
    revision = Revision(
        # bounded: a setting that was checked
        context=None if context is None else int(context),
        settings=packaged.checked(differences.settings),
        created=created,
        dropped=dropped,
        added=added,
        # what is made anew of files is not made of an artifact
        annotations={
            **({} if differences.from_headers else base.annotations),
            **differences.annotations,
        },
    )
    return revised(artifact.manifest, config, revision)


def _family(base: Base, differences: Differences) -> Family:
    """The family of the new model; those that have no place for differences become Docker's."""
    own = base.artifact.family
    return differences.family or (own if own in _TYPES else "docker")


def _require_convertible(base: Base) -> None:
    artifact = base.artifact
    if artifact.format != GGUF or artifact.is_archived:
        what = "archives" if artifact.is_archived else artifact.format
        raise UnsupportedArtifactError(
            f"cannot convert an artifact of {what} to another format",
            hint="place its files with `modelrunner pull REF --output DIR`, and package the"
            " directory",
            format=artifact.format,
        )
    for layer in base.artifact.layers:
        if layer.role in (Role.ADAPTER, Role.UNKNOWN):
            what = "an adapter" if layer.role is Role.ADAPTER else "a layer of an unknown kind"
            raise UnsupportedArtifactError(
                f"cannot convert a model with {what} to another format",
                hint="leave out --format: the model keeps its own",
                layer=str(layer.descriptor.digest),
            )


def _converted(base: Base, family: Family, name: Reference) -> tuple[Manifest, bytes]:
    """The same model as an artifact of another family."""
    artifact, metadata = base.artifact, base.metadata()
    before = artifact.config(base.config)
    config: ModelConfig = replace(
        config_of(metadata, family, context_length=before.context_size),
        created=before.created,
        settings=before.settings if family == "docker" else {},
    )
    layers = []
    for layer in artifact.layers:
        role = _FOR_ALL.get(layer.role, layer.role.value)
        path = layer_name(str(layer.path), role, family)
        annotations = {
            **layer.descriptor.annotations,
            media_types.ANNOTATION_PATH: path,
            media_types.ANNOTATION_TITLE: path,
        }
        layers.append(
            replace(layer.descriptor, media_type=_TYPES[family][role], annotations=annotations)
        )
    return assemble(config, layers, metadata, name.repository)
