"""One question, one answer: what a script gets."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TextIO

from modelrunner.chat.answer import Delta, Done
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.chat.repetition import REPEATED
from modelrunner.chat.thoughts import Opening
from modelrunner.cli.chat.tools import Caller
from modelrunner.cli.rendering.answer import writer_for
from modelrunner.cli.rendering.writer import AnswerWriter, Writer, let_go, write
from modelrunner.errors import AnswerCutError
from modelrunner.frozen import frozen, replace

_DEFAULTS = SamplingOptions()
_MOST_TOKENS = 4096

ONLY_THOUGHTS = "no answer: the model was still thinking when its output ended"
"""Message for thoughts without an answer."""


@frozen
class Display:
    """How an answer is shown.

    Attributes:
        colour: Whether there may be colour on a terminal.
        drawn: Whether Markdown is drawn on a terminal.
        opening: What the prompt says of thoughts.
        on_reasoning: Takes the thoughts before an answer, or before calls, where there are some.
    """

    colour: bool = False
    drawn: bool = False
    opening: Opening = Opening.UNKNOWN
    on_reasoning: Callable[[str], None] | None = None


_PLAIN = Display()


def answer_once(
    client: ChatClient,
    conversation: Conversation,
    *,
    context: int | None,
    out: TextIO,
    err: TextIO,
    options: SamplingOptions = _DEFAULTS,
    caller: Caller | None = None,
    display: Display = _PLAIN,
) -> Done:
    """Ask, and stream the answer to `out`: the answer, a line feed, and nothing else.

    Thoughts are shown on `err` if that is a terminal. A reader that leaves (`| head -1`) ends the
    answer quietly, with `closed` as its finish reason.

    Args:
        client: The server to send requests to.
        conversation: The messages so far, the question last.
        context: The context size in tokens, if known.
        out: Where the answer goes.
        err: Where thoughts go, and the note that an answer was cut.
        options: How the answer is chosen; without a limit of tokens it gets one.
        caller: Runs the tools that the model calls.
        display: How the answer is shown.

    Raises:
        AnswerCutError: There are thoughts and no answer.
        ContextExceededError: The prompt is longer than the context.
        RuntimeFailedError: The server refuses the request, or the connection breaks.
    """
    caller = caller or Caller()
    writer: Writer | None = None
    limited = bounded(options, context)

    def ask() -> tuple[Done, str]:
        nonlocal writer
        writer = _writer_for(out, err, display)
        stream = client.stream(conversation.messages, limited, caller.box.fields())
        with closing(stream) as pieces, writer:
            done = show(pieces, writer)
        if display.on_reasoning is not None and writer.reasoning.strip():
            display.on_reasoning(writer.reasoning)
        return done, writer.text

    try:
        done = caller.converse(ask, conversation)
    except BrokenPipeError:
        let_go(out)
        return Done("closed")
    if writer is not None and not writer.text.strip() and not done.calls:
        if writer.thought:
            raise AnswerCutError(ONLY_THOUGHTS, hint=_more_room(done, limited))
        write(err, "the answer is empty\n")
    note = cut_note(done, limited, context)
    if note is not None:
        by_default = options.max_tokens is None and "max_tokens" in note
        write(err, f"{note}{'; --max-tokens N allows more' if by_default else ''}\n")
    return done


def _writer_for(out: TextIO, err: TextIO, display: Display) -> Writer:
    colour, opening = display.colour, display.opening
    if display.drawn and out.isatty():
        return writer_for(out, markdown=True, thinking="fold", colour=colour, opening=opening)
    return AnswerWriter(out, err if err.isatty() else None, colour=colour, opening=opening)


def _more_room(done: Done, options: SamplingOptions) -> str:
    if done.finish_reason != "length":
        return "ask again, with another --seed or --temperature"
    if options.max_tokens is not None:
        return f"raise --max-tokens (now {options.max_tokens})"
    return "use a larger --context"


def bounded(options: SamplingOptions, context: int | None) -> SamplingOptions:
    """Return the options with a token limit, so that a script never waits for an endless answer.

    A context smaller than the limit needs none.
    """
    if options.max_tokens is not None or (context or _MOST_TOKENS + 1) <= _MOST_TOKENS:
        return options
    return replace(options, max_tokens=_MOST_TOKENS)


def show(pieces: Iterator[Delta | Done], writer: Writer) -> Done:
    """Write an answer until it ends."""
    done = Done("stop")
    for piece in pieces:
        match piece:
            case Delta(text, reasoning):
                writer.write(text, reasoning)
            case Done():
                done = piece
                writer.finish(done)
    return done


def cut_note(done: Done, options: SamplingOptions, context: int | None) -> str | None:
    """Return why the answer was cut off; None if it ended by itself."""
    if done.finish_reason == REPEATED:
        return "the answer was stopped: it repeats itself"
    if done.finish_reason != "length":
        return None
    limit, usage = options.max_tokens, done.usage
    if limit is not None and (usage is None or usage.completion_tokens >= limit):
        return f"the answer was cut off: it reached `max_tokens`, {limit} tokens"
    size = "" if context is None else f" of {context} tokens"
    return f"the answer was cut off: the context{size} is full"
