"""Adapters and drafts: what they must be, and what they take of memory."""

from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.errors import UsageError
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import read_header
from modelrunner.memory.estimate import estimate
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load
from modelrunner.operations.launch.beside import decided, draft_shape, with_adapters, with_draft
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.runtime.base import LoraAdapter
from tests.support.gguf import F32, encode_gguf, tiny_gguf

LORA = {"general.type": "adapter", "adapter.type": "lora"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_gguf(tmp_path / "model.gguf")


def metadata_of(path: Path) -> Metadata:
    return Metadata.from_header(read_header(path))


def adapter(path: Path, architecture: str = "llama") -> LoraAdapter:
    tensors = [("blk.0.attn_q.weight.lora_a", (32, 4), F32)]
    path.write_bytes(encode_gguf(architecture=architecture, metadata=LORA, tensors=tensors))
    return LoraAdapter(path)


def test_adapters_take_the_bytes_of_their_files(model, tmp_path):
    one, two = adapter(tmp_path / "a.gguf"), adapter(tmp_path / "b.gguf")
    request = decided(LaunchRequest(adapters=(one, two)), metadata_of(model), "m")
    shape = ModelShape.from_header(read_header(model))
    size = one.path.stat().st_size + two.path.stat().st_size
    assert with_adapters(shape, request).weights.total == shape.weights.total + size


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda folder: adapter(folder / "a.gguf", "qwen2"),
            "adapter a.gguf is for the architecture qwen2, but m is llama",
        ),
        (
            lambda folder: LoraAdapter(tiny_gguf(folder / "a.gguf")),
            "adapter a.gguf: expected an adapter (LoRA), got a model",
        ),
        (
            lambda folder: adapter(folder / "a:b.gguf"),
            "adapter a:b.gguf: its path must not contain a colon",
        ),
    ],
)
def test_what_is_no_adapter_for_the_model_is_refused(model, tmp_path, make, message):
    (tmp_path / "x").mkdir()
    with pytest.raises(UsageError) as caught:
        decided(LaunchRequest(adapters=(make(tmp_path / "x"),)), metadata_of(model), "m")
    assert caught.value.message == message
    assert caught.value.hint


def test_a_file_that_is_not_gguf_is_refused_as_an_adapter(model, tmp_path):
    text = tmp_path / "a.gguf"
    text.write_text("no")
    with pytest.raises(UsageError, match=r"^adapter a\.gguf: "):
        decided(LaunchRequest(adapters=(LoraAdapter(text),)), metadata_of(model), "m")


def heads(path: Path) -> Metadata:
    return metadata_of(tiny_gguf(path, metadata={"llama.nextn_predict_layers": 1}))


@pytest.mark.parametrize(
    ("word", "has_heads", "kind"),
    [
        ("auto", False, "ngram-simple"),
        ("auto", True, "draft-mtp"),
        ("mtp", True, "draft-mtp"),
        ("ngram", True, "ngram-simple"),
        (None, True, None),
    ],
)
def test_the_way_to_guess_follows_from_the_word_and_the_model(
    model, tmp_path, word, has_heads, kind
):
    metadata = heads(tmp_path / "h.gguf") if has_heads else metadata_of(model)
    assert decided(LaunchRequest(draft=word), metadata, "m").draft_kind == kind


def test_heads_cannot_be_asked_of_a_model_without(model):
    with pytest.raises(UsageError, match="has no layers that predict further tokens"):
        decided(LaunchRequest(draft="mtp"), metadata_of(model), "m")


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("llama", "draft-simple"), ("eagle3", "draft-eagle3"), ("dflash", "draft-dflash")],
)
def test_the_kind_of_a_draft_model_follows_from_its_architecture(
    model, tmp_path, architecture, kind
):
    draft = tmp_path / "d.gguf"
    draft.write_bytes(encode_gguf(architecture=architecture))
    request = decided(LaunchRequest(draft_model=draft), metadata_of(model), "m")
    assert request.draft_kind == kind


def test_a_draft_model_is_counted_with_its_own_cache(model):
    shape, load = ModelShape.from_header(read_header(model)), Load(2048)
    alone = estimate(shape, load)
    both = with_draft(alone, draft_shape(LaunchRequest(draft_model=model)), load)
    assert (both.draft, both.total) == (alone.total, 2 * alone.total)
    assert (both.low, both.high) == (2 * alone.low, 2 * alone.high)


def test_heads_are_counted_with_the_cache_of_their_layers(tmp_path):
    path = tiny_gguf(tmp_path / "h.gguf", metadata={"llama.nextn_predict_layers": 1})
    shape = ModelShape.from_header(read_header(path))
    # the last of its layers is the one that guesses
    one, with_heads = (estimate(shape, Load(2048, own_draft=own)) for own in (False, True))
    each = (one.kv_cache or 0) // max(len(shape.layers), 1)
    assert with_heads.draft == each
    assert with_heads.weights == one.weights + shape.weights.ahead
    assert with_heads.total == one.total + each + shape.weights.ahead


def test_what_is_kept_of_earlier_requests_is_counted_where_it_was_asked_for(model):
    shape = ModelShape.from_header(read_header(model))
    usual = estimate(shape, LaunchRequest().load(1024))
    asked = estimate(shape, LaunchRequest(cache_ram=64, checkpoints=4).load(1024))
    assert usual.kept == 0
    # a model whose cache can be cut anywhere keeps no states
    assert (asked.kept, asked.total - usual.total) == (64 << 20, 64 << 20)
    windowed = replace(shape.layers[0], windowed=True)
    windows = replace(shape, layers=(windowed, *shape.layers[1:]), window=256)
    before, after = (estimate(windows, Load(8192, checkpoints=count)) for count in (0, 4))
    each = 256 * sum(windowed.cached) * 2
    assert after.kept - before.kept == 4 * each
    assert estimate(windows, Load(8192, checkpoints=4, swa_full=True)).kept == 0
