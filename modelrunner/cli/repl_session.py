"""A chat as it stands: with whom, what was said, how answers are chosen."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from modelrunner.chat.answer import Done, Timings, Usage
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.chat.thoughts import Opening
from modelrunner.cli.repl_answer import Thinking
from modelrunner.cli.tool_rounds import Caller
from modelrunner.errors import UsageError
from modelrunner.units import counted


@dataclass(slots=True)
class Session:
    """What commands and answers of a chat share and change.

    Attributes:
        client: The model to talk to.
        conversation: What was said; it grows.
        model_label: What the user calls the model.
        context: How many tokens the model was started with, if that is known.
        options: How answers are chosen.
        verbose: Whether tokens and speed are told after each answer.
        markdown: Whether answers are drawn on a terminal, or shown as they were written.
        plain: Whether nothing may move the cursor.
        thinking: What is to be seen of thoughts: all, one line on a terminal, or nothing.
        no_images: Why the model takes no pictures; None if it does.
        no_tools: Why the runtime takes no tools; None if it does.
        deaf_to_tools: What to warn of where the model may never hear of tools.
        opening: What the model's prompts say of thoughts.
        caller: Who calls the tools that the model asks for.
        texts: Files that go with the next message.
        images: Pictures that go with the next message, as data URIs.
        restart: Starts the runtime again if it has died, and says whom to talk to now; None from
            it: the runtime lives, or is not ours.
        load_s: Seconds that it took to start the model, if it was.
        first_token_s: Seconds to the first sign of the last answer.
        saved_to: The file that this conversation was saved to or loaded from.
        received: Pieces of the last answer: a token each, from most servers.
        received_s: Seconds from the first of them to the last.
        last: The end of the last answer.
        warned: Whether it was told that the context is nearly full.
    """

    client: ChatClient
    conversation: Conversation
    model_label: str
    context: int | None
    options: SamplingOptions = field(default_factory=SamplingOptions)
    verbose: bool = False
    markdown: bool = True
    plain: bool = False
    thinking: Thinking = "fold"
    no_images: str | None = None
    no_tools: UsageError | None = None
    deaf_to_tools: str | None = None
    opening: Opening = Opening.UNKNOWN
    caller: Caller = field(default_factory=Caller)
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    restart: Callable[[], ChatClient | None] | None = None
    load_s: float | None = None
    first_token_s: float | None = None
    saved_to: Path | None = None
    received: int = 0
    received_s: float = 0.0
    last: Done | None = None
    warned: bool = False

    def begin_anew(self) -> None:
        """Another conversation: what was measured and attached belongs to the one before."""
        self.last = self.first_token_s = self.saved_to = None
        self.warned = False
        self.texts.clear()
        self.images.clear()


STOPPED = "stopped"
"""The finish reason of an answer that the user stopped: its tokens are counted by its pieces."""

_LETTERS = 4
"""Of a token, in most texts."""


def stopped_answer(session: Session) -> Done:
    """What is known of an answer that did not come to its end."""
    before = [turn for turn in session.conversation.messages if turn.role != "assistant"]
    answers = [turn for turn in session.conversation.messages if turn.role == "assistant"]
    letters = sum(len(turn.content) for turn in (*before, *answers[:-1]))
    usage = Usage(-(-letters // _LETTERS), session.received)
    return Done(STOPPED, usage, Timings(0, 0.0, session.received, 1000 * session.received_s))


def describe(done: Done | None, context: int | None) -> str:
    """Tokens and speed of an answer, in one line."""
    if done is not None and done.finish_reason == STOPPED and done.usage and done.timings:
        speed = done.timings.predicted_per_second
        return (
            f"stopped: prompt about {counted(done.usage.prompt_tokens, 'token')}; "
            f"answer {counted(done.usage.completion_tokens, 'token')}"
            + (f" at {speed:.1f}/s" if speed else "")
            + f"; context {describe_use(done, context)}"
        )
    if done is None:
        return "no statistics yet"
    if done.usage is None:
        return "no statistics: the server reported no token counts"
    usage, timings = done.usage, done.timings
    read = f"prompt {usage.prompt_tokens} tokens"
    wrote = f"answer {usage.completion_tokens} tokens"
    if timings is not None:
        read += f", {timings.prompt_n} of them new at {timings.prompt_per_second:.1f}/s"
        wrote += f" at {timings.predicted_per_second:.1f}/s"
    return f"{read}; {wrote}; context {describe_use(done, context)}"


def describe_times(session: Session) -> str | None:
    """How long one waited for the model and for the first word; None if neither was measured."""
    load, first = session.load_s, session.first_token_s
    told = [] if load is None else [f"load {load:.1f} s"]
    told += [] if first is None else [f"first token after {first:.2f} s"]
    return "; ".join(told) or None


def describe_use(done: Done | None, context: int | None) -> str:
    """How full the context is."""
    used = done.usage.total_tokens if done is not None and done.usage is not None else 0
    about = "about " if done is not None and done.finish_reason == STOPPED else ""
    if not context:
        return f"{about}{used} tokens"
    return f"{about}{used} of {context} tokens ({used / context:.0%})"
