"""Unpack the layers of a model that are archives, see `record`."""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from modelrunner.archives.layers import Limits, Words
from modelrunner.archives.unpack import LayerFile, remove_tree, target_of
from modelrunner.archives.unpack import unpack as make_tree
from modelrunner.disk.files import TEMPORARY_PREFIX, disk_errors, flush
from modelrunner.disk.inside import make_directory, make_read_only, open_inside
from modelrunner.disk.lock import held
from modelrunner.errors import (
    CorruptStoreError,
    DiskFullError,
    MalformedManifestError,
    UnsupportedArtifactError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.image import read_config
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.paths import checked_path
from modelrunner.oci.modelcar.layer import FOLDER
from modelrunner.store.blobs import BlobStore
from modelrunner.store.layout import Layout
from modelrunner.store.unpacked import record
from modelrunner.units import format_size

MOST_FILES = 10_000
_LIMITS = Limits(bytes=16 << 40, entries=200_000, ratio=50)
"""No larger than any model. What packs weights makes them a little smaller, and zeros rare."""

_WORDS = Words(
    "model",
    "the artifact is damaged or hostile: report it to its publisher",
    "sparse files and special entries are not supported: ask its publisher for plain files",
)


class Packed(NamedTuple):
    """A layer that is an archive: its blob, and the digest of the tar in it where that is said."""

    blob: Descriptor
    diff_id: Digest | None = None


@dataclass(frozen=True, slots=True)
class Unpacking:
    """What is to be unpacked.

    Attributes:
        digest: The manifest of the model.
        layers: The archives, the lowest first.
        below: The directory in them whose files count; None for all.
    """

    digest: Digest
    layers: Sequence[Packed]
    below: str | None = None


def unpack_model(layout: Layout, artifact: ModelArtifact) -> ModelArtifact:
    """Unpack the archives of a model whose blobs are there, where that is not done yet.

    Args:
        layout: The store.
        artifact: What its manifest says.

    Returns:
        The model with its files.

    Raises:
        IntegrityError: An archive is damaged, points outside, or asks for too much.
        UnsupportedArtifactError: There is no model in it, or entries of an unknown kind.
        DiskFullError, StoreAccessError: It cannot be written.
    """
    manifest, blobs = artifact.manifest, BlobStore(layout)
    there = record.files_of(layout, manifest.digest)
    if there is not None and all(blobs.state(file) == "good" for file in there):
        return artifact.with_files(there)
    if artifact.family == "image":
        said = read_config(manifest, blobs.read(manifest.config)).diff_ids
        layers = [Packed(*pair) for pair in zip(manifest.layers, said, strict=True)]
        what = Unpacking(manifest.digest, layers, FOLDER)
    else:
        packed = [Packed(layer.descriptor) for layer in artifact.layers if layer.archived]
        what = Unpacking(manifest.digest, packed)
    for layer in what.layers:
        if blobs.state(layer.blob) != "good":
            raise CorruptStoreError(
                f"the blob {layer.blob.digest} is missing or damaged",
                hint="pull the model again: only missing blobs are downloaded",
                digest=str(layer.blob.digest),
            )
    return artifact.with_files(unpack(layout, what))


def unpack(layout: Layout, what: Unpacking) -> tuple[Descriptor, ...]:
    """Unpack the archives of a model, whose blobs are there, and return its files.

    Raises:
        IntegrityError: An archive is damaged, points outside, or asks for too much.
        UnsupportedArtifactError: It has nothing to unpack, or entries of an unknown kind.
        DiskFullError, StoreAccessError: It cannot be written.
    """
    blobs = BlobStore(layout)
    folder = layout.unpacked
    with disk_errors(folder):
        layout.create()
        make_directory(folder)
    with held(folder / "lock"), held(layout.arrivals, "shared"), disk_errors(folder):
        _remove_abandoned(folder)
        there = record.files_of(layout, what.digest)
        if there is not None and all(blobs.state(file) == "good" for file in there):
            # another process has been here
            return there
        _require_room(layout, what)
        root = folder / f"{TEMPORARY_PREFIX}{what.digest.hex}-{os.urandom(6).hex()}"
        try:
            found = _kept(layout, blobs, what, root)
        finally:
            remove_tree(root)
        record.write(layout, what.digest, found)
    return found


def _kept(layout: Layout, blobs: BlobStore, what: Unpacking, root: Path) -> tuple[Descriptor, ...]:
    layers = [LayerFile(layout.blob(each.blob.digest), each.diff_id) for each in what.layers]
    made = make_tree(layers, root, _LIMITS, _WORDS)
    found = []
    for path, source in sorted(_chosen(root, made.hashes, what.below).items()):
        file = root / source
        descriptor = record.file_of(path, made.hashes[source], file.stat().st_size)
        blobs.adopt(descriptor, partial(_moved, file))
        found.append(descriptor)
    return tuple(found)


def _chosen(root: Path, hashes: Mapping[str, str], below: str | None) -> dict[str, str]:
    """The files that count: for each path that it is to have the one in the tree.

    A link stands for its file where that is not one of them already.

    Raises:
        UnsupportedArtifactError: There is none.
        MalformedManifestError: A path is not one to be trusted, or there are too many.
    """
    prefix = "" if below is None else f"{below}/"
    found = {name.removeprefix(prefix): name for name in hashes if name.startswith(prefix)}
    taken = set(found.values())
    for name, target in _links(root, hashes, prefix):
        if target not in taken:
            found[name] = target
            taken.add(target)
    if not found:
        where = "" if below is None else f" below /{below}"
        raise UnsupportedArtifactError(
            f"the model's layers have no files{where}",
            hint="this is not a model, or one in a directory of its own: copy its files out with"
            " `podman create` and `podman cp`",
        )
    if len(found) > MOST_FILES:
        raise MalformedManifestError(
            f"the model has {len(found)} files in its layers, more than {MOST_FILES}"
        )
    for name in found:
        checked_path(name)
    return found


def _links(root: Path, hashes: Mapping[str, str], prefix: str) -> list[tuple[str, str]]:
    """Links below a directory to files, which were found to stay inside of the tree."""
    top = root.resolve()
    found = []
    for folder, directories, names in os.walk(root / prefix):
        for name in (*directories, *names):
            path = Path(folder, name)
            if path.is_symlink():
                end = target_of(path)
                target = None if end is None else Path(end).relative_to(top).as_posix()
                if target is not None and target in hashes:
                    found.append((path.relative_to(root).as_posix().removeprefix(prefix), target))
    return sorted(found)


def _moved(file: Path, target: Path) -> bool:
    """Give a file of the tree another name, for good."""
    with open_inside(file, "read") as opened:
        flush(opened.fileno())
        make_read_only(opened, file)
    file.replace(target)
    return True


def _require_room(layout: Layout, what: Unpacking) -> None:
    """Say no before anything is written: there is no less in an archive than it takes."""
    needed = sum(layer.blob.size for layer in what.layers)
    with suppress(OSError):
        free = shutil.disk_usage(layout.root).free
        if needed > free:
            raise DiskFullError(
                f"not enough disk space: {format_size(free)} free, {format_size(needed)} to unpack",
                hint="free some space (`modelrunner df`, `modelrunner prune`), or set"
                " MODELRUNNER_HOME to a larger disk",
                free_bytes=free,
                needed_bytes=needed,
                path=str(layout.root),
            )


def _remove_abandoned(folder: Path) -> None:
    """Remove the trees of processes that were killed: under the lock there is no other."""
    for path in folder.iterdir():
        if path.name.startswith(TEMPORARY_PREFIX):
            remove_tree(path)
