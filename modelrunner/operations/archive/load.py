"""Load: models out of an archive into the store, verified like a pull and named last.

The archive may come through a pipe, so its members are taken as they come. A blob is filed under
its digest while it is read. What no model of the archive needs is taken away again at the end, and
so is all of it where something is wrong: then the store is as it was.

Beside OCI image layouts, archives of Docker Model Runner are read: see `operations.archive.docker`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from modelrunner.disk.lock import held
from modelrunner.errors import (
    CapacityError,
    ConfigError,
    IntegrityError,
    MalformedManifestError,
    UnsupportedArtifactError,
)
from modelrunner.events import Advanced, Finished, Listener, Started, Verified, ignore
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.image import read_config, require_image
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest, parse_manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer
from modelrunner.oci.tar import Readable
from modelrunner.operations.archive.index import (
    check_layout,
    docker_entry,
    entries_of,
    names_of,
    require_named,
)
from modelrunner.operations.archive.referrers import ArchiveReferrers, read_in
from modelrunner.operations.archive.tar import Member, TarStream
from modelrunner.operations.disk_space import require_room
from modelrunner.operations.model.configs import understood
from modelrunner.operations.model.contents import require_unpacked, require_weights
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.sweep import live_digests
from modelrunner.store.views import require_names
from modelrunner.text import sanitize_line
from modelrunner.units import format_size

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_FILES = ("index.json", "oci-layout", "manifest.json")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model or an image that an archive has brought; `is_new` if the store did not have it.

    `referrers` is how many things that refer to it the archive has brought.
    """

    model: StoredModel
    names: tuple[Reference, ...]
    is_new: bool
    referrers: int = 0


@dataclass(frozen=True, slots=True)
class _PlannedModel:
    """A model or an image of the archive: understood, before it is named."""

    manifest: Manifest
    names: tuple[Reference, ...]
    is_image: bool
    referrers: tuple[Referrer, ...] = ()


CheckCarried = Callable[
    [Reference, Manifest | Index, Sequence[Referrer], Callable[[Descriptor], bytes]], None
]
"""Refuses a model: by its name, its manifest, what came with it, and who reads blobs of that."""


