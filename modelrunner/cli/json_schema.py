"""Checks whether a JSON Schema contradicts itself.

Runtimes turn a schema into a grammar, and some turn a contradiction into one without an end.
"""

from collections.abc import Iterator, Mapping
from typing import Any

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
