"""What refers to a manifest in its registry: signatures, attestations, and the like.

`GET /v2/NAME/referrers/DIGEST` answers with an index (distribution specification 1.1). A registry
without it keeps that index under the tag `sha256-HEX`; and cosign keeps what it makes without
either under `sha256-HEX.sig` and `sha256-HEX.att`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus

from modelrunner.errors import (
    DigestMismatchError,
    ManifestNotFoundError,
    ModelRunnerError,
    SizeMismatchError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest, parse_json
from modelrunner.oci.reference import Reference
from modelrunner.registry.exchange import read_limited
from modelrunner.registry.oci import OciRegistry

MOST = 32
"""Referrers of one manifest that are looked at."""

BLOB_LIMIT = 2 * 1024 * 1024
_SUFFIXES = (".sig", ".att")


@dataclass(frozen=True, slots=True)
class Referrer:
    """Something that refers to a manifest, and its own manifest."""

    artifact_type: str
    manifest: Manifest


class ReferrerSource(OciRegistry):
    """One registry, asked for what refers to a manifest. Not to be shared between threads."""

    def referrers(self, reference: Reference, digest: Digest) -> Iterator[Referrer]:
        """What refers to a manifest, so many at most.

        Raises:
            AccessError, TransferError: The registry does not tell.
        """
        found = self._listed(reference, digest)
        for artifact_type, entry in list(found)[:MOST]:
            manifest = self.manifest(replace(reference, tag=None, digest=entry.digest))
            if isinstance(manifest, Manifest):
                yield Referrer(artifact_type or manifest.artifact_type or "", manifest)
        for suffix in _SUFFIXES:
            tagged = self._tagged(reference, f"sha256-{digest.hex}{suffix}")
            if isinstance(tagged, Manifest):
                yield Referrer(tagged.artifact_type or "", tagged)

    def content(self, reference: Reference, descriptor: Descriptor) -> bytes:
        """A small blob, verified.

        Raises:
            IntegrityError: It is too large, or not what its digest says.
            AccessError, TransferError: The registry does not deliver.
        """
        if descriptor.size > BLOB_LIMIT:
            raise SizeMismatchError(f"a signature of {descriptor.size} bytes is none")
        with self.open_blob(reference, descriptor) as stream:
            raw = b"".join(stream.chunks)
        if Digest.of(raw) != descriptor.digest:
            raise DigestMismatchError(f"a signature should be {descriptor.digest}")
        return raw

    def _listed(self, reference: Reference, digest: Digest) -> Iterator[tuple[str, Descriptor]]:
        url = f"{self.endpoint.base}/v2/{reference.repository}/referrers/{digest}"
        with self._send("GET", url, reference) as response:
            known = response.status_code == HTTPStatus.OK
            raw = read_limited(response, MAX_BYTES, self.name) if known else b""
            if response.status_code not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
                raise self._error(response, reference.short)
        if not known:
            tagged = self._tagged(reference, f"sha256-{digest.hex}")
            raw = tagged.raw if isinstance(tagged, Index) else b'{"manifests": []}'
        entries = parse_json(raw, "the list of referrers").get("manifests")
        for entry in entries if isinstance(entries, list) else []:
            try:
                descriptor = Descriptor.from_dict(entry, "a referrer")
            except ModelRunnerError:
                continue
            kind = entry.get("artifactType")
            yield kind if isinstance(kind, str) else "", descriptor

    def _tagged(self, reference: Reference, tag: str) -> Manifest | Index | None:
        try:
            return self.manifest(replace(reference, tag=tag, digest=None))
        except ManifestNotFoundError:
            return None
