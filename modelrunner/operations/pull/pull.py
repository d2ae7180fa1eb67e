"""Pull: a model from a registry into the store, named last.

`resolve` pins the digest, and only that digest is asked for from then on: a tag that moves
meanwhile changes nothing. What is here already is not moved again.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from modelrunner.errors import CorruptStoreError, MalformedManifestError, RemovedMeanwhileError
from modelrunner.events import Finished, Listener, Planned, Skipped, Unpacking, ignore
from modelrunner.frozen import field, frozen, replace
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.model.layers import Layer
from modelrunner.oci.reference import Reference
from modelrunner.operations.disk_space import Room
from modelrunner.operations.model.contents import require_unpacked, require_weights
from modelrunner.operations.model.resolve import artifact_at
from modelrunner.operations.model.suggestions import pin, pin_by_content
from modelrunner.operations.pull.local_copies import Find, bring, nowhere
from modelrunner.operations.pull.outcome import Pulled
from modelrunner.registry.source import Choice, Chooser, ManyPlaces, Source
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.views import require_names
from modelrunner.transfer.budget import Budget

# late imports: most pulls find that everything is here
if TYPE_CHECKING:
    from modelrunner.operations.pull.keeping import Keeping
    from modelrunner.operations.pull.referrers import ReferrersKept
    from modelrunner.registry.http.retry import Backoff
    from modelrunner.transfer.fetch import Fetcher, Next
    from modelrunner.transfer.fetched import Fetched

_LARGE = 1024 * 1024
_SMALL = 8 * 1024 * 1024
"""Bytes of a blob that needs no more than one connection, where there are others."""
_MANY = 4
"""So many small blobs come together; fewer would need connections of their own for that."""
_AHEAD = 3
"""How many of those are requested while the config is looked at."""


@frozen
class Pinned:
    """What a name stands for, and where that was found out; without a source it is here.

    `begun` is when it was asked for, `choice` what is taken for a name that leaves something open,
    `manifest` what the name stands for where that has come with the answer, and `there` the model
    where it is known to be all here.
    """

    reference: Reference
    exact: Reference
    source: Source | None
    begun: float
    choice: Choice | None = None
    manifest: Manifest | Index | None = field(default=None, repr=False)
    there: StoredModel | None = field(default=None, repr=False)


def _unheard(_reference: Reference, _artifact: ModelArtifact, _config: ModelConfig) -> None:
    pass


def _unchosen(_reference: Reference, _choice: Choice) -> None:
    pass


def _choice(source: Source, reference: Reference) -> Choice | None:
    return source.choice(reference) if isinstance(source, Chooser) else None


def unchecked(_reference: Reference, _manifest: Manifest) -> None:
    """Lets every model in."""


def _usual_backoff() -> "Backoff":
    from modelrunner.registry.http.retry import Backoff

    return Backoff()


@frozen
class Puller:
    """Pulls models into one store.

    `backoff` is called for how to try again, where something is to be fetched.
    `on_choice` is called with what is taken for a name that leaves something open, `on_config`
    with what a model is before its weights move; `nearby` finds what other programs
    of this machine have; `check` raises where a model is not to be had, whatever is here of it.
    `keeping` says what is kept of that which refers to a model; None for nothing.
    """

    store: Store
    source_for: Callable[[Reference], Source]
    listener: Listener = ignore
    backoff: "Callable[[], Backoff]" = _usual_backoff
    budget: Budget = field(default_factory=Budget)
    room: Room = field(default_factory=Room)
    clock: Callable[[], float] = time.monotonic
    on_choice: Callable[[Reference, Choice], None] = _unchosen
    on_config: Callable[[Reference, ModelArtifact, ModelConfig], None] = _unheard
    nearby: Find = nowhere
    check: Callable[[Reference, Manifest], None] = unchecked
    keeping: "Keeping | None" = None

    def pull(self, reference: Reference) -> Pulled:
        """Brings a model here.

        Raises:
            ManifestNotFoundError: No such tag; the near ones are named.
            UnsupportedArtifactError, IntegrityError: What is there cannot be used.
            AccessError, TransferError: The registry does not deliver.
            DiskFullError, StoreAccessError: It cannot be kept.
        """
        return self.fetch(self.pin(reference))

    def pin(self, reference: Reference) -> Pinned:
        """Resolve a name; what is pinned and in the store needs no network.

        Raises:
            ManifestNotFoundError: No such tag; the near ones are named.
            ModelNotFoundError: It is a name under `local/`, and not here.
            AccessError, TransferError: The registry does not answer.
        """
        begun = self.clock()
        if reference.is_local:
            return Pinned(reference, self._local(reference), None, begun)
        there = None if reference.digest is None else self.store.complete(reference)
        if there is not None:
            return Pinned(reference, reference, None, begun, there=there)
        source = self.source_for(reference)
        manifest: Manifest | Index | None = None
        if self._is_new(reference) and not isinstance(source, ManyPlaces):
            exact, manifest = pin_by_content(source, reference)
        else:
            exact = pin(source, reference)
        choice = _choice(source, reference)
        if choice is not None:
            self.on_choice(reference, choice)
        return Pinned(reference, exact, source, begun, choice, manifest)

    def _is_new(self, reference: Reference) -> bool:
        """Whether nothing of a repository is in the store, so that there is much to download.

        Else the digest is asked for: most names stand for what they did before, another tag often
        for a model that is in the store, and Docker Hub counts a manifest as a pull.
        """
        if reference.digest is not None or self.store.find(reference) is not None:
            return False
        return not self.store.tags_of(reference)

    def fetch(self, pinned: Pinned) -> Pulled:
        """Brings here what a name stood for when it was pinned; raises what `pull` does."""
        there = pinned.there or self.store.complete(pinned.exact)
        if there is not None:
            return self._found(pinned, there)
        source = pinned.source or self.source_for(pinned.exact)
        artifact = artifact_at(source, pinned.exact, pinned.manifest)
        if pinned.choice is None:
            pinned = replace(pinned, choice=_choice(source, pinned.exact))
        inside = artifact.manifest.digest
        if inside != pinned.exact.digest:
            # it was an index's digest: that of the model in it may be here
            exact = pinned.exact.with_digest(inside)
            asked = exact if pinned.reference.pinned else pinned.reference
            pinned = replace(pinned, reference=asked, exact=exact, source=source)
            there = self.store.complete(pinned.exact)
            if there is not None:
                return self._found(pinned, there)
        return self._fetch(pinned, source, artifact)

    def _local(self, reference: Reference) -> Reference:
        """A name made on this machine, pinned to what is here: nobody else is asked for it."""
        model = self.store.complete(reference)
        if model is None:
            if self.store.find(reference) is None:
                raise self.store.not_found(reference.short)
            raise CorruptStoreError(
                f"{reference.short} is damaged and not in any registry",
                hint="import or package it again",
            )
        return reference.with_digest(model.digest)

    def _found(self, pinned: Pinned, there: StoredModel) -> Pulled:
        self.check(pinned.reference, there.manifest)
        there = self._name(there, pinned)
        there.view()
        kept = self._kept_more(pinned.exact, there)
        origin = None if pinned.source is None else pinned.source.name
        spent = self.clock() - pinned.begun
        return Pulled(
            pinned.reference,
            there,
            "up-to-date",
            0,
            0,
            spent,
            origin,
            choice=pinned.choice,
            referrers=kept,
        )

    def _kept_more(self, exact: Reference, model: StoredModel) -> "ReferrersKept | None":
        """What refers to a model that is all here, where that was asked for by itself."""
        if self.keeping is None or not self.keeping.insists or exact.is_local:
            return None
        with self.store.arriving():
            found, kept = self.keeping.begin(self.store, exact, model.digest).finish()
            self.store.keep_referrers(model.digest, found)
        return kept

    def _fetch(self, pinned: Pinned, source: Source, artifact: ModelArtifact) -> Pulled:
        reference, exact, origin = pinned.reference, pinned.exact, source.name
        require_names(self.store.layout, artifact)
        manifest = artifact.manifest
        self.check(reference, manifest)
        from modelrunner.transfer.fetch import Fetcher
        from modelrunner.transfer.sources import SourcePool

        pool = SourcePool(lambda: self.source_for(reference), source)
        fetcher = Fetcher(exact, pool, self.store.blobs, self.listener, self.backoff(), self.budget)
        with pool, self.store.arriving():
            keeping = self.keeping
            beside = None if keeping is None else keeping.begin(self.store, exact, manifest.digest)
            results = self._bring_absent(reference, artifact, fetcher)
            found, kept = ((), None) if beside is None else beside.finish()
            if artifact.is_archived:
                # what cannot be unpacked gets no name
                packed = (layer.descriptor.size for layer in artifact.layers if layer.archived)
                self.listener(Unpacking(reference.short, sum(packed)))
                require_unpacked(self.store.blobs, reference.short, artifact)
            names, aliases = self._names(self.store.find(exact), pinned)

            def add() -> StoredModel:
                added = self.store.add(manifest, names, aliases, published=True, referrers=found)
                return added.knowing(artifact)

            try:
                model = add()
            except RemovedMeanwhileError:
                # another model had it when this pull began, and `rm` has removed that one
                results += self._bring_absent(reference, artifact, fetcher)
                model = add()
        # the files get their names now, for a store that is read-only later
        model.view()
        self.listener(Finished(reference.short, str(model.digest), manifest.total_bytes))
        return Pulled(
            reference,
            model,
            "pulled",
            sum(result.downloaded for result in results),
            sum(result.resumed for result in results),
            self.clock() - pinned.begun,
            origin,
            _origins(results),
            pinned.choice,
            kept,
        )

    def _bring_absent(
        self, reference: Reference, artifact: ModelArtifact, fetcher: "Fetcher"
    ) -> "list[Fetched]":
        states = [(entry, self.store.blobs.state(entry)) for entry in artifact.manifest.blobs]
        absent = [entry for entry, state in states if state != "good"]
        for entry, state in states:
            if state == "good":
                self.store.blobs.tidy(entry)
        with self.room.taken(self.store, absent):
            return self._bring(reference, artifact, fetcher, absent)

    def _bring(
        self,
        reference: Reference,
        artifact: ModelArtifact,
        fetcher: "Fetcher",
        absent: Sequence[Descriptor],
    ) -> "list[Fetched]":
        manifest, titles = artifact.manifest, _titles(artifact)
        resumed = sum(self.store.blobs.partial_bytes(entry) for entry in absent)
        present = manifest.total_bytes - sum(entry.size for entry in absent)
        self.listener(Planned(reference.short, manifest.total_bytes, present, resumed))
        missing = {entry.digest for entry in absent}
        here = [entry for entry in manifest.blobs if entry.digest not in missing]
        for entry in here:
            self.listener(Skipped(str(entry.digest), entry.size, titles[entry.digest]))
        # the config first, here already or not: what cannot be understood should fail before
        # gigabytes move
        first = [entry for entry in absent if entry.digest == manifest.config.digest]
        rest = [entry for entry in absent if entry.digest != manifest.config.digest]
        alone, together = _parted(rest)
        then = self._next(alone, together)
        results = [fetcher.fetch(entry, titles[entry.digest], then) for entry in first]
        self._check_config(reference, artifact)
        check = self._file_check(reference, artifact)
        # what is here already may be of an earlier pull that was refused
        # and a file may be the config, too
        for entry in (*first, *here):
            check(entry)
        for entry in alone:
            title = titles[entry.digest]
            results.append(self._near(entry, title) or fetcher.fetch(entry, title))
            check(entry)
        distant = []
        for entry in together:
            near = self._near(entry, titles[entry.digest])
            if near is None:
                distant.append(entry)
            else:
                results.append(near)
                check(entry)
        return [*results, *fetcher.fetch_many(distant, titles, check)]

    def _near(self, entry: Descriptor, title: str) -> "Fetched | None":
        return bring(self.store.blobs, self.listener, self.nearby, entry, title)

    def _next(self, alone: Sequence[Descriptor], together: Sequence[Descriptor]) -> "list[Next]":
        """What is requested before the config is here."""
        from modelrunner.transfer.fetch import Next

        few = min(_AHEAD, self.budget.limits.connections or _AHEAD)
        following = alone[:1] or together[:few]
        wanted = filter(self._is_worth_requesting, following)
        return [Next(entry, is_small=not alone) for entry in wanted]

    def _is_worth_requesting(self, entry: Descriptor) -> bool:
        """Whether the network is asked for a blob, and it is worth not to wait for the config."""
        return (
            self.budget.sharers == 1
            and self.budget.limits.connections != 1
            and entry.size >= _LARGE
            and self.store.blobs.partial_bytes(entry) == 0
            and self.nearby(entry.digest) is None
        )

    def _file_check(
        self, reference: Reference, artifact: ModelArtifact
    ) -> Callable[[Descriptor], None]:
        """A look at what has to be GGUF, before anything gets the model's name."""
        name = reference.short
        layers: dict[Digest, list[Layer]] = {}
        for layer in artifact.layers:
            layers.setdefault(layer.descriptor.digest, []).append(layer)

        def check(entry: Descriptor) -> None:
            for layer in layers.get(entry.digest, ()):
                require_weights(self.store.blobs, name, layer)

        return check

    def _check_config(self, reference: Reference, artifact: ModelArtifact) -> None:
        try:
            config = artifact.config(self.store.blobs.read(artifact.manifest.config))
        except MalformedManifestError as exc:
            raise MalformedManifestError(
                exc.message,
                hint="the artifact is broken: report it to its publisher",
                digest=str(artifact.manifest.config.digest),
            ) from exc
        self.on_config(reference, artifact, config)

    def _name(self, model: StoredModel, pinned: Pinned) -> StoredModel:
        names, aliases = self._names(model, pinned)
        new = set(map(str, names)) - set(map(str, model.references))
        if not new and set(map(str, aliases)) <= model.aliases.keys():
            if not pinned.reference.is_local:
                self.store.note_published(model)
            return model
        added = self.store.add(model.manifest, names, aliases, published=True)
        return self.store.find(pinned.exact) or added

    def _names(
        self, there: StoredModel | None, pinned: Pinned
    ) -> tuple[Sequence[Reference], Mapping[Reference, Reference]]:
        """The names to give, and other spellings of them.

        A digest of a repository that names the model already adds none.
        """
        reference, choice = pinned.reference, pinned.choice
        if reference.pinned:
            known = there.references if there is not None else ()
            return (known if any(n.name == reference.name for n in known) else [reference]), {}
        if choice is None or str(choice.name) == str(reference):
            return [reference], {}
        return [choice.name], {reference: choice.name}


def _parted(entries: Sequence[Descriptor]) -> tuple[list[Descriptor], list[Descriptor]]:
    """Blobs that come one after the other, and small ones that come together."""
    small = [entry for entry in entries if entry.size <= _SMALL]
    if len(small) < _MANY:
        return list(entries), []
    return [entry for entry in entries if entry.size > _SMALL], small


def _origins(results: "Sequence[Fetched]") -> dict[str, int]:
    """Bytes by place, the most first."""
    total: Counter[str] = Counter()
    for result in results:
        total.update(result.origins)
    return dict(total.most_common())


def _titles(artifact: ModelArtifact) -> dict[Digest, str]:
    titles: dict[Digest, str] = {artifact.manifest.config.digest: "config"}
    for layer in artifact.layers:
        titles[layer.descriptor.digest] = str(layer.path or layer.role)
    for entry in artifact.manifest.layers:
        titles.setdefault(entry.digest, entry.digest.short)
    return titles
