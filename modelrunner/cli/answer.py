"""One question, one answer: what a script gets."""

from collections.abc import Iterator
from contextlib import closing
from typing import TextIO

from modelrunner.chat.answer import Delta, Done
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.cli.render import AnswerWriter, Writer, let_go, write

_DEFAULTS = SamplingOptions()


def answer_once(
    client: ChatClient,
    prompt: str,
    *,
    context: int | None,
    out: TextIO,
    err: TextIO,
    system: str | None = None,
    options: SamplingOptions = _DEFAULTS,
    colour: bool = False,
) -> Done:
    """Ask, and stream the answer to `out`: the answer, a line feed, and nothing else.

    Thoughts are shown on `err` if that is a terminal. A reader that leaves (`| head -1`) ends the
    answer quietly, with `closed` as its finish reason.

    Args:
        client: Whom to ask.
        prompt: The question, sent as it is.
        context: How many tokens the model was started with, if that is known.
        out: Where the answer goes.
        err: Where thoughts go, and the note that an answer was cut.
        system: The system prompt.
        options: How the answer is chosen.
        colour: Whether `err` may have colour.

    Raises:
        ContextExceededError: The prompt is longer than the context.
        RuntimeFailedError: The server refuses or breaks off.
    """
    conversation = Conversation(system)
    conversation.add_user(prompt)
    writer = AnswerWriter(out, err if err.isatty() else None, colour=colour)
    try:
        with closing(client.stream(conversation.messages, options)) as pieces, writer:
            done = show(pieces, writer)
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
