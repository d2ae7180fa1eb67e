"""`modelrunner estimate`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import ContextSize, Device, GpuLayers, Parallel
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.views.devices import warn_of_devices
from modelrunner.cli.views.estimate import show_report, show_variants
from modelrunner.cli.views.security import show_security
from modelrunner.errors import DoesNotFitError, UsageError
from modelrunner.memory.plan.load import CACHE_TYPES
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate.estimate import USUAL_CACHE, Estimator
from modelrunner.operations.estimate.report import EstimateRequest, Report, device_to_dict
from modelrunner.operations.pull.fit import bytes_of, devices_named, does_not_fit
from modelrunner.text import suggest

# late imports: few draw a chart or ask for all variants
if TYPE_CHECKING:
    from modelrunner.operations.devices import Usable
    from modelrunner.operations.estimate.variants import Variants
    from modelrunner.operations.trust.report import Security


class SourceOption(StrEnum):
    """The sources that an estimate can be based on."""

    AUTO = "auto"
    MEASURED = "measured"
    HEADER = "header"
    CONFIG = "config"
    CARD = "card"


@command(
    examples="  modelrunner estimate ai/granite-4.0-micro\n"
    "  modelrunner estimate ai/granite-4.0-micro --context 131072 --kv-type q8_0 --graph\n"
    '  modelrunner estimate ai/qwen3 --variants --for "RTX 4070"\n'
    "  modelrunner estimate model.gguf --budget 8GiB --json"
)
def estimate(
    context: Context,
    subject: Annotated[
        str,
        Argument(metavar="REF|FILE", help="Model, local or in a registry, or a GGUF file."),
    ],
    context_size: ContextSize = None,
    kv_type: Annotated[
        str | None,
        Option(metavar="TYPE", help="Data type of the KV cache (default: f16)."),
    ] = None,
    kv_type_v: Annotated[
        str | None,
        Option(
            metavar="TYPE",
            help="Data type of the values in the KV cache (default: that of --kv-type).",
        ),
    ] = None,
    parallel: Parallel = None,
    micro_batch: Annotated[
        int, Option(min=1, max=65536, metavar="N", help="Micro-batch size in tokens.")
    ] = 512,
    gpu_layers: GpuLayers = None,
    device: Device = None,
    budget: Annotated[
        str | None,
        Option(
            metavar="SIZE",
            help="Fit into this much memory, such as 8GiB, instead of this machine's; exit code 7"
            " if it does not fit.",
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        Option(
            "--for",
            metavar="DEVICES",
            help='Fit on these devices, such as "2x RTX 4090" or 24GiB+ram:64GiB, instead of this'
            " machine; exit code 7 if it does not fit.",
        ),
    ] = None,
    source: Annotated[
        SourceOption,
        Option(
            help="Source of the estimate; `measured` asks llama.cpp itself, which takes"
            " about a second."
        ),
    ] = SourceOption.AUTO,
    all_variants: Annotated[
        bool,
        Option(
            "--variants", help="Estimate every variant of the repository, at a context of 4096."
        ),
    ] = False,
    security: Annotated[
        bool,
        Option(
            "--security",
            help="Also report who has signed the model, and what else refers to it; the weights"
            " are not downloaded.",
        ),
    ] = False,
    graph: Annotated[
        bool, Option("--graph", help="Draw a graph of memory over context size.")
    ] = False,
    plot: Annotated[
        list[Path] | None,
        Option(
            metavar="FILE",
            help="Write the graph to a .svg file, or to a .png file if Pillow is"
            " installed; can be repeated.",
        ),
    ] = None,
) -> None:
    """Estimate how much memory a model needs, where each byte goes, and whether it fits."""
    _check_type("--kv-type", kv_type)
    _check_type("--kv-type-v", kv_type_v)
    if budget is not None and gpu is not None:
        raise UsageError("--budget and --for cannot be combined", hint="use one of them")
    request = EstimateRequest(
        context_size,
        kv_type,
        parallel or 1,
        micro_batch,
        gpu_layers,
        bytes_of(budget),
        source.value,
        kv_type_v=kv_type_v,
    )
    if device is not None and (budget, gpu) != (None, None):
        other = "--budget" if gpu is None else "--for"
        raise UsageError(
            f"--device and {other} cannot be combined: --device is for devices of this machine",
            hint="use one of them",
        )
    instead = devices_named(gpu)
    usable = None if device is None else _chosen(context, device)
    if usable is not None:
        instead = usable.devices
    estimator = context.workspace.estimator(instead)
    asked = budget is not None or gpu is not None
    if all_variants and security:
        raise UsageError("--security and --variants cannot be combined", hint="use one of them")
    if all_variants:
        _estimate_all(context, estimator, subject, request, asked=asked)
        return
    report = _report(estimator, subject, request)
    if not asked:
        warn_of_devices(context.console, usable or context.workspace.machine)
    for path in plot or ():
        _picture(context, report, path)
    trust = _security(context, subject, report) if security else None
    too_much = does_not_fit(report) if asked and report.fit.verdict == "no" else None
    # the answer is the answer, whether it fits or not: the exit code is for whoever only asks that
    if context.console.json:
        context.console.emit(
            report.to_dict()
            | _runtime(context, usable, asked=asked)
            | _curve(report, graph=graph)
            | ({} if trust is None else {"security": trust.to_dict()})
        )
    else:
        show_report(context.console, report, graph=graph)
        show_security(context.console, report.facts.referrers, trust)
    if too_much is not None:
        raise too_much


def _chosen(context: Context, device: str) -> "Usable":
    """Return what the runtime can use of this machine, without the devices that are not named."""
    # few name one, and the others need not load what starts models
    from modelrunner.operations.devices import narrowed
    from modelrunner.operations.launch.precedence import LaunchOptions
    from modelrunner.operations.launch.request import LaunchRequest

    request = LaunchRequest.of(LaunchOptions(device=device).settings())
    usable, _request = narrowed(context.workspace.machine, request)
    return usable


def _security(context: Context, subject: str, report: Report) -> "Security":
    """Return who has signed a model.

    Raises:
        UsageError: It is not in the local store, and not in a registry.
    """
    # few ask for it
    from modelrunner.cli.steps.trust import security

    manifest = report.facts.manifest
    if manifest is None:
        raise UsageError(
            "--security needs a model in the local store or in a registry",
            hint="leave out --security",
        )
    stored = context.store.lookup(subject)
    if stored is None:
        return security(context, Reference.parse(subject), manifest)
    named = next((name for name in stored.references if name.short == subject), None)
    return security(context, named or next(iter(stored.references), None), manifest)


def _runtime(context: Context, chosen: "Usable | None", *, asked: bool) -> dict[str, object]:
    """Return which runtime the estimate is for, and which GPUs that cannot use."""
    if asked:
        return {}
    found = chosen or context.workspace.machine
    return {
        "runtime": found.runtime,
        "unused_devices": [device_to_dict(device) for device in found.unused],
    }


def _report(estimator: Estimator, subject: str, request: EstimateRequest) -> Report:
    path = Path(subject)
    is_file = path.is_file() or subject.lower().endswith(".gguf")
    return estimator.of_file(path, request) if is_file else estimator.of_model(subject, request)


def _picture(context: Context, report: Report, path: Path) -> None:
    from modelrunner.cli.plot import plot

    plot.write(plot.curve_of(report), path)
    context.console.say(f"wrote {path}")


def _curve(report: Report, *, graph: bool) -> dict[str, object]:
    if not graph:
        return {}
    from modelrunner.cli.plot import plot

    return {"curve": plot.curve_of(report).to_dict()}


def _estimate_all(
    context: Context, estimator: Estimator, subject: str, request: EstimateRequest, *, asked: bool
) -> None:
    from modelrunner.operations.estimate.variants import names_repository, variants

    if Path(subject).is_file() or not names_repository(subject):
        raise UsageError(
            f"--variants needs a repository, but {subject[:200]} names one model",
            hint="remove the tag, or --variants",
        )
    found = variants(estimator, subject, request)
    none = _none_fits(found) if asked else None
    if not context.console.json:
        show_variants(context.console, found)
    elif none is None:
        context.console.emit(
            {
                "repository": found.repository.with_tag("latest").short.removesuffix(":latest"),
                "kv_type": request.kv_type or USUAL_CACHE,
                "kv_type_v": request.kv_type_v or request.kv_type or USUAL_CACHE,
                "devices": [device_to_dict(device) for device in estimator.devices()],
                "budget_bytes": request.budget,
                "variants": [entry.to_dict() for entry in found.candidates],
                "unseen_tags": found.unseen,
            }
        )
    if none is not None:
        raise none


def _check_type(option: str, kind: str | None) -> None:
    if kind is not None and kind not in CACHE_TYPES:
        raise UsageError(
            f"{option}: invalid KV cache type {kind[:40]!r}",
            hint=suggest(kind, CACHE_TYPES) or f"use one of {', '.join(CACHE_TYPES)}",
        )


def _none_fits(found: "Variants") -> DoesNotFitError | None:
    """Return the error if no variant fits; None if one does."""
    if any(entry.verdict != "no" for entry in found.candidates):
        return None
    best = found.best()
    return does_not_fit(best.report) if best is not None and best.report is not None else None
