"""Headers of safetensors files: read with limits, believed in nothing."""

import json

import pytest

from modelrunner.errors import HeaderTooLongError, MalformedSafetensorsError
from modelrunner.safetensors.header import main_type, parameters_of, parse_header
from tests.support.safetensors import TINY, header_of, safetensors_file


def parsed(raw: bytes, size: int | None = None, **more: int):
    def read(offset: int, length: int) -> bytes:
        return raw[offset : offset + length]

    return parse_header(read, len(raw) if size is None else size, **more)


def framed(value: object) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(raw).to_bytes(8, "little") + raw


def tensor(dtype: object = "F16", shape: object = (2,), offsets: object = (0, 4)) -> bytes:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    return framed({"a": entry}) + bytes(4)


def test_a_header_lists_its_tensors_and_its_metadata() -> None:
    header = parsed(safetensors_file(TINY, {"format": "pt"}))
    assert [(each.name, each.dtype, each.shape, each.size) for each in header.tensors] == [
        ("model.embed.weight", "BF16", (100, 64), 12800),
        ("model.norm.weight", "BF16", (64,), 128),
    ]
    assert header.metadata == {"format": "pt"}
    assert (parameters_of([header]), main_type([header])) == (6464, "BF16")


def test_a_file_without_tensors_is_one() -> None:
    header = parsed(framed({}))
    assert (header.tensors, parameters_of([header]), main_type([header])) == ((), None, None)


def test_padding_after_the_header_is_allowed() -> None:
    assert parsed(framed(json.dumps({}).encode() + b"   ")).tensors == ()


def test_only_the_header_is_read_of_a_large_file() -> None:
    asked: list[tuple[int, int]] = []
    raw = header_of({"w": ("F32", [1 << 20, 1 << 10])})

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return raw[offset : offset + length]

    header = parse_header(read, len(raw) + (1 << 32))
    assert parameters_of([header]) == 1 << 30
    assert asked == [(0, 8), (8, len(raw) - 8)]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GGUF\x03\0\0\0",
        b"version https://git-lfs.github.com/spec/v1\n",
        (1 << 40).to_bytes(8, "little") + b"{}",
        (50).to_bytes(8, "little") + b"{}",
        framed(b"[]"),
        framed(b"{"),
        framed(b'{"a": ' + b"[" * 100_000),
        framed(b'{"a": NaN}'),
        framed({"a": 3}),
        framed({"a": {"dtype": "F16"}}),
        tensor(dtype="Q4_K"),
        tensor(dtype=3),
        tensor(shape="2"),
        tensor(shape=[-2]),
        tensor(shape=[True]),
        tensor(shape=[2**63]),
        tensor(shape=[2.0]),
        tensor(shape=[1] * 33),
        tensor(shape=[3]),
        tensor(offsets=[0]),
        tensor(offsets=[4, 0]),
        tensor(offsets=[2, 6]),
        tensor() + b"more",
        tensor()[:-1],
        framed(
            {
                "a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]},
                "b": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
            }
        )
        + bytes(4),
    ],
)
def test_what_is_no_safetensors_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedSafetensorsError) as caught:
        parsed(raw)
    assert caught.value.exit_code == 6
    assert caught.value.message.isprintable()


def test_a_header_that_is_too_long_is_not_read() -> None:
    with pytest.raises(HeaderTooLongError):
        parsed(safetensors_file(TINY), limit=64)


def test_elements_that_hold_several_parameters_count_as_many() -> None:
    packed = parsed(
        safetensors_file(
            {
                "a.qweight": ("I32", [64, 8]),
                "a.scales": ("F16", [2, 8]),
                "a.qzeros": ("I32", [2, 1]),
                "a.g_idx": ("I32", [64]),
                "norm.weight": ("F16", [8]),
            }
        )
    )
    assert parameters_of([packed], 4) == 64 * 8 * 8 + 8
    assert parameters_of([packed]) is None
    assert main_type([packed]) == "I32"
