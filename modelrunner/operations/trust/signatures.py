"""Who has signed a model: what is kept with it, compared with keys and identities.

It may be kept by a registry, or in the local store, where it came with the model.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from modelrunner.errors import (
    AccessError,
    ConfigError,
    DigestMismatchError,
    IntegrityError,
    ModelRunnerError,
    NotFoundError,
    SizeMismatchError,
    TransferError,
    UnsupportedArtifactError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.layers import Role
from modelrunner.oci.reference import ANY_REPOSITORY, LOCAL, Reference
from modelrunner.oci.referrers import Referrer, direct
from modelrunner.operations.trust.records import fingerprint_of
from modelrunner.provenance import notation
from modelrunner.provenance.certificates import (
    Authority,
    UntrustedCertificateError,
    chain_in_pem,
)
from modelrunner.provenance.keyless.verifying import NotVerifiedError, verify_bundle
from modelrunner.provenance.keys import PublicKey
from modelrunner.provenance.policy import Rule
from modelrunner.provenance.signatures import (
    BUNDLE_PREFIX,
    ENVELOPE,
    SIMPLE_SIGNING,
    Evidence,
    evidence_in,
    named_form,
)
from modelrunner.registry.fallback import worst
from modelrunner.registry.oci.referrers import BLOB_LIMIT, NotLookedAt
from modelrunner.store.store import Store
from modelrunner.text import os_reason, sanitize_line
from modelrunner.units import format_moment


class SignatureSource(Protocol):
    """Who may keep signatures."""

    @property
    def name(self) -> str:
        """For people: which place this is."""
        ...

    def referrers(self, reference: Reference, digest: Digest) -> Iterable[Referrer | NotLookedAt]:
        """What refers to a manifest."""
        ...

    def content(self, reference: Reference, descriptor: Descriptor) -> bytes:
        """A small blob, verified."""
        ...

    def close(self) -> None:
        """Lets go of its connections."""
        ...


class SignaturePlace(Protocol):
    """Who may keep signatures of a model, and what the model is called there."""

    @property
    def source(self) -> SignatureSource:
        """Who."""
        ...

    @property
    def reference(self) -> Reference:
        """The model's name there."""
        ...


Ask = Callable[[Reference], Sequence[SignaturePlace]]
"""Opens the places that may keep signatures of a model."""


@dataclass(frozen=True, slots=True)
class StoredReferrers:
    """The local store, asked for what came with a model."""

    store: Store
    name: str = "the local store"

    def referrers(
        self,
        reference: Reference,  # noqa: ARG002 - the store knows what refers to a model by its digest
        digest: Digest,
    ) -> Iterable[Referrer | NotLookedAt]:
        """What refers to a model, as far as it is kept."""
        return direct(digest, self.store.referrers_of(digest))

    def content(
        self,
        reference: Reference,  # noqa: ARG002 - see above
        descriptor: Descriptor,
    ) -> bytes:
        """A small blob, verified.

        Raises:
            IntegrityError: It is too large, missing or damaged.
        """
        _require_small(descriptor)
        return self.store.blobs.read(descriptor)

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class StoredPlace:
    """The local store as a place; whatever a model is called, its digest counts."""

    source: StoredReferrers
    reference: Reference

    @classmethod
    def of(cls, store: Store) -> "StoredPlace":
        """The place for all models of a store."""
        return cls(StoredReferrers(store), Reference(LOCAL, ANY_REPOSITORY, None))


@dataclass(frozen=True, slots=True)
class CarriedReferrers:
    """What came with a model that is not in the store yet, such as in an archive.

    Attributes:
        carried: What refers to it.
        read: Returns a blob of it.
        name: Who it came with, for people.
    """

    carried: Sequence[Referrer]
    read: Callable[[Descriptor], bytes]
    name: str = "the archive"

    def referrers(
        self,
        reference: Reference,  # noqa: ARG002 - what came is known by its digest
        digest: Digest,
    ) -> Iterable[Referrer | NotLookedAt]:
        """What refers to a model."""
        return direct(digest, self.carried)

    def content(
        self,
        reference: Reference,  # noqa: ARG002 - see above
        descriptor: Descriptor,
    ) -> bytes:
        """A small blob, verified.

        Raises:
            IntegrityError: It is too large, missing or damaged.
        """
        _require_small(descriptor)
        raw = self.read(descriptor)
        if Digest.of(raw) != descriptor.digest:
            raise DigestMismatchError(f"expected a signature {descriptor.digest}")
        return raw

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class CarriedPlace:
    """What came with a model as a place."""

    source: CarriedReferrers
    reference: Reference