class Loader:
    """Loads one archive into one store."""

    def __init__(
        self,
        store: Store,
        listener: Listener = ignore,
        *,
        name: Reference | None = None,
        short: Reference | None = None,
        nameless: bool = False,
        check: CheckCarried | None = None,
    ) -> None:
        """Makes one.

        Args:
            store: Where the models go.
            listener: Hears how far it is.
            name: For the one model of an archive, whatever it is called there; of several models
                with short names the repository.
            short: The repository of short names where there is no `name`.
            nameless: Whether a model without a name is taken, to be named by its digest later.
            check: Refuses a model that the policy keeps out; None where there is no policy.
        """
        self._check = check
        self._short = short
        self._nameless = nameless
        self._store = store
        self._listener = listener
        self._name = name
        self._seen = _Seen()
        self._new: set[Digest] = set()
        self._plan: tuple[_PlannedModel, ...] | None = None
        self._awaited: set[Digest] | None = None
        self._sizes: dict[Digest, int] = {}

    def load(self, stream: Readable) -> tuple[Loaded, ...]:
        """Takes all models of an archive, or none.

        Raises:
            IntegrityError: It is damaged, cut, hostile, or lacks something.
            UnsupportedArtifactError: It is not an archive of models, or not of models alone.
            UsageError: A model in it has no name, and none was given.
            DiskFullError, StoreAccessError: It cannot be kept.
        """
        try:
            with self._store.arriving():
                tar = TarStream(stream)
                for member in tar.members():
                    self._take(member, tar)
                return self._finish()
        finally:
            self._remove_unneeded()

    def _take(self, member: Member, tar: TarStream) -> None:
        match = _BLOB.fullmatch(member.name)
        if match is None and member.name not in _FILES:
            self._seen.note_odd(member)
            return
        if member.kind != "file":
            raise IntegrityError(f"{member.name} is not a file in the archive but a {member.kind}")
        if match is not None:
            self._seen.note_blob(member.name)
            self._take_blob(Digest(match[1]), member.size, tar)
        else:
            self._seen.once(member.name)
            self._take_file(member, tar)
        index = self._seen.index
        if self._plan is None and index is not None and self._is_plannable(index, match):
            self._plan = self._planned(index)

    def _is_plannable(self, index: Sequence[Descriptor], arrived: re.Match[str] | None) -> bool:
        """Whether all has come that says which blobs are needed.

        Args:
            index: The entries of the index.
            arrived: The name of the blob that has come last.
        """
        referrers = ArchiveReferrers(read_in(self._store), index)
        if self._awaited is None:
            wanted = {entry.digest for entry in index} | referrers.lists
            self._awaited = self._seen.missing(wanted)
        elif arrived is not None:
            self._awaited.discard(Digest(arrived[1]))
        if not self._awaited:
            # lists are read once all of them are there, not after each of what they name
            self._awaited = self._seen.missing(referrers.listed)
        return not self._awaited

    def _take_file(self, member: Member, tar: TarStream) -> None:
        if member.name == "index.json":
            self._seen.index = entries_of(tar.content(MAX_BYTES))
        elif member.name == "oci-layout":
            check_layout(tar.content(MAX_BYTES))
        elif member.size <= MAX_BYTES:
            self._seen.manifest = tar.content(MAX_BYTES)

    def _take_blob(self, digest: Digest, size: int, tar: TarStream) -> None:
        if self._plan is not None and digest not in self._sizes:
            # no model needs it: never on this disk
            return
        if self._sizes.get(digest, size) != size:
            raise IntegrityError(
                f"{digest}: expected {self._sizes[digest]} bytes, got {size} in the archive",
                digest=str(digest),
            )
        is_new = not self._store.blobs.path(digest).exists()
        if is_new:
            why = f"the archive has a file of {format_size(size)}"
            require_room(self._store.layout.root, size, why)
        self._listener(Started(str(digest), size, 0, digest.short))
        blob = Descriptor("", digest, size)
        self._write(blob, self._watched(blob, tar.chunks()), is_new=is_new)
        self._listener(Verified(str(digest), size))

    def _write(self, blob: Descriptor, chunks: Iterable[bytes], *, is_new: bool) -> None:
        with self._store.blobs.writer(blob, resumable=False) as writer:
            if writer is None:
                return
            if is_new:
                self._new.add(blob.digest)
            for chunk in chunks:
                writer.write(chunk)

    def _watched(self, blob: Descriptor, chunks: Iterable[bytes]) -> Iterator[bytes]:
        done = 0
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            self._listener(Advanced(str(blob.digest), blob.size, done))

    def _planned(self, index: Sequence[Descriptor]) -> tuple[_PlannedModel, ...]:
        """What the archive holds, known as soon as the manifests are here."""
        entries, referrers = ArchiveReferrers(read_in(self._store), index).split()
        digests = {entry.digest: entry for entry in entries}
        named = names_of(entries, self._name, self._short)
        if not self._nameless:
            require_named(named)
        plan = []
        for digest, entry in digests.items():
            found = parse_manifest(self._store.blobs.read(entry), entry.media_type)
            kind = entry.annotations.get(media_types.ANNOTATION_KIND)
            if kind == media_types.RUNTIME and isinstance(found, Manifest):
                require_named({digest: named[digest]})
                require_image(found, named[digest][0].short)
                plan.append(_PlannedModel(found, named[digest], is_image=True))
                continue
            model = understood(found, self._config_of(found))
            require_names(self._store.layout, model)
            kept = tuple(referrers.get(digest, ()))
            one = _PlannedModel(model.manifest, named[digest], is_image=False, referrers=kept)
            plan.append(one)
        # what a model needs counts, whatever is said of it elsewhere
        manifests = (
            *(each.manifest for one in plan for each in one.referrers),
            *(one.manifest for one in plan),
        )
        self._sizes = {
            blob.digest: blob.size
            for manifest in manifests
            for blob in (manifest.descriptor, *manifest.blobs)
        }
        return tuple(plan)

    def _finish(self) -> tuple[Loaded, ...]:
        index = self._entries()
        for entry in index:
            self._require(entry)
        plan = self._planned(index) if self._plan is None else self._plan
        for one in plan:
            for blob in one.manifest.blobs:
                self._require(blob)
            config = self._store.blobs.read(one.manifest.config)
            if one.is_image:
                read_config(one.manifest, config)
            else:
                self._require_model(one, config)
        self._check_all(plan)
        loaded = tuple(self._add(one) for one in plan)
        names = ", ".join(name.short for one in loaded for name in one.names)
        self._listener(Finished(names, "", sum(self._sizes.values())))
        return loaded

    def _check_all(self, plan: Sequence[_PlannedModel]) -> None:
        """Refuse the archive where the policy keeps one of its models out."""
        if self._check is None:
            return
        for one in plan:
            kept = [each for each in one.referrers if self._is_whole(each)]
            for name in () if one.is_image else one.names:
                self._check(name, one.manifest, kept, self._store.blobs.read)

    def _entries(self) -> tuple[Descriptor, ...]:
        """What the archive holds, once all of it has come."""
        raw = self._seen.manifest
        entry = None if raw is None or self._seen.index is not None else docker_entry(raw)
        if raw is None or entry is None:
            return self._seen.require_layout()
        self._seen.require_files()
        self._write(entry, [raw], is_new=not self._store.blobs.path(entry.digest).exists())
        return (entry,)

    def _require(self, blob: Descriptor) -> None:
        if self._store.blobs.state(blob) != "good":
            raise IntegrityError(
                f"blob missing from the archive: {blob.digest}; no model was loaded",
                hint="create the archive again where the model is complete",
                digest=str(blob.digest),
            )

    def _require_model(self, one: _PlannedModel, config: bytes) -> None:
        artifact = understood(one.manifest, config)
        artifact.config(config)
        name = one.names[0].short if one.names else one.manifest.digest.short
        for layer in artifact.layers:
            require_weights(self._store.blobs, name, layer)
        if artifact.is_archived:
            # what cannot be unpacked gets no name
            require_unpacked(self._store.blobs, name, artifact)

    def _config_of(self, found: Manifest | Index) -> bytes | None:
        """The config of an image, where it has come already; what it says is looked at later."""
        if isinstance(found, Index) or not found.is_image:
            return None
        good = self._store.blobs.state(found.config) == "good"
        return self._store.blobs.read(found.config) if good else None

    def _add(self, one: _PlannedModel) -> Loaded:
        return self._add_image(one) if one.is_image else self._add_model(one)

    def _add_image(self, one: _PlannedModel) -> Loaded:
        there = self._store.find_image(one.names[0].with_digest(one.manifest.digest))
        known = set(map(str, there.references)) if there is not None else set()
        image, is_new = there, not set(map(str, one.names)) <= known
        if image is None or is_new:
            for name in one.names:
                image = self._store.add_image(one.manifest, name)
        if image is None:
            raise AssertionError("an image has a name")
        came = any(blob.digest in self._new for blob in one.manifest.blobs)
        return Loaded(image, one.names, is_new or came)

    def _add_model(self, one: _PlannedModel) -> Loaded:
        there = next((m for m in self._store.models() if m.digest == one.manifest.digest), None)
        known = set(map(str, there.references)) if there is not None else set()
        is_new = there is None or not set(map(str, one.names)) <= known
        kept = [each for each in one.referrers if self._is_whole(each)]
        if is_new or there is None:
            model = self._store.add(one.manifest, one.names, referrers=kept)
        else:
            self._store.keep_referrers(there.digest, kept)
            model = there
        # the files get their names now, for a store that is read-only later
        model.view()
        came = any(blob.digest in self._new for blob in one.manifest.blobs)
        return Loaded(model, one.names, is_new or came, len(kept))

    def _is_whole(self, referrer: Referrer) -> bool:
        """Whether all of a referrer has come; if not, the model is loaded without it."""
        blobs = (referrer.manifest.descriptor, *referrer.manifest.blobs)
        return all(self._store.blobs.state(blob) == "good" for blob in blobs)

    def _remove_unneeded(self) -> None:
        """Takes away what came and has no name; what another process may count on is left."""
        if not self._new:
            return
        # a store that can no longer be written is the lesser trouble: `prune` finds what is left
        with (
            suppress(ConfigError, CapacityError, IntegrityError),
            held(self._store.layout.lock),
            self._store.arrivals_held_off() as alone,
        ):
            live = live_digests(self._store) if alone else None
            for digest in self._new - live if live is not None else ():
                with suppress(OSError):
                    self._store.blobs.path(digest).unlink(missing_ok=True)
                    self._store.layout.stamp(digest).unlink(missing_ok=True)


