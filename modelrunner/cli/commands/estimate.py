"""`modelrunner estimate`, `modelrunner devices` and `modelrunner runtimes`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from modelrunner.cards.catalog import Catalog
from modelrunner.cli.context import Context, command
from modelrunner.errors import DoesNotFitError, UsageError
from modelrunner.memory.devices import Device, devices
from modelrunner.operations.estimate import Estimator, Report, Wish
from modelrunner.runtime.select import runtimes as find_runtimes
from modelrunner.units import format_size, parse_size

_KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")


@command(
    examples="  modelrunner estimate ai/granite-4.0-micro\n"
    "  modelrunner estimate ai/granite-4.0-micro --context 131072 --kv-type q8_0\n"
    "  modelrunner estimate model.gguf --budget 8GiB --json"
)
def estimate(
    context: Context,
    subject: Annotated[str, typer.Argument(metavar="REF|FILE")],
    context_size: Annotated[
        int | None,
        typer.Option(
            "--context",
            min=1,
            metavar="TOKENS",
            help="Default: what it was trained for and what fits, at most 32768.",
        ),
    ] = None,
    kv_type: Annotated[str, typer.Option(metavar="TYPE", help="The type of the KV cache.")] = "f16",
    parallel: Annotated[
        int, typer.Option(min=1, max=1024, metavar="N", help="Sequences at once.")
    ] = 1,
    micro_batch: Annotated[
        int, typer.Option(min=1, max=65536, metavar="N", help="Tokens at once.")
    ] = 512,
    gpu_layers: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Default: all that fit.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory to fit into, such as 8GiB, instead of this machine's;"
            " exit 7 where it does not.",
        ),
    ] = None,
) -> None:
    """Tell how much memory a model needs, where each byte goes, and whether it fits."""
    if kv_type not in _KV_TYPES:
        raise UsageError(
            f"{kv_type!r} is no type of cache", hint=f"there are {', '.join(_KV_TYPES)}"
        )
    wish = Wish(context_size, kv_type, parallel, micro_batch, gpu_layers, _bytes(budget))
    estimator = Estimator(context.store, context.source_for, Catalog.load, devices)
    path = Path(subject)
    is_file = path.is_file() or subject.lower().endswith(".gguf")
    report = estimator.of_file(path, wish) if is_file else estimator.of_model(subject, wish)
    too_much = _over_budget(report) if budget is not None else None
    if not context.console.json:
        _show(context, report)
    elif too_much is None:
        context.console.emit(report.to_dict())
    if too_much is not None:
        raise too_much


@command(examples="  modelrunner devices --json", name="devices")
def show_devices(context: Context) -> None:
    """Show the GPUs and memory that a model could use here."""
    found = devices()
    if context.console.json:
        context.console.emit([_device(device) for device in found])
        return
    rows = [
        (
            device.kind,
            device.name,
            device.backend,
            format_size(device.total_bytes),
            format_size(device.free_bytes),
        )
        for device in found
    ]
    context.console.table(("KIND", "NAME", "BACKEND", "TOTAL", "FREE"), rows)


@command(examples="  modelrunner runtimes --json")
def runtimes(context: Context) -> None:
    """Show which runtimes are installed, and what would install the others."""
    found = find_runtimes(context.environ)
    if context.console.json:
        context.console.emit(
            [
                {
                    "name": entry.name,
                    "available": entry.available,
                    "version": entry.version,
                    "detail": entry.detail,
                    "hint": entry.hint,
                }
                for entry in found
            ]
        )
        return
    rows = [
        (
            entry.name,
            "yes" if entry.available else "no",
            entry.version or "",
            entry.detail or entry.hint or "" if not entry.available else "",
        )
        for entry in found
    ]
    context.console.table(("RUNTIME", "HERE", "VERSION", "WHY NOT"), rows)


def _show(context: Context, report: Report) -> None:
    found, fit = report.estimate, report.fit
    verdicts = {"fits": "fits", "partial": "fits in part", "no": "does not fit"}
    verdict = verdicts.get(fit.verdict, "may fit: not all is known")
    budget = f" ({format_size(fit.budget_bytes)})" if fit.budget_bytes is not None else ""
    say = context.console.print
    say(
        f"{report.name}: {format_size(found.total)} at a context of {report.load.context}:"
        f" {verdict}{budget}"
    )
    rows = [
        (name, format_size(size), about)
        for name, size, about in _places(report)
        if size is not None and (size or name == "weights")
    ]
    context.console.table(("WHERE", "SIZE", ""), [*rows, _total(report)])
    if fit.max_context:
        say(f"longest context that fits: {fit.max_context}{_of(report.trained)}")
    if report.variant is not None and report.variant.vram_bytes is not None:
        size = report.variant.size_bytes
        text = f", size {format_size(size)}" if size is not None else ""
        say(f"the card says: VRAM {format_size(report.variant.vram_bytes)} at 4096{text}")
    for note in found.notes:
        say(f"note: {note}")


def _places(report: Report) -> Sequence[tuple[str, int | None, str]]:
    found, load = report.estimate, report.load
    return (
        ("weights", found.weights, "the tensors as they lie in the file"),
        ("kv cache", found.kv_cache, f"{load.kv_type}, {load.context} tokens"),
        ("recurrent", found.recurrent, "states, whatever the context"),
        ("compute", found.compute, f"a micro batch of {load.micro_batch}"),
        ("output", found.output, "logits"),
        ("projector", found.projector, "for images or sound"),
    )


def _total(report: Report) -> tuple[str, str, str]:
    found = report.estimate
    high = format_size(found.high) if found.high is not None else "unknown"
    about = f"from the {found.source}, between {format_size(found.low)} and {high}"
    return ("total", format_size(found.total), about)


def _over_budget(report: Report) -> DoesNotFitError | None:
    """The error where it was asked whether the model fits, and it does not."""
    total, budget = report.estimate.total, report.fit.budget_bytes
    if report.fit.verdict != "no" or budget is None:
        return None
    longest = report.fit.max_context
    return DoesNotFitError(
        f"{report.name} does not fit into {format_size(budget)}:"
        f" it needs {format_size(total)} at a context of {report.load.context}",
        hint=f"--context {longest} would fit"
        if longest
        else "choose a smaller variant: `modelrunner cards` lists them",
        reference=report.name,
        context=report.load.context,
        total_bytes=total,
        budget_bytes=budget,
        max_context=longest,
    )


def _of(trained: int | None) -> str:
    return f" of {trained} trained" if trained else ""


def _bytes(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as exc:
        raise UsageError(f"--budget: {exc}") from exc


def _device(device: Device) -> dict[str, object]:
    return {
        "name": device.name,
        "kind": device.kind,
        "backend": device.backend,
        "total_bytes": device.total_bytes,
        "free_bytes": device.free_bytes,
    }
