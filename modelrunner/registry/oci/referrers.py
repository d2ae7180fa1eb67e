"""What refers to a manifest in its registry: signatures, attestations, and the like.

`GET /v2/NAME/referrers/DIGEST` answers with an index (distribution specification 1.1). A registry
without it keeps that index under the tag `sha256-HEX`; and cosign keeps what it makes without
either under `sha256-HEX.sig`, `.att` and `.sbom`.

A registry may list things without end. What may be a signature is looked at first, and bytes and
time are limited, see `Allowance`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from itertools import chain
from urllib.parse import urlencode

from modelrunner.errors import (
    DigestMismatchError,
    IntegrityError,
    ManifestNotFoundError,
    SizeMismatchError,
    TransferError,
    UnsupportedArtifactError,
)
from modelrunner.frozen import frozen, replace
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import (
    SIGNATURE_SUFFIXES,
    SUFFIXES,
    Referrer,
    entries_in,
    likeness,
    referrers_tag,
)
from modelrunner.registry.credentials import Credentials
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.exchange import READ_TIMEOUT_S, read_limited
from modelrunner.registry.http.responses import next_page
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.http.tokens import Headers
from modelrunner.registry.oci.source import OciRegistry
from modelrunner.system.log import Log

LIST_BYTES = 8 * 1024 * 1024
"""Bytes of the list that are read."""

SIGNATURE_TYPES = (
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.cosign.artifact.sig.v1+json",
)
"""What a registry is asked for by type, where its whole list is too long."""

BLOB_LIMIT = 2 * 1024 * 1024
_FIRST = 16
"""Listed referrers that are looked at before cosign's tags: most signatures are among them."""

_log = Log(__name__)

_Listed = dict[Digest, tuple[str, Descriptor]]


