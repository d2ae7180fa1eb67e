"""`options` and `format` of Ollama's requests, in the words of llama.cpp's server.

What belongs to the start of a model (threads, GPUs, batch sizes) has been decided when the server
began, and changes no answer: it is ignored, as Ollama ignores what it does not know.
"""

from collections.abc import Mapping
from typing import Any

from modelrunner.serve.bodies.fields import InvalidBodyError

_NUMBERS = {
    "temperature",
    "top_p",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "mirostat_tau",
    "mirostat_eta",
}
_WHOLE = {"top_k", "repeat_last_n", "mirostat", "seed"}
_MOST = 2**63


def sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request to llama.cpp's server.

    Raises:
        InvalidBodyError: A value is of another type.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in _NUMBERS:
            found[name] = _number(name, value)
        elif name in _WHOLE:
            found[name] = whole(name, value)
        elif name == "num_predict":
            # below zero is without a limit
            if (most := whole(name, value)) >= 0:
                found["max_tokens"] = most
        elif name == "num_keep":
            found["n_keep"] = whole(name, value)
        elif name == "stop":
            found["stop"] = _stops(value)
    return found


def answer_form(form: object, *, raw: bool) -> dict[str, Any]:
    """The fields for `format`: `json`, or a schema.

    Args:
        form: What it says.
        raw: Whether a prompt is continued as it is, where the fields have other names.

    Raises:
        InvalidBodyError: It is neither `json` nor an object.
    """
    if form is None or form == "":
        return {}
    if form == "json":
        return {"json_schema": {}} if raw else {"response_format": {"type": "json_object"}}
    if not isinstance(form, dict):
        raise InvalidBodyError("invalid `format`: expected json or a JSON schema", "invalid_format")
    if raw:
        return {"json_schema": form}
    schema = {"name": "format", "schema": form, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def whole(name: str, value: object) -> int:
    """A whole number, which JSON may write as `40.0`.

    Raises:
        InvalidBodyError: It is another value.
    """
    number = _number(name, value)
    if number != number // 1 or abs(number) > _MOST:
        raise InvalidBodyError(f"the option `{name}` is not a whole number", "invalid_option")
    # bounded: a number already
    return int(number)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidBodyError(f"the option `{name}` is not a number", "invalid_option")
    return value


def _stops(value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidBodyError("the option `stop` is not a list of strings", "invalid_option")
    return texts
