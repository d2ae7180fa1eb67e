"""What commands share that report who has signed a model."""

from modelrunner.cli.context import Context
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.trust.report import Security, security_of
from modelrunner.operations.trust.signatures import Signers


def security(
    context: Context,
    name: Reference | None,
    manifest: Manifest | Index,
    signers: Signers | None = None,
) -> Security:
    """Return who has signed a model, and what else refers to it.

    Args:
        context: Names the policy, the store and registries.
        name: The model's name; None where it has none.
        manifest: The model.
        signers: Whose signatures count; None for those of the policy.
    """
    ask = None if context.offline else context.registries.referrers_of
    policy = context.settings.policy if context.settings.has_policy else None
    asked = signers or Signers()
    return security_of(policy, context.store, ask, name, manifest, asked)
