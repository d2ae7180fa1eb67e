"""One question, one answer: what a script gets."""

from collections.abc import Iterator
from contextlib import closing
from typing import TextIO

from modelrunner.chat.answer import Delta, Done
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.cli.render import AnswerWriter, Writer, let_go, write
from modelrunner.cli.tool_rounds import Caller

_DEFAULTS = SamplingOptions()


def answer_once(
    client: ChatClient,
    conversation: Conversation,
    *,
    context: int | None,
    out: TextIO,
    err: TextIO,
    options: SamplingOptions = _DEFAULTS,
    caller: Caller | None = None,
    colour: bool = False,
) -> Done:
    """Ask, and stream the answer to `out`: the answer, a line feed, and nothing else.

    Thoughts are shown on `err` if that is a terminal. A reader that leaves (`| head -1`) ends the
    answer quietly, with `closed` as its finish reason.

    Args:
        client: Whom to ask.
        conversation: What was said so far, the question last.
        context: How many tokens the model was started with, if that is known.
        out: Where the answer goes.
        err: Where thoughts go, and the note that an answer was cut.
        options: How the answer is chosen.
        caller: Who calls the tools that the model asks for.
        colour: Whether `err` may have colour.

    Raises:
        ContextExceededError: The prompt is longer than the context.
        RuntimeFailedError: The server refuses or breaks off.
    """
    caller = caller or Caller()

    def ask() -> tuple[Done, str]:
        writer = AnswerWriter(out, err if err.isatty() else None, colour=colour)
        stream = client.stream(conversation.messages, options, caller.box.fields())
        with closing(stream) as pieces, writer:
            return show(pieces, writer), writer.text

    try:
        done = caller.converse(ask, conversation)
    except BrokenPipeError:
        let_go(out)
        return Done("closed")
    note = cut_note(done, options, context)
    if note is not None:
        write(err, f"{note}\n")
    return done


def show(pieces: Iterator[Delta | Done], writer: Writer) -> Done:
    """Write an answer to its end."""
    done = Done("stop")
    for piece in pieces:
        match piece:
            case Delta(text, reasoning):
                writer.write(text, reasoning)
            case Done():
                done = piece
    return done


def cut_note(done: Done, options: SamplingOptions, context: int | None) -> str | None:
    """Why there is no more of this answer; None if it came to its own end."""
    if done.finish_reason != "length":
        return None
    limit, usage = options.max_tokens, done.usage
    if limit is not None and (usage is None or usage.completion_tokens >= limit):
        return f"the answer was cut: `max_tokens` allows {limit} tokens"
    size = "" if context is None else f" of {context} tokens"
    return f"the answer was cut: the context{size} is full"
