"""Vectors of a runtime as Ollama's API has them, and texts that are too long for one.

A child process reads what is large with it, for vectors are long.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelrunner.serve.bodies.fields import InvalidBodyError
from modelrunner.wire import parse_json, parse_object

Found = tuple[Mapping[str, Any], Sequence[bytes]]


def converted(answer: bytes | bytearray, shape: bytes | bytearray) -> Found:
    """Make an answer of Ollama's of one of OpenAI's.

    Args:
        answer: The answer of the runtime.
        shape: JSON: `dimensions` to cut to, `single` for one vector, `head` for the first fields.

    Raises:
        InvalidBodyError: The answer is invalid.
    """
    asked = parse_object(shape)
    try:
        value = parse_object(answer)
        entries = sorted(value["data"], key=lambda entry: entry["index"])
        vectors = [_cut(entry["embedding"], asked["dimensions"]) for entry in entries]
        tokens = (value.get("usage") or {}).get("prompt_tokens", 0)
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise InvalidBodyError("the runtime sent invalid vectors", "runtime_failed") from exc
    if asked["single"]:
        made: dict[str, Any] = {"embedding": vectors[0] if vectors else []}
    else:
        made = {**asked["head"], "embeddings": vectors, "prompt_eval_count": tokens}
    return {}, (json.dumps(made, separators=(",", ":")).encode(),)


def long_texts(body: bytes | bytearray, limit: bytes | bytearray) -> Found:
    """Find the texts of a request that may have more tokens than a limit.

    A token has a byte at least. Returned are their places, and as bytes the requests for their
    tokens.
    """
    most = parse_json(limit)
    texts = parse_object(body)["input"]
    places = [place for place, text in enumerate(texts) if len(text.encode()) > most]
    parts = [
        json.dumps({"content": texts[place], "add_special": True}).encode() for place in places
    ]
    return {"places": places}, parts


def shortened(
    body: bytes | bytearray, about: bytes | bytearray, *tokens: bytes | bytearray
) -> Found:
    """Put tokens in place of texts that have too many.

    Args:
        body: The request.
        about: JSON: the `places` of the texts, and the `limit`.
        tokens: What the runtime says of each.

    Raises:
        InvalidBodyError: What the runtime says is invalid.
    """
    said, value = parse_object(about), dict(parse_object(body))
    try:
        for place, raw in zip(said["places"], tokens, strict=True):
            found = parse_object(raw)["tokens"]
            if len(found) > said["limit"]:
                value["input"][place] = found[: said["limit"]]
    except (ValueError, TypeError, KeyError) as exc:
        raise InvalidBodyError("the runtime sent invalid tokens", "runtime_failed") from exc
    return {}, (json.dumps(value, separators=(",", ":")).encode(),)


def _cut(vector: Sequence[float], dimensions: int | None) -> Sequence[float]:
    """The first numbers of a vector, of length one again."""
    if dimensions is None or not 0 < dimensions < len(vector):
        return vector
    kept = vector[:dimensions]
    length = math.sqrt(sum(number * number for number in kept))
    return [number / length for number in kept] if length else kept
