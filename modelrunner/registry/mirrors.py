"""Mirrors before the registry itself: asked in turn, for pulls only.

Whatever a mirror serves is verified like anything else, so any mirror may be tried. Within one
source, the place that has delivered is asked first the next time, and one that failed last.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from modelrunner.errors import (
    AccessError,
    IntegrityError,
    ManifestNotFoundError,
    ModelRunnerError,
    RangesUnsupportedError,
    TransferError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.registry.source import BlobStream, Source

Result = TypeVar("Result")
_PASSING = (AccessError, IntegrityError, ManifestNotFoundError, TransferError)
_log = logging.getLogger(__name__)


class MirroredSource:
    """Several places that hold the same repositories, the best first."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        self._serving = self._sources[0]

    @property
    def name(self) -> str:
        """The place that answered last."""
        return self._sources[0].name

    def resolve(self, reference: Reference) -> Digest:
        """See `Source.resolve`."""
        return self._first(lambda source: source.resolve(reference))

    def manifest(self, reference: Reference) -> Manifest | Index:
        """See `Source.manifest`."""
        return self._first(lambda source: source.manifest(reference))

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """See `Source.tags`."""
        return self._first(lambda source: source.tags(reference))

    @contextmanager
    def open_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,
    ) -> Iterator[BlobStream]:
        """See `Source.open_blob`; a place that fails is not asked first again."""
        with ExitStack() as stack:
            stream = self._first(
                lambda source: stack.enter_context(
                    source.open_blob(reference, descriptor, offset, stop)
                ),
                tell=_most_hopeful,
            )
            self._serving = self._sources[0]
            try:
                yield stream
            except _PASSING:
                self.distrust()
                raise

    def distrust(self) -> None:
        """What came last was wrong: another place is asked from now on."""
        self._sources.remove(self._serving)
        self._sources.append(self._serving)

    def close(self) -> None:
        """See `Source.close`."""
        for source in self._sources:
            source.close()

    def _first(
        self,
        ask: Callable[[Source], Result],
        tell: Callable[[Sequence[ModelRunnerError]], ModelRunnerError] | None = None,
    ) -> Result:
        failures: list[ModelRunnerError] = []
        for source in list(self._sources):
            try:
                answer = ask(source)
            except _PASSING as exc:
                _log.info("%s: %s", source.name, exc)
                failures.append(exc)
            else:
                self._promote(source)
                return answer
        raise (tell or _worst)(failures)

    def _promote(self, source: Source) -> None:
        self._sources.remove(source)
        self._sources.insert(0, source)


def _most_hopeful(failures: Sequence[ModelRunnerError]) -> ModelRunnerError:
    """What to raise where the caller tries again: what may pass, if anything may."""
    for failure in failures:
        # one that has the blob, but only in one piece: the caller knows what to do
        if isinstance(failure, RangesUnsupportedError):
            return failure
    return next((failure for failure in failures if failure.retryable), _worst(failures))


def _worst(failures: Sequence[ModelRunnerError]) -> ModelRunnerError:
    """What to tell: bytes that were wrong, then a registry's own no, then a broken network."""
    for kind in (IntegrityError, ManifestNotFoundError, AccessError):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    return failures[-1]
