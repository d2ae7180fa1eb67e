"""What commands share that start a model: its settings, finding or pulling it, and the start.

A setting is what an option says, or else the environment, or else what was configured for the
model, or else `config.toml`; what none of them says the plan decides.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeAlias

from modelrunner.cli.context import Context, Lent
from modelrunner.cli.options import (
    Assignments,
    ChatTemplate,
    ContextSize,
    Draft,
    GpuLayers,
    KvType,
    Parallel,
    RawFlags,
    Rpc,
    Threads,
)
from modelrunner.cli.pulling import pull_one, reference_to_pull
from modelrunner.disk.files import STATE_HINT, disk_errors
from modelrunner.errors import (
    InvalidReferenceError,
    RuntimeFailedError,
    UsageError,
)
from modelrunner.oci.reference import DEFAULT_TAG, Reference, match_id
from modelrunner.operations.launch.configure import Configurations
from modelrunner.operations.launch.plan import LaunchPlan
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.operations.package.file_model import file_model
from modelrunner.runtime import settings
from modelrunner.runtime.abilities import require
from modelrunner.runtime.backends.external import ExternalRuntime
from modelrunner.runtime.base import Ability, Runtime, Server
from modelrunner.runtime.chat_templates import checked, template_file
from modelrunner.runtime.child.failure import broken_off
from modelrunner.runtime.select import select
from modelrunner.runtime.settings import Value
from modelrunner.store.store import StoredModel
from modelrunner.text import sanitize_line

READY_WITHIN_S = 600.0
_GGUF = ".gguf"
_NEEDS = {
    "draft": Ability.DRAFT,
    "rope-scaling": Ability.ROPE,
    "rope-scale": Ability.ROPE,
    "rope-freq-base": Ability.ROPE,
    "rpc": Ability.RPC,
}


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What the command line says of a launch; `None` leaves a setting to others.

    Attributes:
        context: `--context`.
        threads: `--threads`.
        gpu_layers: `--gpu-layers`.
        kv_type: `--kv-type`.
        parallel: `--parallel`.
        draft: `--draft`: a model here, or a GGUF file.
        rpc: `--rpc`.
        assignments: `--set KEY=VALUE`; the options above count more.
        raw_flags: What stands behind `--`.
        chat_template: `--chat-template`: a name or a file.
    """

    context: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    kv_type: str | None = None
    parallel: int | None = None
    draft: str | None = None
    rpc: str | None = None
    assignments: Sequence[str] = ()
    raw_flags: Sequence[str] = ()
    chat_template: str | None = None

    def settings(self) -> dict[str, Value]:
        """The settings that the options make.

        Raises:
            UsageError: One is not known, or its value is not for it.
        """
        own = {
            "context": self.context,
            "threads": self.threads,
            "gpu-layers": self.gpu_layers,
            "kv-type": self.kv_type,
            "parallel": self.parallel,
            "draft": self.draft,
            "rpc": self.rpc,
            "chat-template": self.chat_template,
        }
        said = {
            key: settings.value_of(key, settings.as_text(value), f"--{key}")
            for key, value in own.items()
            if value is not None
        }
        found = settings.parse(self.assignments) | said
        if "chat-template" in found:
            found["chat-template"] = checked(str(found["chat-template"]))
        return found


def launch_options(  # noqa: PLR0913, PLR0917 - a command's options
    context_size: ContextSize = None,
    parallel: Parallel = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    kv_type: KvType = None,
    draft: Draft = None,
    rpc: Rpc = None,
    chat_template: ChatTemplate = None,
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
        assignments=assignments or (),
        raw_flags=raw_flags or (),
        chat_template=chat_template,
    )


NO_LAUNCH_OPTIONS = LaunchOptions()
Launch: TypeAlias = Annotated[LaunchOptions, Lent(launch_options)]
"""A parameter of a command that stands for the options of a launch."""


def runtime_for(context: Context, choice: str | None, needs: Collection[Ability] = ()) -> Runtime:
    """The runtime that an option names, or else the configuration.

    Args:
        context: Where settings are.
        choice: What `--runtime` says.
        needs: What it has to be able to do, if it is for us to choose.

    Raises:
        RuntimeUnavailableError: It is not installed; with `auto`, none is.
        UsageError: There is no runtime of that name.
    """
    return select(
        choice or context.settings.runtime,
        environ=context.environ,
        image=context.settings.container_image,
        needs=needs,
        origin="--runtime" if choice else context.settings.origin_of("runtime"),
    )


def needs_of(context: Context, reference: str, options: LaunchOptions) -> set[Ability]:
    """What a start needs of a runtime, as far as options and a model's configuration say.

    Raises:
        UsageError: A setting is not known, or its value is not for it.
    """
    try:
        configured = Configurations(context.settings.state, context.settings.own_state).of(
            tagged(Reference.parse(reference))
        )
    except InvalidReferenceError:
        # an ID
        configured = {}
    return _needs(configured | options.settings(), options)


def needs_of_options(options: LaunchOptions) -> set[Ability]:
    """What a start needs of a runtime, as far as options say.

    Raises:
        UsageError: A setting is not known, or its value is not for it.
    """
    return _needs(options.settings(), options)


def _needs(wanted: Collection[str], options: LaunchOptions) -> set[Ability]:
    needs = {ability for key, ability in _NEEDS.items() if key in wanted}
    return needs | {Ability.RAW_FLAGS} if options.raw_flags else needs


