"""Reads the header of a GGUF file: its key-values and where its tensors lie, never their data.

```
"GGUF"  version u32  tensor count u64  key-value count u64
key-value, ...       key string, type u32, value
tensor, ...          name string, dimension count u32, dimensions u64..., type u32, offset u64
padding to general.alignment
tensor data          offsets count from here
```

The file comes from strangers. Every count is checked against the bytes that are left before
anything is made for it, and whatever is wrong becomes a `MalformedGGUFError`.
"""

import os
import struct
from collections.abc import Mapping
from pathlib import Path

from modelrunner.disk.inside import open_content
from modelrunner.gguf.cursor import Cursor, Read
from modelrunner.gguf.header import Array, Header, TensorInfo, Value, padded
from modelrunner.gguf.tensor_types import TENSOR_TYPES
from modelrunner.text import sanitize_line
from modelrunner.units import format_size

__all__ = ["Array", "Header", "Read", "TensorInfo", "Value", "parse_header", "read_header"]

DEFAULT_LIMIT = 64 * 1024 * 1024

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_ALIGNMENT = 1024 * 1024
_ALIGNMENT_KEY = "general.alignment"
_MAX_KEY_VALUES = 1 << 16
_MAX_TENSORS = 1 << 17
_MAX_DIMENSIONS = 4
_MAX_ELEMENTS = (1 << 63) - 1
_MAX_NAME = (1 << 16) - 1
_MAX_ITEMS_KEPT = 4096
_MAX_STRINGS_KEPT = 256
_MAX_ITEMS_KEPT_IN_ALL = 1 << 18  # so that a header of nothing but arrays stays small in memory

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_COUNTS = struct.Struct("<QQ")
_TYPE_AND_OFFSET = struct.Struct("<IQ")
_SHAPES = [struct.Struct(f"<{dimensions}Q") for dimensions in range(_MAX_DIMENSIONS + 1)]
_SMALLEST_KEY_VALUE = 8 + 4 + 1
_SMALLEST_TENSOR = 8 + 4 + 4 + 8

_STRING, _ARRAY, _BOOL, _UINT32 = 8, 9, 7, 4
_NUMBERS: dict[int, tuple[str, struct.Struct]] = {
    0: ("uint8", struct.Struct("<B")),
    1: ("int8", struct.Struct("<b")),
    2: ("uint16", struct.Struct("<H")),
    3: ("int16", struct.Struct("<h")),
    _UINT32: ("uint32", _U32),
    5: ("int32", struct.Struct("<i")),
    6: ("float32", struct.Struct("<f")),
    _BOOL: ("bool", struct.Struct("<B")),
    10: ("uint64", _U64),
    11: ("int64", struct.Struct("<q")),
    12: ("float64", struct.Struct("<d")),
}


