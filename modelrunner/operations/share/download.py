"""One blob on its way from a registry into the cache, and everybody who reads it meanwhile.

The transfer engine writes pieces into a file; readers follow it, each from where it wants to begin.
A piece that somebody waits for is brought before others. The last byte is held back until the
digest was right: what a registry serves wrongly is never complete anywhere.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread

from modelrunner.disk.inside import InsideFile, open_content
from modelrunner.errors import InterruptedTransferError, ModelRunnerError, TransferError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.transfer.fetched import Fetched
from modelrunner.transfer.pieces import Pieces

_LOOK_S = 1.0
"""Seconds after which bytes are passed on that make no whole piece."""
_BLOCK = 256 * 1024

OnPieces = Callable[[Pieces, Path], None]


class Download:
    """A download; all methods may be called from any thread.

    Attributes:
        error: What it has failed with.

    Args:
        descriptor: The blob.
        path: Where it lies when it is complete.
        fetch: Brings it, and calls what it is given with the pieces and their file.
        on_end: Called when it has ended, before readers see that.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        path: Path,
        fetch: Callable[[OnPieces], Fetched],
        on_end: Callable[["Download"], None],
    ) -> None:
        self.descriptor = descriptor
        self._path = path
        self._fetch = fetch
        self._on_end = on_end
        self._changed = Condition()
        self._pieces: Pieces | None = None
        self._file: InsideFile | None = None
        self._resumed = 0
        self._brought = 0
        self.error: BaseException | None = None
        self._done = False
        self._thread = Thread(target=self._run, name="fetch", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until it has ended."""
        self._thread.join(seconds)

    @property
    def brought(self) -> int:
        """Bytes of the blob that have come from the registry."""
        pieces = self._pieces
        running = 0 if pieces is None else pieces.done_bytes() - self._resumed
        return max(self._brought, running)

    @contextmanager
    def passage(self) -> Iterator["Reader"]:
        """The block in which it is read."""
        with closing(Reader(self)) as reader:
            yield reader

    def opened(self) -> "Opened":
        """The file that is being filled, or the complete one.

        Raises:
            ModelRunnerError: The download has failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._done or self._file is not None)
            if self.error is not None:
                raise _again(self.error)
            if self._file is None or self._pieces is None:
                return Opened(_handle_of(self._path), None, 0)
            return Opened(os.dup(self._file.fileno()), self._pieces, self._pieces.history)

    def wait(self, opened: "Opened", at: int, end: int) -> int:
        """Wait for bytes from a place on; return where those end that are here, at most `end`.

        Raises:
            StartedAgainError: Other bytes come than those before.
            ModelRunnerError: The download has failed.
        """
        pieces = opened.pieces
        if pieces is None:
            return end
        held_back = self.descriptor.size - 1
        with pieces.changed:
            while True:
                if self.error is not None:
                    raise _again(self.error)
                if self._pieces is not pieces or pieces.history != opened.history:
                    raise StartedAgainError(f"{self.descriptor.digest}: the download begins again")
                if self._done:
                    return end
                here = min(end, held_back, pieces.here_from(at))
                if here > at:
                    return here
                pieces.wait_for(at, _LOOK_S)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            fetched = self._fetch(self._open)
            self._brought = sum(fetched.origins.values())
        except BaseException as exc:  # noqa: BLE001 - raised where the blob is read
            error = exc
            self._brought = self.brought
        self.error = error
        try:
            self._on_end(self)
        finally:
            with self._changed:
                self._done = True
                if self._file is not None:
                    self._file.close()
                    self._file = None
                self._changed.notify_all()
            if self._pieces is not None:
                self._pieces.wake_all()

    def _open(self, pieces: Pieces, path: Path) -> None:
        # who began to read an earlier file sees that there is another one
        file = open_content(path)
        with self._changed:
            if self._file is not None:
                self._file.close()
            before, self._pieces, self._file = self._pieces, pieces, file
            self._resumed = pieces.done_bytes()
            self._changed.notify_all()
        if before is not None:
            before.wake_all()


class StartedAgainError(InterruptedTransferError):
    """What was read of a download is not what it will have brought."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file, and the state of it that a reader counts on.

    Attributes:
        handle: The reader's own.
        pieces: What is here of it; None of a complete one.
        history: That of the pieces.
    """

    handle: int
    pieces: Pieces | None
    history: int


class Reader:
    """One reader of a download."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self._opened: Opened | None = None

    def read_from(self, start: int, count: int) -> Iterator[bytes | memoryview]:
        """See `Passage.read_from`."""
        at, end = start, start + count
        opened = self._open()
        while at < end:
            try:
                upto = self._download.wait(opened, at, end)
            except StartedAgainError:
                if at > start:
                    raise
                opened = self._open()
                continue
            while at < upto:
                piece = os.pread(opened.handle, min(_BLOCK, upto - at), at)
                if not piece:
                    raise InterruptedTransferError(
                        f"{self._download.descriptor.digest}: unexpected end"
                    )
                yield piece
                at += len(piece)

    def close(self) -> None:
        """Lets go of the file."""
        opened, self._opened = self._opened, None
        if opened is not None:
            os.close(opened.handle)

    def _open(self) -> Opened:
        self.close()
        self._opened = self._download.opened()
        return self._opened


def _handle_of(path: Path) -> int:
    try:
        with open_content(path) as file:
            return os.dup(file.fileno())
    except OSError as exc:
        # it was thrown away in this moment
        raise InterruptedTransferError(f"{path.name}: gone from the cache") from exc


def _again(error: BaseException) -> ModelRunnerError:
    if isinstance(error, ModelRunnerError):
        return error
    return TransferError(f"the download was ended: {type(error).__name__}")
