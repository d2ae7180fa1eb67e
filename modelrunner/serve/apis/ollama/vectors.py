"""Vectors of a runtime as Ollama's API has them; read beside the loop, for they are long."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelrunner.serve.client.fields import InvalidBodyError
from modelrunner.wire import parse_object

Found = tuple[Mapping[str, Any], Sequence[bytes]]


def converted(answer: bytes | bytearray, shape: bytes | bytearray) -> Found:
    """Make an answer of Ollama's of one of OpenAI's.

    Args:
        answer: The answer of the runtime.
        shape: JSON: `dimensions` to cut to, `single` for one vector, `head` for the first fields.

    Raises:
        InvalidBodyError: It is not one.
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


def _cut(vector: Sequence[float], dimensions: int | None) -> Sequence[float]:
    """The first numbers of a vector, of length one again."""
    if dimensions is None or not 0 < dimensions < len(vector):
        return vector
    kept = vector[:dimensions]
    length = math.sqrt(sum(number * number for number in kept))
    return [number / length for number in kept] if length else kept