@dataclass(slots=True)
class _Seen:
    """What has come of an archive so far."""

    index: tuple[Descriptor, ...] | None = None
    manifest: bytes | None = None
    names: set[str] = field(default_factory=set)
    odd: str | None = None
    repeated: str | None = None

    def once(self, name: str) -> None:
        """Refuses a second member of a name: two readers would see two different things."""
        if name in self.names:
            raise _duplicate(name)
        self.names.add(name)

    def note_blob(self, name: str) -> None:
        """Remembers a blob. Docker Model Runner writes one for each layer, equal ones too."""
        if name in self.names and self.repeated is None:
            self.repeated = name
        self.names.add(name)

    def note_odd(self, member: Member) -> None:
        """Remembers a link or device; who has put it there is told at the end."""
        if member.kind == "other" and self.odd is None:
            self.odd = sanitize_line(member.name, 200)

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those of these blobs that have not come."""
        return {each for each in digests if f"blobs/sha256/{each.hex}" not in self.names}

    def require_layout(self) -> tuple[Descriptor, ...]:
        """The index of the archive; says what it is, where it is not an OCI image layout."""
        if "manifest.json" in self.names and not {"index.json", "oci-layout"} <= self.names:
            raise UnsupportedArtifactError(
                "this is an archive of container images in Docker's own format, not of models",
                hint="load it with `docker load`; create model archives with `modelrunner save` "
                "or `skopeo copy ... oci-archive:FILE`",
                format="docker-archive",
            )
        if self.index is None or "oci-layout" not in self.names:
            raise MalformedManifestError(
                "not an OCI image layout: index.json or oci-layout is missing",
                hint=(
                    "create archives with `modelrunner save` or `skopeo copy ... oci-archive:FILE`"
                ),
            )
        self.require_files()
        if self.repeated is not None:
            raise _duplicate(self.repeated)
        return self.index

    def require_files(self) -> None:
        """Refuse an archive with links or devices."""
        if self.odd is not None:
            raise IntegrityError(
                f"the archive has an entry that is not a file: {self.odd!r}",
                hint="create the archive again with `modelrunner save`",
            )


def _duplicate(name: str) -> IntegrityError:
    return IntegrityError(
        f"duplicate entry in the archive: {name}",
        hint="create the archive again with `modelrunner save`",
    )
