"""Push: a stored model to a registry. What already exists is not sent again."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from modelrunner.errors import (
    CorruptStoreError,
    RegistryAnswerError,
    UnauthorizedError,
    UsageError,
)
from modelrunner.events import Finished, Listener, Planned, ignore
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference, match_id
from modelrunner.oci.referrers import Referrer, ReferrerChoice, taken_along
from modelrunner.operations.package.push_blobs import BlobPusher, Contents, StoredContents
from modelrunner.operations.package.push_referrers import PushedReferrers, push_referrers
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Framed, Sink
from modelrunner.store.store import Store, StoredModel, missing
from modelrunner.transfer.limits import Limits

if TYPE_CHECKING:
    from modelrunner.operations.package.image import ModelImage

_MOST_SIBLINGS = 8
"""Repositories that a blob is asked for at most before it is sent."""


def to_push(
    store: Store, text: str, to: str | None = None
) -> tuple[StoredModel, Reference, Reference]:
    """Return the model that a text means, its name, and the name that says where it goes.

    Args:
        store: Where the model is.
        text: Its name; an ID only where `to` is given.
        to: The name at the registry; None for that of the model.

    Raises:
        ModelNotFoundError: The model is not in the store, or its name is a local one.
        UsageError: There is nothing but an ID, or `to` is not a name to push to.
    """
    model = store.resolve(text)
    if to is not None:
        target = Reference.parse(to)
        if target.digest is not None:
            raise UsageError(
                f"--to: cannot push under a digest: {target.short}",
                hint="use a tag: REGISTRY/NAMESPACE/NAME:TAG",
            )
        if target.is_local:
            raise UsageError(
                f"--to {target.short}: no registry has names under local/",
                hint="name a registry: --to REGISTRY/NAMESPACE/NAME:TAG",
            )
        name = store.only_name(text) if match_id(text) is None else None
        return model, name or _name_of(model, text), target
    digits = match_id(text)
    if digits is not None and model.digest.hex.startswith(digits):
        known = ", ".join(f"`{name.short}`" for name in model.references)
        raise UsageError(
            f"push needs a model name, got the ID {text}",
            hint=f"push one of its names: {known}"
            if known
            else f"add a name first: `modelrunner tag {text} REGISTRY/NAME:TAG`",
        )
    name = store.only_name(text) or Reference.parse(text)
    if name.is_local:
        raise store.unregistered(name)
    return model, name, name


def _name_of(model: StoredModel, text: str) -> Reference:
    """The name that a text means, or the first that a model has where it is an ID."""
    digits = match_id(text)
    if digits is None or not model.digest.hex.startswith(digits):
        return Reference.parse(text)
    known = [name for name in model.references if not name.is_local]
    return next(iter((*known, *model.references)), Reference.parse(f"local/{model.digest.short}"))


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push came to; bytes that went over the network.

    `referrers` is what became of that which refers to the model; None where nothing does.
    """

    reference: Reference
    digest: str
    uploaded_bytes: int
    skipped_bytes: int
    referrers: PushedReferrers | None = None


