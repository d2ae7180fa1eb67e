from pathlib import Path

import pytest

from modelrunner.errors import MalformedGGUFError
from modelrunner.gguf.header import Header
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import parse_header, read_header
from tests.support.gguf import (
    F16,
    F32,
    Q4_0,
    Q8_0,
    Tensor,
    Typed,
    encode_gguf,
    tiny_gguf,
    tiny_shards,
)


def header(
    architecture: str | None = "llama",
    tensors: tuple[Tensor, ...] = (("t", (32,), F32),),
    **values: object,
) -> Header:
    """A header with these key-values; `__` in a name stands for the dot."""
    metadata = {key.replace("__", "."): value for key, value in values.items()}
    content = encode_gguf(architecture=architecture, metadata=metadata, tensors=tensors)
    return parse_header(lambda offset, length: content[offset:][:length], len(content))


def metadata(*args: object, **values: object) -> Metadata:
    return Metadata.from_header(header(*args, **values))


def test_a_model_says_what_it_is(tmp_path: Path):
    path = tiny_gguf(tmp_path / "tiny.gguf", context_length=131072)
    said = Metadata.from_header(read_header(path))
    assert said.architecture == "llama"
    assert said.name == "Tiny"
    assert said.kind == "model"
    assert said.parameters == 13472
    assert said.parameters_text == "13K"
    assert said.quantization == "MOSTLY_Q4_0"
    assert said.context_length == 131072
    assert said.embedding_length == 32
    assert said.block_count == 2
    assert said.license == "apache-2.0"
    assert said.chat_template == "{% for message in messages %}{{ message.content }}{% endfor %}"
    assert not said.is_embedding
    assert said.tensor_bytes == 8128
    assert said.of_architecture("attention.head_count_kv") == 2


def test_a_header_that_says_nothing_is_of_no_model():
    said = metadata(None, ())
    assert said.architecture is None
    assert said.kind == "header without tensors"
    assert said.parameters == 0
    assert said.quantization is None
    assert said.context_length is None
    assert said.string_values() == {}


def test_a_value_of_the_wrong_type_is_as_good_as_absent():
    said = metadata(
        general__name=7,
        llama__context_length="many",
        llama__block_count=-3,
        llama__embedding_length=True,
        general__file_type="Q4",
    )
    assert said.name is None
    assert said.context_length is None
    assert said.block_count is None
    assert said.embedding_length is None
    assert said.quantization == "ALL_F32"


@pytest.mark.parametrize(
    ("label", "text"),
    [("8x7B", "8x7B"), ("30B-A3B", "30B-A3B"), ("large", "1.02K"), ("", "1.02K"), (None, "1.02K")],
)
def test_parameters_are_told_by_the_label_if_it_holds_a_number(label: str | None, text: str):
    values = {} if label is None else {"general__size_label": label}
    assert metadata("llama", (("t", (32, 32), F16),), **values).parameters_text == text


@pytest.mark.parametrize(
    ("tensors", "values", "quantization"),
    [
        ((("t", (32,), F32),), {"general__file_type": 15}, "MOSTLY_Q4_K_M"),
        ((("t", (32,), F32),), {"general__file_type": 1024 | 7}, "MOSTLY_Q8_0"),
        ((("t", (32,), Q8_0),), {"general__file_type": 999}, "MOSTLY_Q8_0"),
        ((("a", (64,), Q4_0), ("b", (32,), F32)), {}, "MOSTLY_Q4_0"),
        ((("a", (32,), Q4_0), ("b", (64,), F32)), {}, "MOSTLY_F32"),
        ((("a", (32,), F32), ("b", (64,), F32)), {}, "ALL_F32"),
    ],
)
def test_quantization_is_what_is_stated_or_else_what_dominates(
    tensors: tuple[Tensor, ...], values: dict[str, object], quantization: str
):
    assert metadata("llama", tensors, **values).quantization == quantization


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (header("llama"), "model"),
        (header("clip", clip__has_vision_encoder=True), "projector"),
        (header("qwen2vl", general__type="mmproj"), "projector"),
        (header("llama", general__type="adapter"), "adapter"),
        (header("llama", adapter__type="lora"), "adapter"),
        (header("controlvector"), "adapter"),
        (header(None, general__type="imatrix"), "imatrix"),
        (header("llama", (), tokenizer__ggml__model="gpt2"), "vocabulary"),
        (header("llama", (), tokenizer__ggml__model="gpt2", split__count=3), "model"),
        (header("llama", (), general__type="model"), "header without tensors"),
    ],
)
def test_the_kind_is_told_by_type_architecture_or_what_is_there(said: Header, kind: str):
    assert Metadata.from_header(said).kind == kind


