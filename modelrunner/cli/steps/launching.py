"""How commands that start a model show it: options, the pull before, warnings, the wait."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

from modelrunner.cli.context import Context
from modelrunner.cli.options import (
    Assignments,
    ChatTemplate,
    ContextSize,
    Device,
    Draft,
    GpuLayers,
    KvType,
    Parallel,
    RawFlags,
    Rpc,
    Think,
    Threads,
)
from modelrunner.cli.parser.declared import Lent
from modelrunner.cli.steps.confirm import can_ask
from modelrunner.cli.steps.pulling import pull_one
from modelrunner.cli.views.devices import warn_of_devices
from modelrunner.errors import RuntimeUnavailableError, UsageError
from modelrunner.memory.devices.device import NO_DEVICE
from modelrunner.operations.devices import Usable, require_gpu
from modelrunner.operations.estimate.observations import weights_key
from modelrunner.operations.launch import find, session
from modelrunner.operations.launch.plan import LaunchPlan
from modelrunner.operations.launch.precedence import LaunchOptions
from modelrunner.operations.pull.outcome import Pulled
from modelrunner.operations.pull.reference import reference_to_pull
from modelrunner.runtime.base import Ability, LaunchSpec, Runtime, Server
from modelrunner.runtime.images.library import Library
from modelrunner.runtime.images.project import missing_note
from modelrunner.runtime.select import AUTO
from modelrunner.runtime.settings import RPC_WARNING
from modelrunner.store.store import StoredModel


def warn_of(context: Context, plan: LaunchPlan, usable: Usable, *, gpu_required: bool) -> None:
    """Warn of what may fail in a planned start, and of GPUs that it does not use.

    Raises:
        RuntimeUnavailableError: A GPU is required, and the start would use none.
    """
    show_devices_used(context, usable, plan, gpu_required=gpu_required)
    if plan.shortage is not None and not context.console.quiet:
        context.console.warn(plan.shortage)
    for text in plan.warnings:
        context.console.warn(text)


def usable_for(context: Context, runtime: Runtime, *, gpu_required: bool) -> Usable:
    """Return what a runtime can use of this machine.

    Raises:
        UsageError: A GPU is required of a server that is running already.
        RuntimeUnavailableError: A GPU is required, and the runtime can use none.
    """
    required = gpu_required or context.settings.require_gpu
    if required and runtime.external:
        raise UsageError(
            "--require-gpu: the server is already running, its devices are not known",
            hint="remove --require-gpu, or use another --runtime",
        )
    found = context.workspace.usable(runtime)
    if required:
        require_gpu(found)
    return found


def show_devices_used(
    context: Context, found: Usable, plan: LaunchPlan, *, gpu_required: bool
) -> None:
    """Warn of GPUs that a start does not use.

    Raises:
        RuntimeUnavailableError: A GPU is required, and the start would use none.
    """
    if gpu_required or context.settings.require_gpu:
        require_gpu(found, plan)
    # who has chosen the CPU need not be told
    if plan.spec.gpu_layers != 0 and plan.spec.devices != (NO_DEVICE,):
        warn_of_devices(context.console, found)


def warn_of_rpc(context: Context, specs: Iterable[LaunchSpec]) -> None:
    """Warn once of what computing on other machines exposes."""
    if any(spec.rpc is not None for spec in specs):
        context.console.warn(RPC_WARNING)


def launch_options(  # noqa: PLR0913, PLR0917 - a command's options
    context_size: ContextSize = None,
    parallel: Parallel = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    kv_type: KvType = None,
    draft: Draft = None,
    rpc: Rpc = None,
    device: Device = None,
    chat_template: ChatTemplate = None,
    think: Think = None,
    assignments: Assignments = None,
    raw_flags: RawFlags = None,
) -> LaunchOptions:
    """The options of a launch: a signature that is lent to every command that has them."""
    return LaunchOptions(
        context=context_size,
        threads=threads,
        gpu_layers=gpu_layers,
        kv_type=kv_type,
        parallel=parallel,
        draft=draft,
        rpc=rpc,
        device=device,
        assignments=assignments or (),
        raw_flags=raw_flags or (),
        chat_template=chat_template,
        think=think,
    )


NO_LAUNCH_OPTIONS = LaunchOptions()
Launch: TypeAlias = Annotated[LaunchOptions, Lent(launch_options)]
"""A parameter of a command that stands for the options of a launch."""


def runtime_for(context: Context, choice: str | None, needs: Collection[Ability] = ()) -> Runtime:
    """Return the runtime for a start; offer to install one if none is found.

    Args:
        context: The terminal to ask on; without one, nothing is asked.
        choice: What `--runtime` says.
        needs: What it has to be able to do, if it is for us to choose.

    Raises:
        RuntimeUnavailableError: It is not installed, and was not installed now.
        UsageError: No runtime has that name.
    """
    if (choice or context.settings.runtime) == AUTO:
        note = missing_note(Library(context.settings.runtimes))
        if note is not None:
            # another build is used instead, which the project was not tried with
            context.console.warn(note)
    try:
        return context.workspace.runtime(choice, needs)
    except RuntimeUnavailableError as missing:
        what = missing.installable
        if what is None or context.workspace.offline or not can_ask(context):
            raise
        # what fetches and unpacks images is loaded where there is something to install
        from modelrunner.cli.steps.installing import offered

        if not offered(context, what):
            raise
    return context.workspace.runtime(choice, needs)


def find_or_pull(
    context: Context, text: str, projector: Path | None = None, *, chats: bool = False
) -> tuple[StoredModel, str]:
    """Return the model, from a file, the store or else the registry, and what people call it.

    Args:
        context: Where models are.
        text: A name, an ID or a file.
        projector: The projector of a file.
        chats: Whether it has to be a model that chats: no other is downloaded.
    """

    def pull(text: str) -> Pulled:
        reference = reference_to_pull(context.store, text)
        context.require_registry(reference)
        context.console.say(
            f"Unable to find model '{reference.short}' locally. Pulling from the registry."
        )
        return pull_one(context, reference, runs=True, chats=chats)

    say = context.console.say
    return find.find_or_pull(context.store, text, pull, projector=projector, say=say)


def started(
    context: Context, runtime: Runtime, model: StoredModel, plan: LaunchPlan
) -> AbstractContextManager[Server]:
    """Return the block in which the model is served, with the wait for it shown."""
    logs = context.settings.state / "logs"
    remembered = (context.workspace.builds(), weights_key(model.artifact))
    return session.started(runtime, plan, logs, waiting(context, plan.name), remembered)


@contextmanager
def waiting(context: Context, name: str) -> Iterator[Callable[[float | None], None]]:
    """Shows on a terminal that the model is being loaded, and for how long."""
    console = context.console
    if console.quiet or console.json or not console.bars:
        if console.plain and console.err.isatty():
            console.say(f"loading {name}")
        yield lambda _fraction: None
        return
    from rich.console import Console as RichConsole
    from rich.status import Status

    begun = time.monotonic()
    terminal = RichConsole(
        file=context.console.err, force_terminal=True, no_color=not context.console.colour
    )
    with Status(f"loading {name}", console=terminal) as status:

        def tick(fraction: float | None) -> None:
            share = "" if fraction is None else f" {fraction:.0%}"
            status.update(f"loading {name}{share}  {time.monotonic() - begun:.0f} s")

        yield tick
