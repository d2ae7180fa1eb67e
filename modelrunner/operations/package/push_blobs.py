"""The blobs of a push or a copy: several side by side, resumed, without those that are there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Protocol

from modelrunner.errors import AccessError, DeadlineError, DigestMismatchError, TransferError
from modelrunner.events import Advanced, Listener, Retrying, Skipped, Started, Verified, ignore
from modelrunner.events import Event as PushEvent
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Framed, Outflow, Sink, UploadContent
from modelrunner.store.store import Store
from modelrunner.transfer.limits import Limits, Throttle

CONNECTIONS = 4
"""Blobs that are sent side by side: as many as other tools send."""


class Contents(Protocol):
    """Where the bytes of blobs are read. Not to be shared between threads."""

    def of(self, blob: Descriptor) -> Framed | UploadContent:
        """What an upload of the blob reads."""
        ...

    def another(self) -> "Contents":
        """The same contents for another thread."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class StoredContents:
    """The blobs of a store: files.

    Attributes:
        store: The store.
        made: What is not there as it is, but made of what is.
    """

    store: Store
    made: Mapping[Digest, Framed] = field(default_factory=dict)

    def of(self, blob: Descriptor) -> Framed:
        """Return the file of a blob, or what it is made of."""
        return self.made.get(blob.digest) or Framed(self.store.blobs.path(blob.digest))

    def another(self) -> "StoredContents":
        """Return itself: nothing of it changes."""
        return self

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of blobs, in bytes; what is in neither was there."""

    uploaded: int = 0
    mounted: int = 0

    def __add__(self, other: "Sent") -> "Sent":
        return Sent(self.uploaded + other.uploaded, self.mounted + other.mounted)


def no_siblings(_blob: Descriptor) -> Sequence[str]:
    """No repository of the same registry is known to have a blob."""
    return ()


@dataclass(frozen=True, slots=True)
class BlobPusher:
    """Pushes blobs to one repository.

    Attributes:
        sink: Where they go; other connections to it are made of it.
        reference: The repository there.
        contents: Where they are read; others for further threads are made of it.
        siblings: Returns other repositories of the registry that may have a blob: to mount from.
        listener: Called with events, from several threads but never from two at once.
        backoff: How often a blob is tried again, and until when.
        limits: How many connections, and how many bytes a second.
    """

    sink: Sink
    reference: Reference
    contents: Contents
    siblings: Callable[[Descriptor], Sequence[str]] = no_siblings
    listener: Listener = ignore
    backoff: Backoff = field(default_factory=Backoff)
    limits: Limits = field(default_factory=Limits)

    def push(self, blobs: Sequence[Descriptor]) -> Sent:
        """Send what the registry does not have.

        Raises:
            AccessError, TransferError: The registry does not take it.
            IntegrityError: What is read is not what its digest says; nothing of it is kept.
        """
        return _Run(self, blobs).push()


class _StoppedError(Exception):
    """Another blob could not be sent: this one is not needed any more."""


@dataclass(slots=True)
class _Tries:
    """How often an upload has failed since it last got further.

    Attributes:
        number: Tries in a row that failed.
        kept: Bytes that the registry had.
    """

    number: int = 0
    kept: int = 0

    def resumed(self, offset: int) -> None:
        """Note how many bytes the registry has."""
        if offset > self.kept:
            # a line that breaks again and again, but gets on
            self.number, self.kept = 0, offset


class _Run:
    """Blobs on their way, on several connections."""

    def __init__(self, pusher: BlobPusher, blobs: Sequence[Descriptor]) -> None:
        self._sink = pusher.sink
        self._contents = pusher.contents
        self._listener = pusher.listener
        self._backoff = pusher.backoff
        self._throttle = Throttle(pusher.limits.rate)
        self._reference = pusher.reference
        self._siblings = pusher.siblings
        # the largest first, so that none of them is what all wait for at the end
        self._left = sorted(blobs, key=lambda blob: blob.size)
        self._connections = min(pusher.limits.connections or CONNECTIONS, len(self._left))
        self._lock = Lock()
        self._telling = Lock()
        self._opened = Event()
        self._stopped = Event()
        self._sent = Sent()
        self._error: BaseException | None = None

    def push(self) -> Sent:
        """Send what the registry does not have; how many bytes that was."""
        others = [
            Thread(target=self._work_beside, name=f"push-{number}", daemon=True)
            for number in range(1, self._connections)
        ]
        for thread in others:
            thread.start()
        try:
            self._work(self._sink, self._contents)
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
        return self._sent

    def _work_beside(self) -> None:
        # the first answer settles how the registry is spoken to, and with which login
        self._opened.wait()
        sink, contents = None, None
        try:
            if self._left and not self._stopped.is_set():
                sink, contents = self._sink.another(), self._contents.another()
                self._work(sink, contents)
        except _StoppedError:
            pass
        except BaseException as exc:  # noqa: BLE001 - the thread that waits raises it
            with self._lock:
                self._error = self._error or exc
            self._stopped.set()
        finally:
            if sink is not None:
                sink.close()
            if contents is not None:
                contents.close()

    def _work(self, sink: Sink, contents: Contents) -> None:
        while not self._stopped.is_set():
            with self._lock:
                if not self._left:
                    return
                blob = self._left.pop()
            sent = self._push_blob(sink, contents, blob)
            with self._lock:
                self._sent += sent

    def _push_blob(self, sink: Sink, contents: Contents, blob: Descriptor) -> Sent:
        digest, title = str(blob.digest), blob.digest.short
        there = sink.has_blob(self._reference, blob.digest)
        self._opened.set()
        mounted = not there and self._mount(sink, blob)
        if there or mounted:
            self._tell(Started(digest, blob.size, blob.size, title))
            self._tell(Skipped(digest, blob.size, title))
            return Sent(mounted=blob.size if mounted else 0)
        self._tell(Started(digest, blob.size, 0, title))
        self._upload(sink, contents, blob)
        self._tell(Verified(digest, blob.size))
        return Sent(uploaded=blob.size)

    def _upload(self, sink: Sink, contents: Contents, blob: Descriptor) -> None:
        content = contents.of(blob)
        upload = sink.upload(self._reference, blob, content)
        tries = _Tries()
        flow = self._flow(blob, tries)
        while True:
            try:
                upload.send(flow)
            except TransferError as exc:
                if self._stopped.is_set():
                    raise _StoppedError from exc
                tries.number += 1
                delay = self._delay(tries.number, exc)
                if delay is None:
                    raise
                flow.on_retry(exc, tries.number, delay)
                self._backoff.sleep(min(delay, self._backoff.remaining_s()))
            except DigestMismatchError:
                if isinstance(content, Framed) or not content.has_other_place():
                    raise
            else:
                return

    def _flow(self, blob: Descriptor, tries: "_Tries") -> Outflow:
        digest = str(blob.digest)

        def resumed(offset: int) -> None:
            tries.resumed(offset)
            self._tell(Advanced(digest, blob.size, offset))

        def retried(error: TransferError, number: int, delay: float) -> None:
            self._tell(Retrying(digest, error.message, number, delay))

        return Outflow(
            on_sent=lambda done: self._tell(Advanced(digest, blob.size, done)),
            on_resumed=resumed,
            before=self._before,
            block=self._throttle.block,
            on_retry=retried,
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
                sink.mount_blob(self._reference, blob.digest, repository)
                for repository in self._siblings(blob)
            )
        except (AccessError, TransferError):
            # a favour that was refused: the upload tells what is wrong, if anything is
            return False

    def _tell(self, event: PushEvent) -> None:
        with self._telling:
            if not self._stopped.is_set():
                self._listener(event)
