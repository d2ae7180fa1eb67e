"""Bundles with a certificate, compared with an identity and a trusted root.

The root is that of the public Sigstore, or a file for an instance of one's own. `sigstore` verifies
what is in a transparency log. An instance without a log, which `sigstore` has no answer for, says
by timestamps alone when a certificate has signed: those are verified here.
"""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelrunner.errors import ConfigError, MalformedManifestError
from modelrunner.provenance.certificates import (
    Authority,
    UntrustedCertificateError,
    issuer_in,
    unreadable,
)
from modelrunner.provenance.keyless.roots import NOTHING_VALID, Chain, Root
from modelrunner.provenance.signatures import BUNDLE_PREFIX, Evidence, evidence_in
from modelrunner.system import installation
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_json

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.verify import Verifier

_MOST_TIMESTAMPS = 16
_MOST_TEXT = 500


class NotVerifiedError(Exception):
    """A bundle does not hold; the message says why."""


def verify_bundle(
    bundle: bytes,
    manifest: bytes,
    *,
    identity: str,
    issuer: str | None,
    trusted_root: Path | None = None,
    offline: bool = False,
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
        offline: Whether the public one is not asked for its root.

    Raises:
        NotVerifiedError: It does not hold.
        ConfigError: Nothing is installed that checks it, or the root cannot be had.
    """
    root = None if trusted_root is None else Root.load(trusted_root)
    try:
        if root is not None and not root.has_log:
            return issuer_in(_verify_timestamped(bundle, manifest, root, identity, issuer))
        return issuer_in(_verify_logged(bundle, manifest, root, identity, issuer, offline=offline))
    except ImportError as exc:
        raise ConfigError(
            "cannot verify keyless signatures: sigstore is not installed",
            hint=f"`{installation.add('sigstore')}`",
        ) from exc


def _verify_logged(
    bundle: bytes,
    manifest: bytes,
    root: Root | None,
    identity: str,
    issuer: str | None,
    *,
    offline: bool,
) -> "Certificate":
    from sigstore.errors import Error as SigstoreError
    from sigstore.models import Bundle
    from sigstore.verify import policy

    verifier = _verifier(root, offline=offline)
    try:
        value = _completed(parse_json(bundle))
        parsed = Bundle.from_json(json.dumps(value))
        wanted = policy.Identity(identity=identity, issuer=issuer)

        def verify(verifier: "Verifier") -> None:
            if "dsseEnvelope" in value:
                verifier.verify_dsse(parsed, wanted)
            else:
                verifier.verify_artifact(manifest, parsed, wanted)

        verify(verifier)
        narrowed = None if root is None else root.at(_moments(value, bundle, manifest, root))
        if narrowed is not None:
            # what the root has withdrawn since, or not begun with, does not count
            verify(_verifier_of(narrowed))
    except MalformedManifestError as exc:
        raise NotVerifiedError(exc.message) from exc
    except unreadable(SigstoreError, OverflowError, OSError) as exc:
        # one that is odd hides no other signature
        raise NotVerifiedError(sanitize_line(str(exc), _MOST_TEXT)) from exc
    return parsed.signing_certificate


def _moments(value: Any, bundle: bytes, manifest: bytes, root: Root) -> list[datetime]:  # noqa: ANN401 - as above
    """Return when a verified bundle was signed, by the words of its logs and timestamps.

    What a log has not promised may be among it: that only makes more to be valid at.
    """
    entries = value["verificationMaterial"].get("tlogEntries") or []
    # bounded: `sigstore` has read these numbers
    times = [int(entry.get("integratedTime") or 0) for entry in entries]
    found = [datetime.fromtimestamp(each, UTC) for each in times if each]
    (evidence,) = evidence_in(f"{BUNDLE_PREFIX}+json", {}, bundle, manifest)
    found += _timestamps(evidence, root)
    if not found:
        raise NotVerifiedError("nothing says when it was signed")
    return found


def _verifier_of(raw: bytes) -> "Verifier":
    from tempfile import NamedTemporaryFile

    from sigstore.models import TrustedRoot
    from sigstore.verify import Verifier

    with NamedTemporaryFile(suffix=".json") as file:
        file.write(raw)
        file.flush()
        return Verifier(trusted_root=TrustedRoot.from_file(file.name))


def _completed(bundle: Any) -> Any:  # noqa: ANN401 - whatever JSON can be
    """Return a bundle with the numbers that are left out where they are 0, as cosign does.

    `sigstore` takes them for missing, and so refuses the first entry of a log.
    """
    material = bundle.get("verificationMaterial") if isinstance(bundle, dict) else None
    entries = material.get("tlogEntries") if isinstance(material, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict):
            entry.setdefault("logIndex", "0")
            proof = entry.get("inclusionProof")
            if isinstance(proof, dict):
                proof.setdefault("logIndex", "0")
                proof.setdefault("hashes", [])
    return bundle


def _verifier(root: Root | None, *, offline: bool) -> "Verifier":
    from sigstore.errors import Error as SigstoreError
    from sigstore.models import ClientTrustConfig, TrustedRoot
    from sigstore.verify import Verifier

    try:
        if root is None:
            if offline:
                # it warns of what was asked for
                logging.getLogger("sigstore._internal.tuf").setLevel(logging.ERROR)
            return Verifier.production(offline=offline)
        if root.is_config:
            config = ClientTrustConfig.from_json(root.raw.decode())
            return Verifier(trusted_root=config.trusted_root)
        return Verifier(trusted_root=TrustedRoot.from_file(str(root.path)))
    except (SigstoreError, OSError, ValueError) as exc:
        raise ConfigError(
            "cannot get the trusted root of Sigstore",
            hint=(
                "download it where there is a network, and set trusted_root = "
                '"trusted_root.json" in verify.toml'
            ),
        ) from exc


def _verify_timestamped(
    bundle: bytes, manifest: bytes, root: Root, identity: str, issuer: str | None
) -> "Certificate":
    from cryptography.x509 import load_der_x509_certificate
    from sigstore.errors import VerificationError
    from sigstore.verify import policy

    try:
        (evidence,) = evidence_in(f"{BUNDLE_PREFIX}+json", {}, bundle, manifest)
        leaf = load_der_x509_certificate(evidence.chain[0])
        moment = _attested(evidence, root)
        if not leaf.not_valid_before_utc <= moment <= leaf.not_valid_after_utc:
            raise NotVerifiedError("its certificate is not valid when it was signed")
        counting = [chain for chain in root.authorities if chain.period.holds(moment)]
        if not counting:
            raise NotVerifiedError(NOTHING_VALID)
        authority = Authority(tuple(each for chain in counting for each in _read(chain)))
        signer = authority.signer(evidence.chain, evidence.signature, now=moment)
        policy.Identity(identity=identity, issuer=issuer).verify(leaf)
    except MalformedManifestError as exc:
        raise NotVerifiedError(exc.message) from exc
    except (UntrustedCertificateError, VerificationError) as exc:
        raise NotVerifiedError(str(exc)) from exc
    except unreadable(IndexError) as exc:
        raise NotVerifiedError("its certificate is malformed") from exc
    if not signer.key.verifies(evidence.signature, evidence.signed):
        raise NotVerifiedError("its certificate is not the one that signed")
    return leaf


def _attested(evidence: Evidence, root: Root) -> datetime:
    """Return when a signature was there, by the word of a timestamp authority of the root."""
    moment = next(_timestamps(evidence, root), None)
    if moment is None:
        raise NotVerifiedError("no timestamp of a configured authority says when it was signed")
    return moment


def _timestamps(evidence: Evidence, root: Root) -> Iterator[datetime]:
    """Yield the times that authorities of the root, valid then, say of a signature."""
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    for raw in evidence.timestamps[:_MOST_TIMESTAMPS]:
        for chain in root.timestamps:
            signer, *others = _read(chain)
            builder = VerifierBuilder().tsa_certificate(signer)
            for each in others[:-1]:
                builder = builder.add_intermediate_certificate(each)
            builder = builder.add_root_certificate(others[-1] if others else signer)
            try:
                response = decode_timestamp_response(raw)
                builder.build().verify_message(response, evidence.signature)
            except (VerificationError, ValueError):
                continue
            found = response.tst_info.gen_time
            moment = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
            if chain.period.holds(moment):
                yield moment


def _read(chain: Chain) -> "list[Certificate]":
    from cryptography.x509 import load_der_x509_certificate

    return [load_der_x509_certificate(each) for each in chain.certificates]
