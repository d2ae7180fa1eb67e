"""A model in a registry whose files are in archives: its headers, without unpacking them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from modelrunner.archives.members import Member, Members, Room, find_members
from modelrunner.errors import MalformedGGUFError, UnsupportedArtifactError
from modelrunner.gguf.header import Header
from modelrunner.gguf.reader import parse_header
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.formats import GGUF
from modelrunner.oci.model.paths import checked_path
from modelrunner.oci.modelcar.layer import FOLDER
from modelrunner.oci.reference import Reference
from modelrunner.operations.model.headers import REMOTE_LIMIT, remote_ranges
from modelrunner.registry.source import Source

_MOST_LAYERS = 64
_FILE = "application/octet-stream"
_WANTED = (".gguf", ".safetensors", ".json")


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found in the archives of a model.

    Attributes:
        artifact: The model with files in their place, whose digests stand for where they are.
        parts: Reads parts of each, by that digest.
        is_complete: Whether all files are known.
    """

    artifact: ModelArtifact
    parts: Mapping[Digest, Member]
    is_complete: bool

    def header(self, _source: Source, reference: Reference, descriptor: Descriptor) -> Header:
        """Return the header of a file.

        Raises:
            HeaderTooLongError: It is longer than what can be read of it.
            MalformedGGUFError: It is not GGUF.
        """
        found = self.parts[descriptor.digest]
        try:
            return parse_header(found.read, found.size, limit=REMOTE_LIMIT, name=found.name)
        except MalformedGGUFError as exc:
            raise type(exc)(f"{reference.short}: {exc.message}", hint=exc.hint) from exc

    def whole(self, descriptor: Descriptor) -> bytes:
        """Return the content of a small file."""
        return self.ranges(descriptor)(0, descriptor.size)

    def ranges(self, descriptor: Descriptor) -> Callable[[int, int], bytes]:
        """Return what reads parts of a file."""
        return self.parts[descriptor.digest].read


def opened(source: Source, reference: Reference, artifact: ModelArtifact) -> Opened:
    """Look into the archives of a model: by ranges, or at their fronts where they are packed.

    Args:
        source: The registry.
        reference: The model, by its digest.
        artifact: What its manifest says.

    Raises:
        UnsupportedArtifactError: No weights were found, or some of another format than GGUF may be
            missing.
        IntegrityError: An archive is damaged or hostile.
        TransferError: The registry does not deliver.
    """
    below = f"{FOLDER}/" if artifact.family == "image" else ""
    layers = [layer for layer in artifact.layers if layer.archived][:_MOST_LAYERS]
    found: dict[str, tuple[Descriptor, Member]] = {}
    is_complete = True
    room = Room()
    for layer in layers:
        members = _members(source, reference, layer.descriptor, below, room)
        is_complete = is_complete and members.is_complete
        for member in members.files:
            # a later layer replaces what those below it have
            path = _path(member.name).removeprefix(below)
            found[path] = (_stand_in(layer.descriptor, path, member), member)
    try:
        whole = artifact.with_files([descriptor for descriptor, _ in found.values()])
    except UnsupportedArtifactError:
        whole = artifact
    if not whole.weights or (whole.format != GGUF and not is_complete):
        name = reference.short.partition("@")[0]
        raise UnsupportedArtifactError(
            f"{name}: no weights were found at the front of its archives",
            hint=f"run `modelrunner pull {name}`, which unpacks them",
            format="tar",
        )
    parts = {descriptor.digest: member for descriptor, member in found.values()}
    return Opened(whole, parts, is_complete)


def _members(
    source: Source, reference: Reference, layer: Descriptor, below: str, room: Room
) -> Members:
    def wanted(name: str) -> bool:
        path = _path(name)
        return path.startswith(below) and path.lower().endswith(_WANTED)

    read = remote_ranges(source, reference, layer, limit=REMOTE_LIMIT)
    return find_members(read, layer.size, wanted, room)


def _path(name: str) -> str:
    return str(PurePosixPath(name.removeprefix("/").removeprefix("./")))


def _stand_in(layer: Descriptor, path: str, member: Member) -> Descriptor:
    """A descriptor of a file whose content is not known: its digest stands for the place."""
    checked_path(path)
    place = Digest.of(f"{layer.digest} {path}".encode())
    return Descriptor(_FILE, place, member.size, {media_types.ANNOTATION_PATH: path})