def tagged(name: Reference) -> Reference:
    """The name that settings are kept by: with its tag, and whatever digest it points to."""
    return replace(name, tag=name.tag or DEFAULT_TAG, digest=None)


def request_for(
    context: Context, runtime: Runtime, model: StoredModel, name: str, options: LaunchOptions
) -> LaunchRequest:
    """How a model is to be started: by the options, what was configured for it, `config.toml`.

    Args:
        context: Where settings are.
        runtime: What will start it.
        model: The model.
        name: What the user calls it: of several names with settings, this one's count.
        options: What the command line says.

    Raises:
        UsageError: A setting is not known, or the runtime has no way to follow it.
        ModelNotFoundError: The draft model is not here.
    """
    said = options.settings()
    names = sorted(model.references, key=lambda entry: entry.short != name)
    configured = Configurations(context.settings.state, context.settings.own_state).of_any(names)
    if isinstance(runtime, ExternalRuntime):
        refuse_for_others(runtime, options)
        if configured:
            context.console.warn(
                "saved settings of the model are ignored: its server is already running"
            )
            configured = {}
    usual = {"context": context.settings.context, "threads": context.settings.threads}
    known = {key: value for key, value in usual.items() if value is not None}
    wanted: dict[str, Value] = {**known, **configured, **said}
    draft = wanted.pop("draft", None)
    template = wanted.pop("chat-template", None)
    request = LaunchRequest.of(
        wanted,
        draft_model=None if draft is None else _draft(context, str(draft)),
        chat_template=None if template is None else template_file(str(template)),
        raw_flags=tuple(options.raw_flags),
    )
    if (request.parallel or 1) > 1:
        require(runtime, [Ability.PARALLEL])
    request.check()
    return request


def refuse_for_others(runtime: ExternalRuntime, options: LaunchOptions) -> None:
    """Says no to settings for a server that runs already: it is not started anew.

    Raises:
        UsageError: There are some.
    """
    first = next(iter([*options.settings(), *options.raw_flags]), None)
    if first is not None:
        raise UsageError(
            f"cannot set {first}: the server is already running",
            hint="remove it, or use another --runtime",
            runtime=runtime.name,
        )


def _draft(context: Context, text: str) -> Path:
    file = Path(text)
    if text.endswith(_GGUF) and file.is_file():
        return file.absolute()
    if text.endswith(_GGUF) or text.startswith((".", "/", "~")):
        raise UsageError(
            f"draft model {sanitize_line(text, 200)}: file not found",
            hint="check the path, or use a model of the local store (`modelrunner list`)",
        )
    return context.store.resolve(text).weights()


def find_or_pull(
    context: Context, text: str, projector: Path | None = None, *, chats: bool = False
) -> tuple[StoredModel, str]:
    """The model, from a file, the store or else the registry, and what people call it.

    Args:
        context: Where models are.
        text: A name, an ID or a file.
        projector: The projector of a file.
        chats: Whether it has to be a model that chats: no other is downloaded.
    """
    of_file = file_model(context.store, text, projector)
    if of_file is not None:
        name = sanitize_line(text)
        context.console.say(f"{name}: using the file in place, nothing is copied")
        return of_file, name
    model = context.store.lookup(text)
    if model is None:
        reference = reference_to_pull(context, text)
        context.require_registry(reference)
        context.console.say(
            f"Unable to find model '{reference.short}' locally. Pulling from the registry."
        )
        pulled = pull_one(context, reference, chats=chats)
        return pulled.model, pulled.name.short
    return model, _name_of(context, model, text)


def _name_of(context: Context, model: StoredModel, text: str) -> str:
    """What the user calls it, spelled out; of a model asked for by ID its first name."""
    only = context.store.only_name(text) if match_id(text) is None else None
    if only is not None:
        return only.short
    try:
        wanted = Reference.parse(text)
    except InvalidReferenceError:
        # an ID with its `sha256:`
        wanted = None
    meant = None if wanted is None or wanted.pinned else model.name_for(wanted)
    name = meant or next(iter(model.references), None)
    return model.digest.short if name is None else name.short


@contextmanager
def started(context: Context, runtime: Runtime, plan: LaunchPlan) -> Iterator[Server]:
    """The block in which the model is served; its log is kept only if something goes wrong."""
    log = _log_file(context, plan)
    with runtime.start(plan.spec, log) as server:
        with _waiting(context, plan.name) as tick:
            server.wait_until_ready(READY_WITHIN_S, tick)
        try:
            yield server
        except RuntimeFailedError as exc:
            raise broken_off(exc, log) from exc
    log.unlink(missing_ok=True)


def _log_file(context: Context, plan: LaunchPlan) -> Path:
    import os

    folder = context.settings.state / "logs"
    safe = "".join(mark if mark.isalnum() else "-" for mark in plan.name)
    log = folder / f"run-{safe[:80]}-{os.getpid()}.log"
    with disk_errors(folder, STATE_HINT):
        folder.mkdir(parents=True, exist_ok=True)
        # the runtime's process opens it: here the error has its hint
        log.touch(mode=0o600)
    return log


@contextmanager
def _waiting(context: Context, name: str) -> Iterator[Callable[[float | None], None]]:
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