def test_a_projector_says_what_it_perceives():
    sees = metadata("clip", clip__has_vision_encoder=True, clip__has_audio_encoder=False)
    hears = metadata("clip", clip__has_audio_encoder=True)
    assert (sees.has_vision, sees.has_audio) == (True, False)
    assert (hears.has_vision, hears.has_audio) == (False, True)


@pytest.mark.parametrize(
    ("said", "is_embedding"),
    [
        (header("nomic-bert"), True),
        (header("gemma-embedding"), True),
        (header("qwen3", qwen3__pooling_type=3), True),
        (header("qwen3", qwen3__pooling_type=0), False),
        (header("qwen3", llama__pooling_type=3), False),
        (header("qwen3"), False),
    ],
)
def test_an_embedding_model_is_known_by_pooling_or_family(said: Header, is_embedding: bool):
    assert Metadata.from_header(said).is_embedding is is_embedding


class TestShards:
    def test_all_files_together_are_the_model(self, tmp_path: Path):
        whole = Metadata.from_header(read_header(tiny_gguf(tmp_path / "whole.gguf", layers=3)))
        first, *others = map(read_header, tiny_shards(tmp_path, layers=3))
        split = Metadata.from_header(first, shards=others)
        assert split.parameters == whole.parameters
        assert split.tensor_bytes == whole.tensor_bytes
        assert split.context_length == whole.context_length

    def test_a_later_file_has_no_architecture(self, tmp_path: Path):
        assert Metadata.from_header(read_header(tiny_shards(tmp_path)[1])).architecture is None

    def test_a_missing_file_is_noticed(self, tmp_path: Path):
        first, second, _ = map(read_header, tiny_shards(tmp_path, layers=3))
        with pytest.raises(MalformedGGUFError, match="split files, got 2"):
            Metadata.from_header(first, shards=[second])

    def test_the_same_file_twice_is_noticed(self, tmp_path: Path):
        first, _ = map(read_header, tiny_shards(tmp_path))
        with pytest.raises(MalformedGGUFError, match=r"from 0 without gaps, got \[0, 0\]"):
            Metadata.from_header(first, shards=[first])

    def test_a_file_of_another_model_is_noticed(self, tmp_path: Path):
        first, _ = map(read_header, tiny_shards(tmp_path))
        stranger = header(None, split__no=1, split__count=2)
        with pytest.raises(MalformedGGUFError, match="have 12 tensors, the first one lists 20"):
            Metadata.from_header(first, shards=[stranger])

    def test_a_whole_model_has_no_shards(self):
        with pytest.raises(MalformedGGUFError, match="expected 1 split files"):
            Metadata.from_header(header(), shards=[header()])


def test_values_as_text_are_those_of_a_docker_model_config():
    said = metadata(
        text="",
        number=-7,
        wide=2**40,
        half=0.5,
        tiny=1e-5,
        yes=True,
        no=False,
        words=["en", "de"],
        numbers=[1, 2, 3],
        floats=[0.5, 1.0],
        flags=[True, False],
        none=[],
        fifty=[1] * 50,
        more=[1] * 51,
        vocabulary=["t"] * 300,
        typed=Typed("uint8", 3),
    )
    assert said.string_values() == {
        "general.architecture": "llama",
        "text": "",
        "number": "-7",
        "wide": "1099511627776",
        "half": "0.500000",
        "tiny": "0.000010",
        "yes": "true",
        "no": "false",
        "words": "en, de",
        "numbers": "1, 2, 3",
        "floats": "0.500000, 1.000000",
        "flags": "true, false",
        "none": "",
        "fifty": ", ".join("1" * 50),
        "typed": "3",
    }
