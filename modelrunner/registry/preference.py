"""Several places that may have the same thing: who is asked first, and what is told of failures."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from modelrunner.errors import (
    AccessError,
    IntegrityError,
    ManifestNotFoundError,
    ModelRunnerError,
    RangesUnsupportedError,
    TransferError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.reference import Reference
from modelrunner.registry.source import BlobStream

PASSING = (AccessError, IntegrityError, ManifestNotFoundError, TransferError)
"""What one place says and another may not."""

PROVEN = 2
"""The weight of a place that alone has delivered what was wrong."""

_log = logging.getLogger(__name__)


class Named(Protocol):
    """A place."""

    @property
    def name(self) -> str:
        """For people: which place this is."""
        ...

    def close(self) -> None:
        """Lets go of its connections."""
        ...


class BlobPlace(Named, Protocol):
    """A place that has blobs."""

    def open_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,
    ) -> AbstractContextManager[BlobStream]:
        """See `Source.open_blob`."""
        ...


Place = TypeVar("Place", bound=Named)
Blobs = TypeVar("Blobs", bound=BlobPlace)
Result = TypeVar("Result")


class Preference(Generic[Place]):
    """Places in the order in which they are asked: who has delivered first, who has failed last."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._all = list(places)
        self._places = list(places)

    @property
    def best(self) -> Place:
        """Who is asked first."""
        return self._places[0]

    def first(
        self,
        ask: Callable[[Place], Result],
        tell: Callable[[Sequence[ModelRunnerError]], ModelRunnerError],
    ) -> Result:
        """The first answer, whoever gives it; what `tell` makes of all failures where none does."""
        failures: list[ModelRunnerError] = []
        for place in list(self._places):
            try:
                answer = ask(place)
            except PASSING as exc:
                _log.info("%s: %s", place.name, exc)
                failures.append(exc)
            else:
                self._places.remove(place)
                self._places.insert(0, place)
                return answer
        raise tell(failures)

    def demote(self, place: Place) -> None:
        """It has failed: the others are asked before it."""
        self._places.remove(place)
        self._places.append(place)

    def distrust(self, wrong: Mapping[str, int]) -> None:
        """Leaves out who has delivered what was wrong, as far as anybody else is left.

        Args:
            wrong: By name: `PROVEN` of whoever has, less of whoever may have. Of those only one is
                asked, so that it becomes clear.
        """
        left = [place for place in self._places if wrong.get(place.name, 0) < PROVEN]
        suspects = [place for place in left if wrong.get(place.name, 0)]
        kept = [place for place in left if place not in suspects[1:]]
        self._places = kept or self._places

    def close(self) -> None:
        """Lets go of the connections of all."""
        for place in self._all:
            place.close()


class BlobsOfMany(ABC, Generic[Blobs]):
    """The half of a `Source` that is the same whoever the places are: blobs."""

    @abstractmethod
    def _content(self) -> Preference[Blobs]:
        """Who may have blobs."""

    @contextmanager
    def open_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,
    ) -> Iterator[BlobStream]:
        """See `Source.open_blob`; a place that fails on the way is not asked first again."""
        places = self._content()
        with ExitStack() as stack:
            stream = places.first(
                lambda place: stack.enter_context(
                    place.open_blob(reference, descriptor, offset, stop)
                ),
                _most_hopeful,
            )
            try:
                yield replace(stream, place=stream.place or places.best.name)
            except PASSING:
                places.demote(places.best)
                raise

    def distrust(self, places: Mapping[str, int]) -> None:
        """See `Source.distrust`."""
        self._content().distrust(places)

    def close(self) -> None:
        """See `Source.close`."""
        self._content().close()


def _most_hopeful(failures: Sequence[ModelRunnerError]) -> ModelRunnerError:
    """What to raise where the caller tries again: what may pass, if anything may."""
    for failure in failures:
        # one that has the blob, but only in one piece: the caller knows what to do
        if isinstance(failure, RangesUnsupportedError):
            return failure
    return next((failure for failure in failures if failure.retryable), worst(failures))


def worst(failures: Sequence[ModelRunnerError]) -> ModelRunnerError:
    """What to tell: bytes that were wrong, then a registry's own no, then a broken network."""
    for kind in (IntegrityError, ManifestNotFoundError, AccessError):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    return failures[-1]
