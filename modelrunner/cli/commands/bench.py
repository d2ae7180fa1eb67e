"""`modelrunner bench`."""

from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import (
    Assignments,
    Draft,
    GpuLayers,
    KvType,
    RawFlags,
    RequireGpu,
    Rpc,
    RuntimeChoice,
    Threads,
)
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.launching import (
    find_or_pull,
    runtime_for,
    show_devices_used,
    started,
    usable_for,
    warn_of_rpc,
)
from modelrunner.errors import ModelRunnerError, UsageError
from modelrunner.frozen import replace
from modelrunner.memory.plan.load import padded
from modelrunner.operations.bench import BenchRequest, Speed
from modelrunner.operations.bench import bench as measure
from modelrunner.operations.devices import narrowed
from modelrunner.operations.launch.plan import plan_launch
from modelrunner.operations.launch.precedence import LaunchOptions, refuse_for_others
from modelrunner.runtime.base import Ability, LaunchSpec, Runtime, Server

_HEADINGS = ("PROMPT", "PARALLEL", "PROMPT TOK/S", "GENERATION TOK/S", "FIRST TOKEN")
_MOST = 1024
_LONGEST = 1 << 20
_READY_WITHIN_S = 10.0


@command(
    examples="  modelrunner bench ai/smollm2\n"
    "  modelrunner bench ai/granite-4.0-micro --prompt 512,4096 --parallel 1,8 --json",
    rest="--flag",
)
def bench(
    context: Context,
    reference: Annotated[str, Argument(metavar="REF", help="Model, pulled if missing.")],
    prompts: Annotated[
        str, Option("--prompt", metavar="N,...", help="Prompt lengths to measure, in tokens.")
    ] = "32,128,512",
    parallels: Annotated[
        str,
        Option("--parallel", metavar="N,...", help="Numbers of concurrent requests to measure."),
    ] = "1,4",
    generate: Annotated[
        int,
        Option(
            min=2, max=_LONGEST, metavar="N", help="Number of tokens to generate for each request."
        ),
    ] = 64,
    rounds: Annotated[
        int,
        Option(min=1, max=100, metavar="N", help="Number of rounds; the median is reported."),
    ] = 3,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    kv_type: KvType = None,
    draft: Draft = None,
    rpc: Rpc = None,
    assignments: Assignments = None,
    raw_flags: RawFlags = None,
    runtime: RuntimeChoice = None,
    require_gpu: RequireGpu = False,
) -> None:
    """Measure how fast a model reads prompts and generates answers on this machine."""
    request = BenchRequest(
        prompts=_numbers("--prompt", prompts, _LONGEST),
        parallels=_numbers("--parallel", parallels, _MOST),
        generate=generate,
        rounds=rounds,
    )
    launch = LaunchOptions(
        threads=threads,
        gpu_layers=gpu_layers,
        kv_type=kv_type,
        draft=draft,
        rpc=rpc,
        assignments=assignments or (),
        raw_flags=raw_flags or (),
    )
    _refuse_own(launch)
    precedence = context.workspace.precedence()
    chosen = runtime_for(context, runtime, precedence.needs(reference, launch))
    usable = usable_for(context, chosen, gpu_required=require_gpu)
    if chosen.external:
        refuse_for_others(chosen, launch)
        # what runs there is not ours to know: the name goes as it was typed
        spec = LaunchSpec(model=Path(), name=reference, context=0, threads=0, api_key="")
        with chosen.start(spec, Path()) as server:
            server.wait_until_ready(_READY_WITHIN_S)
            _show(context, chosen, server, reference, request)
        return
    model, name = find_or_pull(context, reference, chats=True)
    asked = precedence.request(chosen, model, name, launch)
    # where it answers one after the other, requests wait for one another, and that is its speed
    parallel = max(request.parallels) if Ability.PARALLEL in chosen.abilities else 1
    room = padded(request.context)
    asked = replace(asked, context=room, parallel=parallel)
    usable, asked = narrowed(usable, asked)
    plan = plan_launch(context.store, model, name, asked, usable.devices)
    context.console.say(plan.line(), filled=True)
    show_devices_used(context, usable, plan, gpu_required=require_gpu)
    warn_of_rpc(context, [plan.spec])
    with started(context, chosen, model, plan) as server:
        _show(context, chosen, server, plan.spec.name, request, plan.spec.context)


def _refuse_own(launch: LaunchOptions) -> None:
    """Refuse settings that follow from the lengths and numbers of requests."""
    for key, option in (("context", "--prompt"), ("parallel", "--parallel")):
        if key in launch.settings():
            raise UsageError(
                f"{key} cannot be set: it follows from {option}", hint=f"use {option} instead"
            )


def _show(
    context: Context,
    runtime: Runtime,
    server: Server,
    model: str,
    request: BenchRequest,
    planned: int | None = None,
) -> None:
    console = context.console
    image = runtime.image()
    console.say(f"runtime {server.name}" + (f": {image.name}, {image.digest}" if image else ""))
    found: list[Speed] = []

    def measured(speed: Speed) -> None:
        found.append(speed)
        console.say(
            f"prompt {speed.prompt_tokens}, parallel {speed.parallel}:"
            f" {speed.generated_tokens_per_s:.1f} tokens/s"
        )

    lost: list[int] = []

    def skipped(length: int, room: int) -> None:
        lost.append(length)
        console.warn(
            f"prompt {length}: skipped, it exceeds the context of {room} tokens together with"
            f" {request.generate} tokens of answer"
        )

    def show(error: ModelRunnerError | None = None) -> None:
        if not console.json:
            console.table(_HEADINGS, [_row(speed) for speed in found], drop=("FIRST TOKEN",))
            return
        results = [speed.to_dict() for speed in found]
        failed = {} if error is None else {"error": error.to_dict()}
        console.emit(
            {
                "reference": model,
                "runtime": server.name,
                "runtime_build": runtime.build(),
                "runtime_image": None if image is None else image.to_dict(),
                "rounds": request.rounds,
                "results": results,
                "skipped_prompts": lost,
                **failed,
            }
        )

    try:
        measure(server, model, request, measured, skipped, server.context or planned)
    except ModelRunnerError as exc:
        # what was measured before is not lost
        if found:
            show(exc)
        raise
    show()


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
            f"{option}: invalid list {text[:50]!r}, expected numbers from 1 to {most}",
            hint="write it like 32,128,512",
        )
    return found
