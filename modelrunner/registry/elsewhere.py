"""Other places that may have what is known by its digest.

A digest says all about the content, so it may come from anywhere: another repository, the Hugging
Face Hub, a neighbour's store. What a name stands for is asked of the name's own registry alone.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.registry.preference import BlobsOfMany, Preference, worst
from modelrunner.registry.source import BlobStream, Choice, Chooser, Source


@dataclass(frozen=True, slots=True)
class Elsewhere:
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


class ManySources(BlobsOfMany[Source | Elsewhere]):
    """A source, and places that may have the same content.

    Args:
        main: Who says what names stand for.
        before: Finds who is asked for content first, what is near; called where content is needed.
        after: Who is asked where the others do not deliver.
    """

    def __init__(
        self,
        main: Source,
        before: Callable[[], Sequence[Elsewhere]],
        after: Sequence[Elsewhere] = (),
    ) -> None:
        self._main = main
        self._before = before
        self._after = after

    @cached_property
    def _places(self) -> Preference[Source | Elsewhere]:
        return Preference([*self._before(), self._main, *self._after])

    @property
    def name(self) -> str:
        """The source that says what names stand for."""
        return self._main.name

    def resolve(self, reference: Reference) -> Digest:
        """See `Source.resolve`."""
        return self._main.resolve(reference)

    def choice(self, reference: Reference) -> Choice | None:
        """See `Chooser.choice`; what is pinned may come from anywhere, and nobody is asked."""
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

    def _content(self) -> Preference[Source | Elsewhere]:
        return self._places
