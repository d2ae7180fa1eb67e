"""Who has signed a model: what is kept with it, compared with keys and identities.

It may be kept by a registry, or in the local store, where it came with the model.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from modelrunner.errors import (
    AccessError,
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
from modelrunner.oci.reference import ANY_REPOSITORY, LOCAL, Reference
from modelrunner.oci.referrers import Referrer
from modelrunner.provenance.keyless import NotVerifiedError, verify_bundle
from modelrunner.provenance.keys import PublicKey
from modelrunner.provenance.policy import Rule
from modelrunner.provenance.signatures import (
    BUNDLE_PREFIX,
    ENVELOPE,
    SIMPLE_SIGNING,
    Evidence,
    evidence_in,
)
from modelrunner.registry.fallback import worst
from modelrunner.registry.oci.referrers import BLOB_LIMIT, NotLookedAt
from modelrunner.store.store import Store


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
        return self.store.referrers_of(digest)

    def content(
        self,
        reference: Reference,  # noqa: ARG002 - see above
        descriptor: Descriptor,
    ) -> bytes:
        """A small blob, verified.

        Raises:
            IntegrityError: It is too large, missing or damaged.
        """
        if descriptor.size > BLOB_LIMIT:
            raise SizeMismatchError(f"a signature of {descriptor.size} bytes is too large")
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


_CERTIFIED = "signed with a certificate"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Signers:
    """Whose signatures count.

    Attributes:
        keys: Public keys.
        identity: Who signs without a key.
        issuer: The provider that says so.
        trusted_root: Of one's own Sigstore.
    """

    keys: tuple[PublicKey, ...] = ()
    identity: str | None = None
    issuer: str | None = None
    trusted_root: Path | None = None

    @classmethod
    def of(cls, rule: Rule) -> "Signers":
        """Those whom a rule names.

        Raises:
            ConfigError: A key cannot be read.
        """
        keys = tuple(PublicKey.load(path) for path in rule.keys)
        return cls(keys, rule.identity, rule.issuer, rule.trusted_root)

    @property
    def fingerprint(self) -> str:
        """The same for the same signers, in hex."""
        names = sorted(key.fingerprint for key in self.keys)
        said = "\n".join([*names, self.identity or "", self.issuer or ""])
        return sha256(said.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Checked:
    """A signature, and what came of it.

    Attributes:
        evidence: The signature; None where what was there could not be read.
        by: Who has made it, where that is proved.
        problem: Why it proves nothing.
    """

    evidence: Evidence | None
    by: str | None = None
    problem: str | None = None

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
                for entry in _evidence(place.source, place.reference, manifest):
                    checked = (
                        entry if isinstance(entry, Checked) else _check(entry, manifest, signers)
                    )
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
) -> Iterator[Evidence | Checked]:
    for referrer in source.referrers(reference, manifest.digest):
        if isinstance(referrer, NotLookedAt):
            yield Checked(None, problem=str(referrer))
            continue
        for layer in referrer.manifest.layers:
            try:
                # what it is tells whether it is worth fetching
                if not _is_known(layer.media_type):
                    continue
                content = source.content(reference, layer)
                yield from evidence_in(layer.media_type, layer.annotations, content, manifest.raw)
            except (IntegrityError, UnsupportedArtifactError) as exc:
                yield Checked(None, problem=exc.message)


def _is_known(media_type: str) -> bool:
    return media_type in (SIMPLE_SIGNING, ENVELOPE) or media_type.startswith(BUNDLE_PREFIX)


def _check(evidence: Evidence, manifest: Manifest | Index, signers: Signers) -> Checked:
    if str(manifest.digest) not in evidence.subjects:
        return Checked(evidence, problem="signed for another model")
    for key in signers.keys:
        if key.verifies(evidence.signature, evidence.signed):
            return Checked(evidence, by=f"key {key.fingerprint[:16]} ({Path(key.name).name})")
    if evidence.certificate:
        return _check_identity(evidence, manifest, signers)
    if not signers.keys:
        return Checked(evidence, problem="no public key configured to verify it")
    return Checked(evidence, problem="signed with another key")


def _check_identity(evidence: Evidence, manifest: Manifest | Index, signers: Signers) -> Checked:
    if signers.identity is None:
        return Checked(evidence, problem=f"{_CERTIFIED}, but no identity is configured")
    if evidence.bundle is None:
        return Checked(evidence, problem=f"{_CERTIFIED}, but not a Sigstore bundle")
    try:
        verify_bundle(
            evidence.bundle,
            manifest.raw,
            identity=signers.identity,
            issuer=signers.issuer,
            trusted_root=signers.trusted_root,
        )
    except NotVerifiedError as exc:
        return Checked(evidence, problem=f"Sigstore verification failed: {exc}")
    return Checked(evidence, by=signers.identity)
