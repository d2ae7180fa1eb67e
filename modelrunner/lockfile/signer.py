"""Who has signed a locked model: enough to verify it again with the lock alone.

A fingerprint says who it was, for people; the key or the certificate itself is there too, since
nothing can be verified with a fingerprint.
"""

import binascii
from collections.abc import Iterable, Iterator

from modelrunner.frozen import field, frozen
from modelrunner.oci.digest import Digest

MOST = 16
"""Signers of one model, and certificates of one signer, that are recorded."""


@frozen
class LockedSigner:
    """A signer of a locked model: by a key, by a certificate, or by an identity alone.

    Attributes:
        signature: The manifest of a signature by this signer.
        public_key: The key in DER, where it was made with a key.
        certificate: The authority's certificate in DER, where it was made with one of its own.
        tsa: Certificates of authorities of timestamps, in DER.
        identity: Whom the certificate names.
        issuer: The identity provider that says so, without a key.
        trusted_root: The SHA-256 of the trusted root of one's own Sigstore, in hex.
    """

    signature: Digest
    public_key: bytes = field(default=b"", repr=False)
    certificate: bytes = field(default=b"", repr=False)
    tsa: tuple[bytes, ...] = field(default=(), repr=False)
    identity: str | None = None
    issuer: str | None = None
    trusted_root: str | None = None

    @property
    def key(self) -> str | None:
        """The fingerprint of the key: the SHA-256 of its DER form, in hex."""
        return Digest.of(self.public_key).hex if self.public_key else None

    @property
    def ca(self) -> str | None:
        """The fingerprint of the authority: the SHA-256 of its certificate, in hex."""
        return Digest.of(self.certificate).hex if self.certificate else None

    @property
    def who(self) -> tuple[str, ...]:
        """What makes two signers the same one, whatever they have signed with."""
        said = (self.key, self.ca, self.identity, self.issuer, self.trusted_root)
        return tuple(each or "" for each in said)

    def __str__(self) -> str:
        if self.key is not None:
            return f"key {self.key[:16]}"
        if self.ca is not None:
            authority = f"authority {self.ca[:16]}"
            return authority if self.identity is None else f"{self.identity} of {authority}"
        return self.identity or ""

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "key": self.key,
            "ca": self.ca,
            "identity": self.identity,
            "issuer": self.issuer,
            "signature": str(self.signature),
        }


def in_order(signers: Iterable[LockedSigner]) -> tuple[LockedSigner, ...]:
    """The signers in the order of the file, each once: with the lowest digest of a signature."""
    found: dict[tuple[str, ...], LockedSigner] = {}
    for signer in sorted(signers, key=lambda one: (one.who, one.signature)):
        found.setdefault(signer.who, signer)
    return tuple(found.values())


def facts_of(signer: LockedSigner) -> Iterator[tuple[str, str | list[str]]]:
    """The keys and values of the file, in its order."""
    if signer.key is not None:
        yield "key", signer.key
        yield "public_key", encoded(signer.public_key)
    if signer.ca is not None:
        yield "ca", signer.ca
        yield "certificate", encoded(signer.certificate)
        if signer.tsa:
            yield "tsa", [encoded(each) for each in signer.tsa]
    texts = {
        "identity": signer.identity,
        "issuer": signer.issuer,
        "trusted_root": signer.trusted_root,
    }
    for key, text in texts.items():
        if text is not None:
            yield key, text
    yield "signature", str(signer.signature)


def encoded(raw: bytes) -> str:
    """Bytes as the file has them."""
    return binascii.b2a_base64(raw, newline=False).decode()
