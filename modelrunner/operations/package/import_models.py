"""Import: weights that other programs keep, into the store."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from modelrunner.errors import ModelRunnerError, UnsupportedArtifactError, UsageError
from modelrunner.events import (
    Advanced,
    Finished,
    Listener,
    Planned,
    Skipped,
    Started,
    Verified,
    ignore,
)
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest, parse_manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.reference import Reference
from modelrunner.operations.disk_space import require_room_for_copies
from modelrunner.operations.package.import_artifact import artifact_of, left_out_of, metadata_of
from modelrunner.other_stores.found import FoundModel, Kept
from modelrunner.store.adopt import Taken, TakenFile, Way, take
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.views import require_name, require_names


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a model.

    Attributes:
        found: As it was there.
        reference: What it is called here.
        model: As it is here.
        new: Whether it was not here before.
        bytes_by_way: Bytes that came, by how they came.
        left_out: What its program has of it and was not taken, and why.
    """

    found: FoundModel
    reference: Reference
    model: StoredModel
    new: bool
    bytes_by_way: dict[Taken, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Importer:
    """Brings what others have into a store.

    Attributes:
        store: Where to.
        way: How files come.
        listener: Hears of the hashing.
    """

    store: Store
    way: Way = "auto"
    listener: Listener = ignore

    def is_here(self, found: FoundModel) -> bool:
        """Whether all that it is made of is here, as far as digests are known without reading."""
        digests = (
            list(found.kept.blobs)
            if found.kept is not None
            else [file.digest for file in found.files]
        )
        return all(digest and self.store.layout.blob(digest).exists() for digest in digests)

    def take(self, found: FoundModel, name: Reference | None = None) -> Imported:
        """Brings a model here.

        Args:
            found: What it is.
            name: Its name; None to derive it from the place where it is found.

        Raises:
            UnsupportedArtifactError, MalformedGGUFError: It cannot be used.
            DigestMismatchError: It is not what its program says it is.
            UsageError: It is to be linked, and cannot; or its name is another model's.
            DiskFullError, StoreAccessError: It cannot be kept, or not be read.
        """
        reference = name or found.reference
        ways: dict[Taken, int] = {}
        left_out = found.left_out
        with self.store.arriving():
            if found.kept is not None:
                manifest = _kept_manifest(found.title, found.kept)
                require_names(self.store.layout, ModelArtifact.from_manifest(manifest))
                blobs = [(path, digest) for digest, path in found.kept.blobs.items()]
                self._take_all(found.title, blobs, ways)
            else:
                for file in found.files:
                    require_name(file.name)
                metadata = metadata_of(found)
                left_out = left_out_of(found, metadata)
                files = [(file.file, file.digest) for file in found.files]
                taken = self._take_all(found.title, files, ways)
                manifest, config = artifact_of(found, metadata, taken)
                self.store.blobs.put(manifest.config, config)
            ModelArtifact.from_manifest(manifest)
            there = self.store.find(reference.with_digest(manifest.digest))
            fuller = self._fuller(manifest, reference)
            if fuller is not None:
                return Imported(found, reference, fuller, False, ways, left_out)  # noqa: FBT003
            if name is None:
                self._require_free(reference, manifest)
            others = () if name is not None else found.others
            model = self.store.add(manifest, [reference, *others])
        # the files get their names now, for a store that is read-only later
        model.view()
        return Imported(found, reference, model, there is None, ways, left_out)

    def _fuller(self, manifest: Manifest, reference: Reference) -> StoredModel | None:
        """The model of this name that has all this one has, and more: a projector, say."""
        there = self.store.find(reference)
        if there is None or there.digest == manifest.digest:
            return None
        with suppress(ModelRunnerError):
            has = {layer.digest for layer in there.manifest.layers}
            if has > {layer.digest for layer in manifest.layers}:
                return self.store.complete(reference)
        return None

    def _require_free(self, reference: Reference, manifest: Manifest) -> None:
        there = self.store.find(reference)
        if there is None or there.digest == manifest.digest:
            return
        has = {layer.digest for layer in manifest.layers}
        # the same files with other settings, or more files: a projector was put beside them
        if not {layer.digest for layer in there.manifest.layers} <= has:
            raise UsageError(
                f"the name {reference.short} already belongs to another model",
                hint="use another name with --name",
                reference=str(reference),
            )

    def _take_all(
        self,
        title: str,
        files: Sequence[tuple[Path, Digest | None]],
        ways: dict[Taken, int],
    ) -> list[TakenFile]:
        sizes = [path.stat().st_size if path.exists() else 0 for path, _ in files]
        self.listener(Planned(title, sum(sizes), 0, 0))
        taken = []
        for number, ((path, claimed), size) in enumerate(zip(files, sizes, strict=True)):
            left = sum(sizes[number:])
            blob = take(
                self.store.blobs,
                path,
                claimed,
                way=self.way,
                on_bytes=self._teller(path, size),
                before_copy=partial(require_room_for_copies, self.store, left),
            )
            if blob.how == "here":
                self.listener(Skipped(str(blob.digest), blob.size, path.name))
            else:
                self.listener(Verified(str(path), blob.size))
            ways[blob.how] = ways.get(blob.how, 0) + blob.size
            taken.append(blob)
        self.listener(Finished(title, "", sum(sizes)))
        return taken

    def _teller(self, path: Path, size: int) -> Callable[[int], None]:
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            if not done:
                self.listener(Started(str(path), size, 0, path.name))
            done += count
            self.listener(Advanced(str(path), size, done))

        return tell


def _kept_manifest(title: str, kept: Kept) -> Manifest:
    manifest = parse_manifest(kept.manifest)
    if isinstance(manifest, Index):
        raise UnsupportedArtifactError(f"{title} is an index, not a model")
    return manifest