_CERTIFIED = "signed with a certificate"
_NO_AUTHORITY = "present, not verified: a Notation signature, and no certificate authority (`ca`)"
_NOT_OF_THE_MODEL = ("SHA256SUMS", "model.sig")
"""Files beside those of a model, where it was signed: what a pull writes, and the signature."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose signatures count.

    Attributes:
        keys: Public keys.
        identity: Who signs without a key.
        issuer: The provider that says so.
        trusted_root: Of one's own Sigstore.
        authority: Authorities of one's own, whose certificates count.
        offline: Whether the public Sigstore is not asked for its root: then the last one counts
            that is known.
    """

    keys: tuple[PublicKey, ...] = ()
    identity: str | None = None
    issuer: str | None = None
    trusted_root: Path | None = None
    authority: Authority | None = None
    offline: bool = False

    @classmethod
    def of(cls, rule: Rule) -> "Signers":
        """Those whom a rule names.

        Raises:
            ConfigError: A key or a certificate cannot be read.
        """
        keys = tuple(PublicKey.load(path) for path in rule.keys)
        authority = Authority.load(rule.ca, rule.tsa) if rule.ca else None
        return cls(keys, rule.identity, rule.issuer, rule.trusted_root, authority)

    @classmethod
    def named(
        cls,
        keys: Sequence[Path] | None,
        ca: Sequence[Path] | None,
        tsa: Sequence[Path] | None,
        identity: str | None,
        issuer: str | None,
        trusted_root: Path | None = None,
    ) -> "Signers":
        """Those whom options name.

        Raises:
            ConfigError: A key or a certificate cannot be read.
        """
        return cls(
            tuple(PublicKey.load(path) for path in keys or ()),
            identity,
            issuer,
            trusted_root,
            authority=Authority.load(ca, tsa or ()) if ca else None,
        )

    @property
    def are_named(self) -> bool:
        """Whether anybody's signature counts."""
        return bool(self.keys or self.identity or self.authority)

    @property
    def fingerprint(self) -> str:
        """The same for the same signers, in hex.

        Raises:
            ConfigError: The trusted root cannot be read.
        """
        keys = (key.fingerprint for key in self.keys)
        authorities = () if self.authority is None else self.authority.fingerprints
        return fingerprint_of(keys, authorities, self.identity, self.issuer, self.root_fingerprint)

    @property
    def root_fingerprint(self) -> str | None:
        """The SHA-256 of the trusted root, in hex; None without one.

        Raises:
            ConfigError: It cannot be read.
        """
        if self.trusted_root is None:
            return None
        try:
            # outside: a file that the policy names
            return sha256(self.trusted_root.read_bytes()).hexdigest()
        except OSError as exc:
            raise ConfigError(
                f"cannot read the trusted root {self.trusted_root}: {os_reason(exc)}",
                hint="check `trusted_root` in verify.toml",
                path=str(self.trusted_root),
            ) from exc


@dataclass(frozen=True, slots=True)
class Checked:
    """A signature, and what came of it.

    Attributes:
        evidence: The signature; None where what was there could not be read.
        by: Who has made it, where that is proved.
        problem: Why it proves nothing.
        proved: The one signer among those compared with it that proved itself.
        referrer: The manifest that it came with.
    """

    evidence: Evidence | None
    by: str | None = None
    problem: str | None = None
    proved: Signers | None = None
    referrer: Digest | None = None

    @property
    def is_signature(self) -> bool:
        """Whether it signs; what cannot be read may have been meant to."""
        return self.evidence is None or self.evidence.kind == "signature"

    @property
    def counts(self) -> bool:
        """Whether it is a signature of a named signer."""
        return self.is_signature and self.by is not None

    def to_dict(self) -> dict[str, object]:
        """The signature as JSON has it."""
        found = self.evidence
        return {
            "form": None if found is None else found.form,
            "predicate_type": None if found is None else found.predicate_type,
            "verified": self.by is not None,
            "by": self.by,
            "problem": self.problem,
        }


