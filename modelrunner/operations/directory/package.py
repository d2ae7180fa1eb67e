"""A directory as an artifact: a layer for each file, in Docker's family or in CNCF ModelPack's.

Docker's family has config v0.2 then, as Docker Model Runner writes it for directories of
safetensors: each layer says the path of its file. A single file of another format than GGUF is
packaged as a directory that has nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath

from modelrunner.disk.files import disk_errors
from modelrunner.disk.inside import open_content
from modelrunner.errors import UnsupportedArtifactError, UsageError
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import Family, ModelConfig
from modelrunner.oci.model.formats import ADAPTER, FILES, format_of
from modelrunner.oci.model.layers import Role, plain_role
from modelrunner.oci.reference import Reference
from modelrunner.operations.derive.revise import go_json
from modelrunner.operations.directory.facts import Facts, docker_config, facts_of
from modelrunner.operations.directory.scan import FoundFile, Scanned, scan
from modelrunner.operations.disk_space import require_room_for_copies
from modelrunner.operations.model.contents import existing_file
from modelrunner.operations.package.package import Ingredients
from modelrunner.operations.package.parts import file_layer, free_name
from modelrunner.runtime import packaged
from modelrunner.runtime.settings import Value
from modelrunner.store.adopt import Way, take
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.views import require_name
from modelrunner.text import file_text, sanitize_line
from modelrunner.units import format_moment

_DOCKER_WEIGHTS = {
    "gguf": media_types.DOCKER_GGUF,
    "safetensors": media_types.DOCKER_SAFETENSORS,
    "dduf": media_types.DOCKER_DDUF,
}
_CODE = frozenset({".py", ".sh", ".ipynb", ".c", ".cc", ".cpp", ".cu", ".h", ".js", ".ts", ".rs"})
_DOCS = frozenset({".md", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".html"})
_GGUF_MAGIC = b"GGUF"
_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class PackagedDirectory:
    """What became of a directory.

    Attributes:
        model: The model.
        left_out: Names of what is not in it.
    """

    model: StoredModel
    left_out: Sequence[str]


def is_directory_like(path: Path) -> bool:
    """Whether what was named is packaged as a directory: it is one, or a file of another format."""
    if path.is_dir():
        return True
    if format_of(PurePosixPath(file_text(path.name))) in (None, "gguf") or not path.is_file():
        return False
    with disk_errors(path), open_content(path) as file:
        # a GGUF file may have any name
        return file.content(len(_GGUF_MAGIC)) != _GGUF_MAGIC


def package_directory(
    store: Store,
    ingredients: Ingredients,
    reference: Reference,
    *,
    family: Family,
    created: datetime,
    way: Way = "copy",
) -> PackagedDirectory:
    """Make an artifact of a directory, and name it.

    Args:
        store: Where it goes.
        ingredients: The directory as the weights, and what goes in beside it.
        reference: Its name.
        family: Docker's artifact, or CNCF ModelPack's.
        created: The time in its config: the same files and time give the same digest.
        way: How the files come into the store.

    Raises:
        UsageError: It has no weights, or something that cannot be packaged; or the family has no
            place for a setting.
        MalformedManifestError, MalformedGGUFError: Weights are not what their names say.
        DiskFullError, StoreAccessError: It cannot be stored.
    """
    _require_combinable(ingredients, reference, family)
    advised = packaged.checked(ingredients.settings)
    scanned = _scanned(ingredients.weights)
    files = _with_parts(scanned.files, ingredients)
    types = _types(files, family)
    artifact = _understood(files, types, family, ingredients.weights)
    facts = facts_of(artifact, files)
    moment = format_moment(created.astimezone(UTC))
    for file in files:
        require_name(str(file.name))
    with store.arriving():
        layers = []
        for number, file in enumerate(files):
            left = sum(each.size for each in files[number:])
            taken = take(
                store.blobs,
                file.path,
                way=way,
                before_copy=partial(require_room_for_copies, store, left),
            )
            layers.append(
                file_layer(types[number], str(file.name), taken.digest, taken.size, moment)
            )
        manifest, raw = _assembled(layers, facts, family, reference, moment, ingredients, advised)
        ModelArtifact.from_manifest(manifest)
        store.blobs.put(manifest.config, raw)
        return PackagedDirectory(store.add(manifest, [reference]), scanned.left_out)


def package_repository(
    store: Store,
    ingredients: Ingredients,
    reference: Reference,
    *,
    family: Family,
    created: datetime | None,
) -> StoredModel:
    """Make an artifact of the files of a stored repository; raises what `package_directory` does.

    Args:
        store: Where it goes, and where the files are: nothing is copied.
        ingredients: The directory of the files, and what goes in beside it.
        reference: Its name.
        family: Docker's artifact, or CNCF ModelPack's.
        created: The time in its config; without one, the same files give the same digest ever.
    """
    moment = created or datetime.fromtimestamp(0, UTC)
    made = package_directory(
        store, ingredients, reference, family=family, created=moment, way="auto"
    )
    return made.model


def _require_combinable(ingredients: Ingredients, reference: Reference, family: Family) -> None:
    if reference.digest is not None:
        raise UsageError(
            f"{reference.short}: cannot package under a digest",
            hint="use a tag: NAMESPACE/NAME:TAG",
        )
    if ingredients.projector is not None:
        raise UsageError(
            "--mmproj needs a GGUF file, and cannot be combined with a directory",
            hint="put the projector into the directory",
        )
    if family == "modelpack" and (ingredients.settings or ingredients.context_length):
        raise UsageError(
            "settings and --context-size are not supported by the ModelPack format",
            hint="use --format docker, or leave them out",
        )


def _scanned(path: Path) -> Scanned:
    if path.is_dir():
        return scan(path)
    file = existing_file(path)
    name = PurePosixPath(file_text(file.name))
    return Scanned((FoundFile(name, file, file.stat().st_size),), ())


def _with_parts(files: Sequence[FoundFile], ingredients: Ingredients) -> list[FoundFile]:
    """The files, and those that were given beside them; another template takes its place."""
    found = list(files)
    if ingredients.template is not None:
        given = existing_file(ingredients.template)
        found = [file for file in found if str(file.name) != _TEMPLATE]
        found.append(FoundFile(PurePosixPath(_TEMPLATE), given, given.stat().st_size))
    for path in ingredients.licenses:
        given = existing_file(path)
        name = file_text(given.name)
        name = name if plain_role(PurePosixPath(name)) is Role.LICENSE else f"LICENSE-{name}"
        free = free_name(name, {str(file.name) for file in found})
        found.append(FoundFile(PurePosixPath(free), given, given.stat().st_size))
    return found


def _types(files: Sequence[FoundFile], family: Family) -> list[str]:
    """The media type of each file's layer."""
    templates = [file.name for file in files if file.name.suffix.lower() == ".jinja"]
    top = PurePosixPath(_TEMPLATE)
    template = top if top in templates else templates[0] if len(templates) == 1 else None
    of_family = _docker_type if family == "docker" else _modelpack_type
    return [of_family(file.name, is_template=file.name == template) for file in files]


