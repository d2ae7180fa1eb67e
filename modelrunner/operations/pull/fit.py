"""`--fit` and `--require-fit`: which variant to pull, before a byte of weights moves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelrunner.errors import DoesNotFitError, ModelRunnerError, UsageError
from modelrunner.frozen import field, frozen, replace
from modelrunner.memory.card_estimate import CARD_CONTEXT
from modelrunner.memory.devices.device import Device
from modelrunner.operations.estimate.report import EstimateRequest, Facts, Report
from modelrunner.text import available
from modelrunner.units import SIZE_HINT, counted, format_size, parse_size

# late imports: an estimate of one model needs no variants, and few name a GPU
if TYPE_CHECKING:
    from modelrunner.oci.model.artifact import ModelArtifact
    from modelrunner.oci.model.config import ModelConfig
    from modelrunner.oci.reference import Reference
    from modelrunner.operations.estimate.estimate import Estimator
    from modelrunner.operations.estimate.variants import Variants
    from modelrunner.store.store import Store


@frozen
class Fitting:
    """What a model that is to be pulled has to fit into, and what if it does not.

    Attributes:
        choose: Take the largest variant that fits.
        require: Take none that does not fit.
        devices: Devices instead of those of this machine.
        request: The use, and a budget instead of this machine.
    """

    choose: bool = False
    require: bool = False
    devices: Sequence[Device] | None = None
    request: EstimateRequest = field(default_factory=lambda: request_of(None))

    def __post_init__(self) -> None:
        if self.devices is not None and self.request.budget is not None:
            raise UsageError("--budget and --for cannot be combined", hint="use one of them")
        if not (self.choose or self.require) and (self.devices or self.request.budget is not None):
            raise UsageError(
                "--budget and --for need --fit or --require-fit",
                hint="add --fit or --require-fit",
            )


class Fitted(NamedTuple):
    """The model to pull, and what there is to say of the choice.

    Attributes:
        text: The model: what was named, or the variant that fits best.
        note: Which variant was chosen, and out of how many.
        warning: Why it may not fit, where it need not.
    """

    text: str
    note: str | None = None
    warning: str | None = None


def request_of(
    budget: str | None,
    context: int | None = None,
    gpu_layers: int | None = None,
    *,
    parallel: int = 1,
) -> EstimateRequest:
    """Return the use for which a model has to fit: a usual context, unless one is asked for.

    Raises:
        UsageError: The budget is not a size.
    """
    return request_for(
        budget=bytes_of(budget), context=context, gpu_layers=gpu_layers, parallel=parallel
    )


def request_for(
    *,
    budget: int | None = None,
    context: int | None = None,
    gpu_layers: int | None = None,
    parallel: int = 1,
) -> EstimateRequest:
    """Return the same for a budget in bytes."""
    return EstimateRequest(
        context,
        parallel=parallel,
        gpu_layers=gpu_layers,
        budget=budget,
        usual=CARD_CONTEXT,
    )


def devices_named(text: str | None) -> Sequence[Device] | None:
    """Return the devices of `--for`.

    Raises:
        UsageError: A part is neither a known name nor a size; near names are suggested.
    """
    if text is None:
        return None
    from modelrunner.memory.devices.named import UnknownDeviceError, devices_by_name, known_gpus

    try:
        return devices_by_name(text)
    except UnknownDeviceError as exc:
        near = f"{available(known_gpus(), 5)}; or give its memory: --for 24GiB"
        raise UsageError(f"--for: unknown GPU {exc.part[:100]!r}", hint=exc.near or near) from exc


def bytes_of(budget: str | None) -> int | None:
    """Return the bytes of `--budget`.

    Raises:
        UsageError: It is not a size.
    """
    if budget is None:
        return None
    try:
        return parse_size(budget)
    except ValueError as exc:
        raise UsageError(f"--budget: {exc}", hint=SIZE_HINT) from exc


def fitted(
    estimator: "Estimator",
    text: str,
    fitting: Fitting,
    at_hand: "Callable[[Variants], Variants] | None" = None,
) -> Fitted:
    """Return the model to pull: what was named, or the variant that fits best.

    Args:
        estimator: Estimates, for this machine or for the devices of `fitting`.
        text: A model, or a repository to choose from.
        fitting: What it has to fit into.
        at_hand: Leaves out variants that cannot be had; None keeps all.

    Raises:
        UsageError: A variant is to be chosen, and the text names one.
        DoesNotFitError: It does not fit, and has to.
    """
    if not (fitting.choose or fitting.require):
        return Fitted(text)
    note = None
    if fitting.choose:
        report, text, count = _best(estimator, text, fitting, at_hand)
        note = f"{report.line()}; chosen from {counted(count, 'variant')}"
    else:
        # not before there is something to choose from: few pulls have to fit
        from modelrunner.operations.model.named_file import file_of

        path = file_of(text)
        report = (
            estimator.of_file(Path(path), fitting.request)
            if path is not None
            else estimator.of_model(text, fitting.request)
        )
    if report.fit.verdict in ("fits", "partial"):
        return Fitted(text, note)
    error = does_not_fit(report)
    if fitting.require and report.fit.verdict != "maybe":
        raise error
    return Fitted(text, note, error.message)


def _best(
    estimator: "Estimator",
    text: str,
    fitting: Fitting,
    at_hand: "Callable[[Variants], Variants] | None",
) -> tuple[Report, str, int]:
    """The variant that fits best, with its report, and out of how many it was chosen."""
    from modelrunner.operations.estimate.variants import names_repository, variants

    if not names_repository(text):
        raise UsageError(
            f"--fit needs a repository, but {text[:200]} names one model",
            hint="remove the tag, or use --require-fit",
        )
    found = variants(estimator, text, fitting.request)
    found = found if at_hand is None else at_hand(found)
    best = found.best()
    count = len(found.candidates)
    if best is None or best.report is None:
        raise DoesNotFitError(
            f"{text}: the memory needs of its {count} variants are unknown",
            hint=f"`modelrunner estimate {text} --variants` shows why",
        )
    return best.report, best.reference.short, count


def among_stored(
    store: "Store", require_registry: "Callable[[Reference], None]", found: "Variants"
) -> "Variants":
    """Return the variants that can be had without the network.

    Raises:
        NotInStoreError: None can.
    """
    here = tuple(entry for entry in found.candidates if store.find(entry.reference) is not None)
    if not here:
        require_registry(found.repository)
    return replace(found, candidates=here)


def need_of(
    estimator: "Estimator", reference: "Reference", artifact: "ModelArtifact", config: "ModelConfig"
) -> Report | None:
    """Return what a model needs that is about to be pulled; None if its config does not show it."""
    if not config.has_shape:
        return None
    try:
        report = estimator.of_config(Facts(reference.short), artifact, config, EstimateRequest())
    except ModelRunnerError:
        # a courtesy: the pull continues without it
        return None
    return None if report.shape is None or not report.shape.is_known else report


def does_not_fit(report: Report) -> DoesNotFitError:
    """Return the error for a model that has to fit, and does not, or may not."""
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
