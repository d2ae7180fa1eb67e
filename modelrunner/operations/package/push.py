"""Push: a stored model to a registry. What already exists is not sent again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from modelrunner.errors import AccessError, TransferError, UnauthorizedError, UsageError
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
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.reference import Reference, match_id
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import OnSent, Sink
from modelrunner.store.store import Store, StoredModel, missing


def to_push(store: Store, text: str) -> tuple[StoredModel, Reference]:
    """Return the model that a text means, and the name that says where it goes.

    Raises:
        ModelNotFoundError: The model is not in the store, or its name is a local one.
        UsageError: The text is an ID.
    """
    model = store.resolve(text)
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
    return model, name


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push came to; bytes that went over the network."""

    reference: Reference
    digest: str
    uploaded_bytes: int
    skipped_bytes: int


@dataclass(frozen=True, slots=True)
class Pusher:
    """Pushes models out of one store."""

    store: Store
    sink: Sink
    listener: Listener = ignore
    backoff: Backoff = field(default_factory=Backoff)

    def push(self, model: StoredModel, reference: Reference) -> Pushed:
        """Sends a model: blobs first, the manifest last.

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
        siblings = _siblings(model, reference)
        try:
            uploaded = sum(self._push_blob(reference, blob, siblings) for blob in blobs)
            self.backoff.run(lambda: self.sink.push_manifest(reference, manifest))
        except UnauthorizedError as exc:
            raise UnauthorizedError(
                f"{reference.short}: login required to push to {reference.registry}",
                hint=f"run `modelrunner login {reference.registry}` and push to a repository that "
                "you can write to",
                **exc.facts,
            ) from exc
        self.store.note_published(model)
        self.listener(Finished(reference.short, str(manifest.digest), manifest.total_bytes))
        return Pushed(reference, str(manifest.digest), uploaded, manifest.total_bytes - uploaded)

    def _push_blob(
        self, reference: Reference, blob: Descriptor, siblings: Sequence[Reference]
    ) -> int:
        digest, title = str(blob.digest), blob.digest.short
        if self.sink.has_blob(reference, blob.digest) or self._mount(reference, blob, siblings):
            self.listener(Started(digest, blob.size, blob.size, title))
            self.listener(Skipped(digest, blob.size, title))
            return 0
        self.listener(Started(digest, blob.size, 0, title))
        attempt = 0
        while True:
            try:
                self.sink.push_blob(
                    reference, blob, self.store.blobs.path(blob.digest), self._tick(blob)
                )
            except TransferError as exc:
                attempt += 1
                delay = self.backoff.delay(attempt, exc)
                if delay is None:
                    raise
                self.listener(Retrying(digest, exc.message, attempt, delay))
                self.backoff.sleep(delay)
            else:
                self.listener(Verified(digest, blob.size))
                return blob.size

    def _mount(self, reference: Reference, blob: Descriptor, siblings: Sequence[Reference]) -> bool:
        """Whether the registry could take the blob from a repository that it has it in."""
        try:
            return any(
                self.sink.mount_blob(reference, blob.digest, sibling.repository)
                for sibling in siblings
            )
        except (AccessError, TransferError):
            # a favour that was refused: the upload tells what is wrong, if anything is
            return False

    def _tick(self, blob: Descriptor) -> OnSent:
        def tick(position: int) -> None:
            self.listener(Advanced(str(blob.digest), blob.size, position))

        return tick


def _siblings(model: StoredModel, reference: Reference) -> list[Reference]:
    """Other repositories of the same registry that may have the blobs: to mount from."""
    found = {
        name.repository: name
        for name in model.references
        if name.registry == reference.registry and name.repository != reference.repository
    }
    return list(found.values())
