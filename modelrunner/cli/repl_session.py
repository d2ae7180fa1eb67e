"""A chat as it stands: with whom, what was said, how answers are chosen."""

from dataclasses import dataclass, field

from modelrunner.chat.answer import Done
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation


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
        last: The end of the last answer.
    """

    client: ChatClient
    conversation: Conversation
    model_label: str
    context: int | None
    options: SamplingOptions = field(default_factory=SamplingOptions)
    verbose: bool = False
    last: Done | None = None


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


def describe_use(done: Done | None, context: int | None) -> str:
    """How full the context is."""
    used = done.usage.total_tokens if done is not None and done.usage is not None else 0
    if not context:
        return f"{used} tokens"
    return f"{used} of {context} tokens ({used / context:.0%})"
