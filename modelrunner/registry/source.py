"""What the rest of the program asks of a place that models come from or go to."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from modelrunner.errors import TransferError
from modelrunner.frozen import field, frozen
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference

_CHUNK = 1024 * 1024


def _nothing() -> None:
    pass


def _unknown() -> int:
    return 0


def _unheard(_error: TransferError, _attempt: int, _delay: float) -> None:
    pass


@frozen
class BlobStream:
    """Bytes of a blob from `offset` on: the stream says where it starts, not the caller.

    Attributes:
        offset: The place of the first byte.
        readinto: Fills a buffer with what follows, as far as it comes; 0 at the end.
        waiting: How many bytes have come that were not read yet; 0 where that is unknown.
        arriving: Whether the place is still downloading the blob itself, from its front on: then
            further connections would wait for what comes later anyway.
        place: For people: which of several places was asked; empty where there is one.
        abort: Breaks the connection off; may be called from another thread.
        latency_s: Seconds that its answer took, where it was requested ahead; None where the
            caller has waited for it.
    """

    offset: int
    readinto: Callable[[memoryview], int] = field(repr=False)
    place: str = ""
    abort: Callable[[], None] = field(default=_nothing, repr=False)
    waiting: Callable[[], int] = field(default=_unknown, repr=False)
    arriving: bool = False
    latency_s: float | None = None

    @property
    def chunks(self) -> Iterator[bytes]:
        """What follows, in pieces of up to a megabyte."""
        buffer = bytearray(_CHUNK)
        view = memoryview(buffer)
        while count := self.readinto(view):
            yield bytes(view[:count])


@frozen
class Outflow:
    """How the bytes of a blob go out.

    Attributes:
        on_sent: Called with the number of bytes of the blob that were sent by now.
        on_resumed: Called with the number of bytes that the registry has of an earlier try.
        before: Called with the number of bytes that come next; may wait, and may raise.
        block: The most bytes to send without asking; None for any number.
        on_retry: Called where what is read has broken, before it is tried again: the error, the
            number of tries so far, the seconds to wait.
    """

    on_sent: Callable[[int], None]
    on_resumed: Callable[[int], None]
    before: Callable[[int], None]
    block: int | None = None
    on_retry: Callable[[TransferError, int, float], None] = _unheard


class Body(Protocol):
    """Bytes of a request's body; each iteration starts again."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[object]: ...


class OpenContent(Protocol):
    """A blob that is being read."""

    def body(self, begin: int, end: int, flow: Outflow) -> Body:
        """Its bytes from `begin` to `end` (exclusive), as the body of a request."""
        ...


class UploadContent(Protocol):
    """A blob that an upload reads."""

    def opened(self) -> AbstractContextManager[OpenContent]:
        """The block in which it is read, from wherever the upload has to go on."""
        ...

    def has_other_place(self) -> bool:
        """Whether another place may deliver what one has delivered wrong: it is read next."""
        ...


@frozen
class Framed:
    """What the bytes of a blob are read from: a file, and what is put around it.

    Attributes:
        path: The file; None where there is nothing but `before`.
        before: Bytes that come first.
        after: Bytes that come last.
    """

    path: Path | None
    before: bytes = b""
    after: bytes = b""


@frozen
class Choice:
    """What a source takes for a name that leaves something open.

    Attributes:
        name: The name that means this content and no other.
        file: The path of the first file in the repository.
        projector: The path of the projector that comes with it.
        others: Paths of further projectors that would go with it.
        revision: The commit that the files are of.
    """

    name: Reference
    file: str
    projector: str | None = None
    others: tuple[str, ...] = ()
    revision: str | None = None


@runtime_checkable
class Chooser(Protocol):
    """A source whose names may leave something open."""

    def choice(self, reference: Reference) -> Choice | None:
        """What is taken for a name; None where that is unknown."""
        ...


@runtime_checkable
class Versioned(Protocol):
    """A source whose files are of commits."""

    def revision(self, reference: Reference) -> str:
        """The commit that a name stands for."""
        ...


@runtime_checkable
class ManyPlaces(Protocol):
    """A source that has content from other places than the one that says what names stand for."""

    @property
    def namer(self) -> "Source":
        """Who says what names stand for: asked for no more than that where others have it."""
        ...


class Source(Protocol):
    """Where models come from."""

    @property
    def name(self) -> str:
        """For people: which place this is."""
        ...

    def resolve(self, reference: Reference) -> Digest:
        """What a name stands for just now, without downloading it."""
        ...

    def manifest(self, reference: Reference) -> Manifest | Index:
        """The manifest; with a digest in the reference, exactly that one, verified."""
        ...

    def open_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,
    ) -> AbstractContextManager[BlobStream]:
        """A stream of the blob's bytes from `offset` to `stop` (exclusive)."""
        ...

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """The tags of the repository."""
        ...

    def distrust(self, places: Mapping[str, int]) -> None:
        """Hears which places have delivered wrong bytes, see `FallbackOrder.distrust`."""
        ...

    def close(self) -> None:
        """Lets go of its connections."""
        ...


class Sink(Protocol):
    """Where models go to."""

    def has_blob(self, reference: Reference, digest: Digest) -> bool:
        """Whether the repository has the blob already."""
        ...

    def mount_blob(self, reference: Reference, digest: Digest, repository: str) -> bool:
        """Tries to take a blob over from another repository of the same registry."""
        ...

    def upload(
        self, reference: Reference, descriptor: Descriptor, content: Framed | UploadContent
    ) -> "BlobUpload":
        """The upload of a blob, from a file or whatever else has its bytes."""
        ...

    def another(self) -> "Sink":
        """The same place for another thread."""
        ...

    def close(self) -> None:
        """Lets go of its connections."""
        ...

    @property
    def name(self) -> str:
        """For people: which place this is."""
        ...

    def resolve(self, reference: Reference) -> Digest:
        """What a name stands for there by now."""
        ...

    def manifest(self, reference: Reference) -> Manifest | Index:
        """The manifest that it has by now."""
        ...

    def push_manifest(self, reference: Reference, manifest: Manifest | Index) -> Digest | None:
        """Sends the manifest under the reference's tag, or by digest.

        Returns what it is listed as a referrer of, if it is.
        """
        ...


class BlobUpload(Protocol):
    """One blob on its way to a sink."""

    def send(self, flow: Outflow) -> None:
        """Send it; after a failure that may pass, what is missing of it."""
        ...


def commit_of(source: object, reference: Reference) -> str | None:
    """Return the commit that a name stands for, None where a source has no commits."""
    return source.revision(reference) if isinstance(source, Versioned) else None