def _docker_type(name: PurePosixPath, *, is_template: bool) -> str:
    if is_template:
        return media_types.DOCKER_TEMPLATE
    form = format_of(name)
    if form is None and plain_role(name) is Role.LICENSE:
        return media_types.DOCKER_LICENSE
    return _DOCKER_WEIGHTS.get(form or "", media_types.DOCKER_FILE)


def _modelpack_type(name: PurePosixPath, *, is_template: bool) -> str:
    suffix = name.suffix.lower()
    if format_of(name) is not None:
        return media_types.MODELPACK_WEIGHT
    if not is_template and (suffix in _DOCS or plain_role(name) is Role.LICENSE):
        return media_types.MODELPACK_DOC
    return media_types.MODELPACK_CODE if suffix in _CODE else media_types.MODELPACK_WEIGHT_CONFIG


def _understood(
    files: Sequence[FoundFile], types: Sequence[str], family: Family, folder: Path
) -> ModelArtifact:
    """The model that the files are, before any of them is read.

    Raises:
        UsageError: They are not a model.
        UnsupportedArtifactError: They are several.
    """
    layers = [
        file_layer(kind, str(file.name), Digest.of(str(file.name).encode()), file.size, "")
        for file, kind in zip(files, types, strict=True)
    ]
    form = next((found for file in files if (found := format_of(file.name))), None)
    if form is None:
        raise UsageError(
            f"no weights found in {sanitize_line(str(folder), 300)}",
            hint="name a directory with files such as model.safetensors or model.gguf, or a GGUF"
            " file",
        )
    about = Descriptor(_config_type(family), Digest.of(b""), 0)
    artifact = ModelArtifact.from_manifest(_manifest(about, layers, family, None))
    if artifact.format == "gguf" and artifact.main is None:
        raise UnsupportedArtifactError(
            f"{sanitize_line(str(folder), 300)} has several models in GGUF",
            hint="name the file of one of them: `modelrunner package FILE.gguf REF`",
            files=[str(layer.path) for layer in artifact.weights[:20]],
        )
    return artifact


def _config_type(family: Family) -> str:
    is_docker = family == "docker"
    return media_types.DOCKER_CONFIG_V02 if is_docker else media_types.MODELPACK_CONFIG


def _manifest(
    about: Descriptor, layers: Sequence[Descriptor], family: Family, ingredients: Ingredients | None
) -> Manifest:
    return Manifest.build(
        about,
        layers,
        artifact_type=None if family == "docker" else media_types.MODELPACK_ARTIFACT,
        annotations=None if ingredients is None else ingredients.annotations,
    )


def _assembled(
    layers: Sequence[Descriptor],
    facts: Facts,
    family: Family,
    reference: Reference,
    moment: str,
    ingredients: Ingredients,
    advised: Mapping[str, Value],
) -> tuple[Manifest, bytes]:
    digests = [layer.digest for layer in layers]
    if family == "docker":
        texts = [str(digest) for digest in digests]
        value = docker_config(facts, ingredients.context_length, advised, moment, texts)
        raw = go_json(value)
    else:
        config = ModelConfig(
            family,
            format=None if facts.format in (ADAPTER, FILES) else facts.format,
            architecture=facts.architecture,
            parameters=facts.parameters,
            quantization=facts.quantization,
            created=moment,
        )
        raw = config.to_modelpack(digests, reference.repository)
    about = Descriptor(_config_type(family), Digest.of(raw), len(raw))
    return _manifest(about, layers, family, ingredients), raw
