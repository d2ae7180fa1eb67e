"""Mirrors before the registry itself: asked in turn, for pulls only.

Whatever a mirror serves is verified like anything else, so any mirror may be tried. Within one
source, the place that has delivered is asked first the next time, and one that failed last.
"""

from collections.abc import Sequence

from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.registry.preference import BlobsOfMany, Preference, worst
from modelrunner.registry.source import Source


class MirroredSource(BlobsOfMany[Source]):
    """Several places that hold the same repositories, the best first."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._places = Preference(sources)

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

    def _content(self) -> Preference[Source]:
        return self._places
