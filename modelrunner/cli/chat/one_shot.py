"""What `run` does with a PROMPT: one question, one answer or several, as text or as JSON.

Runtimes turn a schema into a grammar, and some turn a contradiction into one without an end.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from modelrunner.chat.answer import Done
from modelrunner.chat.client import SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.chat.repetition import REPEATED
from modelrunner.chat.tool_call import ToolCall
from modelrunner.cli.chat.answer import Display, answer_once
from modelrunner.cli.chat.session import Session, describe
from modelrunner.cli.context import Context
from modelrunner.errors import AnswerCutError, RuntimeFailedError, UsageError
from modelrunner.runtime.base import Runtime
from modelrunner.text import json_fault, os_reason, sanitize_line
from modelrunner.wire import parse_json

_PAIRS = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minimum", "maximum"),
    ("minProperties", "maxProperties"),
)
_TYPES = ("null", "boolean", "object", "array", "number", "string", "integer")
_HOLDS_SCHEMAS = {"properties", "$defs", "definitions", "patternProperties"}
_HOLDS_LIST = {"anyOf", "allOf", "oneOf", "prefixItems"}
_HOLDS_ONE = {"items", "additionalProperties", "not"}
_DEEPEST = 100


def unmeetable(schema: Mapping[str, Any]) -> str | None:
    """Return why no value can match the schema; None if no contradiction is found."""
    return next(_contradictions(schema, "#", 0), None)


def _contradictions(schema: object, where: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        yield f"{where} is nested too deep"
        return
    if not isinstance(schema, Mapping):
        return
    yield from (f"{where} {reason}" for reason in _own(schema))
    for inner, each in _inside(schema):
        yield from _contradictions(each, f"{where}/{inner}", depth + 1)


def _own(schema: Mapping[str, Any]) -> Iterator[str]:
    for low, high in _PAIRS:
        least, most = schema.get(low), schema.get(high)
        if isinstance(least, int | float) and isinstance(most, int | float) and least > most:
            yield f"has {low} {least} above {high} {most}"
    if schema.get("enum") == []:
        yield "has an enum without a value"
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in _TYPES:
            yield f"has an unknown type: {str(kind)[:40]!r}"


def _inside(schema: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for key, value in schema.items():
        if key in _HOLDS_SCHEMAS and isinstance(value, Mapping):
            yield from ((f"{key}/{str(name)[:40]}", each) for name, each in value.items())
        elif key in _HOLDS_LIST and isinstance(value, list):
            yield from ((f"{key}/{index}", each) for index, each in enumerate(value))
        elif key in _HOLDS_ONE:
            yield key, value


REPEAT_PENALTY = 1.1
"""Small models repeat themselves without it."""

_SCHEMA_LIMIT = 1024 * 1024


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


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The form of an answer: JSON, with a schema or without."""

    schema: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, text: str) -> "AnswerForm":
        """Parse `--format`: `json`, or a file with a JSON Schema.

        Raises:
            UsageError: The file does not exist, or is not a JSON Schema.
        """
        if text == "json":
            return cls()
        shown = sanitize_line(text)
        try:
            # outside: a file that a person names
            raw = Path(text).read_bytes()[: _SCHEMA_LIMIT + 1]
        except (OSError, ValueError) as exc:
            why = os_reason(exc) if isinstance(exc, OSError) else "invalid file name"
            raise UsageError(
                f"--format: cannot read {shown}: {why}",
                hint="use `--format json`, or the path of a JSON Schema file",
            ) from exc
        try:
            schema = parse_json(raw) if len(raw) <= _SCHEMA_LIMIT else None
        except ValueError as exc:
            raise UsageError(
                f"{shown}: {json_fault(exc)}", hint="use a file with a JSON Schema"
            ) from exc
        if not isinstance(schema, dict):
            raise UsageError(
                f"{shown} is not a JSON Schema: expected a JSON object",
                hint='a schema looks like {"type": "object", "properties": {}}',
            )
        reason = unmeetable(schema)
        if reason is not None:
            raise UsageError(
                f"no answer can match {shown}: {reason}", hint="correct that part of the schema"
            )
        return cls(schema)

    def to_dict(self) -> dict[str, object]:
        """Return the `response_format` of a request to OpenAI's API."""
        if self.schema is None:
            return {"type": "json_object"}
        named = {"name": "answer", "schema": self.schema, "strict": True}
        return {"type": "json_schema", "json_schema": named}


@dataclass(frozen=True, slots=True)
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

    def options(self, said: SamplingOptions, runtime: Runtime) -> SamplingOptions:
        """Return the options with the defaults of a script: the same prompt, the same answer.

        Several answers to one prompt use the model's own temperature, so that they differ.
        """
        options = said
        if options.temperature is None and self.count == 1 and not self.in_chat:
            options = replace(options, temperature=0.0)
        if self.form is None:
            options = against_loops(options, runtime)
        if self.form is not None:
            options = replace(options, response_format=self.form.to_dict())
        return options

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
                display=Display(console.colour, console.bars, session.opening),
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
            _require_json(text, done)
        if held and not console.json and text:
            console.print(text)
        if not console.json:
            for wanted in done.calls:
                console.emit_line(_call_to_dict(wanted, None))
        if session.verbose:
            console.say(describe(done, session.context))
        return _to_dict(session, text, done)


def against_loops(options: SamplingOptions, runtime: Runtime) -> SamplingOptions:
    """Return the options with a repeat penalty, unless they set one.

    An external server may not support the parameter.
    """
    if options.repeat_penalty is not None or runtime.external:
        return options
    return replace(options, repeat_penalty=REPEAT_PENALTY)


def _require_json(text: str, done: Done) -> None:
    try:
        parse_json(text)
    except ValueError as exc:
        if done.finish_reason in ("length", REPEATED):
            raise AnswerCutError(
                "the answer was cut off before its JSON was complete",
                hint="raise --max-tokens, or use a larger --context",
                answer=text[:1000],
            ) from exc
        raise RuntimeFailedError(
            f"the answer is not valid JSON: {sanitize_line(text, 100)}",
            hint="this server ignores --format: use another --runtime",
        ) from exc


def _to_dict(session: Session, text: str, done: Done) -> dict[str, object]:
    usage, timings = done.usage, done.timings
    made = [_call_to_dict(each.call, each.result.text) for each in session.caller.called]
    return {
        "reference": session.model_label,
        "answer": text,
        "finish_reason": done.finish_reason,
        "context": session.context,
        "prompt_tokens": usage.prompt_tokens if usage else None,
        "completion_tokens": usage.completion_tokens if usage else None,
        "tokens_per_s": round(timings.predicted_per_second, 2) if timings else None,
        "timings": _timings(session, done),
        "tool_calls": [*made, *(_call_to_dict(wanted, None) for wanted in done.calls)],
    }


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
