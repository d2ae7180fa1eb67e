"""What `run` does with a PROMPT: one question, one answer or several, as text or as JSON."""

import sys
from io import StringIO

from modelrunner.chat.answer import Done
from modelrunner.chat.answer_form import AnswerForm, require_json, sampling_of
from modelrunner.chat.client import SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.chat.tool_call import ToolCall
from modelrunner.cli.chat.answer import Display, answer_once
from modelrunner.cli.chat.session import Session, describe
from modelrunner.cli.context import Context
from modelrunner.errors import RuntimeFailedError, UsageError
from modelrunner.frozen import frozen, replace
from modelrunner.text import sanitize
from modelrunner.wire import parse_json


def question_of(words: list[str], *, terminal: bool) -> str | None:
    """Return the prompt: the words of the command line, then the text from stdin.

    Raises:
        UsageError: Stdin is not text, or there is no prompt.
    """
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
            "no prompt given, and stdin is empty",
            hint='add a prompt after the model: modelrunner run REF "..."',
        )
    return question


@frozen
class OneShot:
    """The number and form of the answers.

    Attributes:
        count: How many answers.
        form: Their form; None for text.
        in_chat: Whether this is a chat, in which the user sets the options.
    """

    count: int = 1
    form: AnswerForm | None = None
    in_chat: bool = False

    @property
    def has_schema(self) -> bool:
        """Whether the answer has to match a schema."""
        return self.form is not None and self.form.schema is not None

    def options(self, said: SamplingOptions) -> SamplingOptions:
        """Return the options with the defaults for these answers."""
        return sampling_of(said, self.form, repeats=not self.in_chat)

    def answer(self, context: Context, session: Session, question: str) -> None:
        """Send the prompt, and print the answers.

        Raises:
            AnswerCutError: JSON was cut off.
            RuntimeFailedError: The server ignores the requested form.
        """
        rows = []
        for index in range(self.count):
            if index and not context.console.json:
                context.console.print("")
            rows.append(self._once(context, session, question, index))
        if context.console.json:
            context.console.emit(rows[0] if self.count == 1 else rows)

    def _once(
        self, context: Context, session: Session, question: str, index: int
    ) -> dict[str, object]:
        console = context.console
        held = console.json or self.form is not None
        whole = StringIO()
        thoughts: list[str] = []
        options = session.options
        if index and options.seed is not None:
            options = replace(options, seed=options.seed + index)
        conversation = Conversation(session.conversation.system)
        conversation.add_user("\n\n".join([*session.texts, question]), session.images)
        try:
            done = answer_once(
                session.client,
                conversation,
                context=session.context,
                out=whole if held else console.out,
                err=console.err,
                options=options,
                caller=session.caller,
                display=Display(console.colour, console.bars, session.opening, thoughts.append),
            )
        except RuntimeFailedError as exc:
            reason = exc.server_message or ""
            if self.has_schema and ("schema" in reason or "grammar" in reason):
                raise UsageError(
                    f"the runtime does not support the schema: {reason}",
                    hint="simplify the schema, or use `--format json` for any JSON",
                ) from exc
            raise
        text = whole.getvalue().removesuffix("\n")
        if self.form is not None and not done.calls:
            require_json(text, done)
        if held and not console.json and text:
            console.print(text)
        if not console.json:
            for wanted in done.calls:
                console.emit_line(_call_to_dict(wanted, None))
        if session.verbose:
            console.say(describe(done, session.context))
        reasoning = sanitize("\n\n".join(each.strip() for each in thoughts))
        return _to_dict(session, text, reasoning or None, options.seed, done)


def _to_dict(
    session: Session, text: str, reasoning: str | None, seed: int | None, done: Done
) -> dict[str, object]:
    usage, timings = done.usage, done.timings
    made = [_call_to_dict(each.call, each.result.text) for each in session.caller.called]
    return {
        "reference": session.model_label,
        "answer": text,
        "reasoning": reasoning,
        "finish_reason": done.finish_reason,
        "context": session.context,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "tokens_per_s": round(timings.predicted_per_second, 2) if timings else None,
        "timings": _timings(session, done),
        "sampling": session.sampling.to_dict(),
        "seed": seed,
        "tool_calls": [*made, *(_call_to_dict(wanted, None) for wanted in done.calls)],
        "runtime": session.runtime.name if session.runtime else None,
        "runtime_build": session.runtime.build() if session.runtime else None,
        "runtime_image": _image(session),
        "placement": session.placement.to_dict() if session.placement else None,
    }


def _image(session: Session) -> dict[str, str | None] | None:
    image = session.runtime.image() if session.runtime else None
    return None if image is None else image.to_dict()


def _timings(session: Session, done: Done) -> dict[str, float | None]:
    found = done.timings
    return {
        "load_s": None if session.load_s is None else round(session.load_s, 3),
        "prompt_s": round(found.prompt_ms / 1000, 3) if found else None,
        "answer_s": round(found.predicted_ms / 1000, 3) if found else None,
    }


def _call_to_dict(wanted: ToolCall, result: str | None) -> dict[str, object]:
    try:
        arguments = parse_json(wanted.arguments)
    except ValueError:
        arguments = wanted.arguments
    return {"id": wanted.id, "name": wanted.name, "arguments": arguments, "result": result}
