"""The state of a chat: model, conversation, options."""

from collections.abc import Callable
from pathlib import Path

from modelrunner.chat.answer import Done, Timings, Usage
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.chat.thoughts import Opening
from modelrunner.cli.chat.tools import Caller
from modelrunner.cli.rendering.answer import Thinking
from modelrunner.errors import UsageError
from modelrunner.frozen import field, record, replace
from modelrunner.runtime.base import Runtime
from modelrunner.runtime.capabilities.think import Thinker, Thought
from modelrunner.runtime.placement import Placement
from modelrunner.runtime.sampling import Recommended
from modelrunner.units import counted


@record
class Session:
    """The state that commands and answers of a chat share and change.

    Attributes:
        client: The client of the model's server.
        conversation: The messages so far.
        model_label: The displayed name of the model.
        context: The context size in tokens, if known.
        options: How answers are chosen.
        sampling: How tokens are chosen where no question says otherwise, and who says so.
        verbose: Whether token counts and speed are printed after each answer.
        markdown: Whether answers are drawn on a terminal, or shown as source.
        plain: Whether nothing moves the cursor.
        thinking: How thoughts are shown: all, one line on a terminal, or not.
        no_images: Why the model does not support images; None if it does.
        no_tools: Why the runtime does not support tools; None if it does.
        tools_warning: A warning if the model's template does not support tools.
        opening: What the model's prompts open of thoughts.
        thinker: Says what asks the model to think more or less; None where it continues text.
        think: How much the model is asked to think; None where nobody has said.
        no_think: Why that cannot be changed during the chat; None if it can.
        caller: Runs the tools that the model calls.
        texts: Text files attached to the next message.
        images: Images attached to the next message, as data URIs.
        restart: Restarts the runtime if it has died, and returns its client; returns None if
            the runtime lives, or is external.
        load_s: Seconds that the start of the model took, if there was one.
        runtime: What serves the model.
        placement: Where it has put the model, as far as it says.
        first_token_s: Seconds to the first token of the last answer.
        saved_to: The file that this conversation was saved to or loaded from.
        received: Pieces of the last answer: a token each, from most servers.
        received_s: Seconds from the first of them to the last.
        last: The end of the last answer.
        warned: Whether the user was warned that the context is nearly full.
    """

    client: ChatClient
    conversation: Conversation
    model_label: str
    context: int | None
    options: SamplingOptions = field(default_factory=SamplingOptions)
    verbose: bool = False
    sampling: Recommended = field(default_factory=Recommended)
    markdown: bool = True
    plain: bool = False
    thinking: Thinking = "fold"
    no_images: str | None = None
    no_tools: UsageError | None = None
    tools_warning: str | None = None
    opening: Opening = Opening.UNKNOWN
    thinker: Thinker | None = None
    think: str | None = None
    no_think: str | None = None
    caller: Caller = field(default_factory=Caller)
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    restart: Callable[[], ChatClient | None] | None = None
    load_s: float | None = None
    runtime: Runtime | None = None
    placement: Placement | None = None
    first_token_s: float | None = None
    saved_to: Path | None = None
    received: int = 0
    received_s: float = 0.0
    last: Done | None = None
    warned: bool = False

    def ask_to_think(self, level: str | None) -> str | None:
        """Have the model think as asked from the next answer on; return what to say of it.

        Args:
            level: As `ThinkKind` takes it; None leaves it to the model.
        """
        thought = Thought() if level is None or self.thinker is None else self.thinker.ask(level)
        self.think = level
        self.options = replace(self.options, thinking=thought.fields(), system_words=thought.words)
        return thought.note

    def begin_anew(self) -> None:
        """Reset statistics and attachments for another conversation."""
        self.last = self.first_token_s = self.saved_to = None
        self.warned = False
        self.texts.clear()
        self.images.clear()


STOPPED = "stopped"
"""Finish reason of an answer that the user stopped; its tokens are counted by its pieces."""

_LETTERS = 4
"""Letters per token, in most texts."""


def stopped_answer(session: Session) -> Done:
    """Return the estimated statistics of an answer that the user stopped."""
    before = [turn for turn in session.conversation.messages if turn.role != "assistant"]
    answers = [turn for turn in session.conversation.messages if turn.role == "assistant"]
    letters = sum(len(turn.content) for turn in (*before, *answers[:-1]))
    usage = Usage(-(-letters // _LETTERS), session.received)
    return Done(STOPPED, usage, Timings(0, 0.0, session.received, 1000 * session.received_s))


def describe(done: Done | None, context: int | None) -> str:
    """Return the token counts and speed of an answer, in one line."""
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
    """Return the times of the model's start and of the first token; None if unmeasured."""
    load, first = session.load_s, session.first_token_s
    times = [] if load is None else [f"load {load:.1f} s"]
    times += [] if first is None else [f"first token after {first:.2f} s"]
    return "; ".join(times) or None


def describe_use(done: Done | None, context: int | None) -> str:
    """Return how full the context is."""
    used = done.usage.total_tokens if done is not None and done.usage is not None else 0
    about = "about " if done is not None and done.finish_reason == STOPPED else ""
    if not context:
        return f"{about}{used} tokens"
    return f"{about}{used} of {context} tokens ({used / context:.0%})"
