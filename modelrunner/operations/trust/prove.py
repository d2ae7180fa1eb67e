"""Prove that a model is signed: by what is kept of it, else by what its places have."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelrunner.errors import ModelNotFoundError, NotInStoreError, UnsupportedArtifactError
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.trust.records import Records
from modelrunner.operations.trust.signatures import (
    Ask,
    CarriedPlace,
    CarriedReferrers,
    Checked,
    SignaturePlace,
    Signers,
    StoredPlace,
    signatures_of,
)
from modelrunner.store.store import Store


@dataclass(frozen=True, slots=True)
class Prover:
    """Looks for a signature that counts, and notes that it was found.

    Attributes:
        store: Asked first: what came with a model needs no network.
        ask: Opens the other places that may keep signatures.
        records: What was verified before.
        offline: Whether the network is ruled out.
    """

    store: Store
    ask: Ask
    records: Records
    offline: bool = False

    def missing(
        self,
        reference: Reference,
        manifest: Manifest | Index,
        signers: Signers,
        carried: CarriedReferrers | None = None,
    ) -> Sequence[Checked] | None:
        """Return None where one of the signers has signed a model; else what there is instead.

        Args:
            reference: The model's name.
            manifest: The model.
            signers: Whose signatures count.
            carried: What came with the model, where it did not come from its registry: that and
                the local store are all that is asked then.

        Raises:
            AccessError, TransferError, NotInStoreError: Its registry does not answer, or is ruled
                out.
            ConfigError: Nothing is installed that verifies.
        """
        fingerprint = signers.fingerprint
        if self.records.has(manifest.digest, fingerprint):
            return None
        signers = replace(signers, offline=self.offline or carried is not None)
        own: list[SignaturePlace] = [StoredPlace.of(self.store)]
        if carried is not None:
            own.insert(0, CarriedPlace(carried, reference))
        found: Sequence[Checked] = signatures_of(own, manifest, signers, is_enough=counts)
        if carried is None and not any(map(counts, found)):
            found = self._elsewhere(reference, manifest, signers, found)
        if not any(map(counts, found)):
            return found
        self.records.note(manifest.digest, fingerprint)
        return None

    def _elsewhere(
        self,
        reference: Reference,
        manifest: Manifest | Index,
        signers: Signers,
        stored: Sequence[Checked],
    ) -> Sequence[Checked]:
        try:
            places = self.ask(reference)
        except NotInStoreError:
            if not stored:
                raise
            # what is kept says why, and the network nothing
            return stored
        except (ModelNotFoundError, UnsupportedArtifactError) as exc:
            return [*stored, Checked(None, problem=exc.message)]
        return [*stored, *signatures_of(places, manifest, signers, is_enough=counts)]


def counts(entry: Checked) -> bool:
    """Whether a signature is one of a named signer."""
    return entry.counts


def why_unproved(found: Sequence[Checked]) -> str:
    """Why nothing that was found is a signature that counts."""
    signatures = [entry for entry in found if entry.is_signature]
    if not signatures:
        return "not signed"
    problems = dict.fromkeys(entry.problem for entry in signatures if entry.problem)
    return f"no valid signature: {', '.join(problems) or 'none by a configured signer'}"
