"""The policy of this process: which models are kept out, and who is known to have signed what."""

from modelrunner.cli.context import Context
from modelrunner.errors import ModelRunnerError
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.trust.report import Signatures
from modelrunner.operations.trust.signatures import Signers, signatures_of
from modelrunner.provenance.policy import Policy, Rule, read_policy


def signatures_for(
    context: Context, reference: Reference | None, manifest: Manifest, asked: Signers
) -> Signatures:
    """What the registry keeps of a model, held against the options, or else the policy's rule.

    Raises:
        ConfigError: The policy or a key is not understood.
    """
    policy = read_policy(context.settings.policy) or Policy("off", ())
    rule = Rule("*", policy.default) if reference is None else policy.rule_for(reference)
    if reference is None:
        return Signatures(
            None, "not checked: the model has no name, so its registry is unknown", rule
        )
    if context.offline:
        return Signatures(None, "not checked: --offline is set", rule)
    signers = asked if asked.keys or asked.identity else Signers.of(rule)
    try:
        places = context.registries.referrers_of(reference)
        return Signatures(signatures_of(places, manifest, signers), None, rule)
    except ModelRunnerError as exc:
        return Signatures(None, exc.message, rule)
