"""Estimates against what llama.cpp planned, and what is said where not enough is known."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.accuracy import DATA, config_shape
from benchmarks.model_headers import header
from modelrunner.errors import UsageError
from modelrunner.gguf.header import Header
from modelrunner.memory.estimate import estimate
from modelrunner.memory.model.hyperparameters import Hyperparameters
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.kv_cache import takes
from modelrunner.memory.plan.load import Load

ROWS = json.loads((DATA / "truth.json").read_text())
ENCODER = "encoder: no KV cache, memory depends on the batch only"
ROUNDING = 2 * 5243  # the log tells hundredths of a MiB
MODELS = sorted({row["model"] for row in ROWS})
MODEL = {
    "name": "small", "arch": "llama", "layers": 2, "embedding": 64, "heads": 4, "kv_heads": 2,
    "head_size": 16, "feed_forward": 128, "vocab": 320, "context": 1024, "tied": True,
    "quant": "F16",
}  # fmt: skip


def load_of(row):
    return Load(row["context"], row["kv_type"], row["sequences"], row["ubatch"])


@pytest.mark.parametrize("name", MODELS)
def test_every_part_is_what_llama_cpp_plans(shapes, name):
    for row in (row for row in ROWS if row["model"] == name):
        found = estimate(shapes[name], load_of(row))
        assert (found.weights, found.compute) == (row["weights"], row["compute"])
        assert found.kv_cache == pytest.approx(row["kv_cache"], abs=ROUNDING)
        assert found.recurrent == pytest.approx(row["recurrent"], abs=ROUNDING)
        assert found.output == pytest.approx(row["output"], abs=ROUNDING)
        assert found.kv_cache + found.recurrent == row["kv_cache"] + row["recurrent"]
        assert found.low <= found.total <= found.high
        assert found.source == "header"
        assert found.notes == (() if found.kv_cache or found.recurrent else (ENCODER,))


@pytest.mark.parametrize("name", MODELS)
def test_hyperparameters_and_the_size_of_the_file_are_nearly_as_good(headers, name):
    shape = config_shape(headers[name])
    for row in (row for row in ROWS if row["model"] == name):
        found = estimate(shape, load_of(row))
        assert found.total - found.output == pytest.approx(row["total"], rel=0.01)
        assert found.source == "config"


GEMMA3N = {
    "name": "gemma3n-e2b", "arch": "gemma3n", "layers": 30, "embedding": 2048, "heads": 8,
    "kv_heads": 2, "head_size": 256, "feed_forward": 8192, "vocab": 262144, "context": 32768,
    "tied": True, "quant": "Q4_K_M", "window": 512,
}  # fmt: skip


@pytest.mark.parametrize(
    ("load", "planned"),
    [
        (Load(4096), (67108864, 112220192, 1048576)),
        (Load(32768, kv_type="q8_0"), (160432128, 142137376, 1048576)),
    ],
    ids=["4096 f16", "32768 q8_0"],
)
def test_gemma3n_with_its_streams_and_shared_caches_is_what_llama_cpp_plans(load, planned):
    found = estimate(ModelShape.from_header(header(GEMMA3N)), load)
    assert (found.kv_cache, found.compute, found.output) == planned


@pytest.mark.parametrize(
    ("name", "keys", "values", "planned"),
    [
        ("qwen3-1.7b", "q8_0", "f16", (2877292544, 88158240)),
        ("qwen3-1.7b", "f16", "q8_0", (2877292544, 83914784)),
        ("qwen3-1.7b", "q8_0", "q4_0", (1526726656, 83980320)),
        ("qwen3-1.7b", "f32", "f16", (5637144576, 121647136)),
        ("qwen3-1.7b", "f32", "f32", (7516192768, 188756000)),
        ("gemma3-270m", "q8_0", "f16", (89112576, 51662880)),
        ("gemma3-270m", "f16", "q8_0", (89112576, 51171360)),
        ("gemma3-270m", "q8_0", "q4_0", (47284224, 53792800)),
        ("gemma3-270m", "f32", "f16", (174587904, 59527200)),
        ("gemma3-270m", "f32", "f32", (232783872, 76566560)),
    ],
)
def test_keys_and_values_of_different_types_are_what_llama_cpp_plans(
    shapes, name, keys, values, planned
):
    found = estimate(shapes[name], Load(32768, keys, kv_type_v=values))
    assert (found.kv_cache, found.compute) == planned


def test_a_model_with_one_cache_for_keys_and_values_takes_one_type_only(shapes):
    with pytest.raises(UsageError) as caught:
        estimate(shapes["deepseek-v3"], Load(4096, "q8_0", kv_type_v="f16"))
    assert caught.value.message == (
        "KV cache types q8_0 for keys and f16 for values: this model keeps both in one"
    )
    assert caught.value.hint == "use one type for both, such as q8_0"
    same = estimate(shapes["deepseek-v3"], Load(4096, "q8_0", kv_type_v="q8_0"))
    assert same.total == estimate(shapes["deepseek-v3"], Load(4096, "q8_0")).total


@pytest.mark.parametrize(
    ("name", "load", "message", "hint"),
    [
        (
            "phi-2",
            Load(2048, "q8_0"),
            "KV cache type q8_0 packs 32 numbers, which do not divide this model's keys of 80",
            "use f32, f16 or bf16",
        ),
        (
            "phi-2",
            Load(2048, "f16", kv_type_v="q4_1"),
            "KV cache type q4_1 packs 32 numbers, which do not divide this model's values of 80",
            "use f32, f16 or bf16",
        ),
        (
            "llama-3.2-3b",
            Load(2048, "q8_0", flash_attention=False),
            "KV cache type q8_0 for values needs flash attention, which is off",
            "use f32, f16 or bf16 for values",
        ),
        (
            "grok-1-314b",
            Load(2048, "q4_0"),
            "KV cache type q4_0 for values needs flash attention, which grok does not have",
            "use f32, f16 or bf16 for values",
        ),
    ],
)
def test_a_cache_that_llama_cpp_does_not_have_for_a_model_is_refused(
    shapes, grok, name, load, message, hint
):
    shape = {**shapes, "grok-1-314b": grok}[name]
    with pytest.raises(UsageError) as caught:
        estimate(shape, load)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    unpacked = dataclasses.replace(load, kv_type="f16", kv_type_v="bf16")
    assert estimate(shape, unpacked).total > 0


def test_keys_are_packed_without_flash_attention_too(shapes, grok):
    keys = Load(2048, "q8_0", kv_type_v="f16", flash_attention=False)
    for shape in (shapes["llama-3.2-3b"], grok):
        assert estimate(shape, keys).total > 0


def test_a_draft_by_own_layers_is_kept_in_half_precision_whatever_the_cache(shapes):
    shape = dataclasses.replace(shapes["llama-3.2-3b"], extra_layers=1)
    drafts = {
        kind: estimate(shape, Load(4096, kind, own_draft=True)).draft for kind in ("f16", "q8_0")
    }
    assert drafts["q8_0"] == drafts["f16"] > 0


def test_the_state_of_a_recurrence_does_not_depend_on_the_context(shapes):
    shape = shapes["granite-4.0-h-micro"]
    states = [estimate(shape, Load(context)).recurrent for context in (256, 4096, 1048576)]
    assert states == [77377536] * 3


def test_a_configuration_says_the_same_as_the_header_that_it_was_made_from(shapes, headers):
    made = headers["qwen3-1.7b"]
    texts = {key: str(value) for key, value in made.metadata.items()}
    shape = ModelShape.from_strings(texts, weights=made.file_size)
    from_config, from_header = (
        estimate(shape, Load(8192)),
        estimate(shapes["qwen3-1.7b"], Load(8192)),
    )
    for part in ("kv_cache", "recurrent", "compute", "output"):
        assert getattr(from_config, part) == getattr(from_header, part)


def test_an_unknown_architecture_is_computed_like_a_transformer_and_says_so():
    known, unknown = header(MODEL), header({**MODEL, "arch": "nobodys"})
    like, found = (estimate(ModelShape.from_header(made), Load(512)) for made in (known, unknown))
    assert found.total == like.total
    assert found.low == found.weights < found.total < found.high
    assert found.high > like.high
    assert found.notes == ("unknown architecture nobodys: computed from its keys and tensors",)


def test_the_range_of_an_unknown_encoder_holds_the_cache_that_it_may_have():
    values = {"nobodys.attention.causal": False}
    causal, other = (
        estimate(ModelShape.from_header(made._replace(metadata=metadata)), Load(1024))
        for made in [header({**MODEL, "arch": "nobodys"})]
        for metadata in (made.metadata, {**made.metadata, **values})
    )
    assert other.kv_cache == 0
    assert other.high >= other.total + causal.kv_cache


def test_a_decoder_whose_heads_are_not_told_has_an_unknown_cache_and_not_none():
    made = header(MODEL)
    values = {key: value for key, value in made.metadata.items() if "head_count" not in key}
    assert len(values) < len(made.metadata)
    found = estimate(ModelShape.from_header(made._replace(metadata=values)), Load(512))
    assert (found.kv_cache, found.compute, found.high) == (None, None, None)
    assert found.total == found.weights == sum(made.sizes.values())


def test_a_header_without_numbers_gives_the_weights_and_no_more():
    made = header(MODEL)
    bare = Header(3, {"general.architecture": "nobodys"}, made.tensors, 32, 0, None)
    found = estimate(ModelShape.from_header(bare), Load(512))
    assert found.weights == sum(made.sizes.values())
    assert (found.kv_cache, found.compute, found.output, found.high) == (None, None, None, None)
    assert not found.is_complete
    assert found.total == sum(made.sizes.values())
    assert found.notes == ("nobodys: only the weights are known, the shape is missing",)


def test_tensors_of_unknown_types_count_by_where_they_lie():
    made = header(MODEL)
    odd = made._replace(tensors=tuple(tensor._replace(type=999) for tensor in made.tensors))
    like, found = (estimate(ModelShape.from_header(x), Load(512)) for x in (made, odd))
    assert (found.weights, found.low, found.high) == (like.weights, like.low, like.high)
    assert found.notes == ()


def test_a_tensor_of_an_unknown_type_that_nothing_bounds_is_said_and_widens_the_range():
    made = header(MODEL)
    *others, last = made.tensors
    tensors = (*others, last._replace(type=999))
    odd = made._replace(tensors=tensors, file_size=None)
    found = estimate(ModelShape.from_header(odd), Load(512))
    assert "1 tensors of unknown types are not counted" in found.notes
    assert found.high > estimate(ModelShape.from_header(made), Load(512)).high - last.size


def test_absurd_numbers_of_layers_are_not_believed():
    values = {"llama.block_count": 10**9, "llama.embedding_length": 64}
    shape = ModelShape.from_values(Hyperparameters("llama", values), weights=1000)
    assert estimate(shape, Load(4096)).total == 1000


COUNTS = st.one_of(st.integers(-1, 70), st.sampled_from([128, 4096, 10**6, 2**31, 2**63]))
KEYS = (
    "block_count", "embedding_length", "vocab_size", "context_length", "feed_forward_length",
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.value_length", "attention.sliding_window", "expert_count", "expert_used_count",
    "expert_feed_forward_length", "expert_group_count", "expert_group_used_count",
    "ssm.inner_size", "ssm.state_size", "ssm.conv_kernel", "ssm.group_count",
    "ssm.time_step_rank", "attention.kv_lora_rank", "attention.key_length_mla",
    "attention.q_lora_rank", "rope.dimension_count", "shortconv.l_cache", "n_deepstack_layers",
    "full_attention_interval", "attention.shared_kv_layers", "nextn_predict_layers",
)  # fmt: skip


@settings(max_examples=2 * settings.default.max_examples)
@given(
    architecture=st.sampled_from(
        ["llama", "gemma3", "gemma3n", "deepseek2", "granitehybrid", "falcon-h1", "bert", "other"]
    ),
    values=st.dictionaries(st.sampled_from(KEYS), COUNTS),
    kv_type=st.sampled_from(["f16", "q8_0"]),
    flash_attention=st.booleans(),
)
def test_no_header_is_too_odd(architecture, values, kv_type, flash_attention):
    hyper = Hyperparameters(
        architecture, {f"{architecture}.{key}": value for key, value in values.items()}
    )
    shape = ModelShape.from_values(hyper, weights=1000)
    load = Load(4096, kv_type, 2, flash_attention=flash_attention)
    if not takes(shape, load):
        load = dataclasses.replace(load, kv_type="f16")
    found = estimate(shape, load)
    assert found.total >= 1000
    assert found.low >= 1000


def test_a_context_beyond_the_trained_one_is_said():
    found = estimate(ModelShape.from_header(header(MODEL)), Load(2048))
    assert found.notes == ("a context of 2048 exceeds the trained context of 1024",)


def test_the_projector_counts():
    shape = ModelShape.from_header(header(MODEL))
    plain, with_eyes = estimate(shape, Load(512)), estimate(shape, Load(512), projector=10**9)
    assert with_eyes.total - plain.total == 10**9
    assert with_eyes.low >= 10**9


def test_shards_count_together():
    whole = header(MODEL)
    middle = len(whole.tensors) // 2
    first = whole._replace(tensors=whole.tensors[:middle])
    second = whole._replace(tensors=whole.tensors[middle:], metadata={})
    shape = ModelShape.from_header(first, shards=[second])
    assert shape == ModelShape.from_header(whole)


@given(
    name=st.sampled_from(["llama-3.2-3b", "gemma3-270m", "granite-4.0-h-tiny", "gpt-oss-120b"]),
    contexts=st.tuples(st.integers(1, 131072), st.integers(1, 131072)),
    kv_type=st.sampled_from(["f16", "q8_0", "q4_0"]),
    parallel=st.integers(1, 4),
)
def test_a_longer_context_never_needs_less_cache(shapes, name, contexts, kv_type, parallel):
    short, long = (
        estimate(shapes[name], Load(context, kv_type, parallel)) for context in sorted(contexts)
    )
    assert short.kv_cache <= long.kv_cache
    assert short.weights == long.weights
    assert short.total <= long.total * 1.01


def test_a_quantized_cache_needs_less(shapes):
    caches = [
        estimate(shapes["llama-3.2-3b"], Load(32768, kind)).kv_cache
        for kind in ("f32", "f16", "q8_0", "q4_0")
    ]
    assert caches == [7516192768, 3758096384, 1996488704, 1056964608]


def test_attention_scores_come_on_top_without_flash_attention(shapes):
    with_it, without = (
        estimate(shapes["llama-3.2-3b"], Load(8192, flash_attention=flash)).compute
        for flash in (True, False)
    )
    assert without - with_it > 4 * 512 * 8192 * 24 * 0.9


def test_rows_of_logits_cost_a_vocabulary_each(shapes):
    few, many = (
        estimate(shapes["gemma3-270m"], Load(4096, outputs=rows)).compute for rows in (1, 512)
    )
    assert many > few
    assert many >= 4 * 262144 * 512
