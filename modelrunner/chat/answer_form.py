"""The form of an answer to one prompt: text, JSON, or JSON that matches a schema.

Runtimes turn a schema into a grammar, and some turn a contradiction into one without an end.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelrunner.chat.answer import Done
from modelrunner.chat.client import SamplingOptions
from modelrunner.chat.repetition import REPEATED
from modelrunner.errors import AnswerCutError, RuntimeFailedError, UsageError
from modelrunner.frozen import frozen, replace
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


SEED = 42
"""Of an answer to a script: with it the same prompt gets the same answer, where the runtime allows
that, however the model's makers want it to be sampled. Several answers count on from it."""

_SCHEMA_LIMIT = 1024 * 1024


@frozen
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


def sampling_of(
    options: SamplingOptions, form: AnswerForm | None, *, repeats: bool
) -> SamplingOptions:
    """Return the options with the defaults for answers of this form.

    Args:
        options: What was asked for; only what is unset gets a default.
        form: The form; None for text.
        repeats: Whether the same prompt must give the same answer, as scripts expect.
    """
    if options.seed is None and repeats:
        options = replace(options, seed=SEED)
    return options if form is None else replace(options, response_format=form.to_dict())


def require_json(text: str, done: Done) -> None:
    """Accept an answer that is JSON.

    Raises:
        AnswerCutError: It was cut off.
        RuntimeFailedError: It is not JSON: the server ignores the requested form.
    """
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