class Allowance:
    """How much may be spent on what refers to one model, in all places together.

    Attributes:
        size: Bytes of manifests and blobs.
        seconds: Time, from the first look on.
        clock: For tests.
    """

    def __init__(
        self,
        size: int = 64 * 1024 * 1024,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.size = size
        self.seconds = seconds
        self.clock = clock
        self._spent = 0
        self._begun = clock()

    @property
    def deadline(self) -> float:
        """When time is over, on the clock."""
        return self._begun + self.seconds

    @property
    def left(self) -> int:
        """Bytes that are left."""
        return max(0, self.size - self._spent)

    def take(self, count: int) -> None:
        """Counts bytes."""
        self._spent += count

    @property
    def reached(self) -> str | None:
        """The limit that is reached, for people; None while there is something left."""
        if self._spent >= self.size:
            return f"{self.size // (1024 * 1024)} MiB"
        if self.clock() >= self.deadline:
            return f"{self.seconds:g} s"
        return None


@frozen
class NotLookedAt:
    """Referrers that were left out, since there are too many of them.

    Attributes:
        looked_at: How many were looked at.
        total: How many there are; None where that is unknown.
        limit: What was reached: bytes or seconds, for people.
    """

    looked_at: int
    total: int | None
    limit: str

    def __str__(self) -> str:
        total = f"more than {self.looked_at}" if self.total is None else str(self.total)
        return f"only {self.looked_at} of {total} referrers were read: limit of {self.limit}"


@frozen
class ReferrerPlace:
    """A registry that may keep signatures of a model, and what the model is called there."""

    source: "ReferrerSource"
    reference: Reference


class ReferrerSource(OciRegistry):
    """One registry, asked for what refers to a manifest. Not to be shared between threads.

    Args:
        allowance: The limits, which several places may share; None for the usual ones.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        *,
        backoff: Backoff | None = None,
        known: Headers | None = None,
        read_timeout_s: float = READ_TIMEOUT_S,
        allowance: Allowance | None = None,
    ) -> None:
        super().__init__(
            endpoint, credentials, backoff=backoff, known=known, read_timeout_s=read_timeout_s
        )
        self.allowance = allowance or Allowance()

    def referrers(
        self, reference: Reference, digest: Digest, *, signatures_only: bool = False
    ) -> Iterator[Referrer | NotLookedAt]:
        """What refers to a manifest: what may be a signature first, as far as the limits go.

        Args:
            reference: What the manifest is called here.
            digest: The manifest.
            signatures_only: Whether to leave out what is of another type.

        Raises:
            AccessError, TransferError: The registry does not answer.
        """
        found, whole = self._listed(reference, digest)
        ordered = sorted(found.values(), key=lambda entry: likeness(entry[0]))
        if signatures_only:
            ordered = [entry for entry in ordered if likeness(entry[0]) < likeness("other")]
        suffixes = SIGNATURE_SUFFIXES if signatures_only else SUFFIXES
        total = len(ordered) if whole else None
        most = len(ordered) + len(suffixes)
        looks = chain(
            (self._look(reference, entry) for entry in ordered[:_FIRST]),
            (self._look_tagged(reference, referrers_tag(digest, suffix)) for suffix in suffixes),
            (self._look(reference, entry) for entry in ordered[_FIRST:]),
        )
        for looked_at in range(most):
            limit, referrer = self.allowance.reached if looked_at else None, None
            try:
                referrer = None if limit is not None else next(looks)
            except TransferError:
                limit = self.allowance.reached
                if limit is None:
                    raise
            if limit is not None:
                yield NotLookedAt(min(looked_at, len(ordered)), total, limit)
                return
            if referrer is not None:
                yield referrer
        if not whole:
            limit = f"{LIST_BYTES // (1024 * 1024)} MiB for the list"
            yield NotLookedAt(len(ordered), None, limit)

    def content(self, reference: Reference, descriptor: Descriptor) -> bytes:
        """A small blob, verified.

        Raises:
            IntegrityError: It is too large, or not what its digest says.
            AccessError, TransferError: The registry does not deliver.
        """
        if descriptor.size > BLOB_LIMIT:
            raise SizeMismatchError(f"a signature of {descriptor.size} bytes is too large")
        with self.open_blob(reference, descriptor) as stream:
            raw = b"".join(stream.chunks)
        self.allowance.take(len(raw))
        if Digest.of(raw) != descriptor.digest:
            raise DigestMismatchError(f"expected a signature {descriptor.digest}")
        return raw

    def _look(self, reference: Reference, entry: tuple[str, Descriptor]) -> Referrer | None:
        kind, descriptor = entry
        try:
            manifest = self.manifest(replace(reference, tag=None, digest=descriptor.digest))
        except (ManifestNotFoundError, IntegrityError, UnsupportedArtifactError) as exc:
            # a list may outlive what it names, and one that is broken takes nothing from the others
            _log.info("%s: %s: %s", self.name, descriptor.digest, exc)
            return None
        self.allowance.take(len(manifest.raw))
        return Referrer.of(manifest, None, kind) if isinstance(manifest, Manifest) else None

    def _look_tagged(self, reference: Reference, tag: str) -> Referrer | None:
        manifest = self._tagged(reference, tag)
        if not isinstance(manifest, Manifest):
            return None
        self.allowance.take(len(manifest.raw))
        return Referrer.of(manifest, tag)

    def _listed(self, reference: Reference, digest: Digest) -> tuple[_Listed, bool]:
        """The list, and whether that is all of it; of one too long what is asked for by type."""
        url = self._url(reference, "referrers", str(digest))
        found: _Listed = {}
        whole = self._read_list(url, reference, found)
        if whole is None:
            tagged = self._tagged(reference, referrers_tag(digest))
            if isinstance(tagged, Index):
                _add(found, tagged.raw)
            return found, True
        if whole:
            return found, True
        for kind in SIGNATURE_TYPES:
            query = urlencode({"artifactType": kind})
            self._read_list(f"{url}?{query}", reference, found)
        return found, False

    def _read_list(self, url: str, reference: Reference, found: _Listed) -> bool | None:
        """Adds the entries of all pages of a list.

        Returns:
            Whether that is all of it; None where the registry has no such lists.
        """
        seen: set[str] = set()
        size = 0
        while url not in seen:
            seen.add(url)
            with self._send("GET", url, reference) as response:
                if response.status == HTTPStatus.NOT_FOUND:
                    return True if len(seen) > 1 else None
                self._expect(response, {HTTPStatus.OK}, reference.short)
                raw = read_limited(response, MAX_BYTES, self.name)
                following = next_page(response, self.endpoint)
            size += len(raw)
            if len(raw) > MAX_BYTES:
                # a page that no client takes: the others are not asked for
                return False
            before = len(found)
            _add(found, raw)
            if following is None or len(found) == before:
                break
            if size >= LIST_BYTES or self.allowance.reached is not None:
                return False
            url = following
        return True

    def _tagged(self, reference: Reference, tag: str) -> Manifest | Index | None:
        try:
            return self.manifest(replace(reference, tag=tag, digest=None))
        except ManifestNotFoundError:
            return None


def within(backoff: Backoff, allowance: Allowance) -> Backoff:
    """A backoff that gives up when an allowance's time is over, or before."""
    deadlines: Sequence[float] = [allowance.deadline]
    if backoff.deadline is not None:
        deadlines = [backoff.deadline, allowance.deadline]
    return replace(backoff, deadline=min(deadlines))


def _add(found: _Listed, raw: bytes) -> None:
    """Adds what an index names to what was found before."""
    for descriptor, kind, _tag in entries_in(raw):
        found.setdefault(descriptor.digest, (kind, descriptor))
