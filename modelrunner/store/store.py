"""The store: which models are here, what they are, and how they come and go.

Nothing here talks to a network. Reading creates nothing; a store that may not be written can be
read all the same. A name appears last, when everything under it is there and verified, and goes
first: what is interrupted in between is found by `prune`, never by `find`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from modelrunner.errors import (
    CorruptStoreError,
    DiskFullError,
    ModelNotFoundError,
    NotInStoreError,
    RemovedMeanwhileError,
    StoreAccessError,
    UnsupportedArtifactError,
)
from modelrunner.frozen import field, frozen, replace
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest, parse_manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.model.layers import Layer
from modelrunner.oci.reference import (
    DEFAULT_NAMESPACE,
    HUGGING_FACE,
    Reference,
    is_whole_id,
    match_id,
    names_tag,
)
from modelrunner.store.blobs import BlobStore
from modelrunner.store.index import Entry, read_index, write_index
from modelrunner.store.layout import Layout
from modelrunner.store.referrers import carried, keep, kept, kept_about, list_of
from modelrunner.text import did_you_mean, sanitize_line

# late imports: what reads the store loads nothing that changes it, or that explains what is missing
if TYPE_CHECKING:
    from modelrunner.oci.referrers import Referrer


@frozen
class StoredModel:
    """One model of the store; what is read from disk is read when it is asked for."""

    layout: Layout
    descriptor: Descriptor
    references: tuple[Reference, ...]
    aliases: Mapping[str, Reference] = field(default_factory=dict)
    """Other spellings of its names, each with the name that it stands for."""
    published: bool = False
    """Whether a registry is known to have it: it was pulled from there, or pushed."""

    is_stored: ClassVar[bool] = True
    """Whether its files are blobs of the store."""

    @property
    def digest(self) -> Digest:
        """The model's ID."""
        return self.descriptor.digest

    @property
    def is_image(self) -> bool:
        """Whether it is the image of a runtime."""
        return self.descriptor.annotations.get(media_types.ANNOTATION_KIND) == media_types.RUNTIME

    def name_for(self, reference: Reference) -> Reference | None:
        """The name of this model that a reference means, however it is spelled."""
        bare = replace(reference, digest=None)
        found = self.aliases.get(str(bare))
        exact = (name for name in self.references if _same_tag(name, bare))
        spelled = (name for name in self.references if _same_choice(name, bare))
        return next(exact, None) or found or next(spelled, None)

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest, verified.

        Raises:
            CorruptStoreError: It is missing or damaged.
        """
        raw = BlobStore(self.layout).read(self.descriptor)
        manifest = parse_manifest(raw, self.descriptor.media_type)
        if isinstance(manifest, Index):
            raise CorruptStoreError(f"{self.digest} is an index, not a model")
        return manifest

    @cached_property
    def artifact(self) -> ModelArtifact:
        """The manifest understood as a model, with files in the place of unpacked archives.

        Raises:
            UnsupportedArtifactError: Another tool has put something else here.
        """
        whole = self.whole
        if not whole.is_archived:
            return whole
        from modelrunner.store.unpacked.record import files_of

        files = files_of(self.layout, self.digest)
        return whole if files is None else whole.with_files(files)

    @cached_property
    def whole(self) -> ModelArtifact:
        """The manifest understood as a model, with its archives as they are: as registries have it.

        Raises:
            UnsupportedArtifactError: Another tool has put something else here.
        """
        try:
            return ModelArtifact.from_manifest(self.manifest)
        except UnsupportedArtifactError:
            if not self.manifest.is_image:
                raise
            # one that does not say so was unpacked before it got its name
            from modelrunner.oci.model.families.image import config_says_model
            from modelrunner.store.unpacked.record import files_of

            raw = BlobStore(self.layout).read(self.manifest.config)
            if files_of(self.layout, self.digest) is None and not config_says_model(raw):
                raise
            return ModelArtifact.from_manifest(self.manifest, image=True)

    def knowing(self, artifact: ModelArtifact) -> Self:
        """Return it, with what its manifest was understood as: neither is read again."""
        vars(self).update(manifest=artifact.manifest, whole=artifact)
        return self

    @property
    def is_runnable(self) -> bool:
        """Whether llama.cpp can run it, as far as its manifest says; True for a damaged one."""
        try:
            return self.artifact.is_runnable
        except CorruptStoreError:
            return True

    @cached_property
    def config(self) -> ModelConfig:
        """What the model's config says."""
        blobs = BlobStore(self.layout)
        return self.artifact.config(blobs.read(self.manifest.config), blobs.read)

    @cached_property
    def referrers(self) -> "tuple[Referrer, ...]":
        """What refers to the model, as far as it is kept: signatures and the like."""
        return kept(BlobStore(self.layout), self.descriptor)

    @property
    def size(self) -> int:
        """What the model's blobs take on disk, in bytes."""
        return self.manifest.total_bytes

    def weights(self) -> Path:
        """The path of the weights under their real name, the first shard of several.

        It is the directory of the model where programs open its format by that. What looks other
        than when it was hashed is hashed again.

        Raises:
            CorruptStoreError: Weights, or a file in the directory, are missing or damaged.
        """
        self.unpack()
        blobs = BlobStore(self.layout)
        main = self.artifact.main
        for layer in self.artifact.files if main is None else self.artifact.weights:
            if blobs.state(layer.descriptor) != "good":
                raise missing(self, layer.descriptor)
        return self.view() if main is None else self.view() / str(main.path)

    def view(self) -> Path:
        """The directory with the model's files under their real names."""
        from modelrunner.store.views import ensure_view

        self.unpack()
        return ensure_view(self.layout, self.artifact)

    def unpack(self) -> None:
        """Unpack what is in archives, where that is not done yet, or not right any more.

        Raises:
            IntegrityError: An archive is damaged or hostile.
            DiskFullError, StoreAccessError: It cannot be written.
        """
        whole = self.whole
        if whole.is_archived:
            # few models have archives, and this loads what decompresses
            from modelrunner.store.unpacked.unpack import unpack_model

            unpack_model(self.layout, whole)
            self.__dict__.pop("artifact", None)

    @property
    def path(self) -> Path | None:
        """Where `weights` are, without reading them; None where their view is not right."""
        from modelrunner.store.views import known_file, known_view

        main = self.artifact.main
        if main is not None:
            return known_file(self.layout, self.artifact, main)
        return known_view(self.layout, self.artifact)

    def blob(self, descriptor: Descriptor) -> Path:
        """Where a layer lies, under its digest."""
        return self.layout.blob(descriptor.digest)

    def file(self, layer: Layer | None) -> Path | None:
        """The file of a layer under its real name; None where it has none."""
        return None if layer is None or layer.path is None else self.view() / str(layer.path)


