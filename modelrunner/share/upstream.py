"""What a shared store asks of the registries behind it, where there are some.

The server needs this protocol alone; how content is fetched, kept and evicted is up to its
implementation.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.share.repositories import Repository


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A blob that is complete and verified."""

    path: Path
    size: int


class Passage(Protocol):
    """A blob on its way from its registry, read while it arrives."""

    def read_from(self, start: int, count: int) -> Iterator[bytes | memoryview]:
        """Return bytes as they arrive; the last byte of the blob comes after it is verified.

        Raises:
            ModelRunnerError: The registry does not deliver, or has delivered wrong bytes.
        """
        ...


class Arriving(Protocol):
    """A blob of known size that is not complete yet."""

    @property
    def size(self) -> int:
        """Its bytes."""
        ...

    def follow(self) -> AbstractContextManager[Passage]:
        """Join its download, which is started where there is none."""
        ...


Content = WholeFile | Arriving


class Upstream(Protocol):
    """Registries from which a shared store fetches what it lacks."""

    def registries(self) -> Sequence[str]:
        """The registries from which content is fetched."""
        ...

    def serves(self, registry: str) -> bool:
        """Whether content of this registry is fetched."""
        ...

    def manifest(self, reference: Reference, local: Repository) -> Manifest | Index:
        """The manifest of a tag or a digest.

        Args:
            reference: Its full name.
            local: What the store has of the repository.

        Raises:
            RefusalError: Neither the registry nor the store has it.
            ModelRunnerError: The registry does not deliver, and nothing is kept.
        """
        ...

    def blob(self, reference: Reference, digest: Digest) -> Content:
        """A blob of a repository; raises as `manifest` does."""
        ...

    def tags(self, reference: Reference, local: Repository) -> Sequence[str]:
        """The tags of a repository, sorted; raises as `manifest` does."""
        ...

    def referrers(self, reference: Reference, local: Repository) -> bytes:
        """An image index of what refers to the reference's digest; raises as `manifest` does."""
        ...

    def repositories(self) -> Sequence[tuple[str, str]]:
        """Registry and path of each repository of which something is kept."""
        ...

    def kept(self, digest: Digest) -> Content | Manifest | Index | None:
        """Complete content of any repository, by its digest."""
        ...

    def served(self, count: int, client: str) -> None:
        """Count bytes that were sent to a client."""
        ...

    def connected(self, client: str, change: int) -> None:
        """Count connections: 1 for one more, -1 for one less."""
        ...

    def metrics(self) -> str:
        """All counts, as Prometheus reads them."""
        ...