@dataclass(frozen=True, slots=True)
class Pusher:
    """Pushes models out of one store.

    Attributes:
        store: Where the models are.
        sink: Where they go; other connections to it are made of it.
        listener: Called with events, from several threads but never from two at once.
        backoff: How often a blob is tried again, and until when.
        limits: How many connections, and how many bytes a second.
        referrers: What of that which refers to a model goes along.
    """

    store: Store
    sink: Sink
    listener: Listener = ignore
    backoff: Backoff = field(default_factory=Backoff)
    limits: Limits = field(default_factory=Limits)
    referrers: ReferrerChoice = "all"

    def push(self, model: StoredModel, reference: Reference) -> Pushed:
        """Sends a model: blobs first, then what refers to it, the name last.

        Raises:
            CorruptStoreError: A blob of the model is missing or damaged here.
            AccessError, TransferError: The registry does not take it.
        """
        manifest = model.manifest
        blobs = manifest.blobs
        for blob in blobs:
            if self.store.blobs.state(blob) != "good":
                raise missing(model, blob)
        self.listener(Planned(reference.short, manifest.total_bytes, 0, 0))
        found = self.store.sound_referrers(model.digest)
        referrers = taken_along(found, self.referrers, model.digest)
        kept: PushedReferrers | None = None
        siblings = _siblings(self.store, model, reference)
        pusher = self._blob_pusher(reference, StoredContents(self.store), siblings)
        with _login_required(reference):
            uploaded = pusher.push(blobs).uploaded
            if referrers:
                # who sees the name sees the signatures too
                kept = self._push_referrers(model, reference, pusher, referrers)
            self.backoff.run(lambda: self.sink.push_manifest(reference, manifest))
        self.store.note_published(model)
        self.listener(Finished(reference.short, str(manifest.digest), manifest.total_bytes))
        skipped = manifest.total_bytes - uploaded
        return Pushed(reference, str(manifest.digest), uploaded, skipped, kept)

    def push_image(self, image: "ModelImage", reference: Reference) -> Pushed:
        """Sends the image of a model: blobs first, then each platform's manifest, the name last.

        Raises:
            CorruptStoreError: A file of the model became shorter meanwhile.
            AccessError, TransferError: The registry does not take it.
        """
        blobs, digest = image.blobs, str(image.index.digest)
        total = sum(blob.size for blob in blobs)
        self.listener(Planned(reference.short, total, 0, 0))
        contents = StoredContents(self.store, image.contents)
        with _login_required(reference):
            uploaded = self._blob_pusher(reference, contents).push(blobs).uploaded
            for each in image.images:
                pinned = replace(reference, tag=None, digest=each.manifest.digest)
                self.backoff.run(partial(self.sink.push_manifest, pinned, each.manifest))
            self.backoff.run(lambda: self.sink.push_manifest(reference, image.index))
        self.listener(Finished(reference.short, digest, total))
        return Pushed(reference, digest, uploaded, total - uploaded)

    def push_derived(
        self,
        manifest: Manifest,
        reference: Reference,
        base: Reference,
        contents: Mapping[Digest, Framed],
    ) -> Pushed:
        """Send a model that is not in the store, whose other blobs the registry has.

        Args:
            manifest: Its manifest.
            reference: The name that it gets.
            base: The model in the same registry that has the other blobs.
            contents: The blobs that are sent.

        Raises:
            RegistryAnswerError: The registry does not take the blobs over, or does not take it.
            AccessError, TransferError: It does not answer.
        """
        self.listener(Planned(reference.short, manifest.total_bytes, 0, 0))
        siblings = [] if base.repository == reference.repository else [_Sibling(base, None)]
        given = _GivenContents(contents, self.sink.name, reference)
        with _login_required(reference):
            uploaded = self._blob_pusher(reference, given, siblings).push(manifest.blobs).uploaded
            self.backoff.run(lambda: self.sink.push_manifest(reference, manifest))
        self.listener(Finished(reference.short, str(manifest.digest), manifest.total_bytes))
        skipped = manifest.total_bytes - uploaded
        return Pushed(reference, str(manifest.digest), uploaded, skipped)

    def _blob_pusher(
        self, reference: Reference, contents: Contents, siblings: "Sequence[_Sibling]" = ()
    ) -> BlobPusher:
        return BlobPusher(
            self.sink,
            reference,
            contents,
            lambda blob: [each.reference.repository for each in siblings if each.may_have(blob)],
            self.listener,
            self.backoff,
            self.limits,
        )

    def _push_referrers(
        self,
        model: StoredModel,
        reference: Reference,
        pusher: BlobPusher,
        referrers: Sequence[Referrer],
    ) -> PushedReferrers:
        manifest = model.manifest
        pinned = replace(reference, tag=None, digest=manifest.digest)
        self.backoff.run(lambda: self.sink.push_manifest(pinned, manifest))
        blobs = {blob.digest: blob for each in referrers for blob in each.manifest.blobs}
        # what is reported of a push is the model
        replace(pusher, listener=ignore).push(tuple(blobs.values()))
        return push_referrers(self.sink, reference, model.digest, referrers, self.backoff)


def to_push_log_in(error: UnauthorizedError, reference: Reference) -> UnauthorizedError:
    """Return the error for a registry that takes a push after a login only."""
    return UnauthorizedError(
        f"{reference.short}: login required to push to {reference.registry}",
        hint=f"run `modelrunner login {reference.registry}` and push to a repository that "
        "you can write to",
        **error.facts,
    )


@contextmanager
def _login_required(reference: Reference) -> Iterator[None]:
    """The block in which a registry that wants a login is one to push to."""
    try:
        yield
    except UnauthorizedError as exc:
        raise to_push_log_in(exc, reference) from exc


class _Sibling(NamedTuple):
    """A repository of the same registry, and the blobs that it has; None where that is unknown."""

    reference: Reference
    blobs: frozenset[Digest] | None

    def may_have(self, blob: Descriptor) -> bool:
        """Whether it is worth to ask for a blob."""
        return self.blobs is None or blob.digest in self.blobs


@dataclass(frozen=True, slots=True)
class _GivenContents:
    """Blobs that are sent, where all others are the registry's to take over."""

    given: Mapping[Digest, Framed]
    registry: str
    reference: Reference

    def of(self, blob: Descriptor) -> Framed:
        content = self.given.get(blob.digest)
        if content is not None:
            return content
        raise RegistryAnswerError(
            f"{self.registry} does not take the blob {blob.digest.short} over from another"
            f" repository to {self.reference.short}",
            hint="pull the model that it is made of, and run the same command again: the blob"
            " is then sent from the local store",
            digest=str(blob.digest),
        )

    def another(self) -> "_GivenContents":
        return self

    def close(self) -> None:
        """Do nothing."""


def _siblings(store: Store, model: StoredModel, reference: Reference) -> Sequence[_Sibling]:
    """Other repositories of the same registry that may have the blobs: to mount from.

    Those of the model itself come first, then those of other models with the same weights.
    """
    found: dict[str, _Sibling] = {}
    weights = {layer.descriptor.digest for layer in model.artifact.weights}

    def note(other: StoredModel, blobs: frozenset[Digest] | None) -> None:
        for name in other.references:
            if name.registry == reference.registry and name.repository != reference.repository:
                found.setdefault(name.repository, _Sibling(name, blobs))

    note(model, None)
    for other in store.models():
        is_near = any(name.registry == reference.registry for name in other.references)
        if not (is_near and other.published) or other.digest == model.digest:
            continue
        try:
            blobs = frozenset(blob.digest for blob in other.manifest.blobs)
        except CorruptStoreError:
            continue
        if weights & blobs:
            note(other, blobs)
    return list(found.values())[:_MOST_SIBLINGS]
