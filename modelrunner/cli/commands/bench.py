"""`modelrunner bench`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.cli.launching import find_or_pull, runtime_for, started
from modelrunner.errors import UsageError
from modelrunner.memory.devices import devices
from modelrunner.operations.bench import BenchWish, Speed
from modelrunner.operations.bench import bench as measure
from modelrunner.operations.launch import LaunchWish, plan_launch
from modelrunner.runtime.runtime import Ability, LaunchSpec
from modelrunner.runtime.server import Server
from modelrunner.runtime.url import ExternalRuntime

_HEADINGS = ("PROMPT", "PARALLEL", "READ TOKENS/S", "WRITTEN TOKENS/S", "FIRST TOKEN")
_MOST = 1024
_LONGEST = 1 << 20
_READY_WITHIN_S = 10.0


@command(
    examples="  modelrunner bench ai/smollm2\n"
    "  modelrunner bench ai/granite-4.0-micro --prompt 512,4096 --parallel 1,8 --json"
)
def bench(
    context: Context,
    reference: Annotated[str, typer.Argument(metavar="REF")],
    prompts: Annotated[
        str, typer.Option("--prompt", metavar="N,...", help="Lengths of prompts, in tokens.")
    ] = "32,128,512",
    parallels: Annotated[
        str, typer.Option("--parallel", metavar="N,...", help="Requests at the same time.")
    ] = "1,4",
    generate: Annotated[
        int, typer.Option(min=2, max=_LONGEST, metavar="N", help="Tokens of an answer.")
    ] = 64,
    rounds: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="The median of so many is told.")
    ] = 3,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Default: usable cores.")
    ] = None,
    gpu_layers: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Default: all that fit.")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|URL",
            help="auto, llama-server, llama-cpp-python, xllamacpp, or a server's URL.",
        ),
    ] = None,
) -> None:
    """Measure how fast a model reads prompts and writes answers, as served here."""
    wish = BenchWish(
        prompts=_numbers("--prompt", prompts, _LONGEST),
        parallels=_numbers("--parallel", parallels, _MOST),
        generate=generate,
        rounds=rounds,
    )
    chosen = runtime_for(context, runtime)
    if isinstance(chosen, ExternalRuntime):
        # what runs there is not ours to know: the name goes as it was typed
        spec = LaunchSpec(model=Path(), name=reference, context=0, threads=0, api_key="")
        with chosen.start(spec, Path()) as server:
            server.wait_until_ready(_READY_WITHIN_S)
            _show(context, server, reference, wish)
        return
    model, name = find_or_pull(context, reference)
    settings = LaunchWish(wish.context, threads or context.settings.threads, gpu_layers)
    plan = plan_launch(context.store, model, name, settings, devices())
    # where it answers one after the other, requests wait for one another, and that is its speed
    parallel = max(wish.parallels) if Ability.PARALLEL in chosen.abilities else 1
    plan = replace(plan, spec=replace(plan.spec, parallel=parallel))
    context.console.say(plan.line())
    with started(context, chosen, plan) as server:
        _show(context, server, plan.spec.name, wish)


def _show(context: Context, server: Server, model: str, wish: BenchWish) -> None:
    def told(speed: Speed) -> None:
        context.console.say(
            f"prompt {speed.prompt_tokens}, parallel {speed.parallel}:"
            f" {speed.generated_tokens_per_s:.1f} tokens/s"
        )

    found = measure(server, model, wish, told)
    if context.console.json:
        context.console.emit(
            {
                "reference": model,
                "runtime": server.name,
                "rounds": wish.rounds,
                "results": [speed.to_dict() for speed in found],
            }
        )
        return
    context.console.table(_HEADINGS, [_row(speed) for speed in found])


def _row(speed: Speed) -> tuple[str, ...]:
    return (
        str(speed.prompt_tokens),
        str(speed.parallel),
        f"{speed.prompt_tokens_per_s:.1f}",
        f"{speed.generated_tokens_per_s:.1f}",
        f"{speed.first_token_s * 1000:.0f} ms",
    )


def _numbers(option: str, text: str, most: int) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(1 <= number <= most for number in found):
        raise UsageError(
            f"{option} {text[:50]!r} is no list of numbers from 1 to {most}",
            hint="write it like 32,128,512",
        )
    return found
