"""Push: a stored model to a registry. What already exists is not sent again."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event, Lock, Thread
from typing import NamedTuple

from modelrunner.errors import (
    AccessError,
    CorruptStoreError,
    DeadlineError,
    RegistryAnswerError,
    TransferError,
    UnauthorizedError,
    UsageError,
)
from modelrunner.events import (
    Advanced,
    Finished,
    Listener,
    Planned,
    Retrying,
    Skipped,
    Started,
    Verified,
    ignore,
)
from modelrunner.events import Event as PushEvent
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference, match_id
from modelrunner.oci.referrers import Referrer
from modelrunner.operations.package.image import ModelImage
from modelrunner.operations.package.push_referrers import PushedReferrers, ReferrerPusher
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Framed, Outflow, Sink
from modelrunner.store.store import Store, StoredModel, missing
from modelrunner.transfer.limits import Limits, Throttle

CONNECTIONS = 4
"""Blobs that are sent side by side: as many as other tools send."""

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
    """

    store: Store
    sink: Sink
    listener: Listener = ignore
    backoff: Backoff = field(default_factory=Backoff)
    limits: Limits = field(default_factory=Limits)

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
        referrers = self.store.sound_referrers(model.digest)
        kept: PushedReferrers | None = None
        siblings = _siblings(self.store, model, reference)
        with _login_required(reference):
            uploaded = _Blobs(self, blobs, siblings, reference).push()
            if referrers:
                # who sees the name sees the signatures too
                kept = self._push_referrers(model, reference, siblings, referrers)
            self.backoff.run(lambda: self.sink.push_manifest(reference, manifest))
        self.store.note_published(model)
        self.listener(Finished(reference.short, str(manifest.digest), manifest.total_bytes))
        skipped = manifest.total_bytes - uploaded
        return Pushed(reference, str(manifest.digest), uploaded, skipped, kept)

    def push_image(self, image: ModelImage, reference: Reference) -> Pushed:
        """Sends the image of a model: blobs first, then each platform's manifest, the name last.

        Raises:
            CorruptStoreError: A file of the model became shorter meanwhile.
            AccessError, TransferError: The registry does not take it.
        """
        blobs, digest = image.blobs, str(image.index.digest)
        total = sum(blob.size for blob in blobs)
        self.listener(Planned(reference.short, total, 0, 0))
        with _login_required(reference):
            uploaded = _Blobs(self, blobs, (), reference, image.contents).push()
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
        with _login_required(reference):
            uploaded = _Blobs(
                self, manifest.blobs, siblings, reference, contents, sends_stored=False
            ).push()
            self.backoff.run(lambda: self.sink.push_manifest(reference, manifest))
        self.listener(Finished(reference.short, str(manifest.digest), manifest.total_bytes))
        skipped = manifest.total_bytes - uploaded
        return Pushed(reference, str(manifest.digest), uploaded, skipped)

    def _push_referrers(
        self,
        model: StoredModel,
        reference: Reference,
        siblings: "Sequence[_Sibling]",
        referrers: Sequence[Referrer],
    ) -> PushedReferrers:
        manifest = model.manifest
        pinned = replace(reference, tag=None, digest=manifest.digest)
        self.backoff.run(lambda: self.sink.push_manifest(pinned, manifest))
        blobs = {blob.digest: blob for each in referrers for blob in each.manifest.blobs}
        # what is reported of a push is the model
        silent = replace(self, listener=ignore)
        _Blobs(silent, tuple(blobs.values()), siblings, reference).push()
        return ReferrerPusher(self.sink, reference, model.digest, self.backoff).push(referrers)


@contextmanager
def _login_required(reference: Reference) -> Iterator[None]:
    """The block in which a registry that wants a login is one to push to."""
    try:
        yield
    except UnauthorizedError as exc:
        raise UnauthorizedError(
            f"{reference.short}: login required to push to {reference.registry}",
            hint=f"run `modelrunner login {reference.registry}` and push to a repository that "
            "you can write to",
            **exc.facts,
        ) from exc


class _Sibling(NamedTuple):
    """A repository of the same registry, and the blobs that it has; None where that is unknown."""

    reference: Reference
    blobs: frozenset[Digest] | None


class _StoppedError(Exception):
    """Another blob could not be sent: this one is not needed any more."""


