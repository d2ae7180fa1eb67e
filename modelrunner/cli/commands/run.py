"""`modelrunner run`."""

import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from io import StringIO
from typing import Annotated

import typer

from modelrunner.chat.answer import Done
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.cli.context import Context, command
from modelrunner.cli.launching import (
    LaunchOptions,
    find_or_pull,
    needs_of,
    runtime_for,
    started,
    warn_of,
    wish_for,
)
from modelrunner.cli.learning import as_seen, learn
from modelrunner.cli.options import (
    Assignments,
    CommandWithFlags,
    ContextSize,
    Draft,
    Fit,
    GpuLayers,
    KvType,
    RawFlags,
    RequireFit,
    RuntimeChoice,
    Threads,
)
from modelrunner.cli.repl_runtime import Restarter
from modelrunner.cli.repl_session import Session, describe
from modelrunner.errors import UsageError
from modelrunner.memory.devices import devices
from modelrunner.operations.launch import plan_launch
from modelrunner.runtime.runtime import Runtime
from modelrunner.runtime.url import ExternalRuntime

_REPEAT_PENALTY = 1.1
_SYSTEM = "You are a helpful assistant."


@command(
    examples="  modelrunner run ai/granite-4.0-micro\n"
    '  modelrunner run ai/smollm2 "What is the capital of France?"\n'
    '  git diff | modelrunner run ai/granite-4.0-micro "Write a commit message."\n'
    "  modelrunner run ai/qwen3 --set batch=512 --draft ai/qwen3:0.6B-Q4_0",
    cls=CommandWithFlags,
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
    context_size: ContextSize = None,
    threads: Threads = None,
    gpu_layers: GpuLayers = None,
    kv_type: KvType = None,
    draft: Draft = None,
    assignments: Assignments = None,
    raw_flags: RawFlags = None,
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
    runtime: RuntimeChoice = None,
    fit: Fit = False,
    require_fit: RequireFit = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell tokens and speed.")] = False,
) -> None:
    """Talk to a model: pulled if it is missing, started, and ended with the chat.

    With a PROMPT, or text on stdin, it answers once.
    """
    question = _question(prompt or [], terminal=sys.stdin.isatty())
    if question is None and context.console.json:
        raise UsageError("a chat has no JSON", hint='ask one question: run REF "..." --json')
    launch = LaunchOptions(
        context_size, threads, gpu_layers, kv_type, draft, assignments or (), raw_flags or ()
    )
    # what is not understood, or nothing here can do, is said before anything is pulled
    chosen = runtime_for(context, runtime, needs_of(context, reference, launch))
    if fit or require_fit:
        context_wanted = context_size or context.settings.context
        reference = _fitted(context, reference, fit, require_fit, context_wanted, gpu_layers)
    model, name = find_or_pull(context, reference)
    wish = wish_for(context, chosen, model, name, launch)
    plan = plan_launch(context.store, model, name, wish, devices())
    plan = as_seen(context, chosen, model, plan)
    context.console.say(plan.line())
    warn_of(context, plan)
    said = system if system is not None else context.settings.system
    options = SamplingOptions(temperature, top_p, seed, max_tokens, repeat_penalty=repeat_penalty)
    if question is not None:
        options = _for_one_answer(options, chosen)
    begun = time.monotonic()
    with started(context, chosen, plan) as server:
        load_s = time.monotonic() - begun
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
            session.load_s = load_s
            if plan.spec.mmproj is None and not isinstance(chosen, ExternalRuntime):
                session.no_images = f"{name} takes no pictures: it has no projector"
            with ExitStack() as more:
                session.restart = Restarter(
                    more, server, client, lambda: started(context, chosen, plan)
                )
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
