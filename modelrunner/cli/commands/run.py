"""`modelrunner run`."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Annotated

import typer

from modelrunner.chat.answer import Done
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.cli.commands.pull import pull_one, reference_to_pull
from modelrunner.cli.context import Context, command
from modelrunner.cli.learning import learn
from modelrunner.cli.repl_session import Session, describe
from modelrunner.errors import InvalidReferenceError, UsageError
from modelrunner.memory.devices import devices
from modelrunner.oci.reference import Reference
from modelrunner.operations.launch import LaunchPlan, LaunchWish, plan_launch
from modelrunner.runtime.runtime import Runtime
from modelrunner.runtime.select import select
from modelrunner.runtime.server import Server
from modelrunner.runtime.url import ExternalRuntime
from modelrunner.store.files import disk_errors
from modelrunner.store.store import StoredModel

_READY_WITHIN_S = 600.0
_REPEAT_PENALTY = 1.1
_SYSTEM = "You are a helpful assistant."


@command(
    examples="  modelrunner run ai/granite-4.0-micro\n"
    '  modelrunner run ai/smollm2 "What is the capital of France?"\n'
    '  git diff | modelrunner run ai/granite-4.0-micro "Write a commit message."'
)
def run(
    context: Context,
    reference: Annotated[str, typer.Argument(metavar="REF")],
    prompt: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT...]", help="Answer once, then exit.")
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help='The system prompt; "" leaves it to the model.'),
    ] = None,
    context_size: Annotated[
        int | None,
        typer.Option(
            "--context",
            min=1,
            metavar="TOKENS",
            help="Default: what it was trained for and what fits, at most 32768.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Default: usable cores.")
    ] = None,
    gpu_layers: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Default: all that fit.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="T", help="Default: 0 with a PROMPT, the runtime's own in a chat."
        ),
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, metavar="P", help="Only the likeliest tokens.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="For the same answer again.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Of an answer.")
    ] = None,
    repeat_penalty: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="P", help="Default: 1.1 where the temperature is 0."),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|URL",
            help="auto, llama-server, llama-cpp-python, xllamacpp, or a server's URL.",
        ),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Choose the largest variant that fits; REF has no tag.")
    ] = False,
    require_fit: Annotated[
        bool, typer.Option("--require-fit", help="Exit 7 rather than run what does not fit.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell tokens and speed.")] = False,
) -> None:
    """Talk to a model: pulled if it is missing, started, and ended with the chat.

    With a PROMPT, or text on stdin, it answers once.
    """
    question = _question(prompt or [], terminal=sys.stdin.isatty())
    if question is None and context.console.json:
        raise UsageError("a chat has no JSON", hint='ask one question: run REF "..." --json')
    chosen = select(runtime or context.settings.runtime, environ=context.environ)
    if fit or require_fit:
        context_wanted = context_size or context.settings.context
        reference = _fitted(context, reference, fit, require_fit, context_wanted, gpu_layers)
    model, name = find_or_pull(context, reference)
    wish = LaunchWish(
        context_size or context.settings.context, threads or context.settings.threads, gpu_layers
    )
    plan = plan_launch(context.store, model, name, wish, devices())
    context.console.say(plan.line())
    _warn(context, plan)
    said = system if system is not None else context.settings.system
    options = SamplingOptions(temperature, top_p, seed, max_tokens, repeat_penalty=repeat_penalty)
    if question is not None:
        options = _for_one_answer(options, chosen)
    with started(context, chosen, plan) as server:
        learn(context, server, model, plan)
        if server.context is not None and server.context < plan.spec.context:
            context.console.warn(
                f"the runtime gives a context of {server.context}, not {plan.spec.context}"
            )
        client = ChatClient(server.base_url, server.api_key, plan.spec.name)
        conversation = Conversation(_SYSTEM if said is None else said or None)
        session = Session(
            client, conversation, name, server.context or plan.spec.context, options, verbose
        )
        if question is None:
            _chat(context, session)
        else:
            _answer(context, session, question)


def _for_one_answer(options: SamplingOptions, runtime: Runtime) -> SamplingOptions:
    """A script gets the same answer to the same question, unless it asks for something else."""
    if options.temperature is None:
        options = replace(options, temperature=0.0)
    if options.temperature == 0 and options.repeat_penalty is None:
        # greedy answers of small models go round in circles without it; a foreign server may
        # not know the word
        ours = not isinstance(runtime, ExternalRuntime)
        options = replace(options, repeat_penalty=_REPEAT_PENALTY if ours else None)
    return options


def _fitted(
    context: Context,
    reference: str,
    fit: bool,
    require_fit: bool,
    context_size: int | None,
    gpu_layers: int | None,
) -> str:
    from modelrunner.cli import fitting

    wish = fitting.wish_of(None, context_size, gpu_layers)
    return fitting.fitted(context, reference, fitting.Fitting(fit, require_fit, wish=wish))


def find_or_pull(context: Context, text: str) -> tuple[StoredModel, str]:
    """The model, from the store or else the registry, and what people call it."""
    model = context.store.lookup(text)
    if model is None:
        reference = reference_to_pull(context, text)
        context.require_network(reference.short)
        context.console.say(
            f"Unable to find model '{reference.short}' locally. Pulling from the registry."
        )
        model = pull_one(context, reference).model
        return model, reference.short
    return model, _name_of(model, text)


def _name_of(model: StoredModel, text: str) -> str:
    """What the user calls it, spelled out; of a model asked for by ID its first name."""
    if any(_is(name, text) for name in model.references):
        return Reference.parse(text).short
    return model.references[0].short if model.references else model.digest.short


def _is(name: Reference, text: str) -> bool:
    try:
        return str(Reference.parse(text)) == str(name)
    except InvalidReferenceError:
        # an ID with its `sha256:`
        return False


@contextmanager
def started(context: Context, runtime: Runtime, plan: LaunchPlan) -> Iterator[Server]:
    """The block in which the model is served; its log is kept only if something goes wrong."""
    log = _log_file(context, plan)
    with runtime.start(plan.spec, log) as server:
        with _waiting(context, plan.name) as tick:
            server.wait_until_ready(_READY_WITHIN_S, tick)
        yield server
    log.unlink(missing_ok=True)


def _question(words: list[str], *, terminal: bool) -> str | None:
    """What is asked: the words of the command line, then whatever is piped in."""
    text = " ".join(words)
    if terminal:
        return text or None
    try:
        piped = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as exc:
        raise UsageError("stdin is not UTF-8 text", hint="convert it with iconv") from exc
    question = "\n\n".join(part for part in (text, piped.strip("\n")) if part.strip())
    if not question:
        raise UsageError(
            "there is no prompt, and stdin is empty",
            hint='write the prompt behind the model: modelrunner run REF "..."',
        )
    return question


def _answer(context: Context, session: Session, question: str) -> None:
    from modelrunner.cli.answer import answer_once

    whole = StringIO()
    done = answer_once(
        session.client,
        question,
        context=session.context,
        out=whole if context.console.json else context.console.out,
        err=context.console.err,
        system=session.conversation.system,
        options=session.options,
        colour=context.console.colour,
    )
    if context.console.json:
        context.console.emit(_answer_to_dict(session, whole.getvalue(), done))
    if session.verbose:
        context.console.say(describe(done, session.context))


def _answer_to_dict(session: Session, text: str, done: Done) -> dict[str, object]:
    usage, timings = done.usage, done.timings
    return {
        "reference": session.model_label,
        "answer": text.removesuffix("\n"),
        "finish_reason": done.finish_reason,
        "context": session.context,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "tokens_per_s": round(timings.predicted_per_second, 2) if timings else None,
    }


def _chat(context: Context, session: Session) -> None:
    from modelrunner.cli.repl import chat

    remember = not context.environ.get("MODELRUNNER_NOHISTORY")
    chat(
        session,
        out=context.console.out,
        err=context.console.err,
        history=context.settings.state / "history" if remember else None,
        colour=context.console.colour,
    )


def _warn(context: Context, plan: LaunchPlan) -> None:
    if plan.fit.verdict == "no" and not context.console.quiet:
        longest = plan.fit.max_context
        advice = f"; --context {longest} would fit" if longest else ""
        context.console.warn(f"this may fail or be slow: memory is short{advice}")
    trained = plan.trained_context
    if trained and plan.spec.context > trained:
        context.console.warn(
            f"a context of {plan.spec.context} is beyond the {trained} that it was trained for"
        )


def _log_file(context: Context, plan: LaunchPlan) -> Path:
    import os

    folder = context.settings.state / "logs"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    safe = "".join(mark if mark.isalnum() else "-" for mark in plan.name)
    return folder / f"run-{safe[:80]}-{os.getpid()}.log"


@contextmanager
def _waiting(context: Context, name: str) -> Iterator[Callable[[float | None], None]]:
    """Shows on a terminal that the model is being loaded, and for how long."""
    if context.console.quiet or context.console.json or not context.console.bars:
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
