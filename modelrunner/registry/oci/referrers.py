"""What refers to a manifest in its registry: signatures, attestations, and the like.

`GET /v2/NAME/referrers/DIGEST` answers with an index (distribution specification 1.1). A registry
without it keeps that index under the tag `sha256-HEX`; and cosign keeps what it makes without
either under `sha256-HEX.sig` and `sha256-HEX.att`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import urlencode

from modelrunner.errors import (
    DigestMismatchError,
    ManifestNotFoundError,
    ModelRunnerError,
    SizeMismatchError,
)
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest, parse_json
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.exchange import read_limited
from modelrunner.registry.http.responses import next_page
from modelrunner.registry.oci.source import OciRegistry

MOST = 256
"""Referrers of one manifest whose own manifests are downloaded."""

MOST_LISTED = 4096
"""Entries of the list that are read."""

SIGNATURE_TYPES = (
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.dev.cosign.artifact.sig.v1+json",
)
"""What a registry is asked for by type, where its whole list is too long."""

BLOB_LIMIT = 2 * 1024 * 1024
_SUFFIXES = (".sig", ".att")
_SIGNING = ("sigstore", "cosign", "signature", "simplesigning", "dsse", "in-toto")
# some tools give no type, and others that of an empty or an image's config
_SILENT = ("", media_types.OCI_EMPTY, media_types.OCI_IMAGE_CONFIG)

_Listed = dict[Digest, tuple[str, Descriptor]]


@dataclass(frozen=True, slots=True)
class Referrer:
    """Something that refers to a manifest, and its own manifest."""

    artifact_type: str
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class NotLookedAt:
    """Referrers that were left out, since there are too many of them; None is not known."""

    looked_at: int
    total: int | None


@dataclass(frozen=True, slots=True)
class ReferrerPlace:
    """A registry that may keep signatures of a model, and what the model is called there."""

    source: "ReferrerSource"
    reference: Reference


class ReferrerSource(OciRegistry):
    """One registry, asked for what refers to a manifest. Not to be shared between threads."""

    def referrers(self, reference: Reference, digest: Digest) -> Iterator[Referrer | NotLookedAt]:
        """What refers to a manifest: what may be a signature first, up to a number.

        Raises:
            AccessError, TransferError: The registry does not answer.
        """
        found, whole = self._listed(reference, digest)
        ordered = sorted(found.values(), key=lambda entry: _likeness(entry[0]))
        for artifact_type, entry in ordered[:MOST]:
            try:
                manifest = self.manifest(replace(reference, tag=None, digest=entry.digest))
            except ManifestNotFoundError:
                # a list may outlive what it names
                continue
            if isinstance(manifest, Manifest):
                yield Referrer(artifact_type or manifest.artifact_type or "", manifest)
        for suffix in _SUFFIXES:
            tagged = self._tagged(reference, f"sha256-{digest.hex}{suffix}")
            if isinstance(tagged, Manifest):
                yield Referrer(tagged.artifact_type or "", tagged)
        if len(ordered) > MOST or not whole:
            yield NotLookedAt(min(len(ordered), MOST), len(ordered) if whole else None)

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
        if Digest.of(raw) != descriptor.digest:
            raise DigestMismatchError(f"expected a signature {descriptor.digest}")
        return raw

    def _listed(self, reference: Reference, digest: Digest) -> tuple[_Listed, bool]:
        """The list, and whether that is all of it; of one too long what is asked for by type."""
        url = f"{self.endpoint.base}/v2/{reference.repository}/referrers/{digest}"
        found: _Listed = {}
        if not self._read_list(url, reference, found, MOST_LISTED):
            tagged = self._tagged(reference, f"sha256-{digest.hex}")
            if isinstance(tagged, Index):
                _add(found, tagged.raw)
            return found, True
        if len(found) < MOST_LISTED:
            return found, True
        for kind in SIGNATURE_TYPES:
            query = urlencode({"artifactType": kind})
            self._read_list(f"{url}?{query}", reference, found, MOST_LISTED + len(found))
        return found, False

    def _read_list(self, url: str, reference: Reference, found: _Listed, most: int) -> bool:
        """Adds the entries of all pages of a list; whether the registry has such lists."""
        seen: set[str] = set()
        while url not in seen and len(found) < most:
            seen.add(url)
            with self._send("GET", url, reference) as response:
                if response.status == HTTPStatus.NOT_FOUND:
                    return len(seen) > 1
                self._expect(response, {HTTPStatus.OK}, reference.short)
                raw = read_limited(response, MAX_BYTES, self.name)
                following = next_page(response, self.endpoint)
            before = len(found)
            _add(found, raw)
            if following is None or len(found) == before:
                break
            url = following
        return True

    def _tagged(self, reference: Reference, tag: str) -> Manifest | Index | None:
        try:
            return self.manifest(replace(reference, tag=tag, digest=None))
        except ManifestNotFoundError:
            return None


def _add(found: _Listed, raw: bytes) -> None:
    """Adds what an index names to what was found before."""
    entries = parse_json(raw, "the list of referrers").get("manifests")
    for entry in entries if isinstance(entries, list) else []:
        try:
            descriptor = Descriptor.from_dict(entry, "a referrer")
        except ModelRunnerError:
            continue
        kind = entry.get("artifactType")
        found.setdefault(descriptor.digest, (kind if isinstance(kind, str) else "", descriptor))


def _likeness(artifact_type: str) -> int:
    """How far a type is from a signature's: 0 for one, 1 for what says nothing, 2 for others."""
    if any(word in artifact_type.lower() for word in _SIGNING):
        return 0
    return 1 if artifact_type in _SILENT else 2
