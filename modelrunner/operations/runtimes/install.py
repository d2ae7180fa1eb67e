"""Install a runtime: its image into the store, unpacked, and started once before it is used.

The blobs go the way of a model's, and keep a name of their own in the store: `list` does not show
them, `share` serves them, and a runtime that is installed keeps them from being pruned. What turns
out to be no runtime, or none for this machine, leaves nothing behind.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from modelrunner.archives.unpack import LayerFile, unpack
from modelrunner.disk.files import disk_errors
from modelrunner.disk.lock import held
from modelrunner.errors import (
    CapacityError,
    ConfigError,
    IntegrityError,
    LockOutdatedError,
    ModelRunnerError,
    RuntimeFailedError,
    UnsupportedArtifactError,
)
from modelrunner.events import Finished, Listener, Planned, Skipped, ignore
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.image import (
    ImageConfig,
    Platform,
    build_in,
    chosen,
    read_config,
    require_image,
    wrong_platform,
)
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.runtime_name import Named
from modelrunner.operations.disk_space import Room, require_room
from modelrunner.operations.runtimes import check as checks
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Source
from modelrunner.runtime.images.library import Installed, Library
from modelrunner.runtime.images.program import backend_named, backends_in, program_in
from modelrunner.runtime.images.tree import deviations, note_files
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.sweep import live_digests, remove_blobs_of
from modelrunner.transfer.budget import Budget
from modelrunner.transfer.fetch import Fetcher
from modelrunner.transfer.sources import SourcePool
from modelrunner.units import format_size

_UNPACKED = 3
"""How many times larger an image is unpacked, about; manifests do not say."""


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What installing a runtime comes to.

    Attributes:
        named: What was asked for.
        manifest: The image for this machine.
        index: The digest of the index that the reference names, where it is one.
        download_bytes: What is not in the store yet.
        source: Where it comes from; None where it is in the store already.
        installed: The runtime, where it is installed already and its files are as they were.
    """

    named: Named
    manifest: Manifest
    index: Digest | None
    download_bytes: int
    source: Source | None
    installed: Installed | None

    @property
    def unpacked_bytes(self) -> int:
        """What its files take on disk, about."""
        return self.manifest.total_bytes * _UNPACKED


@dataclass(frozen=True, slots=True)
class InstallResult:
    """What became of it.

    Attributes:
        runtime: What is installed now.
        new: Whether it was not before.
        in_use: Whether it is the one in use.
        missing: Devices that the one in use lists and this one does not.
        lacking: What its plug-ins lack, a sentence each.
    """

    runtime: Installed
    new: bool
    in_use: bool
    missing: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()


