"""A parsed header as a small document, for headers that take megabytes to read again.

A vocabulary is most of a header, and its items are not kept: what is left are some hundred KiB.
"""

import json

from modelrunner.gguf.header import Array, Header, TensorInfo, Value
from modelrunner.wire import parse_object

FORM = 1
"""Increased with every change of what a document means; documents of another form are ignored."""

_NUMBERS = ("version", "alignment", "data_offset")


def dump_header(header: Header) -> bytes:
    """Return a header as a document."""
    value = {
        "form": FORM,
        **{name: getattr(header, name) for name in _NUMBERS},
        "file_size": header.file_size,
        "metadata": {
            key: [entry.item_type, entry.length, entry.items] if isinstance(entry, Array) else entry
            for key, entry in header.metadata.items()
        },
        "tensors": [[each.name, each.shape, each.type, each.offset] for each in header.tensors],
    }
    return json.dumps(value, separators=(",", ":")).encode()


def load_header(raw: bytes) -> Header:
    """Return the header of a document.

    Raises:
        ValueError: It is not one, or of another form.
    """
    value = parse_object(raw)
    if value.get("form") != FORM:
        raise ValueError("a header of another form")
    try:
        version, alignment, data_offset = (_count(value[name]) for name in _NUMBERS)
        size = value["file_size"]
        metadata = {key: _value(entry) for key, entry in value["metadata"].items()}
        tensors = tuple(
            TensorInfo(_text(name), tuple(map(_count, shape)), _count(kind), _count(offset))
            for name, shape, kind, offset in value["tensors"]
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError("not a header") from exc
    size = None if size is None else _count(size)
    return Header(version, metadata, tensors, alignment, data_offset, size)


def _value(entry: object) -> Value:
    if not isinstance(entry, list):
        return _scalar(entry)
    kind, length, items = entry
    kept = None if items is None else tuple(map(_scalar, items))
    return Array(_text(kind), _count(length), kept)


def _scalar(entry: object) -> bool | int | float | str:
    if not isinstance(entry, bool | int | float | str):
        raise ValueError("not a value of a header")  # noqa: TRY004 - callers catch one type
    return entry


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("not a count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004 - callers catch one type
    return value