def signatures_of(
    places: Sequence[SignaturePlace],
    manifest: Manifest | Index,
    signers: Signers,
    *,
    is_enough: Callable[[Checked], bool] = lambda _: False,
) -> list[Checked]:
    """The signatures and attestations of a manifest, each compared with the signers.

    All places are asked, since some may have none and others not be reached; what two of them keep
    is reported once.

    Args:
        places: Who may keep them; closed afterwards.
        manifest: What was signed.
        signers: Whose signatures count.
        is_enough: Whether nothing more has to be looked for.

    Raises:
        AccessError, IntegrityError, TransferError: A place does not answer, or answers nonsense,
            and no other has what is enough.
        ConfigError: Nothing is installed that checks them.
    """
    found: dict[object, Checked] = {}
    failures: list[ModelRunnerError] = []
    with ExitStack() as stack:
        for place in places:
            stack.callback(place.source.close)
        for place in places:
            try:
                for digest, entry in _evidence(place.source, place.reference, manifest):
                    checked = (
                        entry if isinstance(entry, Checked) else _check(entry, manifest, signers)
                    )
                    checked = replace(checked, referrer=digest)
                    found.setdefault(checked.evidence or checked.problem, checked)
                    if is_enough(checked):
                        return list(found.values())
            except (AccessError, IntegrityError, NotFoundError, TransferError) as exc:
                _log.info("%s: %s", place.source.name, exc)
                failures.append(exc)
    wanted = any(entry.counts for entry in found.values())
    if failures and not wanted:
        raise worst(failures)
    return list(found.values())


def _evidence(
    source: SignatureSource, reference: Reference, manifest: Manifest | Index
) -> Iterator[tuple[Digest | None, Evidence | Checked]]:
    for referrer in source.referrers(reference, manifest.digest):
        if isinstance(referrer, NotLookedAt):
            yield None, Checked(None, problem=str(referrer))
            continue
        own = referrer.digest
        kinds = [referrer.artifact_type, *(each.media_type for each in referrer.manifest.layers)]
        unread = None if any(map(_is_known, kinds)) else named_form(kinds)
        if unread is not None:
            yield own, Checked(None, problem=f"present, not verified: {unread}")
            continue
        for layer in referrer.manifest.layers:
            try:
                # what it is tells whether it is worth fetching
                if not _is_known(layer.media_type):
                    continue
                content = source.content(reference, layer)
                held = evidence_in(layer.media_type, layer.annotations, content, manifest.raw)
                for each in held:
                    yield own, each
            except (IntegrityError, UnsupportedArtifactError) as exc:
                yield own, Checked(None, problem=exc.message)


def _is_known(media_type: str) -> bool:
    return media_type in (SIMPLE_SIGNING, ENVELOPE, notation.MEDIA_TYPE) or media_type.startswith(
        BUNDLE_PREFIX
    )


def _check(evidence: Evidence, manifest: Manifest | Index, signers: Signers) -> Checked:
    problem = _subject_problem(evidence, manifest)
    if problem is not None:
        return Checked(evidence, problem=problem)
    for key in signers.keys:
        if key.verifies(evidence.signature, evidence.signed):
            by = f"key {key.fingerprint[:16]} ({Path(key.name).name})"
            return Checked(evidence, by, proved=Signers((key,)))
    if evidence.certificate:
        if signers.authority is not None:
            return _check_authority(evidence, signers.authority, signers.identity)
        if evidence.form == "notation":
            return Checked(evidence, problem=_NO_AUTHORITY)
        return _check_identity(evidence, manifest, signers)
    missing = "no public key configured to verify it"
    return Checked(evidence, problem="signed with another key" if signers.keys else missing)


