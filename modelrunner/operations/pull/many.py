"""Several models at once: one budget, one listener, and each failure is of one model only.

A few threads pull; the calling one reads their queue, calls the listener, and takes a Ctrl-C. Names
of one repository are resolved one after the other, so that of several names for one content the
first one brings it, and the others find it here.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread

from modelrunner.errors import ModelRunnerError
from modelrunner.events import Event
from modelrunner.frozen import replace
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.reference import Reference
from modelrunner.operations.pull.outcome import Dropped, Failed, Outcome
from modelrunner.operations.pull.pull import Pinned, Puller
from modelrunner.registry.source import Choice
from modelrunner.transfer.budget import CancelledError

_AT_ONCE = 4
_PARTING_S = 1.2
"""What is begun may end so long after the others were called off; then it is left behind."""


def _unheard(_outcome: Outcome) -> None:
    pass


def pull_many(
    puller: Puller,
    references: Iterable[Reference],
    *,
    fail_fast: bool = False,
    on_outcome: Callable[[Outcome], None] = _unheard,
) -> tuple[Outcome, ...]:
    """Brings models here, side by side within the puller's budget; each once.

    Args:
        puller: How; its listener, `on_choice` and `on_config` are called by this thread only.
        references: Which; what is given twice is pulled once.
        fail_fast: Whether the first failure calls the others off.
        on_outcome: Hears what became of a model, at once.

    Returns:
        What became of each, in the order of the references.
    """
    wanted = tuple({str(reference): reference for reference in references}.values())
    crew = _Crew(puller, wanted)
    try:
        return crew.work(on_outcome, fail_fast=fail_fast)
    finally:
        crew.part()


class _Crew:
    """The threads, what they have to do, and what they have to say."""

    def __init__(self, puller: Puller, wanted: Sequence[Reference]) -> None:
        self._queue: SimpleQueue[Outcome | BaseException | Callable[[], None]] = SimpleQueue()
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._inner = puller
        self._puller = replace(
            puller, listener=self._say, on_choice=self._say_choice, on_config=self._say_config
        )
        self._wanted = wanted
        most = puller.budget.limits.connections or _AT_ONCE
        self._size = min(len(wanted), _AT_ONCE, most)
        self._threads = [
            Thread(target=self._run, name=f"model-{number}", daemon=True)
            for number in range(self._size)
        ]

    def work(
        self, on_outcome: Callable[[Outcome], None], *, fail_fast: bool
    ) -> tuple[Outcome, ...]:
        """Starts everything and waits for it."""
        budget = self._puller.budget
        budget.sharers = self._size
        for group in _by_repository(self._wanted):
            self._tasks.put(partial(self._pin, group))
        for thread in self._threads:
            thread.start()
        found: dict[str, Outcome] = {}
        give_up: float | None = None
        while len(found) < len(self._wanted):
            outcome = self._next_outcome(give_up)
            if outcome is None:
                break
            found[str(outcome.reference)] = outcome
            budget.sharers = min(self._size, len(self._wanted) - len(found))
            on_outcome(outcome)
            if fail_fast and isinstance(outcome, Failed) and give_up is None:
                give_up = time.monotonic() + _PARTING_S
                budget.cancel()
        return tuple(found.get(str(reference), Dropped(reference)) for reference in self._wanted)

    def part(self) -> None:
        """Ends all threads; one that is stuck is left behind, and brings nothing more."""
        self._puller.budget.cancel()
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + _PARTING_S
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _next_outcome(self, give_up: float | None) -> Outcome | None:
        """What became of the next model, None where it is time to give up; tells what happens."""
        while True:
            left = None if give_up is None else max(0.0, give_up - time.monotonic())
            try:
                item = self._queue.get(timeout=left)
            except Empty:
                return None
            if isinstance(item, BaseException):
                raise item
            if not callable(item):
                return item
            item()

    def _say(self, event: Event) -> None:
        self._queue.put(partial(self._inner.listener, event))

    def _say_choice(self, reference: Reference, choice: Choice) -> None:
        self._queue.put(partial(self._inner.on_choice, reference, choice))

    def _say_config(
        self, reference: Reference, artifact: ModelArtifact, config: ModelConfig
    ) -> None:
        self._queue.put(partial(self._inner.on_config, reference, artifact, config))

    def _run(self) -> None:
        try:
            while (task := self._tasks.get()) is not None:
                task()
        except BaseException as exc:  # noqa: BLE001 - raised where the others are waited for
            self._queue.put(exc)

    def _pin(self, group: Sequence[Reference]) -> None:
        """Finds out what names of one repository stand for; one task more for each content."""
        contents: dict[Digest | None, list[Pinned]] = {}
        for reference in group:
            with self._reported(reference):
                self._puller.budget.check()
                pinned = self._puller.pin(reference)
                contents.setdefault(pinned.exact.digest, []).append(pinned)
        for same in contents.values():
            self._tasks.put(partial(self._fetch, same))

    def _fetch(self, same: Sequence[Pinned]) -> None:
        for pinned in same:
            with self._reported(pinned.reference):
                self._puller.budget.check()
                self._queue.put(self._puller.fetch(pinned))

    @contextmanager
    def _reported(self, reference: Reference) -> Iterator[None]:
        """The block that is about one model: a failure in it is reported, and is of that one."""
        try:
            yield
        except CancelledError:
            self._queue.put(Dropped(reference))
        except ModelRunnerError as exc:
            self._queue.put(Failed(reference, exc))


def _by_repository(references: Iterable[Reference]) -> Iterable[Sequence[Reference]]:
    groups: dict[str, list[Reference]] = {}
    for reference in references:
        groups.setdefault(reference.name, []).append(reference)
    return groups.values()
