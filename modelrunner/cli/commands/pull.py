"""`modelrunner pull`."""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.cli.progress import progress
from modelrunner.errors import ModelNotFoundError, UsageError
from modelrunner.events import Event, Started
from modelrunner.oci.artifact import ModelArtifact
from modelrunner.oci.config import ModelConfig
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference, match_id
from modelrunner.operations.pull import Pulled, Puller
from modelrunner.store.store import Store
from modelrunner.transfer.limits import Limits
from modelrunner.units import format_duration, format_size, parse_size


@command(
    examples="  modelrunner pull ai/granite-4.0-micro\n"
    "  modelrunner pull ai/smollm2:135M-Q4_K_M --json"
)
def pull(
    context: Context,
    references: Annotated[list[str], typer.Argument(metavar="REF...")],
    connections: Annotated[
        int | None,
        typer.Option(min=1, max=16, metavar="N", help="Default: few, more while that is faster."),
    ] = None,
    limit_rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Bytes a second at most, such as 20M.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="SECONDS", help="Seconds for all of it; what arrived is kept."
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A bundle of certificates to trust, PEM.")
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Choose the largest variant that fits; REF has no tag.")
    ] = False,
    require_fit: Annotated[
        bool, typer.Option("--require-fit", help="Exit 7 instead of pulling what does not fit.")
    ] = False,
    budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory to fit into, not this machine's.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--for", metavar="GPU", help="A GPU to fit into, by its name.")
    ] = None,
) -> None:
    """Fetch models, verify and store them; what is here already is not fetched again."""
    deadline = None if timeout is None else time.monotonic() + timeout
    limits = Limits(connections, _rate(limit_rate))
    if deadline is not None:
        context.hurry(deadline)
    if ca_file is not None:
        context.trust(ca_file)
    if fit or require_fit or budget is not None or gpu is not None:
        references = _fitted(context, references, fit, require_fit, budget, gpu)
    wanted = [reference_to_pull(context, text) for text in references]
    values = []
    for reference in wanted:
        result = pull_one(context, reference, limits, tells_need=True)
        # the files get their names now, for a store that is read-only later
        path = result.model.weights()
        if context.console.json:
            values.append(to_dict(result))
        elif context.console.quiet:
            context.console.print(str(path))
        else:
            context.console.print(_line(result))
        context.console.flush()
    if context.console.json:
        context.console.emit(values[0] if len(values) == 1 else values)


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


def pull_one(
    context: Context,
    reference: Reference,
    limits: Limits | None = None,
    *,
    tells_need: bool = False,
) -> Pulled:
    """Pulls with progress; one that is ended from outside says what is kept.

    Args:
        context: Where to put it, and whom to tell.
        reference: The model.
        limits: On the transfer.
        tells_need: Whether to say how much memory it needs, before its weights move.
    """
    here = _here(context, reference) if context.options.offline else None
    if here is not None:
        return here
    begun: dict[str, int] = {}
    try:
        with progress(context.console) as show:

            def listen(event: Event) -> None:
                if isinstance(event, Started):
                    begun[event.digest] = event.size
                show(event)

            places = context.places
            puller = Puller(
                context.store, context.source_for, listen, places.backoff, limits or Limits()
            )
            if tells_need:
                puller = replace(puller, on_config=partial(_tell_need, context, reference))
            return puller.pull(reference)
    except (KeyboardInterrupt, SystemExit):
        kept = format_size(_kept(context.store, begun))
        context.console.say(f"paused: {kept} are kept. Run the same command to go on.")
        raise


def _fitted(
    context: Context,
    references: list[str],
    fit: bool,
    require_fit: bool,
    budget: str | None,
    gpu: str | None,
) -> list[str]:
    from modelrunner.cli import fitting

    wish = fitting.wish_of(budget)
    wanted = fitting.Fitting(fit, require_fit, fitting.gpu_named(gpu), wish)
    return [fitting.fitted(context, text, wanted) for text in references]


def _tell_need(
    context: Context, reference: Reference, artifact: ModelArtifact, config: ModelConfig
) -> None:
    architecture = config.gguf.get("general.architecture", "")
    if f"{architecture}.block_count" not in config.gguf:
        # it does not tell, and the pull does not wait for what would read it
        return
    from modelrunner.cli.fitting import tell_need

    tell_need(context, reference, artifact, config)


def _rate(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        rate = parse_size(text)
    except ValueError as exc:
        raise UsageError(f"--limit-rate: {exc}") from exc
    if rate <= 0:
        raise UsageError("--limit-rate: nothing would ever come", hint="write it like 20M or 500k")
    return rate


def _here(context: Context, reference: Reference) -> Pulled | None:
    """The result where nothing is to be fetched, None where something is missing."""
    begun = time.monotonic()
    model = context.store.find(reference)
    if model is None or any(
        context.store.blobs.state(blob) != "good" for blob in model.manifest.blobs
    ):
        return None
    return Pulled(reference, model, "up-to-date", 0, 0, time.monotonic() - begun, None)


def _kept(store: Store, begun: Mapping[str, int]) -> int:
    """How much of these blobs the next pull need not fetch."""
    found = 0
    for digest, size in begun.items():
        blob = Descriptor("", Digest.parse(digest), size)
        found += size if store.blobs.path(blob.digest).exists() else store.blobs.partial_bytes(blob)
    return found


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
