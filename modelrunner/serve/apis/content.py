"""What items and blocks of content are checked for, whichever API they come from."""

from collections.abc import Mapping
from typing import Any

from modelrunner.serve.bodies.fields import InvalidBodyError
from modelrunner.text import sanitize_line


def text_field(value: Mapping[str, Any], name: str, where: str) -> str:
    """Return a field that has to be a text.

    Args:
        value: The item or block.
        name: The field.
        where: What messages call the item or block.

    Raises:
        InvalidBodyError: It is missing, or is something else.
    """
    text = value.get(name)
    if not isinstance(text, str):
        raise InvalidBodyError(f"`{where}.{name}` is missing, or is not a string", "invalid_value")
    return text


def unsupported_kind(kind: object, where: str) -> InvalidBodyError:
    """The error of an item or block whose type cannot be shown to a model."""
    if not isinstance(kind, str):
        return InvalidBodyError(f"`{where}` has no `type`", "invalid_value")
    shown = sanitize_line(kind, 80)
    return InvalidBodyError(f"`{where}` is a {shown}, which is not supported", "unsupported_item")


def unknown_choice(name: str) -> InvalidBodyError:
    """The error of a `tool_choice` that names what is not among the tools."""
    shown = sanitize_line(name, 80) or "no function"
    return InvalidBodyError(
        f"`tool_choice` names {shown}, which is not among `tools`", "invalid_tool_choice"
    )
