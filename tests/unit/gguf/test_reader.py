import os
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from modelrunner.errors import MalformedGGUFError
from modelrunner.gguf.reader import Array, Header, TensorInfo, parse_header, read_header
from tests.support.gguf import (
    F32,
    Q4_0,
    Typed,
    encode_gguf,
    key_value,
    string,
    tensor_info,
    tiny_gguf,
    write_gguf,
)


def parse(content: bytes) -> Header:
    return parse_header(lambda offset, length: content[offset : offset + length], len(content))


def reason(content: bytes) -> str:
    with pytest.raises(MalformedGGUFError) as caught:
        parse(content)
    return caught.value.message


def start(*, tensors: int = 0, values: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values)


def of_value(value: bytes) -> bytes:
    """A file of one key-value, with room for what the counts claim."""
    return start(values=1) + value + bytes(64)


def of_tensor(info: bytes) -> bytes:
    return start(tensors=1) + info + bytes(4096)


@pytest.fixture
def reference_file(tmp_path: Path) -> Path:
    """A file that the reference implementation of the format wrote."""
    path = tmp_path / "reference.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Añejo")
    writer.add_uint8("n.uint8", 255)
    writer.add_int8("n.int8", -128)
    writer.add_uint16("n.uint16", 65535)
    writer.add_int16("n.int16", -32768)
    writer.add_uint32("n.uint32", 2**32 - 1)
    writer.add_int32("n.int32", -(2**31))
    writer.add_uint64("n.uint64", 2**64 - 1)
    writer.add_int64("n.int64", -(2**63))
    writer.add_float32("n.float32", 0.5)
    writer.add_float64("n.float64", 0.1)
    writer.add_bool("n.bool", val=True)
    writer.add_array("a.layers", [8, 8, 0, 4])
    writer.add_array("a.flags", [True, False])
    writer.add_array("a.words", ["ja", "nein"])
    writer.add_array("tokenizer.ggml.tokens", [f"token{number}" for number in range(5000)])
    writer.add_array("tokenizer.ggml.scores", [0.25] * 5000)
    writer.add_uint32("after.the.vocabulary", 7)
    writer.add_tensor("wide", np.zeros((3, 5), dtype=np.float32))
    writer.add_tensor("half", np.zeros((2, 3, 4), dtype=np.float16))
    packed = np.zeros((4, 18 * 2), dtype=np.uint8)
    writer.add_tensor("packed", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class TestReference:
    """Files that the reference implementation wrote are read to the last value."""

    def test_values(self, reference_file: Path):
        assert read_header(reference_file).metadata == {
            "general.architecture": "llama",
            "general.name": "Añejo",
            "n.uint8": 255,
            "n.int8": -128,
            "n.uint16": 65535,
            "n.int16": -32768,
            "n.uint32": 2**32 - 1,
            "n.int32": -(2**31),
            "n.uint64": 2**64 - 1,
            "n.int64": -(2**63),
            "n.float32": 0.5,
            "n.float64": 0.1,
            "n.bool": True,
            "a.layers": Array("int32", 4, (8, 8, 0, 4)),
            "a.flags": Array("bool", 2, (True, False)),
            "a.words": Array("string", 2, ("ja", "nein")),
            "tokenizer.ggml.tokens": Array("string", 5000, None),
            "tokenizer.ggml.scores": Array("float32", 5000, None),
            "after.the.vocabulary": 7,
        }

    def test_bools_are_bools(self, reference_file: Path):
        metadata = read_header(reference_file).metadata
        assert metadata["n.bool"] is True
        assert metadata["a.flags"].items[1] is False

    def test_tensors_have_their_fastest_dimension_first(self, reference_file: Path):
        header = read_header(reference_file)
        assert header.tensors == (
            TensorInfo("wide", (5, 3), 0, 0),
            TensorInfo("half", (4, 3, 2), 1, 64),
            TensorInfo("packed", (64, 4), 2, 128),
        )
        assert [tensor.type_name for tensor in header.tensors] == ["F32", "F16", "Q4_0"]
        assert [tensor.size for tensor in header.tensors] == [60, 48, 144]

    def test_data_lies_where_the_reference_reader_finds_it(self, reference_file: Path):
        header = read_header(reference_file)
        theirs = gguf.GGUFReader(reference_file)
        assert header.data_offset == theirs.data_offset
        assert [header.data_offset + tensor.offset for tensor in header.tensors] == [
            tensor.data_offset for tensor in theirs.tensors
        ]
        assert header.file_size == reference_file.stat().st_size
        assert header.tensor_bytes == 60 + 48 + 144
        assert sum(header.sizes.values()) == 64 + 64 + 160

    def test_big_endian_is_refused_by_name(self, tmp_path: Path):
        path = tmp_path / "big.gguf"
        writer = gguf.GGUFWriter(path, "llama", endianess=gguf.GGUFEndian.BIG)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        with pytest.raises(
            MalformedGGUFError, match=r"^big\.gguf: big-endian GGUF files are not supported"
        ):
            read_header(path)


def test_the_reference_reader_reads_what_the_tests_write(tmp_path: Path):
    path = tiny_gguf(tmp_path / "tiny.gguf", seed=7)
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    own_fields = ("GGUF.version", "GGUF.tensor_count", "GGUF.kv_count")
    assert list(ours.metadata) == [key for key in theirs.fields if key not in own_fields]
    assert [(t.name, t.shape, t.type) for t in ours.tensors] == [
        (t.name, tuple(int(n) for n in t.shape), int(t.tensor_type)) for t in theirs.tensors
    ]


class TestWhatIsKept:
    def test_an_array_with_a_value_per_layer_is_kept_up_to_4096_items(self):
        header = parse(encode_gguf(metadata={"short": [1] * 4096, "long": [1] * 4097}))
        assert header.metadata["short"] == Array("uint32", 4096, (1,) * 4096)
        assert header.metadata["long"] == Array("uint32", 4097, None)

    def test_strings_are_kept_up_to_256(self):
        header = parse(encode_gguf(metadata={"short": ["a"] * 256, "long": ["a"] * 257}))
        assert header.metadata["short"] == Array("string", 256, ("a",) * 256)
        assert header.metadata["long"] == Array("string", 257, None)

    def test_a_header_of_nothing_but_arrays_is_not_kept_whole(self):
        full = Typed("uint8", [1] * 4096)
        header = parse(encode_gguf(metadata={f"array{number}": full for number in range(80)}))
        kept = [value for value in header.metadata.values() if getattr(value, "items", None)]
        assert len(kept) == 64

    def test_an_empty_array_is_empty(self):
        assert parse(encode_gguf(metadata={"none": []})).metadata["none"] == Array("uint32", 0, ())

    def test_text_that_is_not_utf8_is_shown_as_far_as_it_goes(self):
        header = parse(encode_gguf(metadata={"text": b"caf\xe9"}))
        assert header.metadata["text"] == "caf\N{REPLACEMENT CHARACTER}"


class TestShapes:
    def test_version_2_is_read(self):
        assert parse(encode_gguf(version=2, tensors=[("t", (4,), F32)])).version == 2

    def test_a_scalar_has_one_element(self):
        (tensor,) = parse(encode_gguf(tensors=[("scalar", (), F32)])).tensors
        assert (tensor.elements, tensor.size) == (1, 4)

    def test_a_type_from_the_future_has_a_number_but_no_size(self):
        (tensor,) = parse(of_tensor(tensor_info("t", (32,), 99, 0))).tensors
        assert (tensor.type_name, tensor.size) == ("unknown(99)", None)

    def test_the_file_may_say_how_tensors_are_aligned(self):
        content = encode_gguf(
            metadata={"general.alignment": 256}, tensors=[("a", (3,), F32), ("b", (3,), F32)]
        )
        header = parse(content)
        assert header.alignment == 256
        assert header.data_offset % 256 == 0
        assert [tensor.offset for tensor in header.tensors] == [0, 256]

    def test_a_vocabulary_without_tensors_needs_no_padding(self):
        content = start(values=1) + key_value("general.architecture", "llama")
        assert parse(content).tensors == ()


class TestRangedSources:
    def test_nothing_is_read_but_the_header(self):
        content = encode_gguf(tensors=[("big", (1024, 4096), F32)])
        asked: list[tuple[int, int]] = []

        def read(offset: int, length: int) -> bytes:
            asked.append((offset, length))
            return content[offset : offset + length]

        parse_header(read, len(content))
        assert asked == [(0, 256 * 1024)]

    def test_a_long_header_takes_few_requests(self):
        content = encode_gguf(metadata={"tokens": ["x" * 40] * 200_000, "end": 1})
        asked: list[int] = []

        def read(offset: int, length: int) -> bytes:
            asked.append(length)
            return content[offset : offset + length]

        assert parse_header(read, len(content)).metadata["end"] == 1
        assert len(asked) <= 6
        assert sum(asked) <= len(content)

    def test_what_is_skipped_is_not_fetched(self):
        scores = Typed("float64", [0.0] * 100_000)
        content = encode_gguf(metadata={"scores": scores, "end": 1})
        fetched: list[bytes] = []

        def read(offset: int, length: int) -> bytes:
            fetched.append(content[offset : offset + length])
            return fetched[-1]

        assert parse_header(read, len(content)).metadata["end"] == 1
        assert sum(map(len, fetched)) < 300 * 1024

    def test_a_source_may_answer_in_crumbs(self):
        content = encode_gguf(metadata={"tokens": ["token"] * 300}, tensors=[("t", (4,), F32)])
        whole = parse(content)
        crumbs = parse_header(lambda offset, _: content[offset : offset + 7], len(content))
        assert crumbs == whole

    def test_what_a_source_has_beyond_its_size_is_not_read(self):
        content = encode_gguf()
        with pytest.raises(MalformedGGUFError, match="truncated header"):
            parse_header(lambda offset, _: content[offset:], len(content) - 40)

    def test_nothing_is_fetched_for_a_claim_that_cannot_be_true(self):
        content = start(values=1) + array_of(8, HUGE) + bytes(2 * 1024 * 1024)
        asked: list[int] = []

        def read(offset: int, length: int) -> bytes:
            asked.append(length)
            return content[offset : offset + length]

        with pytest.raises(MalformedGGUFError):
            parse_header(read, len(content))
        assert len(asked) == 1

    def test_an_unknown_size_is_not_checked(self):
        content = encode_gguf(tensors=[("t", (1024,), F32)])[:-4096]
        header = parse_header(lambda offset, length: content[offset:][:length], None)
        assert (header.file_size, header.tensor_bytes) == (None, 4096)

    def test_a_source_that_ends_early_is_cut_off(self):
        content = encode_gguf()
        with pytest.raises(MalformedGGUFError, match="truncated header"):
            parse_header(lambda offset, length: content[offset:30][:length], None)

    def test_the_limit_is_kept(self):
        content = encode_gguf(metadata={"text": "x" * 10_000})
        with pytest.raises(MalformedGGUFError, match=r"the header exceeds 4\.00 KiB"):
            parse_header(lambda o, n: content[o : o + n], len(content), limit=4096)

    def test_an_error_of_the_source_passes(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError):
            read_header(tmp_path / "nowhere.gguf")
        with pytest.raises(IsADirectoryError):
            read_header(tmp_path)


class TestTruncated:
    def test_a_model_that_is_cut_off_is_caught_and_what_is_missing_is_said(self, tmp_path: Path):
        path = write_gguf(tmp_path / "cut.gguf", tensors=[("a", (64, 64), F32), ("b", (32,), F32)])
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 1000)
        with pytest.raises(MalformedGGUFError) as caught:
            read_header(path)
        assert caught.value.message == "cut.gguf: truncated: 1000 B of its tensors missing"
        assert caught.value.facts == {"missing_bytes": 1000}
        assert caught.value.hint == "download the file again"

    def test_the_last_tensor_needs_no_padding(self):
        content = encode_gguf(tensors=[("odd", (1,), F32)])
        unpadded = content[: len(content) - 28]
        assert parse(unpadded).tensors[0].size == 4
        assert "truncated: 1 B of its tensors" in reason(unpadded[:-1])

    def test_more_after_the_tensors_does_no_harm(self):
        assert parse(encode_gguf(tensors=[("t", (4,), F32)]) + b"more").tensors[0].name == "t"

    def test_every_cut_is_caught(self):
        content = encode_gguf(
            metadata={"tokens": ["a", "b"], "layers": [1, 2], "flag": True, "text": "hello"},
            tensors=[("t", (32, 2), Q4_0), ("u", (8,), F32)],
        )
        for length in range(len(content)):
            reason(content[:length])

    def test_an_empty_file_is_cut_off(self, tmp_path: Path):
        path = tmp_path / "empty.gguf"
        path.touch()
        with pytest.raises(MalformedGGUFError, match=r"^empty\.gguf: truncated header"):
            read_header(path)


