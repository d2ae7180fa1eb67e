"""How commands show what `--fit` and `--require-fit` decide, and what a model needs."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from modelrunner.cli.context import Context
from modelrunner.cli.terminal.console import ProgressMode
from modelrunner.errors import ModelRunnerError
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.model.config import ModelConfig
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate.report import EstimateRequest, Facts
from modelrunner.operations.pull import fit
from modelrunner.operations.pull.fit import Fitting

if TYPE_CHECKING:
    from modelrunner.operations.estimate.variants import Candidate, Variants


def fitted(context: Context, text: str, fitting: Fitting) -> str:
    """Return the model to pull, and say which variant was chosen and whether it may not fit.

    Raises:
        UsageError: `--fit` is to choose a tag, and there is one already.
        DoesNotFitError: It does not fit, and has to.
    """
    if not (fitting.choose or fitting.require):
        return text
    gpus = None if fitting.gpu is None else [fitting.gpu]
    estimator = context.workspace.estimator(gpus)
    found = fit.fitted(estimator, text, fitting, partial(_at_hand, context))
    if found.note is not None:
        context.console.say(found.note)
    if found.warning is not None:
        context.console.warn(found.warning)
    return found.text


def print_need(
    context: Context, reference: Reference, artifact: ModelArtifact, config: ModelConfig
) -> None:
    """Says what a model needs that is about to come, where its config tells."""
    console = context.console
    if console.quiet or console.json or console.progress in (ProgressMode.JSON, ProgressMode.NONE):
        return
    estimator = context.workspace.estimator()
    try:
        report = estimator.of_config(Facts(reference.short), artifact, config, EstimateRequest())
    except ModelRunnerError:
        # a courtesy: the pull goes on without
        return
    if report.shape is None or not report.shape.is_known:
        return
    console.say(report.line())


def _at_hand(context: Context, found: "Variants") -> "Variants":
    """Those that can be had: without a network, only what is here."""
    if not context.offline:
        return found
    here: Sequence[Candidate] = [
        entry for entry in found.candidates if context.store.find(entry.reference) is not None
    ]
    if not here:
        context.require_registry(found.repository)
    return replace(found, candidates=tuple(here))
