"""The policy: models without a signature of a signer that `verify.toml` names are refused."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelrunner.disk.inside import open_inside
from modelrunner.errors import (
    ModelNotFoundError,
    ModelRunnerError,
    NotInStoreError,
    UnsupportedArtifactError,
    UnverifiedError,
)
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.trust.signatures import (
    Ask,
    Checked,
    Signers,
    StoredPlace,
    signatures_of,
)
from modelrunner.provenance.policy import Policy, Rule, read_policy
from modelrunner.store.store import Store


@dataclass(frozen=True, slots=True)
class Guard:
    """Refuses models without a signature of a signer that the policy names.

    Attributes:
        policy: The rules.
        store: Asked first: what came with a model needs no network.
        ask: Opens the other places that may keep signatures.
        records: A directory that notes what was verified, so that it need not be asked again.
        warn: Hears what is only to be warned of.
    """

    policy: Policy
    store: Store
    ask: Ask
    records: Path
    warn: Callable[[str], None]

    def check(self, reference: Reference, manifest: Manifest | Index) -> None:
        """Lets a model pass.

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
            self._check(rule, reference, manifest)
        except ModelRunnerError as exc:
            if rule.mode != "warn":
                raise
            # a warning stops nothing, whatever the reason
            said = exc.message.removeprefix(f"{reference.short}: ")
            self.warn(f"{reference.short}: {said}")

    def _check(self, rule: Rule, reference: Reference, manifest: Manifest | Index) -> None:
        signers = Signers.of(rule)
        record = self.records / f"{manifest.digest.hex}-{signers.fingerprint}"
        if record.exists():
            return
        own = [StoredPlace.of(self.store)]
        found: Sequence[Checked] = signatures_of(own, manifest, signers, is_enough=_counts)
        if not any(map(_counts, found)):
            found = self._elsewhere(reference, manifest, signers, found)
        if any(entry.counts for entry in found):
            # where nothing can be noted, it is asked again the next time
            with suppress(OSError):
                record.parent.mkdir(parents=True, exist_ok=True)
                open_inside(record, "append").close()
            return
        raise UnverifiedError(
            f"{reference.short}: {_why(found)}",
            hint=f"check its signatures with `modelrunner inspect --security {reference.short}`; "
            f"verify.toml requires one for {rule.match}",
            digest=str(manifest.digest),
        )

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
        return [*stored, *signatures_of(places, manifest, signers, is_enough=_counts)]


def guard_at(
    path: Path, store: Store, ask: Ask, records: Path, warn: Callable[[str], None]
) -> Guard:
    """Return the guard that a policy file asks for.

    Raises:
        ConfigError: It does not exist, or says something that is not understood.
    """
    return Guard(read_policy(path), store, ask, records, warn)


def _counts(entry: Checked) -> bool:
    return entry.counts


def _why(found: Sequence[Checked]) -> str:
    signatures = [entry for entry in found if entry.is_signature]
    if not signatures:
        return "not signed"
    problems = dict.fromkeys(entry.problem for entry in signatures if entry.problem)
    return f"no valid signature: {', '.join(problems) or 'none by a configured signer'}"
