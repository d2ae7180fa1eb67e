"""Signers that a lock records: recorded when a model is pinned, verified when it is pulled."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelrunner.errors import LockError, ModelRunnerError, NotInStoreError, UnverifiedError
from modelrunner.lockfile.lock import Lock, LockedModel
from modelrunner.lockfile.signer import MOST, LockedSigner, in_order
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.trust.prove import Prover, why_unproved
from modelrunner.operations.trust.records import fingerprint_of_locked
from modelrunner.operations.trust.signatures import (
    Ask,
    Checked,
    Signers,
    StoredPlace,
    signatures_of,
)
from modelrunner.provenance.certificates import Authority
from modelrunner.provenance.keys import PublicKey
from modelrunner.provenance.policy import Policy
from modelrunner.store.store import Store

_FILE = "modelrunner.lock"


@dataclass(frozen=True, slots=True)
class LockProver:
    """Verifies that who has signed a model when it was locked signs it.

    Attributes:
        prover: Looks for signatures.
        policy: Names the trusted root of a Sigstore of one's own, which a lock has not.
    """

    prover: Prover
    policy: Policy

    def check(self, lock: Lock, locked: LockedModel, manifest: Manifest | Index) -> None:
        """Let a model pass that each recorded signer has signed.

        Raises:
            UnverifiedError: One of them has not.
            AccessError, TransferError: Its registry does not answer.
            LockError: What the lock records is not a key or a certificate.
            ConfigError: Nothing is installed that verifies.
        """
        for signer in locked.signed:
            if self.prover.records.has(manifest.digest, fingerprint_of_locked(signer)):
                continue
            try:
                signers = signers_of(signer, self.policy.rule_for(locked.reference).trusted_root)
                found = self.prover.missing(locked.reference, manifest, signers)
            except NotInStoreError:
                # the network is ruled out, and nothing is kept
                found = ()
            except ValueError as exc:
                raise LockError(
                    f"{lock.file}:{locked.line}: invalid key or certificate of {signer}",
                    hint=f"run `modelrunner lock --update {locked.name}`",
                    file=lock.file,
                    line=locked.line,
                ) from exc
            if found is not None:
                raise _unverified(lock, locked, signer, found)


@dataclass(frozen=True, slots=True)
class SignerRecorder:
    """Verifies who has signed a model that is being pinned.

    Attributes:
        store: Asked first.
        ask: Opens the other places that keep signatures; None where the network is ruled out.
        policy: Whose signatures count where nobody was asked for.
        asked: Who was asked for.
        warn: Takes warnings.
    """

    store: Store
    ask: Ask | None
    policy: Policy
    asked: Signers
    warn: Callable[[str], None]

    def record(
        self, reference: Reference, manifest: Manifest | Index, before: Sequence[LockedSigner]
    ) -> tuple[LockedSigner, ...]:
        """Return who has signed a model; nobody where nobody is asked for.

        Args:
            reference: The model's name.
            manifest: The model.
            before: Who has signed what was locked under the same name: each of them has to have
                signed this one too, where nobody else is asked for.

        Raises:
            UnverifiedError: Nobody has signed who has to.
            AccessError, TransferError: Its registry does not answer.
            ConfigError: A key cannot be read, or nothing is installed that verifies.
        """
        if self.asked.are_named:
            return self._of(
                reference, manifest, self.asked, "the command names who has to have signed it"
            )
        rule = self.policy.rule_for(reference)
        if rule.mode != "off":
            why = f"verify.toml requires a signature for {rule.match}"
            try:
                return self._of(reference, manifest, Signers.of(rule), why)
            except ModelRunnerError as exc:
                if rule.mode != "warn":
                    raise
                said = exc.message.removeprefix(f"{reference.short}: ")
                self.warn(f"{reference.short}: {said}")
                return ()
        found: list[LockedSigner] = []
        for signer in before[:MOST]:
            why = f"the lock records that {signer} signs it"
            try:
                signers = signers_of(signer, rule.trusted_root)
            except ValueError as exc:
                raise LockError(
                    f"{reference.short}: invalid key or certificate of {signer} in the lock",
                    hint="name the signer with --key or --ca, or use --unsigned",
                ) from exc
            found.extend(self._of(reference, manifest, signers, why))
        return in_order(found)

    def _of(
        self, reference: Reference, manifest: Manifest | Index, signers: Signers, why: str
    ) -> tuple[LockedSigner, ...]:
        signers = replace(signers, offline=self.ask is None)
        found = signatures_of([StoredPlace.of(self.store)], manifest, signers)
        problem = None
        if self.ask is not None:
            try:
                found += signatures_of(self.ask(reference), manifest, signers)
            except ModelRunnerError as exc:
                if not any(entry.counts for entry in found):
                    raise
                problem = exc.message
        signed = in_order(_recorded(found))[:MOST]
        if signed:
            if problem is not None:
                self.warn(f"{reference.short}: {problem}")
            return signed
        offline = "; --offline is set" if self.ask is None else ""
        raise UnverifiedError(
            f"{reference.short}: {why_unproved(found)}",
            hint=f"{why}{offline}: check with `modelrunner inspect --security {reference.short}`,"
            " name another signer with --key or --ca, or use --unsigned to record none",
            digest=str(manifest.digest),
        )


def signers_of(signer: LockedSigner, trusted_root: Path | None = None) -> Signers:
    """Return a recorded signer as one whose signatures count.

    Args:
        signer: The signer.
        trusted_root: That of one's own Sigstore, which counts if it is the recorded one.

    Raises:
        ValueError: Its key or certificate is malformed.
        UnverifiedError: It was verified with another trusted root.
        ConfigError: Nothing is installed that verifies.
    """
    if signer.public_key:
        return Signers((PublicKey.from_der(signer.public_key, _FILE),))
    if signer.certificate:
        authority = Authority.of_der(signer.certificate, signer.tsa)
        return Signers(identity=signer.identity, authority=authority)
    root = None if signer.trusted_root is None else trusted_root
    found = Signers(identity=signer.identity, issuer=signer.issuer, trusted_root=root)
    if found.root_fingerprint != signer.trusted_root:
        raise UnverifiedError(
            f"{signer} was verified with another trusted root than this machine has",
            hint="set `trusted_root` of a rule in verify.toml to the file that the lock was made"
            " with",
        )
    return found


def _recorded(found: Sequence[Checked]) -> Iterator[LockedSigner]:
    for entry in found:
        if not entry.counts or entry.proved is None or entry.referrer is None:
            continue
        proved, signature = entry.proved, entry.referrer
        if proved.keys:
            yield LockedSigner(signature, public_key=proved.keys[0].der)
        elif proved.authority is not None:
            root, *clocks = proved.authority.in_der()
            yield LockedSigner(
                signature, certificate=root, tsa=tuple(clocks[:MOST]), identity=proved.identity
            )
        else:
            yield LockedSigner(
                signature,
                identity=proved.identity,
                issuer=proved.issuer,
                trusted_root=proved.root_fingerprint,
            )


def _unverified(
    lock: Lock, locked: LockedModel, signer: LockedSigner, found: Sequence[Checked]
) -> UnverifiedError:
    is_signed = any(entry.is_signature for entry in found)
    why = why_unproved(found) if is_signed else "no signature found"
    return UnverifiedError(
        f"{locked.name}: not signed by {signer}, which {lock.file} records: {why}",
        hint="pull a signature that is missing with `modelrunner pull --locked --referrers"
        f" signatures {locked.name}`; to accept another signer, run `modelrunner lock --update"
        f" {locked.name} --key FILE`",
        digest=str(locked.manifest.digest),
        model=locked.name,
        file=lock.file,
        line=locked.line,
    )
