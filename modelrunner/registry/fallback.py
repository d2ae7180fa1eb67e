"""Several places that may have the same content: mirrors, other stores, the registry itself.

A digest says all about the content, so it may come from anywhere: another repository, the Hugging
Face Hub, a neighbour's store. What a name stands for is asked of the name's own registry alone.

Whatever a mirror serves is verified like anything else, so any mirror may be tried. Within one
source, the place that has delivered is asked first the next time, and one that failed last.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from modelrunner.errors import (
    AccessError,
    IntegrityError,
    ManifestNotFoundError,
    ModelRunnerError,
    RangesUnsupportedError,
    TransferError,
)
from modelrunner.frozen import frozen, replace
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.registry.source import BlobStream, Choice, Chooser, Source
from modelrunner.system.log import Log

PASSING = (AccessError, IntegrityError, ManifestNotFoundError, TransferError)
"""What one place says and another may not."""

PROVEN = 2
"""The weight of a place that alone has delivered what was wrong."""

_log = Log(__name__)


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


class FallbackOrder(Generic[Place]):
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
        """The first answer, of any of them; what `tell` makes of all failures where none does."""
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
        """Go back to the first order; leave out who was wrong, as long as others are left.

        Args:
            wrong: By name: `PROVEN` of sources that have, less of those that may have. Of those
                only one is asked, so that it becomes clear.
        """
        left = [place for place in self._all if wrong.get(place.name, 0) < PROVEN]
        suspects = [place for place in left if wrong.get(place.name, 0)]
        kept = [place for place in left if place not in suspects[1:]]
        self._places = kept or list(self._all)

    def close(self) -> None:
        """Lets go of the connections of all."""
        for place in self._all:
            place.close()


class BlobsOfMany(ABC, Generic[Blobs]):
    """Blob access with fallback over several sources."""

    @abstractmethod
    def _content(self) -> FallbackOrder[Blobs]:
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
    """The error to report: wrong bytes, then a registry's own no, then a broken network."""
    for kind in (IntegrityError, ManifestNotFoundError, AccessError):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    return failures[-1]


@frozen
class FallbackSource:
    """A repository, whatever it is called, that is asked by digest only."""

    source: Source
    reference: Reference

    @property
    def name(self) -> str:
        """For people: which place this is."""
        return self.source.name

    def manifest(self, reference: Reference) -> Manifest | Index:
        """The manifest of the reference's digest; raises what `Source.manifest` does."""
        return self.source.manifest(replace(self.reference, tag=None, digest=reference.digest))

    def open_blob(
        self,
        reference: Reference,  # noqa: ARG002 - its digest is what counts
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,
    ) -> AbstractContextManager[BlobStream]:
        """A stream of a blob; raises what `Source.open_blob` does."""
        return self.source.open_blob(self.reference, descriptor, offset, stop)

    def close(self) -> None:
        """Lets go of its connections."""
        self.source.close()


class ManySources(BlobsOfMany[Source | FallbackSource]):
    """A source, and places that may have the same content.

    Args:
        main: Who says what names stand for.
        before: Finds who is asked for content first, what is near; called where content is needed.
        after: Who is asked where the others do not deliver.
    """

    def __init__(
        self,
        main: Source,
        before: Callable[[], Sequence[FallbackSource]],
        after: Sequence[FallbackSource] = (),
    ) -> None:
        self._main = main
        self._before = before
        self._after = after

    @cached_property
    def _places(self) -> FallbackOrder[Source | FallbackSource]:
        return FallbackOrder([*self._before(), self._main, *self._after])

    @property
    def name(self) -> str:
        """The source that says what names stand for."""
        return self._main.name

    @property
    def namer(self) -> Source:
        """See `ManyPlaces`."""
        return self._main

    def resolve(self, reference: Reference) -> Digest:
        """See `Source.resolve`."""
        return self._main.resolve(reference)

    def choice(self, reference: Reference) -> Choice | None:
        """See `Chooser.choice`; what is pinned may come from anywhere, and no source is asked."""
        if reference.digest is not None or not isinstance(self._main, Chooser):
            return None
        return self._main.choice(reference)

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """See `Source.tags`."""
        return self._main.tags(reference)

    def manifest(self, reference: Reference) -> Manifest | Index:
        """See `Source.manifest`; what is pinned may come from anywhere."""
        if reference.digest is None:
            return self._main.manifest(reference)
        return self._places.first(lambda place: place.manifest(reference), worst)

    def distrust(self, places: Mapping[str, int]) -> None:
        """See `Source.distrust`."""
        self._main.distrust(places)
        super().distrust(places)

    def close(self) -> None:
        """See `Source.close`."""
        if "_places" in self.__dict__:
            super().close()
        else:
            self._main.close()

    def _content(self) -> FallbackOrder[Source | FallbackSource]:
        return self._places


class MirroredSource(BlobsOfMany[Source]):
    """Several places that hold the same repositories, the best first."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._places = FallbackOrder(sources)

    @property
    def name(self) -> str:
        """The place that answered last."""
        return self._places.best.name

    def resolve(self, reference: Reference) -> Digest:
        """See `Source.resolve`."""
        return self._places.first(lambda source: source.resolve(reference), worst)

    def manifest(self, reference: Reference) -> Manifest | Index:
        """See `Source.manifest`."""
        return self._places.first(lambda source: source.manifest(reference), worst)

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """See `Source.tags`."""
        return self._places.first(lambda source: source.tags(reference), worst)

    def distrust(self, places: Mapping[str, int]) -> None:
        """See `Source.distrust`."""
        for source in self._sources:
            source.distrust(places)
        super().distrust(places)

    def _content(self) -> FallbackOrder[Source]:
        return self._places
