"""Pulls and pushes as the server runs them: in threads, watched by any number of requests.

What a thread reports is passed on at most ten times a second.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from modelrunner.errors import CanceledByUserError
from modelrunner.events import Advanced, Event, Listener, Started, Verified
from modelrunner.serve.library import LocalModel, TransferJob

Result = TypeVar("Result")

_FLUSH_S = 0.1


class Transfer:
    """A pull or push that others can watch, from beginning to end."""

    job: TransferJob

    def __init__(self) -> None:
        self.watchers = 0
        self.error: Exception | None = None
        self.model: LocalModel | None = None
        self._loop = asyncio.get_running_loop()
        self._history: list[Event] = []
        self._latest: dict[str, Advanced] = {}
        self._lock = threading.Lock()
        self._incoming: list[Event] = []
        self._changed = asyncio.Event()
        self.returned = asyncio.Event()
        """Set when the thread has ended."""
        self._done = False

    @classmethod
    async def prepared(cls, prepare: Callable[[Listener], TransferJob]) -> "Transfer":
        """Return a transfer that has not begun.

        Args:
            prepare: In a thread: makes the job, which passes its events to a listener.

        Raises:
            ModelRunnerError: What `prepare` raises.
        """
        transfer = cls()
        transfer.job = await asyncio.to_thread(prepare, transfer._on_event)
        return transfer

    @property
    def key(self) -> str:
        """What it is known by: transfers with the same one are the same."""
        return self.job.key

    async def events(self) -> AsyncIterator[Event]:
        """What has happened and what happens, until the transfer ends.

        Whoever reads slowly misses steps in between, and no more than these.

        Raises:
            ModelRunnerError: The transfer failed.
        """
        at, seen = 0, dict[str, int]()
        while True:
            changed, done = self._changed, self._done
            while at < len(self._history):
                at += 1
                yield self._history[at - 1]
            for digest, event in list(self._latest.items()):
                if seen.get(digest) != event.done:
                    seen[digest] = event.done
                    yield event
            if done:
                break
            await changed.wait()
        if self.error is not None:
            raise self.error.with_traceback(None)

    async def result(self) -> LocalModel:
        """The model, once it is transferred.

        Raises:
            ModelRunnerError: The transfer failed.
        """
        async for _event in self.events():
            pass
        if self.model is None:
            raise CanceledByUserError("the transfer was canceled")
        return self.model

    def run(self) -> None:
        """In a thread: do the work."""
        model: LocalModel | None = None
        error: Exception | None = None
        try:
            model = self.job.run()
        except Exception as exc:  # noqa: BLE001 - raised where the transfer is waited for
            error = exc
        finally:
            # a loop that has ended has nobody who waits
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end, model, error)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        # not of a pool of threads: one that hangs would keep the program from ending
        threading.Thread(target=self.run, name=self.key, daemon=True).start()

    def finish(self) -> None:
        """Let the watchers go."""
        self._done = True
        self._notify()

    def _end(self, model: LocalModel | None, error: Exception | None) -> None:
        self._flush()
        self.model, self.error = model, error
        self.returned.set()

    def _on_event(self, event: Event) -> None:
        """In a thread: something has happened."""
        with self._lock:
            first = not self._incoming
            last = self._incoming[-1] if self._incoming else None
            if (
                isinstance(event, Advanced)
                and isinstance(last, Advanced)
                and last.digest == event.digest
            ):
                self._incoming[-1] = event
            else:
                self._incoming.append(event)
        if first:
            self._call(lambda: self._loop.call_later(_FLUSH_S, self._flush))

    def _call(self, action: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(action)
        except RuntimeError:
            # the loop has ended
            self.job.cancel()

    def _flush(self) -> None:
        with self._lock:
            incoming, self._incoming = self._incoming, []
        for event in incoming:
            if isinstance(event, Advanced):
                self._latest[event.digest] = event
                continue
            if isinstance(event, Verified | Started):
                self._latest.pop(event.digest, None)
            self._history.append(event)
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def in_thread(work: Callable[[], Result], name: str) -> "asyncio.Future[Result]":
    """Run a function in a thread of its own; the future has what it returns or raises.

    Threads of asyncio's pool are few: what takes minutes would keep them from short work, and one
    that hangs would keep the program from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()
    # a failure that nobody waits for any more is no news
    done.add_done_callback(lambda found: found.cancelled() or found.exception())

    def run() -> None:
        settle: Callable[[], None]
        try:
            settle = partial(done.set_result, work())
        except Exception as exc:  # noqa: BLE001 - raised where it is waited for
            settle = partial(done.set_exception, exc)
        # the loop may have ended
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if done.done() else settle())

    threading.Thread(target=run, name=name, daemon=True).start()
    return done
