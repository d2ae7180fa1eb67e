"""The policy of this process: which models are kept out, and who is known to have signed what."""

from collections.abc import Sequence

from modelrunner.cli.context import Context
from modelrunner.errors import ModelRunnerError
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.guard import Guard, guard_at
from modelrunner.operations.security import Signatures
from modelrunner.operations.signed import Ask, Signers, signatures_of
from modelrunner.provenance.policy import Policy, Rule, read_policy
from modelrunner.registry.referrers import ReferrerPlace


def guard_of(context: Context) -> Guard | None:
    """The guard that `verify.toml` asks for; None where there is no such file.

    Raises:
        ConfigError: It says something that is not understood.
    """
    settings = context.settings
    return guard_at(settings.policy, _asking(context), settings.verified, context.console.warn)


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
        return Signatures(None, "it has no name, so no registry is known", rule)
    if context.options.offline:
        return Signatures(None, "--offline rules the network out", rule)
    signers = asked if asked.keys or asked.identity else Signers.of(rule)
    try:
        places = context.places.referrers_of(reference)
        return Signatures(signatures_of(places, manifest, signers), None, rule)
    except ModelRunnerError as exc:
        return Signatures(None, exc.message, rule)


def _asking(context: Context) -> Ask:
    def ask(reference: Reference) -> Sequence[ReferrerPlace]:
        context.require_network(f"the signature of {reference.short}")
        return context.places.referrers_of(reference)

    return ask
