"""A chat as it stands: with whom, what was said, how answers are chosen."""

from collections.abc import Callable
from dataclasses import dataclass, field

from modelrunner.chat.answer import Done
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.chat.thoughts import Opening
from modelrunner.cli.repl_answer import Thinking
from modelrunner.cli.tool_rounds import Caller
from modelrunner.errors import UsageError


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
    last: Done | None = None
    warned: bool = False

    def begin_anew(self) -> None:
        """Another conversation: what was measured and attached belongs to the one before."""
        self.last = self.first_token_s = None
        self.warned = False
        self.texts.clear()
        self.images.clear()


def describe(done: Done | None, context: int | None) -> str:
    """Tokens and speed of an answer, in one line."""
    if done is None or done.usage is None:
        return "no numbers yet" if done is None else "the server told no numbers"
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
    if not context:
        return f"{used} tokens"
    return f"{used} of {context} tokens ({used / context:.0%})"
