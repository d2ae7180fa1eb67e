"""One blob on its way from a source to an upload: hashed as it passes, and kept nowhere.

What is read of the source is what the request sends. The last bytes are held back until all of it
is known to be right, so that no registry can commit a blob that is wrong. Where the source breaks,
it is asked for what follows, while the request waits; where the upload breaks, it goes on at
whatever byte the registry asks for: the hash goes on from a state before it, and the bytes are read
again.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from modelrunner.errors import (
    DigestMismatchError,
    InterruptedTransferError,
    ModelRunnerError,
    PartRefusedError,
    RangesUnsupportedError,
    TransferError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.reference import Reference
from modelrunner.registry.fallback import PROVEN
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import BlobStream, Outflow, Source
from modelrunner.store.hashing import PIECE, SideHash, buffers

if TYPE_CHECKING:
    import hashlib

MARK = 64 * 1024 * 1024
"""Bytes between two states of the hash that are kept: what is read again at most."""

_MOST_MARKS = 256
_REFUSED = 2
"""Parts that were refused one after the other, after which the whole is asked for."""


class SourceFailedError(Exception):
    """A source does not deliver a blob, for good: the upload need not be tried again.

    Attributes:
        error: Why.
    """

    def __init__(self, error: ModelRunnerError) -> None:
        super().__init__(error.message)
        self.error = error


class Passage:
    """A blob that an upload reads from a source. Not to be shared between threads.

    Args:
        source: Returns the source; called when a byte is needed.
        reference: What the blob belongs to there.
        descriptor: The blob.
        backoff: How often the source is asked again for the same byte.
    """

    def __init__(
        self,
        source: Callable[[], Source],
        reference: Reference,
        descriptor: Descriptor,
        backoff: Backoff,
    ) -> None:
        self._source = source
        self._reference = reference
        self._descriptor = descriptor
        self._backoff = backoff
        self._buffers = buffers(min(PIECE, max(1, descriptor.size)))
        self._marks = _Marks()
        self._hash = SideHash()
        self._position = 0
        self._whole = False
        self._stream: BlobStream | None = None
        self._stack = ExitStack()
        self._places: set[str] = set()
        self._wrong: Counter[str] = Counter()
        self._distrusted: dict[str, int] = {}

    @contextmanager
    def opened(self) -> Iterator["Passage"]:
        """The block in which it is read; the source's connection is let go of at its end."""
        try:
            yield self
        finally:
            self._hang_up()

    def body(self, begin: int, end: int, flow: Outflow) -> "PassingBody":
        """Its bytes from `begin` to `end` (exclusive), read as they are sent."""
        return PassingBody(self, begin, end, flow)

    def has_other_place(self) -> bool:
        """Whether another place may have what was wrong: all of it is read from there, then."""
        wrong = {place: weight for place, weight in self._wrong.items() if place}
        if not wrong or wrong == self._distrusted:
            return False
        self._distrusted = wrong
        self._source().distrust(wrong)
        return True

    def pieces(self, begin: int, end: int, flow: Outflow) -> Iterator[memoryview]:
        """Read and hash bytes from `begin` to `end`; each piece is valid until the next.

        Raises:
            DigestMismatchError: All of them are wrong: the last piece is not handed over.
            SourceFailedError: The source does not deliver.
        """
        self._seek(begin, flow)
        most = min(PIECE, flow.block or PIECE)
        while self._position < end:
            count = min(most, end - self._position)
            flow.before(count)
            piece = self._next(count, flow)
            if self._position == self._descriptor.size:
                self._check()
            yield piece
            flow.on_sent(self._position)

    def _seek(self, begin: int, flow: Outflow) -> None:
        """Go on at a byte; what lies between it and a known state of the hash is read again."""
        if begin == self._position:
            return
        self._hang_up()
        self._position, state = self._marks.before(begin)
        self._hash = SideHash(state)
        while self._position < begin:
            self._next(min(PIECE, begin - self._position), flow)

    def _restart(self) -> None:
        self._hang_up()
        self._position, self._hash, self._marks = 0, SideHash(), _Marks()
        self._places.clear()

    def _next(self, most: int, flow: Outflow) -> memoryview:
        buffer = next(self._buffers)[:most]
        piece = buffer[: self._fill(buffer, flow)]
        self._hash.add(piece)
        self._position += len(piece)
        self._marks.note(self._position, self._hash)
        return piece

    def _fill(self, buffer: memoryview, flow: Outflow) -> int:
        """Read what follows, from a new answer where one breaks off; never 0 bytes."""
        attempt = 0
        while True:
            try:
                return self._read(buffer)
            except RangesUnsupportedError as exc:
                self._hang_up(exc)
                if self._whole:
                    raise SourceFailedError(exc) from exc
                self._whole = True
            except TransferError as exc:
                self._hang_up(exc)
                attempt += 1
                if isinstance(exc, PartRefusedError) and attempt >= _REFUSED:
                    self._whole = True
                delay = self._backoff.delay(attempt, exc)
                if delay is None:
                    raise SourceFailedError(exc) from exc
                flow.on_retry(exc, attempt, delay)
                self._backoff.sleep(min(delay, self._backoff.remaining_s()))
                # whoever waits for this may have ended meanwhile
                flow.before(0)
            except ModelRunnerError as exc:
                self._hang_up(exc)
                raise SourceFailedError(exc) from exc

    def _read(self, buffer: memoryview) -> int:
        stream = self._connect() if self._stream is None else self._stream
        count = stream.readinto(buffer)
        if not count:
            raise InterruptedTransferError(
                f"{self._what}: the answer ended after {self._position} of "
                f"{self._descriptor.size} bytes"
            )
        self._places.add(stream.place)
        return count

    def _connect(self) -> BlobStream:
        source = self._source()
        begin = 0 if self._whole else self._position
        stream = self._stack.enter_context(
            source.open_blob(self._reference, self._descriptor, begin)
        )
        left = self._position - begin
        # of a source without ranges all is read again, and sent on from where it broke
        scratch = memoryview(bytearray(min(PIECE, left)))
        while left:
            count = stream.readinto(scratch[:left])
            if not count:
                raise InterruptedTransferError(f"{self._what}: the answer ended early")
            left -= count
        self._stream = stream
        return stream

    def _hang_up(self, error: ModelRunnerError | None = None) -> None:
        """Let go of the answer; one of several places that has failed is not asked first again."""
        stream, self._stream = self._stream, None
        stack, self._stack = self._stack, ExitStack()
        if error is None or stream is None:
            stack.close()
        else:
            stack.__exit__(type(error), error, error.__traceback__)

    def _check(self) -> None:
        got, expected = self._hash.hexdigest(), self._descriptor.digest.hex
        if got == expected:
            return
        places = sorted(self._places)
        # one alone has sent what is wrong; of several, one of them has
        self._wrong.update(dict.fromkeys(places, PROVEN if len(places) == 1 else 1))
        self._restart()
        raise DigestMismatchError(
            f"{self._what}: expected {self._descriptor.digest}, got sha256:{got}",
            hint="the source sends other bytes than its manifest names, and the blob was not "
            "committed: try again, or copy from another registry or mirror",
            places=[place for place in places if place] or None,
            expected=str(self._descriptor.digest),
            got=f"sha256:{got}",
        )

    @property
    def _what(self) -> str:
        return f"{self._reference.short}: blob {self._descriptor.digest.short}"


class PassingBody:
    """Bytes of a passage as the body of a request; each iteration reads them again."""

    def __init__(self, passage: Passage, begin: int, end: int, flow: Outflow) -> None:
        self._passage = passage
        self._begin = begin
        self._end = end
        self._flow = flow

    def __len__(self) -> int:
        return self._end - self._begin

    def __iter__(self) -> Iterator[memoryview]:
        return self._passage.pieces(self._begin, self._end, self._flow)


class _Marks:
    """States of a hash by the number of bytes before them: at most `_MOST_MARKS`."""

    def __init__(self) -> None:
        self._stride = MARK
        self._states: list[tuple[int, hashlib._Hash | None]] = [(0, None)]

    def note(self, position: int, hashed: SideHash) -> None:
        """Keep the state, if the last one is far enough behind."""
        if position - self._states[-1][0] < self._stride:
            return
        self._states.append((position, hashed.state()))
        if len(self._states) > _MOST_MARKS:
            self._states = self._states[::2]
            self._stride *= 2

    def before(self, position: int) -> "tuple[int, hashlib._Hash | None]":
        """Return the last state before a byte, and forget those after it."""
        while self._states[-1][0] > position:
            self._states.pop()
        return self._states[-1]