def _subject_problem(evidence: Evidence, manifest: Manifest | Index) -> str | None:
    """Why a signature is not one of this model; None where it is."""
    if evidence.files is not None:
        return _files_problem(evidence.files, manifest)
    return None if str(manifest.digest) in evidence.subjects else "signed for another model"


def _files_problem(files: Sequence[tuple[str, str]], manifest: Manifest | Index) -> str | None:
    """Why a list of signed files is not that of a model; None where it is."""
    try:
        artifact = ModelArtifact.from_manifest(manifest)
    except (IntegrityError, UnsupportedArtifactError):
        return "signed for files, and the files of the model are unknown"
    own = {
        str(layer.path): layer.descriptor.digest.hex
        for layer in artifact.layers
        # what a runtime is given counts, whatever it is called
        if str(layer.path) not in _NOT_OF_THE_MODEL or layer.role not in (Role.FILE, Role.DOC)
    }
    signed = {
        name: digest for name, digest in files if name not in _NOT_OF_THE_MODEL or name in own
    }
    for name in sorted(signed.keys() | own.keys()):
        if signed.get(name) != own.get(name):
            found = "is not signed" if name not in signed else "is another one than was signed"
            missing = "is signed, and not in the model" if name not in own else found
            return f"{sanitize_line(name, 80)} {missing}"
    return None


def _check_authority(evidence: Evidence, authority: Authority, identity: str | None) -> Checked:
    try:
        chain = [der for part in evidence.chain for der in _in_der(part)]
        signer = authority.signer(chain, evidence.signature, evidence.timestamps)
    except (UntrustedCertificateError, ValueError) as exc:
        return Checked(evidence, problem=f"{_CERTIFIED}: {exc}")
    if not _is_by(signer.key, evidence):
        return Checked(evidence, problem=f"{_CERTIFIED}, which is not the one that signed")
    if evidence.expires is not None and datetime.now(UTC) >= evidence.expires:
        return Checked(evidence, problem=f"expired at {format_moment(evidence.expires)}")
    if identity is not None and identity not in signer.names:
        return Checked(evidence, problem=f"{_CERTIFIED} of {sanitize_line(signer.shown, 100)}")
    by = f"certificate of {sanitize_line(signer.shown, 200)}"
    # by its own name where none was asked for: others of the authority are others
    named = identity or next(iter(signer.names), None)
    return Checked(evidence, by, proved=Signers(identity=named, authority=signer.authority))


def _is_by(key: PublicKey, evidence: Evidence) -> bool:
    if evidence.algorithm is not None:
        return key.verifies_jws(evidence.algorithm, evidence.signature, evidence.signed)
    return key.verifies(evidence.signature, evidence.signed)


def _in_der(part: bytes) -> Sequence[bytes]:
    return chain_in_pem(part) if part.lstrip().startswith(b"-----") else [part]


def _check_identity(evidence: Evidence, manifest: Manifest | Index, signers: Signers) -> Checked:
    if signers.identity is None:
        return Checked(evidence, problem=f"{_CERTIFIED}, but no identity is configured")
    if evidence.bundle is None:
        return Checked(evidence, problem=f"{_CERTIFIED}, but not a Sigstore bundle")
    try:
        issuer = verify_bundle(
            evidence.bundle,
            manifest.raw,
            identity=signers.identity,
            issuer=signers.issuer,
            trusted_root=signers.trusted_root,
            offline=signers.offline,
        )
    except NotVerifiedError as exc:
        return Checked(evidence, problem=f"Sigstore verification failed: {exc}")
    proved = Signers(
        identity=signers.identity,
        issuer=signers.issuer or issuer,
        trusted_root=signers.trusted_root,
    )
    return Checked(evidence, signers.identity, proved=proved)


def _require_small(descriptor: Descriptor) -> None:
    if descriptor.size > BLOB_LIMIT:
        raise SizeMismatchError(f"a signature of {descriptor.size} bytes is too large")
