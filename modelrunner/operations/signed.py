"""Who has signed a model: what its registry keeps, held against keys and identities."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from modelrunner.errors import (
    IntegrityError,
    UnsupportedArtifactError,
    UnverifiedError,
)
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.provenance.keyless import NotVerifiedError, verify_bundle
from modelrunner.provenance.keys import PublicKey
from modelrunner.provenance.policy import Policy, Rule, read_policy
from modelrunner.provenance.signatures import Evidence, evidence_in
from modelrunner.registry.referrers import ReferrerSource

Ask = Callable[[Reference], ReferrerSource]


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
    source: ReferrerSource, reference: Reference, manifest: Manifest, signers: Signers
) -> list[Checked]:
    """All signatures and attestations of a manifest, each held against the signers.

    Raises:
        AccessError, TransferError: The registry does not tell.
        ConfigError: Nothing is installed that checks them.
    """
    return [
        entry if isinstance(entry, Checked) else _check(entry, manifest, signers)
        for entry in _evidence(source, reference, manifest)
    ]


@dataclass(frozen=True, slots=True)
class Guard:
    """Keeps models out that nobody has signed whom the policy names.

    Attributes:
        policy: The rules.
        ask: Opens a registry.
        records: A folder that notes what was verified, so that it need not be asked again.
        warn: Hears what is only to be warned of.
    """

    policy: Policy
    ask: Ask
    records: Path
    warn: Callable[[str], None]

    def check(self, reference: Reference, manifest: Manifest) -> None:
        """Lets a model pass.

        Raises:
            UnverifiedError: The policy keeps it out.
            AccessError, TransferError, NotInStoreError: Its registry does not tell, or is ruled
                out.
            ConfigError: A key of the policy cannot be read.
        """
        rule = self.policy.rule_for(reference)
        if rule.mode == "off":
            return
        signers = Signers.of(rule)
        record = self.records / f"{manifest.digest.hex}-{signers.fingerprint}"
        if record.exists():
            return
        try:
            with closing(self.ask(reference)) as source:
                found = signatures_of(source, reference, manifest, signers)
        except UnsupportedArtifactError as exc:
            found = [Checked(None, problem=exc.message)]
        if any(entry.by and _signs(entry) for entry in found):
            record.parent.mkdir(parents=True, exist_ok=True)
            record.touch()
            return
        message = f"{reference.short}: {_why(found)}"
        if rule.mode == "warn":
            self.warn(message)
            return
        raise UnverifiedError(
            message,
            hint=f"the rule for {rule.match} in verify.toml asks for a signature; `modelrunner"
            f" inspect --security {reference.short}` tells what there is",
            digest=str(manifest.digest),
        )


def guard_at(path: Path, ask: Ask, records: Path, warn: Callable[[str], None]) -> Guard | None:
    """The guard that a policy file asks for; None where there is no such file.

    Raises:
        ConfigError: It says something that is not understood.
    """
    policy = read_policy(path)
    return None if policy is None else Guard(policy, ask, records, warn)


def _signs(entry: Checked) -> bool:
    return entry.evidence is not None and entry.evidence.kind == "signature"


def _why(found: Sequence[Checked]) -> str:
    signatures = [entry for entry in found if entry.evidence is None or _signs(entry)]
    if not signatures:
        return "nobody has signed it"
    problems = dict.fromkeys(entry.problem for entry in signatures if entry.problem)
    return f"no signature of it counts: {', '.join(problems) or 'none is of anybody named'}"


def _evidence(
    source: ReferrerSource, reference: Reference, manifest: Manifest
) -> Iterator[Evidence | Checked]:
    for referrer in source.referrers(reference, manifest.digest):
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
    from modelrunner.provenance import signatures

    return media_type in (signatures.SIMPLE_SIGNING, signatures.ENVELOPE) or media_type.startswith(
        signatures.BUNDLE_PREFIX
    )


def _check(evidence: Evidence, manifest: Manifest, signers: Signers) -> Checked:
    if str(manifest.digest) not in evidence.subjects:
        return Checked(evidence, problem="it is about another model")
    for key in signers.keys:
        if key.verifies(evidence.signature, evidence.signed):
            return Checked(evidence, by=f"key {key.fingerprint[:16]} ({Path(key.name).name})")
    if evidence.certificate:
        return _check_identity(evidence, manifest, signers)
    if not signers.keys:
        return Checked(evidence, problem="no key is named to hold it against")
    return Checked(evidence, problem="it was made with another key")


def _check_identity(evidence: Evidence, manifest: Manifest, signers: Signers) -> Checked:
    if signers.identity is None:
        return Checked(evidence, problem="it was made without a key, and no identity is named")
    if evidence.bundle is None:
        return Checked(evidence, problem="it was made without a key, and is no bundle of Sigstore")
    try:
        verify_bundle(
            evidence.bundle,
            manifest.raw,
            identity=signers.identity,
            issuer=signers.issuer,
            trusted_root=signers.trusted_root,
        )
    except NotVerifiedError as exc:
        return Checked(evidence, problem=f"Sigstore does not verify it: {exc}")
    return Checked(evidence, by=signers.identity)
