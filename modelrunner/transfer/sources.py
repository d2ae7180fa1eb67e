"""Sources that are used again: the connections of one blob serve the next.

Each connection of a transfer has a source for itself while it works. What it leaves behind has a
login, an order of places, and connections that are open. A blob may also be requested ahead, while
something else is still being looked at: the request that is made for it then gets that answer.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock, Thread
from typing import Self

from modelrunner.frozen import replace
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.registry.source import BlobStream, Source
from modelrunner.transfer.budget import CancelledError

_MOST_AHEAD = 4
"""Requests ahead at a time, beside the connections that deliver."""

_BlobPart = tuple[Digest, int, int | None]
"""A blob, and the start and the end of what was requested."""


class SourcePool:
    """Lends sources; closes them all when it is closed itself. For several threads.

    Args:
        open_source: Makes one more.
        idle: Sources that are there already.
    """

    def __init__(self, open_source: Callable[[], Source], *idle: Source) -> None:
        self._open_source = open_source
        self._idle = list(idle)
        self._ahead: dict[_BlobPart, _Ahead] = {}
        self._lock = Lock()
        self._closed = False
        self._refused = False

    def take(self) -> Source:
        """Return a source of the caller's own, until it closes it."""
        return Lent(self, self._take())

    def request_ahead(self, reference: Reference, descriptor: Descriptor, stop: int | None) -> None:
        """Request a blob from its start to `stop`, and do not wait for the answer."""
        self._start(_Ahead(self._open_source, reference, descriptor, 0, stop))

    def request_next(
        self,
        reference: Reference,
        descriptor: Descriptor,
        part: tuple[int, int],
        wrong: Mapping[str, int],
    ) -> None:
        """Request a part that is read soon, unless others are on their way, or one was refused.

        Args:
            reference: The model.
            descriptor: The blob.
            part: The first byte, and the one after the last.
            wrong: Places that may have delivered wrong bytes.
        """

        def take() -> Source:
            source = self._take()
            source.distrust(wrong)
            return source

        if not self._refused and len(self._ahead) < _MOST_AHEAD:
            self._start(_Ahead(take, reference, descriptor, *part))

    def requested(self, descriptor: Descriptor, offset: int, stop: int | None) -> "_Ahead | None":
        """Return the request for this part that was made ahead; each is given once.

        Where it fails somewhere in a blob, None is returned, and no other is made: what a server
        refuses to one connection more may be had by those that there are.
        """
        ahead = self._ahead.pop((descriptor.digest, offset, stop), None)
        if ahead is None or offset == 0 or ahead.is_answered():
            return ahead
        self._refused = True
        return None

    def give_back(self, source: Source) -> None:
        """Keep a source for the next one that is needed."""
        with self._lock:
            if not self._closed:
                self._idle.append(source)
                return
        source.close()

    def close(self) -> None:
        """Close those that nobody has, and from now on all that come back."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
            ahead, self._ahead = list(self._ahead.values()), {}
        for source in idle:
            source.close()
        for request in ahead:
            request.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _start(self, ahead: "_Ahead") -> None:
        with self._lock:
            if self._closed:
                return
            self._ahead[ahead.part] = ahead
            ahead.start()

    def _take(self) -> Source:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._open_source()


class _Ahead(Thread):
    """A request that is made before somebody waits for it."""

    def __init__(
        self,
        open_source: Callable[[], Source],
        reference: Reference,
        descriptor: Descriptor,
        offset: int,
        stop: int | None,
    ) -> None:
        super().__init__(name="ahead", daemon=True)
        self.part: _BlobPart = (descriptor.digest, offset, stop)
        self._open_source = open_source
        self._wanted = (reference, descriptor, offset, stop)
        self._stack = ExitStack()
        self._found: tuple[Source, BlobStream] | None = None
        self._error: BaseException | None = None
        self._lock = Lock()
        self._abandoned = False

    def run(self) -> None:
        """Makes the request, and waits for the head of its answer."""
        source = None
        with ExitStack() as stack:
            try:
                source = self._open_source()
                asked = time.monotonic()
                stream = stack.enter_context(source.open_blob(*self._wanted))
                stream = replace(stream, latency_s=time.monotonic() - asked)
            except BaseException as exc:  # noqa: BLE001 - raised where the answer is needed
                self._error = exc
            else:
                with self._lock:
                    if not self._abandoned:
                        self._found, self._stack = (source, stream), stack.pop_all()
        if source is not None and self._found is None:
            source.close()

    def is_answered(self) -> bool:
        """Wait for the answer; whether it has come."""
        self.join()
        return self._found is not None

    def answer(self) -> tuple[Source, BlobStream, ExitStack]:
        """Wait for the answer; the stack ends it. Raises what the request has."""
        self.join()
        if self._found is None:
            raise self._error or CancelledError
        return (*self._found, self._stack)

    def abandon(self) -> None:
        """Nobody needs it: ends it now, or as soon as it is there."""
        with self._lock:
            self._abandoned = True
        self._stack.close()
        if self._found is not None:
            self._found[0].close()


class Lent:
    """A source that goes back to where it is from when it is closed."""

    def __init__(self, pool: SourcePool, source: Source) -> None:
        self._pool = pool
        self._source = source

    @property
    def name(self) -> str:
        """See `Source.name`."""
        return self._source.name

    def resolve(self, reference: Reference) -> Digest:
        """See `Source.resolve`."""
        return self._source.resolve(reference)

    def manifest(self, reference: Reference) -> Manifest | Index:
        """See `Source.manifest`."""
        return self._source.manifest(reference)

    def open_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,
    ) -> AbstractContextManager[BlobStream]:
        """See `Source.open_blob`; takes the answer to a request that was made ahead."""
        ahead = self._pool.requested(descriptor, offset, stop)
        if ahead is not None:
            return self._answered(ahead)
        return self._source.open_blob(reference, descriptor, offset, stop)

    @contextmanager
    def _answered(self, ahead: _Ahead) -> Iterator[BlobStream]:
        source, stream, stack = ahead.answer()
        with stack:
            own, self._source = self._source, source
            self._pool.give_back(own)
            yield stream

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """See `Source.tags`."""
        return self._source.tags(reference)

    def distrust(self, places: Mapping[str, int]) -> None:
        """See `Source.distrust`."""
        self._source.distrust(places)

    def close(self) -> None:
        """Give it back."""
        self._pool.give_back(self._source)
