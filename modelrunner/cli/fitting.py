"""What commands share that ask whether a model fits: into this machine, another one, or a budget.

`--fit` and `--require-fit` of `pull` and `run` are decided here, before a byte of weights moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.cards.catalog import Catalog
from modelrunner.cli.console import ProgressMode
from modelrunner.cli.context import Context
from modelrunner.errors import DoesNotFitError, ModelRunnerError, UsageError
from modelrunner.memory.card_estimate import CARD_CONTEXT
from modelrunner.memory.devices.devices import Device, devices
from modelrunner.oci.artifact import ModelArtifact
from modelrunner.oci.config import ModelConfig
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate.estimate import OBSERVATIONS_FILE, Estimator
from modelrunner.operations.estimate.report import Facts, Report, Wish
from modelrunner.operations.package.file_model import file_of
from modelrunner.text import available, suggest
from modelrunner.units import SIZE_HINT, counted, format_size, parse_size

if TYPE_CHECKING:
    from modelrunner.operations.estimate.observations import Experience
    from modelrunner.operations.estimate.variants import Candidate, Variants


@dataclass(frozen=True, slots=True)
class Fitting:
    """What a model that is to be pulled has to fit into, and what if it does not.

    Attributes:
        choose: Take the largest variant that fits.
        require: Take none that does not fit.
        gpu: A GPU instead of this machine.
        wish: The use, and a budget instead of this machine.
    """

    choose: bool = False
    require: bool = False
    gpu: Device | None = None
    wish: Wish = field(default_factory=lambda: wish_of(None))

    def __post_init__(self) -> None:
        if self.gpu is not None and self.wish.budget is not None:
            raise UsageError("--budget and --for cannot be combined", hint="use one of them")
        if not (self.choose or self.require) and (self.gpu or self.wish.budget is not None):
            raise UsageError(
                "--budget and --for need --fit or --require-fit",
                hint="add --fit or --require-fit",
            )


def wish_of(
    budget: str | None,
    context: int | None = None,
    gpu_layers: int | None = None,
    *,
    sequences: int = 1,
) -> Wish:
    """The use for which a model has to fit: a context that is worth while, unless one is asked for.

    Raises:
        UsageError: The budget is no size.
    """
    return Wish(
        context,
        sequences=sequences,
        gpu_layers=gpu_layers,
        budget=bytes_of(budget),
        usual=CARD_CONTEXT,
    )


def estimator_for(context: Context, gpu: Device | None = None) -> Estimator:
    """Who estimates for this machine, or for a GPU instead."""
    catalog = cache(Catalog.load)
    if gpu is not None:
        return Estimator(context.store, context.source_for, catalog, lambda: (gpu,))
    experience = partial(_experience, context)
    return Estimator(context.store, context.source_for, catalog, cache(devices), experience)


def _experience(context: Context) -> "Experience | None":
    if not (context.settings.state / OBSERVATIONS_FILE).exists():
        return None
    from modelrunner.cli.learning import experience_of

    return experience_of(context)


def gpu_named(name: str | None) -> Device | None:
    """The GPU of `--for`.

    Raises:
        UsageError: The table does not have it; the near ones are named.
    """
    if name is None:
        return None
    from modelrunner.memory.devices.gpus import gpu_by_name

    found = gpu_by_name(name)
    if found is None:
        raise UsageError(f"--for: unknown GPU {name[:100]!r}", hint=_near(name))
    return found


def bytes_of(budget: str | None) -> int | None:
    """The bytes of `--budget`.

    Raises:
        UsageError: It is no size.
    """
    if budget is None:
        return None
    try:
        return parse_size(budget)
    except ValueError as exc:
        raise UsageError(f"--budget: {exc}", hint=SIZE_HINT) from exc


def fitted(context: Context, text: str, fitting: Fitting) -> str:
    """The model to pull: what was named, or the variant that fits best.

    Raises:
        UsageError: `--fit` is to choose a tag, and there is one already.
        DoesNotFitError: It does not fit, and has to.
    """
    if not (fitting.choose or fitting.require):
        return text
    estimator = estimator_for(context, fitting.gpu)
    if not fitting.choose:
        path = file_of(text)
        report = (
            estimator.of_file(Path(path), fitting.wish)
            if path is not None
            else estimator.of_model(text, fitting.wish)
        )
    else:
        from modelrunner.operations.estimate.variants import names_repository, variants

        if not names_repository(text):
            raise UsageError(
                f"--fit needs a repository, but {text[:200]} names one model",
                hint="remove the tag, or use --require-fit",
            )
        found = _at_hand(context, variants(estimator, text, fitting.wish))
        best = found.best()
        if best is None or best.report is None:
            raise DoesNotFitError(
                f"{text}: the memory needs of its {len(found.candidates)} variants are unknown",
                hint=f"`modelrunner estimate {text} --variants` shows why",
            )
        report, text = best.report, best.reference.short
        count = len(found.candidates)
        context.console.say(f"{report.line()}; chosen from {counted(count, 'variant')}")
    if report.fit.verdict in ("fits", "partial"):
        return text
    error = does_not_fit(report)
    if fitting.require:
        raise error
    context.console.warn(error.message)
    return text


def does_not_fit(report: Report) -> DoesNotFitError:
    """The error for a model that has to fit, and does not, or may not."""
    needed, budget = report.estimate.total, report.fit.budget_bytes
    longest = report.fit.max_context
    room = format_size(budget or 0)
    amount = f"{format_size(needed)} at a context of {report.context}"
    if report.fit.verdict == "no":
        message = f"{report.name} does not fit into {room}: it needs {amount}"
    else:
        message = f"{report.name} may not fit into {room}: it needs about {amount}"
    return DoesNotFitError(
        message,
        hint=f"a context of {longest} would fit: use --context {longest} with `run` or `estimate`"
        if longest
        else "choose a smaller variant: `modelrunner cards` lists them",
        reference=report.name,
        context=report.context,
        total_bytes=needed,
        budget_bytes=budget,
        max_context=longest,
    )


def print_need(
    context: Context, reference: Reference, artifact: ModelArtifact, config: ModelConfig
) -> None:
    """Says what a model needs that is about to come, where its config tells."""
    console = context.console
    if console.quiet or console.json or console.progress in (ProgressMode.JSON, ProgressMode.NONE):
        return
    estimator = estimator_for(context)
    try:
        report = estimator.of_config(Facts(reference.short), artifact, config, Wish())
    except ModelRunnerError:
        # a courtesy: the pull goes on without
        return
    if report.shape is None or not report.shape.is_known:
        return
    console.say(report.line())


def _at_hand(context: Context, found: "Variants") -> "Variants":
    """Those that can be had: without a network, only what is here."""
    if not context.options.offline:
        return found
    here: Sequence[Candidate] = [
        entry for entry in found.candidates if context.store.find(entry.reference) is not None
    ]
    if not here:
        context.require_registry(found.repository)
    return replace(found, candidates=tuple(here))


def _near(name: str) -> str:
    from modelrunner.memory.devices.gpus import known_gpus

    known = known_gpus()
    found = suggest(name, known)
    return found or f"{available(known, 5)}; or give its memory: --budget 24GiB"