def _accepted(_reference: Reference, _manifest: Manifest | Index) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Installer:
    """Installs runtimes.

    `source_for` opens a source of a reference, `check` refuses an image that the policy does not
    accept, and `guarded` says whether there is a policy.
    """

    store: Store
    library: Library
    environ: Mapping[str, str] = field(repr=False)
    source_for: Callable[[Reference], Source]
    listener: Listener = ignore
    backoff: Backoff = field(default_factory=Backoff)
    budget: Budget = field(default_factory=Budget)
    room: Room = field(default_factory=Room)
    platform: Platform = field(default_factory=Platform.of_machine)
    offline: bool = False
    guarded: bool = False
    check: Callable[[Reference, Manifest | Index], None] = _accepted

    def plan(self, named: Named) -> ImagePlan:
        """Find out what a name stands for, without fetching more than manifests.

        Raises:
            UnsupportedArtifactError: It is not an image, or not one for this machine.
            UnverifiedError: The policy refuses it.
            ManifestNotFoundError, AccessError, TransferError: The registry does not deliver.
        """
        reference = named.reference
        there = self.store.find_image(reference)
        asks = not (reference.pinned or self.offline)
        if there is not None and not asks and self._is_complete(there):
            self.check(reference, there.manifest)
            return self._planned(named, there.manifest, self._index_of(there), None)
        source = self.source_for(reference)
        exact = reference if reference.pinned else reference.with_digest(source.resolve(reference))
        found = signed = source.manifest(exact)
        index = None
        if isinstance(found, Index):
            index = exact.digest
            entry = chosen(found, self.platform, reference.short)
            found = source.manifest(reference.with_digest(entry.digest))
            if isinstance(found, Index):
                raise UnsupportedArtifactError(
                    f"{reference.short} is an index of indexes",
                    hint="name the image for this machine by its digest",
                )
        require_image(found, reference.short)
        # a signature of the index is one of every image in it
        self.check(reference, signed)
        return self._planned(named, found, index, source)

    def plan_pinned(self, named: Named, image: Digest, index: Digest | None) -> ImagePlan:
        """Find out what an image that is known by its digest comes to; what is there is not asked.

        Args:
            named: The name that it gets.
            image: The manifest of the image for this machine.
            index: The index that has it, where there is one.

        Raises:
            NotInStoreError: The network is ruled out, and something of it is missing.
            UnverifiedError: The policy refuses it.
            LockOutdatedError: The index does not have this image.
            ManifestNotFoundError, AccessError, TransferError: The registry does not deliver.
        """
        exact = named.reference.with_digest(image)
        there = self.store.find_image(exact)
        if there is not None and self._is_complete(there):
            if self.guarded:
                self._require_accepted(named.reference, there.manifest, index)
            return self._planned(named, there.manifest, index, None)
        source = self.source_for(exact)
        found = source.manifest(exact)
        if isinstance(found, Index):
            raise UnsupportedArtifactError(
                f"{named.reference.short} at {image.short} is an index, not an image",
                hint="run `modelrunner lock --update runtime` and review the changes",
            )
        require_image(found, named.reference.short)
        if self.guarded:
            self._require_accepted(named.reference, found, index)
        return self._planned(named, found, index, source)

    def _require_accepted(
        self, reference: Reference, image: Manifest, index: Digest | None
    ) -> None:
        """Ask the policy: a signature of the index is one of every image that is in it."""
        if index is None:
            self.check(reference, image)
            return
        found = self.source_for(reference).manifest(reference.with_digest(index))
        if not isinstance(found, Index) or image.digest not in {
            entry.digest for entry in found.manifests
        }:
            raise LockOutdatedError(
                f"{reference.short} at {index.short} has no image {image.digest.short}",
                hint="run `modelrunner lock --update runtime` and review the changes",
                manifest=str(index),
            )
        self.check(reference, found)

    def install(self, plan: ImagePlan, *, use: bool = True) -> InstallResult:
        """Fetch, unpack, check, and use a runtime.

        Args:
            plan: What to install.
            use: Whether to make it the one in use, unless it sees fewer devices.

        Raises:
            IntegrityError, UnsupportedArtifactError: The image is damaged, hostile or of no use;
                nothing of it is left.
            RuntimeFailedError: Its server does not start.
            AccessError, TransferError: The registry does not deliver; what came is kept.
            DiskFullError, StoreAccessError: It cannot be kept.
        """
        before = self.library.current()
        if plan.installed is not None:
            lacking: tuple[str, ...] = ()
            if plan.download_bytes:
                # damaged blobs were moved away: a share or an archive needs them
                self._fetch(plan)
            found, new = plan.installed, False
        else:
            stored = self._fetch(plan)
            found, lacking = self._unpacked(plan, stored)
            new = True
        missing: tuple[str, ...] = ()
        if use and before is not None and before.digest != found.digest:
            missing = self._missing(before, found)
        in_use = before is not None and before.digest == found.digest
        if use and not missing and not in_use:
            self.library.use(found)
            in_use = True
        return InstallResult(found, new, in_use, missing, lacking)

    def remove(self, one: Installed) -> int:
        """Remove a runtime and its image; the bytes that this freed."""
        image = self.store.find_image(Reference.parse(one.reference).with_digest(one.digest))
        self.library.remove(one)
        freed = one.unpacked_bytes
        if image is not None:
            self.store.forget(image.digest)
            freed += remove_blobs_of(self.store, image)
        return freed

    def _planned(
        self, named: Named, manifest: Manifest, index: Digest | None, source: Source | None
    ) -> ImagePlan:
        absent = sum(blob.size for blob in self._absent(manifest))
        installed = self.library.by_digest(manifest.digest)
        if installed is not None and deviations(installed.folder):
            installed = None
        return ImagePlan(named, manifest, index, absent, source, installed)

    def _absent(self, manifest: Manifest) -> list[Descriptor]:
        return [blob for blob in manifest.blobs if self.store.blobs.state(blob) != "good"]

    def _is_complete(self, image: StoredModel) -> bool:
        try:
            return not self._absent(image.manifest)
        except IntegrityError:
            return False

    def _index_of(self, image: StoredModel) -> Digest | None:
        known = (one for one in self.library.all() if one.digest == image.digest)
        return next((one.index for one in known), None)

    def _fetch(self, plan: ImagePlan) -> StoredModel:
        reference, manifest = plan.named.reference, plan.manifest
        absent = self._absent(manifest)
        require_room(
            self.library.folder,
            plan.unpacked_bytes,
            f"about {format_size(plan.unpacked_bytes)} are needed to unpack {reference.short}",
        )
        sources = SourcePool(lambda: self.source_for(reference))
        fetcher = Fetcher(
            reference.with_digest(manifest.digest),
            sources,
            self.store.blobs,
            self.listener,
            self.backoff,
            self.budget,
        )
        with sources, self.store.arriving():
            try:
                with self.room.taken(self.store, absent):
                    self._bring(plan, fetcher, absent)
                named = self.store.find_image(reference) if reference.pinned else None
                # what has a name already keeps it: its tag may have moved on
                stored = named or self.store.add_image(manifest, reference)
            except (IntegrityError, UnsupportedArtifactError):
                self._discard(absent)
                raise
        self.listener(Finished(reference.short, str(manifest.digest), manifest.total_bytes))
        return stored

    def _bring(self, plan: ImagePlan, fetcher: Fetcher, absent: Iterable[Descriptor]) -> None:
        manifest, absent = plan.manifest, list(absent)
        resumed = sum(self.store.blobs.partial_bytes(entry) for entry in absent)
        present = manifest.total_bytes - sum(entry.size for entry in absent)
        name = plan.named.reference.short
        self.listener(Planned(name, manifest.total_bytes, present, resumed))
        for entry in manifest.blobs:
            if entry not in absent:
                self.listener(Skipped(str(entry.digest), entry.size, entry.digest.short))
        # what cannot run here should fail before gigabytes move
        first = [entry for entry in absent if entry.digest == manifest.config.digest]
        for entry in first:
            fetcher.fetch(entry, "config")
        self._config(plan)
        for entry in absent:
            if entry not in first:
                fetcher.fetch(entry, entry.digest.short)

    def _config(self, plan: ImagePlan) -> ImageConfig:
        config = read_config(plan.manifest, self.store.blobs.read(plan.manifest.config))
        if config.platform is not None and not config.platform.serves(self.platform):
            name = plan.named.reference.short
            raise wrong_platform(name, self.platform, [str(config.platform)])
        return config

    def _unpacked(self, plan: ImagePlan, stored: StoredModel) -> tuple[Installed, tuple[str, ...]]:
        try:
            with (
                self.library.changing(),
                self.library.adding(plan.manifest.digest) as beside,
            ):
                config = self._config(plan)
                layers = [
                    LayerFile(self.store.blobs.path(layer.digest), diff_id)
                    for layer, diff_id in zip(plan.manifest.layers, config.diff_ids, strict=True)
                ]
                unpacked = unpack(layers, beside / "rootfs")
                with disk_errors(beside):
                    note_files(beside, unpacked.hashes)
                one = self._described(plan, config, beside, unpacked.size)
                checked = checks.check(one, self.environ)
                build = one.build or checked.build
                one = replace(one, version=checked.version, build=build, devices=checked.devices)
                return self.library.record(beside, one), checked.lacking
        except (IntegrityError, UnsupportedArtifactError, RuntimeFailedError):
            # none of it is of use here
            with suppress(ConfigError, CapacityError, IntegrityError):
                self.store.forget(stored.digest)
                remove_blobs_of(self.store, stored)
            raise

    def _described(
        self, plan: ImagePlan, config: ImageConfig, beside: Path, size: int
    ) -> Installed:
        reference, root = plan.named.reference, beside / "rootfs"
        program = program_in(root, config.entrypoint, self.platform)
        if program is None:
            raise UnsupportedArtifactError(
                f"{reference.short} has no llama-server for {self.platform}",
                hint="install one of llama.cpp's images: `modelrunner runtimes install auto`",
            )
        before = self.library.by_digest(plan.manifest.digest) if reference.pinned else None
        return Installed(
            folder=beside,
            digest=plan.manifest.digest,
            index=plan.index or (None if before is None else before.index),
            reference=str(reference) if before is None else before.reference,
            backend=plan.named.backend or backend_named(backends_in(program)),
            build=build_in(config.version, reference.tag),
            program=str(program.relative_to(root)),
            environ=config.environ,
            download_bytes=plan.manifest.total_bytes,
            unpacked_bytes=size,
            created=config.created,
        )

    def _missing(self, before: Installed, found: Installed) -> tuple[str, ...]:
        """The devices that go with a change; a build for the CPU was asked for as one."""
        if found.backend == "cpu" != before.backend:
            return ()
        try:
            had = checks.list_devices(before, self.environ)
        except ModelRunnerError:
            # what does not run any more is no measure
            return ()
        return checks.fewer(had, found.devices)

    def _discard(self, came: Iterable[Descriptor]) -> None:
        """Remove what came and has no name; what another process may count on is left."""
        with (
            suppress(ConfigError, CapacityError, IntegrityError),
            held(self.store.layout.lock),
        ):
            live = live_digests(self.store)
            for blob in came if live is not None else ():
                if live is not None and blob.digest not in live:
                    with suppress(OSError):
                        self.store.blobs.path(blob.digest).unlink(missing_ok=True)
                        for note in self.store.layout.notes(blob.digest.hex):
                            note.unlink(missing_ok=True)
