"""The policy: models without a signature of a signer that `verify.toml` names are refused."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelrunner.errors import ModelRunnerError, UnverifiedError
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.trust.prove import Prover, why_unproved
from modelrunner.operations.trust.signatures import CarriedReferrers, Signers
from modelrunner.provenance.policy import Policy, Rule, read_policy


@dataclass(frozen=True, slots=True)
class Guard:
    """Refuses models without a signature of a signer that the policy names.

    Attributes:
        policy: The rules.
        prover: Looks for signatures.
        warn: Hears what is only to be warned of.
    """

    policy: Policy
    prover: Prover
    warn: Callable[[str], None]

    def check(
        self,
        reference: Reference,
        manifest: Manifest | Index,
        carried: CarriedReferrers | None = None,
    ) -> None:
        """Lets a model pass.

        Args:
            reference: Its name.
            manifest: It.
            carried: What came with it, where it did not come from its registry.

        Raises:
            UnverifiedError: The policy keeps it out.
            AccessError, TransferError, NotInStoreError: Its registry does not answer, or is ruled
                out.
            ConfigError: A key of the policy cannot be read.
        """
        rule = self.policy.rule_for(reference)
        if rule.mode == "off":
            return
        try:
            self._check(rule, reference, manifest, carried)
        except ModelRunnerError as exc:
            if rule.mode != "warn":
                raise
            # a warning stops nothing, whatever the reason
            said = exc.message.removeprefix(f"{reference.short}: ")
            self.warn(f"{reference.short}: {said}")

    def _check(
        self,
        rule: Rule,
        reference: Reference,
        manifest: Manifest | Index,
        carried: CarriedReferrers | None,
    ) -> None:
        found = self.prover.missing(reference, manifest, Signers.of(rule), carried)
        if found is None:
            return
        look = f"check its signatures with `modelrunner inspect --security {reference.short}`"
        if carried is not None:
            look = f"{carried.name} has none that counts: create it again where the model is signed"
        raise UnverifiedError(
            f"{reference.short}: {why_unproved(found)}",
            hint=f"{look}; verify.toml requires one for {rule.match}",
            digest=str(manifest.digest),
        )


def guard_at(path: Path, prover: Prover, warn: Callable[[str], None]) -> Guard:
    """Return the guard that a policy file asks for.

    Raises:
        ConfigError: It does not exist, or says something that is not understood.
    """
    return Guard(read_policy(path), prover, warn)