HUGE = 2**60
OVERFLOWING = 2**64 - 1
NUMBER = struct.pack("<I", 4)
STRING = struct.pack("<I", 8)
ARRAY = struct.pack("<I", 9)


def array_of(kind: int, length: int) -> bytes:
    return string("k") + ARRAY + struct.pack("<IQ", kind, length)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GGML" + bytes(60), "not a GGUF file"),
        (b"<!DOCTYPE html><html>" + bytes(60), "not a GGUF file"),
        (start(version=1) + bytes(60), "unsupported GGUF version 1: older than"),
        (start(version=0) + bytes(60), "unsupported GGUF version 0: older than"),
        (start(version=4) + bytes(60), "unsupported GGUF version 4: newer than"),
        (start(values=2**16 + 1), "invalid header: 65537 key-values, more than 65536"),
        (start(values=1000) + string("k") + struct.pack("<I", 13), "truncated header"),
        (start(values=HUGE), "key-values, more than 65536"),
        (start(values=1000), "truncated header"),
        (start(tensors=2**17 + 1), "invalid header: 131073 tensors, more than 131072"),
        (start(tensors=OVERFLOWING), "tensors, more than 131072"),
        (start(tensors=1000), "truncated header"),
        (of_value(string("k" * 65536) + NUMBER), "invalid key of 65536 bytes"),
        (of_value(struct.pack("<Q", OVERFLOWING)), f"invalid key of {OVERFLOWING} bytes"),
        (of_value(string(b"\xff\xfe") + NUMBER), "invalid key: not UTF-8"),
        (of_value(string("k") + struct.pack("<I", 13)), "unknown type 13 of `k`"),
        (of_value(string("k") + struct.pack("<IB", 7, 2)), "invalid bool in `k`"),
        (of_value(string("k") + STRING + struct.pack("<Q", HUGE)), "truncated header"),
        (of_value(string("k") + STRING + struct.pack("<Q", 2**64 - 1)), "truncated"),
        (of_value(array_of(4, HUGE)), "truncated header"),
        (of_value(array_of(8, HUGE)), "truncated header"),
        (of_value(array_of(8, OVERFLOWING)), "truncated header"),
        (of_value(array_of(0, OVERFLOWING)), "truncated header"),
        (of_value(array_of(9, 1)), "unsupported array of arrays in `k`"),
        (of_value(array_of(77, 1)), "unknown type 77 of the array `k`"),
        (of_value(array_of(7, 3) + b"\x00\x07\x01"), "invalid bool in `k`"),
        (start(values=2) + key_value("k", 1) * 2, "duplicate key `k`"),
        (of_value(key_value("", 1)), "a key without a name"),
        (of_value(key_value("general.alignment", 0)), "invalid alignment 0"),
        (of_value(key_value("general.alignment", 48)), "invalid alignment 48: not a power of two"),
        (of_value(key_value("general.alignment", 2**21)), "invalid alignment 2097152"),
        (of_value(key_value("general.alignment", "32")), "general.alignment must be a uint32"),
        (of_value(key_value("general.alignment", True)), "general.alignment must be a uint32"),
        (of_tensor(tensor_info("t", (1, 1, 1, 1, 1), F32, 0)), "`t`: 5 dimensions"),
        (of_tensor(tensor_info("t", (4, 0), F32, 0)), "`t`: shape (4, 0)"),
        (of_tensor(tensor_info("t", (2**32, 2**31), F32, 0)), "`t`: shape"),
        (of_tensor(tensor_info("t", (OVERFLOWING,) * 4, F32, 0)), "`t`: shape"),
        (of_tensor(tensor_info("t", (33,), Q4_0, 0)), "not a multiple of 32, the block of Q4_0"),
        (of_tensor(tensor_info("t", (), Q4_0, 0)), "not a multiple of 32, the block of Q4_0"),
        (
            of_tensor(tensor_info("t", (4,), F32, 33)),
            "invalid offset 33 of the tensor `t`: not a multiple of 32",
        ),
        (of_tensor(tensor_info("t", (4,), F32, 2**63)), "of its tensors missing"),
        (of_tensor(tensor_info("t", (4,), 99, 2**63)), "of its tensors missing"),
        (of_tensor(tensor_info("t", (2**40,), F32, 0)), "of its tensors missing"),
        (of_tensor(tensor_info(b"\x80", (4,), F32, 0)), "invalid tensor name: not UTF-8"),
        (
            start(tensors=2) + tensor_info("t", (4,), F32, 0) * 2 + bytes(64),
            "duplicate tensor `t`",
        ),
    ],
)
def test_a_hostile_header_is_refused(content: bytes, message: str):
    assert message in reason(content)


def test_names_in_messages_are_safe_to_show(tmp_path: Path):
    path = tmp_path / "a\x1b[31mred.gguf"
    path.write_bytes(start(values=1) + string("\x1b]0;owned\x07key") + struct.pack("<I", 13))
    with pytest.raises(MalformedGGUFError) as caught:
        read_header(path)
    assert caught.value.message == "ared.gguf: unknown type 13 of `key`"


def test_a_pipe_in_the_place_of_weights_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(OSError, match="not a regular file"):
        read_header(tmp_path / "model.gguf")