def missing(model: StoredModel, descriptor: Descriptor) -> CorruptStoreError:
    """The error for a blob that a stored model should have."""
    known = [name for name in model.references if not name.is_local]
    name = next((name.short for name in (*known, *model.references)), str(model.digest))
    if model.is_image and known:
        exact = known[0].with_digest(model.digest)
        hint = f"run `modelrunner runtimes install {exact}`: only missing blobs are downloaded"
    elif model.published and known:
        hint = f"run `modelrunner pull {name}`: only missing blobs are downloaded"
    elif known:
        hint = f"import or load it again, or run `modelrunner pull {name}` if a registry has it"
    else:
        hint = "import or package it again: no registry has it"
    return CorruptStoreError(
        f"{name}: the blob {descriptor.digest} is missing or damaged",
        hint=hint,
        digest=str(descriptor.digest),
    )


class Store:
    """The models under one directory; see `modelrunner.store.layout` for what lies where.

    Args:
        folder: The directory.
        on_assumed: Called with the name that a text without a tag was completed to, where that is
            not the default tag; see `lookup`.
    """

    def __init__(self, folder: Path, on_assumed: Callable[[Reference], None] | None = None) -> None:
        self._on_assumed = on_assumed
        self.layout = Layout.under(folder)
        self.blobs = BlobStore(self.layout)

    def models(self) -> tuple[StoredModel, ...]:
        """Every model once, with all its names."""
        return self._grouped(images=False)

    def images(self) -> tuple[StoredModel, ...]:
        """Every image of a runtime once, with all its names."""
        return self._grouped(images=True)

    def everything(self) -> tuple[StoredModel, ...]:
        """Models and images of runtimes."""
        return (*self.models(), *self.images())

    def find_image(self, reference: Reference) -> StoredModel | None:
        """The image of this name; with a digest, exactly that content."""
        for image in self.images():
            if reference.digest is not None and image.digest == reference.digest:
                return image
            if reference.digest is None and any(_same_tag(n, reference) for n in image.references):
                return image
        return None

    def add_image(self, manifest: Manifest, reference: Reference) -> StoredModel:
        """File the manifest of a runtime's image, whose blobs are all there, under a name.

        An image that had the name keeps it with its digest.

        Raises:
            RemovedMeanwhileError: A blob is missing: nothing was named.
        """
        # without a tag it is known by its own digest, and not by that of an index
        pin = None if reference.tag is not None else manifest.digest
        bare = replace(reference, digest=pin)
        self.blobs.put(manifest.descriptor, manifest.raw)
        with self.changing() as entries:
            self._require_blobs(manifest)
            kept = []
            for entry in entries:
                named = entry.reference
                if named is not None and str(named) == str(bare):
                    if entry.descriptor.digest == manifest.digest or not entry.is_image:
                        continue
                    pinned = named.with_digest(entry.descriptor.digest)
                    kept.append(Entry.image(pinned, entry.descriptor))
                elif not (
                    # another name of the same image does no harm, its own digest as one does
                    entry.is_image
                    and entry.descriptor.digest == manifest.digest
                    and named is not None
                    and named.pinned
                ):
                    kept.append(entry)
            entries[:] = [*kept, Entry.image(bare, manifest.descriptor)]
        entry = Entry.image(bare, manifest.descriptor)
        return StoredModel(self.layout, entry.descriptor, (bare,), {}, published=True)

    def _grouped(self, *, images: bool) -> tuple[StoredModel, ...]:
        if not self.layout.exists():
            return ()
        grouped: dict[Digest, list[Entry]] = {}
        for entry in read_index(self.layout):
            if entry.is_image == images:
                grouped.setdefault(entry.descriptor.digest, []).append(entry)
        return tuple(self._model(entries) for entries in grouped.values())

    def resolve(self, text: str, *, exact: bool = False) -> StoredModel:
        """The one resolver: a model by ID, by name, or by name and digest.

        Args:
            text: The ID or name.
            exact: Take no other tag than the one written, or the default: for what removes.

        Raises:
            InvalidReferenceError: The text is neither an ID nor a name.
            ModelNotFoundError: There is no such model; the near ones are named.
        """
        model = self.lookup(text, exact=exact)
        if model is None:
            raise self.not_found(text)
        return model

    def lookup(self, text: str, *, exact: bool = False) -> StoredModel | None:
        """Like `resolve`, None where there is no such model.

        A name under `local/` without a tag means the only one that there is: what makes such names
        sets a tag by itself, and no registry could have another one.
        """
        wanted = match_id(text)
        if wanted is not None:
            by_id = self._by_id(wanted)
            if by_id is not None or text.startswith("sha256:"):
                return by_id
        if is_whole_id(text):
            # no reference, but another tool may have called a model so
            return self.find(Reference.parse(f"{DEFAULT_NAMESPACE}/{text}"))
        found = self.find(Reference.parse(text))
        if found is not None or exact:
            return found
        only = self.only_name(text)
        if only is None:
            return None
        if self._on_assumed is not None:
            self._on_assumed(only)
        return self.find(only)

    def only_name(self, text: str) -> Reference | None:
        """The name that a text under `local/` without a tag stands for, where there is just one."""
        wanted = Reference.parse(text)
        if not wanted.is_local or wanted.pinned or names_tag(text):
            return None
        names = [
            name
            for model in self.models()
            for name in model.references
            if name.name == wanted.name and not name.pinned
        ]
        return names[0] if len(names) == 1 else None

    def find(self, reference: Reference) -> StoredModel | None:
        """The model of this name; with a digest, exactly that content."""
        models = self.models()
        if reference.digest is not None:
            return next((model for model in models if model.digest == reference.digest), None)
        # another spelling counts where no model has the very name
        for means in (_is_named, _is_alias, _is_spelled):
            for model in models:
                if means(model, reference):
                    return model
        return None

    def complete(self, reference: Reference) -> StoredModel | None:
        """Like `find`, None where a blob of the model is missing or damaged too."""
        model = self.find(reference)
        if model is None:
            return None
        try:
            good = all(self.blobs.state(blob) == "good" for blob in model.manifest.blobs)
        except CorruptStoreError:
            return None
        return model if good else None

    def add(
        self,
        manifest: Manifest,
        references: Sequence[Reference],
        aliases: Mapping[Reference, Reference] | None = None,
        *,
        published: bool = False,
        referrers: "Iterable[Referrer]" = (),
    ) -> StoredModel:
        """Files a manifest whose blobs are all there, then gives it its names.

        Args:
            manifest: The model's manifest.
            references: Its names; whatever had one of them loses it. Without any, the model is
                found by its digest.
            aliases: Other spellings, each of one of the names. They are found, but not listed, and
                move and go with the name.
            published: Whether a registry has it; once noted, that stays.
            referrers: What refers to it, to be kept with it as far as its blobs are there.

        Raises:
            RemovedMeanwhileError: A blob is missing: nothing was named.
            CorruptStoreError: One is damaged.
        """
        for descriptor in manifest.blobs:
            if self.blobs.state(descriptor) == "damaged":
                raise CorruptStoreError(
                    f"damaged blob {descriptor.digest}: the tag was not written",
                    digest=str(descriptor.digest),
                )
        self.blobs.put(manifest.descriptor, manifest.raw)
        with self.changing() as entries:
            self._require_blobs(manifest)
            before = list(entries)
            names = {str(reference): reference for reference in references}
            spellings = {
                str(entry.reference): (entry.reference, names[entry.alias_of])
                for entry in entries
                if entry.reference is not None and entry.alias_of in names
            } | {str(alias): (alias, name) for alias, name in (aliases or {}).items()}
            spellings = {text: pair for text, pair in spellings.items() if text not in names}
            published |= _is_published(entries, manifest.digest)
            known_already = any(entry.descriptor.digest == manifest.digest for entry in entries)
            if not references and not known_already:
                entries.append(Entry(None, manifest.descriptor, published))
            kept = [
                _noted(entry, manifest.digest) if published else entry
                for entry in entries
                if str(entry.reference) not in names.keys() | spellings.keys()
                and not (
                    references and entry.is_nameless and entry.descriptor.digest == manifest.digest
                )
            ]
            entries[:] = [
                *kept,
                *(Entry(reference, manifest.descriptor, published) for reference in references),
                *(
                    Entry.alias(alias, name, manifest.descriptor)
                    for alias, name in spellings.values()
                ),
            ]
            entries[:] = keep(self.blobs, carried(before, entries), manifest.digest, referrers)
            listed = next(entry for entry in entries if entry.descriptor.digest == manifest.digest)
        known = {text: name for text, (_, name) in spellings.items()}
        return StoredModel(self.layout, listed.descriptor, tuple(references), known, published)

    def referrers_of(self, digest: Digest) -> "tuple[Referrer, ...]":
        """What refers to a model, as far as it is kept; nothing where it is not in the store.

        What refers to something that is kept with a model is found by that, too.
        """
        if not self.layout.exists():
            return ()
        return kept_about(self.blobs, read_index(self.layout), digest)

    def sound_referrers(self, digest: Digest) -> "tuple[Referrer, ...]":
        """What refers to a model and can be given to others: every blob of it is right."""
        return tuple(
            each
            for each in self.referrers_of(digest)
            if all(self.blobs.state(blob) == "good" for blob in each.manifest.blobs)
        )

    def keep_referrers(self, digest: Digest, referrers: "Sequence[Referrer]") -> None:
        """Keeps what refers to a model of the store with it, as far as its blobs are there.

        Raises:
            StoreAccessError, DiskFullError: The store cannot be written.
        """
        if not referrers:
            return
        with self.changing() as entries:
            entries[:] = keep(self.blobs, carried((), entries), digest, referrers)

    def note_published(self, model: StoredModel) -> None:
        """Notes that a registry has a model; not in a store that cannot be written."""
        if model.published:
            return
        with suppress(StoreAccessError, DiskFullError), self.changing() as entries:
            entries[:] = [_noted(entry, model.digest) for entry in entries]

    def tag(self, model: StoredModel, reference: Reference) -> None:
        """Give a model one more name; a model that had it loses it."""
        self.add(model.manifest, [reference])

    def untag(self, references: Iterable[Reference]) -> None:
        """Takes names away; blobs stay until they are swept."""
        gone = {str(reference) for reference in references}
        with self.changing() as entries:
            entries[:] = [
                entry
                for entry in entries
                if str(entry.reference) not in gone and entry.alias_of not in gone
            ]

    def forget(self, digest: Digest) -> None:
        """Takes all names of a model away, and the model from the index."""
        with self.changing() as entries:
            entries[:] = [entry for entry in entries if entry.descriptor.digest != digest]

    @contextmanager
    def changing(self) -> Iterator[list[Entry]]:
        """The block in which the index changes: under the lock, written at its end.

        Raises:
            StoreAccessError, DiskFullError: It cannot be written; nothing has changed.
        """
        from modelrunner.disk.lock import held

        self.layout.create()
        with held(self.layout.lock):
            before = read_index(self.layout)
            entries = list(before)
            yield entries
            entries = carried(before, entries)
            if tuple(entries) != before:
                write_index(self.layout, entries)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """The block in which blobs arrive whose name comes last: none is swept meanwhile."""
        from modelrunner.disk.lock import held

        self.layout.create()
        with held(self.layout.arrivals, "shared"):
            yield

    @contextmanager
    def arrivals_held_off(self) -> Iterator[bool]:
        """The block in which no process enters that of `arriving`; False where one is inside."""
        from modelrunner.disk.lock import open_held, try_lock

        try:
            file = open_held(self.layout.arrivals)
        except FileNotFoundError:
            yield True
            return
        with file:
            yield try_lock(file)

    def _require_blobs(self, manifest: Manifest) -> None:
        # under the lock: nothing can be removed between this look and the name
        for descriptor in (manifest.descriptor, *manifest.blobs):
            if not self.blobs.path(descriptor.digest).exists():
                raise RemovedMeanwhileError(
                    f"missing blob {descriptor.digest}: the tag was not written",
                    digest=str(descriptor.digest),
                )

    def _model(self, entries: Sequence[Entry]) -> StoredModel:
        named = [(entry, entry.reference) for entry in entries if entry.reference is not None]
        own = {str(name): name for entry, name in named if entry.alias_of is None}
        aliases = {str(name): own[entry.alias_of] for entry, name in named if entry.alias_of in own}
        # one whose name another program has taken away stands for itself
        names = tuple(name for _, name in named if str(name) not in aliases)
        # a name that an older version has added says nothing of what refers to the model
        descriptors = (entry.descriptor for entry in entries)
        descriptor = next(filter(list_of, descriptors), entries[0].descriptor)
        published = _is_published(entries, descriptor.digest)
        return StoredModel(self.layout, descriptor, names, aliases, published)

    def _by_id(self, wanted: str) -> StoredModel | None:
        for model in self.models():
            if model.digest.hex.startswith(wanted):
                return model
        return None

    def tags_of(self, reference: Reference) -> tuple[str, ...]:
        """The tags that a repository has in the store, sorted."""
        found = {
            name.tag
            for name in self._names()
            if name.name == reference.name and name.tag is not None and not name.pinned
        }
        return tuple(sorted(found))

    def not_found(self, text: str) -> ModelNotFoundError:
        """The error for a model that is not in the store; the near ones are named."""
        from modelrunner.oci.near import near_names

        wanted = None if match_id(text) else Reference.parse(text)
        near = [] if wanted is None else near_names(wanted, self._names())
        hint = "`modelrunner list` lists local models, `modelrunner pull` downloads others"
        if wanted is not None and wanted.is_local:
            hint = (
                "`modelrunner list` lists local models; no registry has names under local/: "
                "create them with `modelrunner import` or `modelrunner package`"
            )
        return ModelNotFoundError(
            f"{sanitize_line(text, 200)}: not in the local store",
            hint=did_you_mean(near) or hint,
            reference=text,
            near=near,
        )

    def unreachable(
        self,
        reference: Reference,
        option: str = "--offline",
        hint: str = "run the command once without --offline",
    ) -> NotInStoreError:
        """The error for a model that is not in the store where no registry may be asked.

        Args:
            reference: The model; names of the store that are spelled like it come first.
            option: What the user has set so that none may be asked.
            hint: What to do where none of those was meant.
        """
        from modelrunner.oci.near import near_names

        near = near_names(reference, (name for name in self._names() if name != reference))
        question = did_you_mean(near)
        return NotInStoreError(
            f"{reference.short} is not in the local store, and {option} is set",
            hint=f"{question} If not, {hint}" if question else hint,
            reference=reference.short,
            near=near,
        )

    def unregistered(self, reference: Reference) -> ModelNotFoundError:
        """The error for a name under `local/` where only a registry could help."""
        if self.find(reference) is None:
            return self.not_found(reference.short)
        return ModelNotFoundError(
            f"{reference.short} is a local name: no registry has it",
            hint=f"name it for a registry: `modelrunner tag {reference.short} "
            "REGISTRY/NAMESPACE/NAME:TAG`",
            near=[],
        )

    def _names(self) -> Iterator[Reference]:
        return (name for model in self.models() for name in model.references)


def _is_named(model: StoredModel, wanted: Reference) -> bool:
    return any(_same_tag(name, wanted) for name in model.references)


def _is_alias(model: StoredModel, wanted: Reference) -> bool:
    return str(wanted) in model.aliases


def _is_spelled(model: StoredModel, wanted: Reference) -> bool:
    return any(_same_choice(name, wanted) for name in model.references)


def _same_choice(name: Reference, wanted: Reference) -> bool:
    """Whether two names of the Hugging Face Hub mean one model: `F16`, `f16` and `fp16` do."""
    if name.registry != HUGGING_FACE or name.name != wanted.name or name.digest is not None:
        return False
    has, asked = name.tag or "", wanted.tag or ""
    if has.lower() == asked.lower():
        return True
    from modelrunner.huggingface.names import normalized

    return has == normalized(asked)


def _is_published(entries: Iterable[Entry], digest: Digest) -> bool:
    return any(entry.published for entry in entries if entry.descriptor.digest == digest)


def _noted(entry: Entry, digest: Digest) -> Entry:
    return entry._replace(published=True) if entry.descriptor.digest == digest else entry


def _same_tag(name: Reference, wanted: Reference) -> bool:
    return name.name == wanted.name and name.tag == wanted.tag and name.digest is None