def read_header(path: Path, *, limit: int = DEFAULT_LIMIT) -> Header:
    """The header of a file, and proof that the file is long enough for its tensors.

    Raises:
        MalformedGGUFError: The file is not a GGUF of version 2 or 3, or cut off, or hostile.
        OSError: The file cannot be read.
    """
    with open_content(path) as file:

        def read(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.content(length)

        size = os.fstat(file.fileno()).st_size
        return parse_header(read, size, limit=limit, name=sanitize_line(path.name))


def parse_header(
    read: Read,
    size: int | None,
    *,
    limit: int = DEFAULT_LIMIT,
    name: str = "the GGUF file",
) -> Header:
    """The header from any source of byte ranges.

    Args:
        read: Returns bytes: from this offset, at most this many, fewer only at the end.
        size: Bytes of the whole file; None where that is not known, and is not checked then.
        limit: Bytes beyond which no header is read.
        name: What to call the file in messages.

    Raises:
        MalformedGGUFError: It is not a GGUF of version 2 or 3, or cut off, or hostile.
    """
    return _Parser(Cursor(read, size, limit=limit, name=name)).header(size)


class _Parser:
    """One walk through one header."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._items_left = _MAX_ITEMS_KEPT_IN_ALL

    def header(self, size: int | None) -> Header:
        version = self._version()
        tensor_count, key_value_count = self._cursor.unpack(_COUNTS)
        self._check_count("key-values", key_value_count, _MAX_KEY_VALUES, _SMALLEST_KEY_VALUE)
        self._check_count("tensors", tensor_count, _MAX_TENSORS, _SMALLEST_TENSOR)
        metadata = self._metadata(key_value_count)
        alignment = self._alignment(metadata)
        tensors = self._tensors(tensor_count, alignment)
        data_offset = padded(self._cursor.position, alignment)
        header = Header(version, metadata, tensors, alignment, data_offset, size)
        self._check_data(header)
        return header

    def _version(self) -> int:
        magic = self._cursor.take(len(_MAGIC))
        if magic != _MAGIC:
            raise self._cursor.malformed("not a GGUF file")
        (version,) = self._cursor.unpack(_U32)
        if version in _VERSIONS:
            return version
        if version & 0xFFFF == 0 and version:
            raise self._cursor.malformed(
                "big-endian GGUF files are not supported",
                hint="use a file made for x86 or ARM machines",
            )
        age = "older" if version < _VERSIONS[0] else "newer"
        raise self._cursor.malformed(
            f"unsupported GGUF version {version}: {age} than the supported versions 2 and 3"
        )

    def _check_count(self, what: str, count: int, limit: int, smallest: int) -> None:
        if count > limit:
            raise self._cursor.malformed(f"invalid header: {count} {what}, more than {limit}")
        self._cursor.require(count * smallest)

    def _metadata(self, count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for _ in range(count):
            key = self._name("key")
            if not key:
                raise self._cursor.malformed("a key without a name")
            if key in metadata:
                raise self._cursor.malformed(f"duplicate key {_shown(key)}")
            metadata[key] = self._value(key)
        return metadata

    def _name(self, what: str) -> str:
        (length,) = self._cursor.unpack(_U64)
        if length > _MAX_NAME:
            raise self._cursor.malformed(f"invalid {what} of {length} bytes")
        try:
            return self._cursor.take(length).decode()
        except UnicodeDecodeError as exc:
            raise self._cursor.malformed(f"invalid {what}: not UTF-8") from exc

    def _value(self, key: str) -> Value:
        (kind,) = self._cursor.unpack(_U32)
        if key == _ALIGNMENT_KEY and kind != _UINT32:
            raise self._cursor.malformed(f"{_ALIGNMENT_KEY} must be a uint32")
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _NUMBERS:
            raise self._cursor.malformed(f"unknown type {kind} of {_shown(key)}")
        return self._numbers(key, kind, 1)[0]

    def _string(self) -> str:
        (length,) = self._cursor.unpack(_U64)
        return self._cursor.take(length).decode(errors="replace")

    def _array(self, key: str) -> Array:
        (kind,) = self._cursor.unpack(_U32)
        (length,) = self._cursor.unpack(_U64)
        if kind == _STRING:
            return Array("string", length, self._strings(length))
        if kind == _ARRAY:
            raise self._cursor.malformed(f"unsupported array of arrays in {_shown(key)}")
        if kind not in _NUMBERS:
            raise self._cursor.malformed(f"unknown type {kind} of the array {_shown(key)}")
        name, layout = _NUMBERS[kind]
        if self._keeps(length, _MAX_ITEMS_KEPT):
            return Array(name, length, self._numbers(key, kind, length))
        self._cursor.skip(length * layout.size)
        return Array(name, length, None)

    def _strings(self, count: int) -> tuple[str, ...] | None:
        if self._keeps(count, _MAX_STRINGS_KEPT):
            return tuple(self._string() for _ in range(count))
        self._cursor.skip_strings(count)
        return None

    def _numbers(self, key: str, kind: int, count: int) -> tuple[bool | int | float, ...]:
        layout = _NUMBERS[kind][1]
        packed = self._cursor.take(count * layout.size)
        if kind != _BOOL:
            return struct.unpack(f"<{count}{layout.format[-1]}", packed)
        if packed.strip(b"\x00\x01"):
            raise self._cursor.malformed(f"invalid bool in {_shown(key)}")
        return tuple(byte == 1 for byte in packed)

    def _keeps(self, count: int, limit: int) -> bool:
        if count > min(limit, self._items_left):
            return False
        self._items_left -= count
        return True

    def _alignment(self, metadata: Mapping[str, Value]) -> int:
        alignment = metadata.get(_ALIGNMENT_KEY, _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= _MAX_ALIGNMENT:
            raise self._cursor.malformed(f"invalid alignment {alignment}")
        if alignment & (alignment - 1):
            raise self._cursor.malformed(f"invalid alignment {alignment}: not a power of two")
        return alignment

    def _tensors(self, count: int, alignment: int) -> tuple[TensorInfo, ...]:
        tensors: dict[str, TensorInfo] = {}
        for _ in range(count):
            tensor = self._tensor()
            if tensor.name in tensors:
                raise self._cursor.malformed(f"duplicate tensor {_shown(tensor.name)}")
            if tensor.offset % alignment:
                raise self._cursor.malformed(
                    f"invalid offset {tensor.offset} of the tensor {_shown(tensor.name)}: "
                    f"not a multiple of {alignment}"
                )
            tensors[tensor.name] = tensor
        return tuple(tensors.values())

    def _tensor(self) -> TensorInfo:
        name = self._name("tensor name")
        (dimensions,) = self._cursor.unpack(_U32)
        if dimensions > _MAX_DIMENSIONS:
            raise self._cursor.malformed(f"invalid tensor {_shown(name)}: {dimensions} dimensions")
        # none at all is a single number: converters write scalars so
        shape = self._cursor.unpack(_SHAPES[dimensions])
        kind, offset = self._cursor.unpack(_TYPE_AND_OFFSET)
        tensor = TensorInfo(name, shape, kind, offset)
        known = TENSOR_TYPES.get(kind)
        if 0 in shape or tensor.elements > _MAX_ELEMENTS:
            raise self._cursor.malformed(f"invalid tensor {_shown(name)}: shape {shape}")
        if known and known.block > 1 and (not shape or shape[0] % known.block):
            raise self._cursor.malformed(
                f"invalid tensor {_shown(name)}: rows are not a multiple of {known.block}, "
                f"the block of {known.name}"
            )
        return tensor

    def _check_data(self, header: Header) -> None:
        if header.file_size is None or not header.tensors:
            return
        end = max(tensor.offset + (tensor.size or 0) for tensor in header.tensors)
        missing = header.data_offset + end - header.file_size
        if missing > 0:
            raise self._cursor.malformed(
                f"truncated: {format_size(missing)} of its tensors missing",
                hint="download the file again",
                missing_bytes=missing,
            )


def _shown(name: str) -> str:
    return f"`{sanitize_line(name, 80)}`"
