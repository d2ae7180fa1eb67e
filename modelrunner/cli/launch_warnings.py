"""Warnings before a start that may fail, or that exposes data."""

from collections.abc import Iterable

from modelrunner.cli.context import Context
from modelrunner.operations.launch.plan import LaunchPlan
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.settings import RPC_WARNING


def warn_of(context: Context, plan: LaunchPlan) -> None:
    """Warn of what may fail in a planned start."""
    if plan.fit.verdict == "no" and not context.console.quiet:
        longest = plan.fit.max_context
        advice = f"; --context {longest} would fit" if longest else ""
        context.console.warn(f"memory is short, this may fail or be slow{advice}")
    if plan.projector_problem is not None:
        context.console.warn(plan.projector_problem)
    warn_of_rpc(context, [plan.spec])
    trained = plan.trained_context
    if trained and plan.spec.context > trained:
        context.console.warn(
            f"a context of {plan.spec.context} exceeds the trained context of {trained}"
        )


def warn_of_rpc(context: Context, specs: Iterable[LaunchSpec]) -> None:
    """Warn once of what computing on other machines exposes."""
    if any(spec.rpc is not None for spec in specs):
        context.console.warn(RPC_WARNING)
