"""`modelrunner run`."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from modelrunner.chat.answer_form import AnswerForm
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.chat.thoughts import Opening
from modelrunner.cli.chat.attachments import read_picture, read_text
from modelrunner.cli.chat.one_shot import OneShot, question_of
from modelrunner.cli.chat.restart import Restarter
from modelrunner.cli.chat.session import Session
from modelrunner.cli.chat.tools import Caller, ask_person
from modelrunner.cli.context import Context, command
from modelrunner.cli.options import (
    Answers,
    Files,
    Fit,
    Format,
    Images,
    MaxTokens,
    Mcp,
    Mmproj,
    RepeatPenalty,
    RequireFit,
    RequireGpu,
    RuntimeChoice,
    Seed,
    Stop,
    System,
    Temperature,
    Tools,
    TopP,
    YesTools,
)
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.launching import (
    NO_LAUNCH_OPTIONS,
    Launch,
    find_or_pull,
    runtime_for,
    started,
    usable_for,
    warn_of,
)
from modelrunner.cli.steps.pulling import fitted
from modelrunner.errors import UsageError
from modelrunner.frozen import replace
from modelrunner.operations.devices import narrowed, require_gpu_used
from modelrunner.operations.launch.learn import as_seen, learn
from modelrunner.operations.launch.manner import Manner, manner_of
from modelrunner.operations.launch.plan import LaunchPlan, line_for, plan_launch
from modelrunner.operations.launch.precedence import LaunchOptions
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.operations.launch.thoughts import opening, thinker
from modelrunner.operations.pull.fit import Fitting, request_of
from modelrunner.runtime.abilities import refusal, require
from modelrunner.runtime.base import Ability, Runtime, Server
from modelrunner.runtime.placement import Placement
from modelrunner.runtime.sampling import Recommended, Sampling
from modelrunner.tools.files import load_tools
from modelrunner.tools.tool import Toolbox

# late imports: most chats have no MCP servers
if TYPE_CHECKING:
    from modelrunner.tools.mcp_file import McpServer

_PATIENCE_S = 300.0
_SIZED_BY = ("context", "parallel", "gpu-layers")
"""Settings that decide how much memory a model that has to fit is estimated to need."""


@command(
    examples="  modelrunner run ai/granite-4.0-micro\n"
    '  modelrunner run ai/smollm2 "What is the capital of France?"\n'
    '  git diff | modelrunner run ai/granite-4.0-micro "Write a commit message."\n'
    "  modelrunner run ./granite-4.0-micro-Q4_K_M.gguf\n"
    '  modelrunner run ai/gemma3 --image photo.jpg "What is this?"\n'
    "  modelrunner run ai/granite-4.0-micro --tools weather.py\n"
    "  modelrunner run ai/qwen3 --set batch=512 --draft ai/qwen3:0.6B-Q4_0",
    rest="--flag",
)
def run(
    context: Context,
    reference: Annotated[
        str, Argument(metavar="REF", help="Model (pulled if it is missing) or GGUF file.")
    ],
    prompt: Annotated[
        list[str] | None,
        Argument(metavar="[PROMPT...]", help="Question to answer; without one, start a chat."),
    ] = None,
    system: System = None,
    launch: Launch = NO_LAUNCH_OPTIONS,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    max_tokens: MaxTokens = None,
    repeat_penalty: RepeatPenalty = None,
    stop: Stop = None,
    answers: Answers = None,
    form: Format = None,
    tools: Tools = None,
    mcp: Mcp = None,
    yes_tools: YesTools = False,
    files: Files = None,
    images: Images = None,
    mmproj: Mmproj = None,
    raw: Annotated[
        bool,
        Option(
            "--raw", help="Continue the text as given, without a chat template or system prompt."
        ),
    ] = False,
    runtime: RuntimeChoice = None,
    fit: Fit = False,
    require_fit: RequireFit = False,
    require_gpu: RequireGpu = False,
    verbose: Annotated[
        bool,
        Option("--verbose", help="Print where the model was put, token counts and speed."),
    ] = False,
) -> None:
    """Chat with a model. Pulls it if needed, starts a runtime, and stops it when you leave.

    With a PROMPT, or text on stdin, answers once and exits.
    """
    question = _question(context, prompt or [])
    texts = [read_text(file) for file in files or ()]
    pictures = [read_picture(file) for file in images or ()]
    needs_template = {"--system": system, "--tools": tools, "--mcp": mcp, "--image": images}
    if raw:
        _refuse_with_raw({"--chat-template": launch.chat_template, **needs_template})
    # what is not understood, or nothing here can do, is said before anything is pulled
    one_shot = _one_shot(question, answers, form)
    caller = _caller(context, question, tools, yes_tools, mcp=mcp)
    extra = {Ability.TOOLS} if tools or mcp else set[Ability]()
    extra |= {Ability.SCHEMA} if one_shot.has_schema else set()
    extra |= {Ability.PROJECTOR} if pictures else set()
    precedence = context.workspace.precedence()
    chosen = runtime_for(context, runtime, precedence.needs(reference, launch) | extra)
    require(chosen, extra)
    usable = usable_for(context, chosen, gpu_required=require_gpu)
    if fit or require_fit:
        reference = _fitted(context, reference, fit, require_fit, launch)
    model, name = find_or_pull(context, reference, mmproj, chats=True)
    request, think = _without_think(precedence.request(chosen, model, name, launch), chosen)
    experience = context.workspace.experience()
    usable, request = narrowed(usable, request)
    plan = plan_launch(context.store, model, name, request, usable.devices)
    plan = as_seen(experience, chosen, model, plan)
    context.console.say(line_for(chosen, plan), filled=True)
    if not chosen.external:
        warn_of(context, plan, usable, gpu_required=require_gpu)
    manner = _manner(context, chosen, plan, raw=raw, needs_template=needs_template)
    no_images = _no_images(chosen, plan, pictures)
    warning = _tools_warning(context, chosen, plan, tools or mcp)
    conversation = _conversation(manner, system if system is not None else request.system)
    options = one_shot.options(
        SamplingOptions(
            temperature,
            top_p,
            request.seed if seed is None else seed,
            max_tokens,
            tuple(stop or ()),
            repeat_penalty,
        )
    )
    sampling = _sampling(context, chosen, plan, options, verbose)
    begun = time.monotonic()
    with _with_mcp(caller), started(context, chosen, model, plan) as server:
        load_s = time.monotonic() - begun
        learn(experience, server, model, plan)
        placement = _placement(context, plan, server, gpu_required=require_gpu, verbose=verbose)
        client = _client(chosen, plan, server, manner, chats=question is None)
        session = Session(
            client, conversation, name, server.context or plan.spec.context, options, verbose
        )
        session.caller, session.load_s, session.sampling = caller, load_s, sampling
        session.runtime, session.placement = chosen, placement
        session.texts, session.images, session.no_images = texts, pictures, no_images
        _ask_to_think(context, session, chosen, plan, server, think)
        if question is not None:
            one_shot.answer(context, session, question)
            return
        session.no_tools, session.tools_warning = refusal(chosen, Ability.TOOLS), warning
        with ExitStack() as more:
            session.restart = Restarter(
                more, server, client, lambda: started(context, chosen, model, plan)
            )
            _chat(context, session)


def _placement(
    context: Context, plan: LaunchPlan, server: Server, *, gpu_required: bool, verbose: bool
) -> Placement | None:
    """Return where a server that is ready has put the model; report what is not as planned.

    Raises:
        RuntimeUnavailableError: A GPU is required, and it uses none.
    """
    if server.context is not None and server.context < plan.spec.context:
        context.console.warn(
            f"the runtime uses a context of {server.context} instead of {plan.spec.context}"
        )
    found = server.placement()
    if gpu_required or context.settings.require_gpu:
        require_gpu_used(server.name, found)
    if verbose and found is not None:
        context.console.say(found.line())
    return found


def _conversation(manner: Manner, system: str | None) -> Conversation:
    return Conversation(None if manner.completes else system or None)


def _client(
    runtime: Runtime, plan: LaunchPlan, server: Server, manner: Manner, *, chats: bool
) -> ChatClient:
    return ChatClient(
        server.base_url,
        server.api_key,
        plan.spec.name,
        _PATIENCE_S if Ability.TELLS_PROGRESS in runtime.abilities else None,
        manner.completes,
        manner.stop_markers,
        manner.own_markers,
        # whoever runs another server bounds its answers, and in a chat a person can stop one
        stops_loops=not (chats and runtime.external),
    )


def _manner(
    context: Context,
    runtime: Runtime,
    plan: LaunchPlan,
    *,
    raw: bool,
    needs_template: Mapping[str, object],
) -> Manner:
    """Return how to prompt the model; reports where this is unusual.

    Raises:
        UsageError: An option needs a chat template, and the model has none.
    """
    if runtime.external:
        return Manner(completes=raw)
    manner = manner_of(plan, raw=raw)
    if manner.note is not None:
        context.console.say(manner.note)
    if manner.completes:
        for option, value in needs_template.items():
            if value:
                raise UsageError(
                    f"{option} needs a chat template, and {plan.name} has none",
                    hint=f"add --chat-template {manner.template}, or remove {option}",
                )
    return manner


def _refuse_with_raw(needs_template: Mapping[str, object]) -> None:
    for option, value in needs_template.items():
        if value:
            raise UsageError(
                f"{option} needs a chat template, and --raw uses none",
                hint=f"remove --raw or {option}",
            )


def _sampling(
    context: Context, runtime: Runtime, plan: LaunchPlan, options: SamplingOptions, verbose: bool
) -> Recommended:
    """Return how tokens are chosen, and who says so; print it where that is asked for."""
    # a server that runs already has its own
    others = () if runtime.external else plan.recommended.parts
    sampling = Recommended((("option", Sampling.of(options.to_dict())), *others))
    if verbose:
        seed = "random" if options.seed is None else str(options.seed)
        line = sampling.line() or "the defaults of the runtime"
        context.console.say(f"sampling: {line}; seed {seed}")
    return sampling


def _question(context: Context, words: list[str]) -> str | None:
    question = question_of(words, terminal=sys.stdin.isatty())
    if question is None and context.console.json:
        raise UsageError("--json needs a prompt", hint='add one: run REF "..." --json')
    return question


def _without_think(request: LaunchRequest, runtime: Runtime) -> tuple[LaunchRequest, str | None]:
    """Return a request without how much to think where each question can say it: and that."""
    if Ability.TEMPLATE_FIELDS in runtime.abilities:
        return replace(request, think=None), request.think
    return request, request.think


def _ask_to_think(
    context: Context,
    session: Session,
    runtime: Runtime,
    plan: LaunchPlan,
    server: Server,
    think: str | None,
) -> None:
    """Have the model think as much as was asked for, and say where it cannot."""
    if session.client.completes:
        session.opening = Opening.NEVER
        return
    session.opening = opening(runtime, plan, server)
    session.thinker = thinker(runtime, plan, server)
    note = plan.think_note
    if Ability.TEMPLATE_FIELDS in runtime.abilities:
        note = session.ask_to_think(think)
    else:
        session.think = think
        session.no_think = f"{runtime.name} cannot change how much a model thinks during a chat"
    if note is not None:
        context.console.warn(note)


def _no_images(runtime: Runtime, plan: LaunchPlan, pictures: list[str]) -> str | None:
    """Return why the model does not support images; None if it does.

    Raises:
        UsageError: Images were given, and it does not support them.
    """
    # what a server has that runs already is not for us to know
    if plan.spec.mmproj is not None or runtime.external:
        return None
    why = f"{plan.name} does not support images: it has no projector (mmproj)"
    if pictures:
        raise UsageError(why, hint="use a vision model that comes with a projector")
    return why


def _tools_warning(
    context: Context, runtime: Runtime, plan: LaunchPlan, tools: Path | None
) -> str | None:
    # what a server has that runs already is not for us to know
    if runtime.external or plan.knows_tools:
        return None
    why = f"the chat template of {plan.name} does not support tools: the model may never see them"
    if tools is not None:
        context.console.warn(why)
    return why


def _fitted(
    context: Context,
    reference: str,
    fit: bool,
    require_fit: bool,
    launch: LaunchOptions,
) -> str:
    # by an option of its own or by --set
    said = {key: value for key, value in launch.settings().items() if key in _SIZED_BY}
    asked = LaunchRequest.of(said)
    request = request_of(
        None,
        asked.context or context.settings.context,
        asked.gpu_layers,
        parallel=asked.parallel or 1,
    )
    return fitted(context, reference, Fitting(fit, require_fit, request=request))


def _one_shot(question: str | None, answers: int | None, form: str | None) -> OneShot:
    if question is None and (answers, form) != (None, None):
        option = "-n" if form is None else "--format"
        raise UsageError(f"{option} needs a prompt", hint='add one: run REF "..."')
    form_read = AnswerForm.read(form) if form is not None else None
    return OneShot(answers or 1, form_read, in_chat=question is None)


def _mcp_servers(context: Context, file: Path) -> "tuple[McpServer, ...]":
    # most chats have none
    from modelrunner.tools.mcp import require_mcp
    from modelrunner.tools.mcp_file import read_servers

    require_mcp()
    return read_servers(file, context.environ)


@contextmanager
def _with_mcp(caller: Caller) -> Iterator[None]:
    """The block in which the model can call the tools of MCP servers, too."""
    if not caller.servers:
        yield
        return
    from modelrunner.tools.mcp import mcp_tools

    with mcp_tools(caller.servers, caller.box.names) as found:
        caller.box = Toolbox((*caller.box.tools, *found))
        yield


def _caller(
    context: Context,
    question: str | None,
    tools: Path | None,
    allowed: bool,
    *,
    mcp: Path | None = None,
) -> Caller:
    """Return the caller of tools, which asks for confirmation on a terminal."""
    if tools is None and mcp is None:
        if allowed:
            raise UsageError("--yes-tools needs --tools or --mcp", hint="add --tools FILE")
        return Caller(say=context.console.say)
    box = Toolbox() if tools is None else load_tools(tools)
    servers = () if mcp is None else _mcp_servers(context, mcp)
    console = context.console
    on_terminal = sys.stdin.isatty() and console.err.isatty()
    missing = "stderr" if sys.stdin.isatty() else "stdin"
    if (box.runs_something or servers) and not (allowed or on_terminal):
        raise UsageError(
            f"tools need confirmation, and {missing} is not a terminal",
            hint="add --yes-tools to allow every call without asking",
        )
    ask = (lambda text: ask_person(text, console.err)) if on_terminal else None
    by_hand = on_terminal and question is None
    return Caller(box, console.say, ask, allowed, by_hand=by_hand, servers=servers)


def _chat(context: Context, session: Session) -> None:
    # a script's question does without
    from modelrunner.cli.chat.loop import chat

    remember = not context.environ.get("MODELRUNNER_NOHISTORY")
    chat(
        session,
        out=context.console.out,
        err=context.console.err,
        history=context.settings.state / "history" if remember else None,
        colour=context.console.colour,
        plain=context.console.plain,
    )
