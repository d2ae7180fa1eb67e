"""`modelrunner pull`."""

from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.cli.progress import progress
from modelrunner.errors import ModelNotFoundError
from modelrunner.oci.reference import Reference, match_id
from modelrunner.operations.pull import Pulled, Puller
from modelrunner.units import format_duration, format_size


@command(
    examples="  modelrunner pull ai/granite-4.0-micro\n"
    "  modelrunner pull ai/smollm2:135M-Q4_K_M --json"
)
def pull(
    context: Context,
    references: Annotated[list[str], typer.Argument(metavar="REF...")],
) -> None:
    """Fetch models, verify and store them; what is here already is not fetched again."""
    wanted = [reference_to_pull(context, text) for text in references]
    results = [pull_one(context, reference) for reference in wanted]
    if context.console.json:
        values = [to_dict(result) for result in results]
        context.console.emit(values[0] if len(values) == 1 else values)
        return
    for result in results:
        context.console.print(
            str(result.model.weights()) if context.console.quiet else _line(result)
        )


def reference_to_pull(context: Context, text: str) -> Reference:
    """What the text names; an ID names only what is here."""
    if match_id(text):
        model = context.store.lookup(text)
        if model is not None and model.references:
            return model.references[0].with_digest(model.digest)
        if text.startswith("sha256:"):
            raise ModelNotFoundError(
                f"{text}: no such model here, and an ID does not say where to get it",
                hint="pull it by name: REPOSITORY@sha256:HEX",
            )
    return Reference.parse(text)


def pull_one(context: Context, reference: Reference) -> Pulled:
    """Pulls with progress; an interrupted one says what is kept."""
    with progress(context.console) as listener:
        puller = Puller(context.store, context.source_for, listener, context.places.backoff)
        try:
            return puller.pull(reference)
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        kept = sum(path.stat().st_size for path in context.store.layout.ingest.glob("*.partial"))
        context.console.say(f"paused: {format_size(kept)} are kept. Run the same command to go on.")
    raise KeyboardInterrupt


def to_dict(result: Pulled) -> dict[str, object]:
    """The result as JSON has it."""
    return {
        "reference": str(result.reference),
        "digest": str(result.model.digest),
        "status": result.status,
        "path": str(result.model.weights()),
        "size_bytes": result.model.size,
        "downloaded_bytes": result.downloaded_bytes,
        "resumed_bytes": result.resumed_bytes,
        "duration_s": round(result.duration_s, 3),
        "source": result.source,
    }


def _line(result: Pulled) -> str:
    name, digest = result.reference.short, result.model.digest.short
    if result.status == "up-to-date":
        return f"{name}: up to date ({digest}, {format_size(result.model.size)})"
    resumed = f", {format_size(result.resumed_bytes)} resumed" if result.resumed_bytes else ""
    source = f" from {result.source}" if result.source else ""
    return (
        f"{name}: pulled {digest}, {format_size(result.downloaded_bytes)}"
        f"{source} in {format_duration(result.duration_s)}{resumed}"
    )
