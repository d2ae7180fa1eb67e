"""Signatures without a key: by a short-lived certificate for an identity, with `sigstore`.

The certificate says who has signed, by the word of an identity provider; the transparency log says
when. Both are compared with a trusted root: that of the public Sigstore, or a file for one's own.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.errors import ConfigError
from modelrunner.system import installation
from modelrunner.wire import parse_json

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


_ISSUER = "1.3.6.1.4.1.57264.1.1"
"""The extension of Fulcio's certificates that names the identity provider, as bare text."""
_ISSUER_LIMIT = 1024


class NotVerifiedError(Exception):
    """A bundle does not hold; the message says why."""


def verify_bundle(
    bundle: bytes,
    manifest: bytes,
    *,
    identity: str,
    issuer: str | None,
    trusted_root: Path | None = None,
) -> str | None:
    """Holds a bundle against an identity.

    Returns:
        The identity provider that its certificate names; None where it names none.

    Args:
        bundle: As it was published, in JSON.
        manifest: What a bundle without a statement signs.
        identity: Who has to have signed: an address, or a workflow's URL.
        issuer: The identity provider that has to say so.
        trusted_root: Of one's own Sigstore, in JSON; the public one's without it.

    Raises:
        NotVerifiedError: It does not hold.
        ConfigError: Nothing is installed that checks it, or the root cannot be had.
    """
    try:
        from sigstore.errors import Error as SigstoreError
        from sigstore.errors import VerificationError
        from sigstore.models import Bundle, InvalidBundle, TrustedRoot
        from sigstore.verify import Verifier, policy
    except ImportError as exc:
        raise ConfigError(
            "cannot verify keyless signatures: sigstore is not installed",
            hint=f"`{installation.add('sigstore')}`",
        ) from exc
    try:
        verifier = (
            Verifier.production()
            if trusted_root is None
            else Verifier(trusted_root=TrustedRoot.from_file(str(trusted_root)))
        )
    except (SigstoreError, OSError, ValueError) as exc:
        raise ConfigError(
            "cannot get the trusted root of Sigstore",
            hint=(
                "download it where there is a network, and set trusted_root = "
                '"trusted_root.json" in verify.toml'
            ),
        ) from exc
    try:
        parsed = Bundle.from_json(bundle)
        wanted = policy.Identity(identity=identity, issuer=issuer)
        if "dsseEnvelope" in parse_json(bundle):
            verifier.verify_dsse(parsed, wanted)
        else:
            verifier.verify_artifact(manifest, parsed, wanted)
    except (InvalidBundle, VerificationError, ValueError) as exc:
        raise NotVerifiedError(str(exc)) from exc
    return _issuer_in(parsed.signing_certificate)


def _issuer_in(certificate: "Certificate") -> str | None:
    from cryptography.x509 import ExtensionNotFound, ObjectIdentifier, UnrecognizedExtension

    try:
        found = certificate.extensions.get_extension_for_oid(ObjectIdentifier(_ISSUER)).value
    except (ExtensionNotFound, ValueError):
        return None
    if not isinstance(found, UnrecognizedExtension):
        return None
    # text in the form of version 1 of this extension, without DER around it
    return found.value.decode(errors="replace")[:_ISSUER_LIMIT] or None
