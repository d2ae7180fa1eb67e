"""Views of estimates: one line, where each byte goes, and the source."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelrunner.cli.terminal.console import Console
from modelrunner.memory.plan.load import Load
from modelrunner.operations.estimate.report import Report
from modelrunner.units import counted, format_size

if TYPE_CHECKING:
    from modelrunner.operations.estimate.variants import Candidate, Variants


def show_report(console: Console, report: Report, *, graph: bool) -> None:
    """Print the estimate of one model."""
    fit, variant = report.fit, report.facts.variant

    def say(text: str) -> None:
        console.print(text, filled=True)

    say(report.line())
    rows = [
        (name, format_size(size), about)
        for name, size, about in _places(report)
        if size is not None and (size or name == "weights")
    ]
    console.table(("WHERE", "SIZE", ""), [*rows, _total(report)], cut=("",))
    kept = report.retained
    if kept is not None and kept.total:
        say(f"earlier prompts while it serves: up to {format_size(kept.total)} of memory besides")
    if fit.max_context:
        trained = f" of {report.trained} trained" if report.trained else ""
        say(f"longest context that fits: {fit.max_context}{trained}")
    if variant is not None and variant.vram_bytes is not None:
        size = variant.size_bytes
        text = f", size {format_size(size)}" if size is not None else ""
        say(f"the card lists VRAM {format_size(variant.vram_bytes)} at a context of 4096{text}")
    for note in report.notes:
        say(f"note: {note}")
    if graph:
        # few ask for it
        from modelrunner.cli.plot import plot

        for line in plot.text(plot.curve_of(report)):
            console.print(line)


def show_variants(console: Console, found: "Variants") -> None:
    """Print the estimates of all variants of a repository."""
    say = console.print
    reports = [entry.report for entry in found.candidates if entry.report is not None]
    budgets = {report.fit.budget_bytes for report in reports}
    room = f", memory {format_size(next(iter(budgets)) or 0)}" if len(budgets) == 1 else ""
    contexts = sorted({report.context for report in reports})
    at = f" at a context of {' or '.join(map(str, contexts))}" if contexts else ""
    name = found.repository.short.removesuffix(":latest")
    say(f"{name}: {counted(len(found.candidates), 'variant')}{at}{room}")
    headings = ("TAG", "QUANT", "SIZE", "NEEDS", "VERDICT", "MAX CONTEXT")
    rows = [_row(entry) for entry in found.candidates]
    console.table(headings, rows, drop=("QUANT", "SIZE", "MAX CONTEXT"))
    for entry in found.candidates:
        if entry.problem is not None:
            say(f"note: {entry.reference.tag}: {entry.problem}")
    if found.unseen:
        say(f"note: {found.unseen} more tags were not checked")


def _places(report: Report) -> Sequence[tuple[str, int | None, str]]:
    found, load = report.estimate, report.load
    return (
        ("weights", found.weights, "tensors of the file"),
        ("kv cache", found.kv_cache, f"{load.cache_text}, {_tokens(load)}"),
        ("recurrent", found.recurrent, "recurrent state, independent of the context"),
        ("compute", found.compute, f"micro-batch of {load.micro_batch} tokens"),
        ("output", found.output, "logits"),
        ("projector", found.projector, "for images or audio"),
        ("draft", found.draft, "what predicts tokens ahead"),
        ("kept", found.kept, "earlier prompts and states, in host memory"),
    )


def _tokens(load: Load) -> str:
    many = f"{load.parallel} conversations of " if load.parallel > 1 else ""
    return f"{many}{load.each} tokens"


def _total(report: Report) -> tuple[str, str, str]:
    found = report.estimate
    high = format_size(found.high) if found.high is not None else "unknown"
    about = f"from the {found.source}, between {format_size(found.low)} and {high}"
    return ("total", format_size(found.total), about)


def _row(entry: "Candidate") -> tuple[str, ...]:
    tags = ", ".join(sorted(entry.tags, key=lambda tag: (len(tag), tag)))
    report = entry.report
    if report is None:
        return tags, "", "", "", "unknown", ""
    return (
        tags,
        (report.facts.quantization or "").removeprefix("MOSTLY_"),
        format_size(entry.size) if entry.size is not None else "",
        f"{format_size(report.estimate.total)}",
        report.fit.verdict,
        str(report.fit.max_context or ""),
    )
