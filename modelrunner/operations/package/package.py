"""Package: GGUF files into an artifact in the store, in either family.

The facts of the config come from the file's own header. Weights are filed as they are, one layer a
shard, never compressed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath

from modelrunner.errors import UnsupportedArtifactError, UsageError
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import read_header
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.model.config import Family
from modelrunner.oci.reference import Reference
from modelrunner.operations.disk_space import require_room_for_copies
from modelrunner.operations.model.contents import existing_file, refuse_other_formats, shard_files
from modelrunner.operations.package.build_artifact import LAYER_TYPES, assemble, config_of
from modelrunner.operations.package.parts import file_layer, layer_name, require_projector
from modelrunner.runtime import packaged
from modelrunner.runtime.settings import Value
from modelrunner.store.adopt import TakenFile, Way, take
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.views import require_name
from modelrunner.text import file_text, with_article
from modelrunner.units import format_moment


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What goes into an artifact.

    Attributes:
        weights: The file of the weights, or any of its shards.
        licenses: Texts of licenses.
        projector: The file of a projector.
        template: The file of a chat template.
        context_length: The context to use; None for the trained one.
        settings: Settings that are advised for a launch, by their names.
        weights_name: The name that the weights get; None for that of their file.
        annotations: Annotations of the manifest.
    """

    weights: Path
    licenses: Sequence[Path] = ()
    projector: Path | None = None
    template: Path | None = None
    context_length: int | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)
    weights_name: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


def package(
    store: Store,
    ingredients: Ingredients,
    reference: Reference,
    *,
    family: Family,
    created: datetime,
    way: Way = "copy",
) -> StoredModel:
    """Makes an artifact and names it.

    Args:
        store: Where it goes.
        ingredients: The files.
        reference: Its name.
        family: Docker's artifact, or CNCF ModelPack's.
        created: The time in its config: the same files and time give the same digest.
        way: How the files come into the store.

    Raises:
        MalformedGGUFError: A file is not a GGUF, or shards are missing.
        UsageError: A file is not there, or is something else than it is given for; or the family
            has no place for a setting, or no artifact may bring it; or there can be no link.
        DiskFullError, StoreAccessError: It cannot be stored.
    """
    if reference.digest is not None:
        raise UsageError(
            f"{reference.short}: cannot package under a digest",
            hint="use a tag: NAMESPACE/NAME:TAG",
        )
    if family == "modelpack" and ingredients.context_length is not None:
        raise UsageError(
            "--context-size is not supported by the ModelPack format",
            hint="use --format docker, or leave out --context-size",
        )
    if family == "modelpack" and ingredients.settings:
        first = next(iter(ingredients.settings))
        raise UsageError(
            f"cannot package {first}: settings are not supported by the ModelPack format",
            hint="use --format docker, or leave the setting out",
        )
    advised = packaged.checked(ingredients.settings)
    shards = shard_files(ingredients.weights)
    for path in shards:
        refuse_other_formats(path)
    metadata = _metadata(shards, ingredients)
    config = config_of(
        metadata,
        family,
        created=created,
        context_length=ingredients.context_length,
        settings=advised,
    )
    with store.arriving():
        names = _Names(family)
        parts = _parts(ingredients, shards)
        called = ingredients.weights_name
        titles = [
            names.of(path, role, called if role == "weights" else None) for role, path in parts
        ]
        for title in titles:
            require_name(title)
        sizes = [path.stat().st_size for _role, path in parts]
        layers = [
            _file(
                partial(
                    take,
                    store.blobs,
                    way=way,
                    before_copy=partial(require_room_for_copies, store, sum(sizes[number:])),
                ),
                path,
                titles[number],
                role,
                family,
                created,
            )
            for number, (role, path) in enumerate(parts)
        ]
        manifest, raw = assemble(
            config, layers, metadata, reference.repository, ingredients.annotations
        )
        store.blobs.put(manifest.config, raw)
        return store.add(manifest, [reference])


def _metadata(shards: Sequence[Path], ingredients: Ingredients) -> Metadata:
    headers = [read_header(path) for path in shards]
    metadata = Metadata.from_header(headers[0], shards=headers[1:])
    if metadata.kind == "projector":
        raise UsageError(
            f"{shards[0].name} is a projector, not a model",
            hint="give it with --mmproj, together with its model",
        )
    if metadata.kind != "model":
        raise UnsupportedArtifactError(
            f"{shards[0].name} is {with_article(metadata.kind)}, not a model",
            hint="name the model that it belongs to",
            kind=metadata.kind,
        )
    if ingredients.projector is not None:
        require_projector(ingredients.projector, metadata, shards[0].name)
    return metadata


def _parts(ingredients: Ingredients, shards: Sequence[Path]) -> list[tuple[str, Path]]:
    parts = [("weights", path) for path in shards]
    if ingredients.projector is not None:
        parts.append(("projector", ingredients.projector))
    if ingredients.template is not None:
        parts.append(("template", existing_file(ingredients.template)))
    return [*parts, *(("license", existing_file(path)) for path in ingredients.licenses)]


class _Names:
    """The names of an artifact's files: two files of one name in two directories get two."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._taken: dict[str, Path] = {}

    def of(self, path: Path, role: str, called: str | None = None) -> str:
        """The name of a file, by which readers of the family find its role too."""
        given = called or file_text(path.name)
        name = PurePosixPath(layer_name(given, role, self._family))
        free, number = name, 1
        while self._taken.setdefault(str(free), path) != path:
            number += 1
            free = name.with_stem(f"{name.stem}-{number}")
        return str(free)


def _file(
    bring: Callable[[Path], TakenFile],
    path: Path,
    name: str,
    role: str,
    family: Family,
    created: datetime,
) -> Descriptor:
    taken = bring(path)
    moment = format_moment(created.astimezone(UTC))
    return file_layer(LAYER_TYPES[family][role], name, taken.digest, taken.size, moment)