class _Blobs:
    """The blobs of one push, on several connections."""

    def __init__(
        self,
        pusher: Pusher,
        blobs: Sequence[Descriptor],
        siblings: "Sequence[_Sibling]",
        reference: Reference,
        contents: Mapping[Digest, Framed] | None = None,
        *,
        sends_stored: bool = True,
    ) -> None:
        self._store = pusher.store
        self._contents = contents or {}
        self._sends_stored = sends_stored
        self._sink = pusher.sink
        self._listener = pusher.listener
        self._backoff = pusher.backoff
        self._throttle = Throttle(pusher.limits.rate)
        self._reference = reference
        self._siblings = siblings
        # the largest first, so that none of them is what all wait for at the end
        self._left = sorted(blobs, key=lambda blob: blob.size)
        self._connections = min(pusher.limits.connections or CONNECTIONS, len(self._left))
        self._lock = Lock()
        self._telling = Lock()
        self._opened = Event()
        self._stopped = Event()
        self._uploaded = 0
        self._error: BaseException | None = None

    def push(self) -> int:
        """Send what the registry does not have; how many bytes that was."""
        others = [
            Thread(target=self._work_beside, name=f"push-{number}", daemon=True)
            for number in range(1, self._connections)
        ]
        for thread in others:
            thread.start()
        try:
            self._work(self._sink)
        except _StoppedError:
            pass
        except BaseException:
            # the others end with their next piece, and are not waited for
            self._stopped.set()
            raise
        finally:
            self._opened.set()
        for thread in others:
            thread.join()
        if self._error is not None:
            raise self._error
        return self._uploaded

    def _work_beside(self) -> None:
        # the first answer settles how the registry is spoken to, and with which login
        self._opened.wait()
        sink = None
        try:
            if self._left and not self._stopped.is_set():
                sink = self._sink.another()
                self._work(sink)
        except _StoppedError:
            pass
        except BaseException as exc:  # noqa: BLE001 - the thread that waits raises it
            with self._lock:
                self._error = self._error or exc
            self._stopped.set()
        finally:
            if sink is not None:
                sink.close()

    def _work(self, sink: Sink) -> None:
        while not self._stopped.is_set():
            with self._lock:
                if not self._left:
                    return
                blob = self._left.pop()
            sent = self._push_blob(sink, blob)
            with self._lock:
                self._uploaded += sent

    def _push_blob(self, sink: Sink, blob: Descriptor) -> int:
        digest, title = str(blob.digest), blob.digest.short
        there = sink.has_blob(self._reference, blob.digest)
        self._opened.set()
        if there or self._mount(sink, blob):
            self._tell(Started(digest, blob.size, blob.size, title))
            self._tell(Skipped(digest, blob.size, title))
            return 0
        self._tell(Started(digest, blob.size, 0, title))
        self._upload(sink, blob)
        self._tell(Verified(digest, blob.size))
        return blob.size

    def _upload(self, sink: Sink, blob: Descriptor) -> None:
        upload = sink.upload(self._reference, blob, self._content(sink, blob))
        attempt, kept = 0, 0

        def resumed(offset: int) -> None:
            nonlocal attempt, kept
            if offset > kept:
                # a line that breaks again and again, but gets on
                attempt, kept = 0, offset
            self._tell(Advanced(str(blob.digest), blob.size, offset))

        flow = Outflow(
            on_sent=lambda done: self._tell(Advanced(str(blob.digest), blob.size, done)),
            on_resumed=resumed,
            before=self._before,
            block=self._throttle.block,
        )
        while True:
            try:
                upload.send(flow)
            except TransferError as exc:
                if self._stopped.is_set():
                    raise _StoppedError from exc
                attempt += 1
                delay = self._delay(attempt, exc)
                if delay is None:
                    raise
                self._tell(Retrying(str(blob.digest), exc.message, attempt, delay))
                self._backoff.sleep(min(delay, self._backoff.remaining_s()))
            else:
                return

    def _content(self, sink: Sink, blob: Descriptor) -> Framed:
        content = self._contents.get(blob.digest)
        if content is not None:
            return content
        if self._sends_stored:
            return Framed(self._store.blobs.path(blob.digest))
        raise RegistryAnswerError(
            f"{sink.name} does not take the blob {blob.digest.short} over from another"
            f" repository to {self._reference.short}",
            hint="pull the model that it is made of, and run the same command again: the blob"
            " is then sent from the local store",
            digest=str(blob.digest),
        )

    def _delay(self, attempt: int, error: TransferError) -> float | None:
        if isinstance(error, DeadlineError):
            return None
        try:
            self._backoff.remaining_s()
        except DeadlineError as exc:
            raise self._backoff.timed_out(error.message) from exc
        return self._backoff.delay(attempt, error)

    def _before(self, count: int) -> None:
        if self._stopped.is_set():
            raise _StoppedError
        self._backoff.remaining_s()
        self._throttle.take(count)

    def _mount(self, sink: Sink, blob: Descriptor) -> bool:
        """Whether the registry could take the blob from a repository that it has it in."""
        try:
            return any(
                sink.mount_blob(self._reference, blob.digest, sibling.reference.repository)
                for sibling in self._siblings
                if sibling.blobs is None or blob.digest in sibling.blobs
            )
        except (AccessError, TransferError):
            # a favour that was refused: the upload tells what is wrong, if anything is
            return False

    def _tell(self, event: PushEvent) -> None:
        with self._telling:
            if not self._stopped.is_set():
                self._listener(event)


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
