"""Shapes as headers and configurations tell them."""

import pytest

from modelrunner.memory.estimate import estimate
from modelrunner.memory.model.card_shape import shape_from_card
from modelrunner.memory.model.hyperparameters import Hyperparameters
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load

PARTS = ("weights", "kv_cache", "recurrent", "compute", "output")


def windowed(architecture, layers, **values):
    keys = {f"{architecture}.{key.replace('__', '.')}": value for key, value in values.items()}
    keys |= {f"{architecture}.block_count": layers, f"{architecture}.embedding_length": 64}
    shape = ModelShape.from_values(Hyperparameters(architecture, keys), weights=0)
    return "".join("w" if layer.windowed else "f" for layer in shape.layers)


@pytest.mark.parametrize(
    ("architecture", "values", "pattern"),
    [
        ("gemma3", {"attention__sliding_window": 512}, "wwwwwfww"),
        ("gemma2", {"attention__sliding_window": 4096}, "wfwfwfwf"),
        ("gpt-oss", {"attention__sliding_window": 128}, "wfwfwfwf"),
        ("gemma3", {}, "ffffffff"),
        ("llama", {"attention__sliding_window": 4096}, "ffffffff"),
        ("phi3", {"attention__sliding_window": 2047}, "ffffffff"),
        (
            "gemma3",
            {"attention__sliding_window": 512, "attention__sliding_window_pattern": 2},
            "wfwfwfwf",
        ),
        (
            "gemma3n",
            {
                "attention__sliding_window": 512,
                "attention__sliding_window_pattern": (1, 0, 0, 1, 1, 1, 0, 1),
            },
            "wffwwwfw",
        ),
    ],
)
def test_windows_follow_from_the_architecture_or_the_header(architecture, values, pattern):
    assert windowed(architecture, 8, **values) == pattern


def test_layers_of_a_hybrid_without_heads_are_recurrent(shapes):
    layers = shapes["granite-4.0-h-micro"].layers
    assert [i for i, layer in enumerate(layers) if not layer.recurrent] == [5, 15, 25, 35]
    assert [i for i, layer in enumerate(layers) if layer.kv_heads] == [5, 15, 25, 35]


def test_layers_that_only_predict_ahead_do_not_count():
    values = {"glm4moe.block_count": 47, "glm4moe.nextn_predict_layers": 1}
    shape = ModelShape.from_values(Hyperparameters("glm4moe", values), weights=0)
    assert len(shape.layers) == 46


def test_weights_are_known_by_place(headers, shapes):
    tied, own = shapes["llama-3.2-3b"].weights, shapes["phi-4"].weights
    assert (tied.tied, own.tied) == (True, False)
    assert tied.embedding == 128256 * 3072 // 256 * 210
    for name in ("llama-3.2-3b", "phi-4"):
        layers = sum(layer.weights for layer in shapes[name].layers)
        rest = sum(
            tensor.size for tensor in headers[name].tensors if not tensor.name.startswith("blk.")
        )
        assert layers + rest == pytest.approx(shapes[name].weights.total, abs=64)


@pytest.mark.parametrize(
    ("text", "value"),
    [("32", 32), ("1e-05", 1e-05), ("[8, 0, 8]", (8, 0, 8)), ("8, 0", (8, 0)), ("true", True),
     ("silu", "silu"), ("", "")],
)  # fmt: skip
def test_text_is_read_as_what_it_looks_like(text, value):
    hyper = Hyperparameters.from_strings({"general.architecture": "llama", "llama.x": text})
    assert hyper.get("x") == value


def test_values_of_the_wrong_type_are_as_good_as_absent():
    hyper = Hyperparameters("llama", {"llama.a": "many", "llama.b": -3, "llama.c": True})
    assert [hyper.count(name, 7) for name in "abcd"] == [7, 7, 7, 7]


def test_a_list_that_is_too_short_goes_on_as_it_ends():
    hyper = Hyperparameters("llama", {"llama.heads": (8, 4)})
    assert hyper.per_layer("heads", 4) == (8, 4, 4, 4)


FACTS = {
    "arch": "granitehybrid", "layers": 40, "embedding": 2048, "heads": 32, "kv_heads": 8,
    "head_size": 64, "feed_forward": 8192, "vocab": 100352, "context": 1048576, "tied": True,
    "attention_layers": (5, 15, 25, 35), "ssm_inner": 4096, "ssm_heads": 64, "ssm_state": 128,
    "ssm_groups": 1, "ssm_conv": 4,
}  # fmt: skip


def test_a_cards_table_tells_as_much_as_the_header(headers, shapes):
    made = headers["granite-4.0-h-micro"]
    from_card = shape_from_card(FACTS, sum(made.sizes.values()))
    from_header = shapes["granite-4.0-h-micro"]
    parts = [
        [getattr(estimate(shape, Load(8192)), part) for part in PARTS]
        for shape in (from_card, from_header)
    ]
    assert parts[0] == parts[1]
    assert from_card.source == "config"


@pytest.mark.parametrize("missing", ["arch", "layers", "embedding"])
def test_a_table_that_lacks_what_nothing_replaces_tells_nothing(missing):
    assert shape_from_card({**FACTS, missing: 0}, 1000) is None


def test_latent_attention_is_assumed_as_it_is_everywhere():
    facts = {**FACTS, "arch": "deepseek2", "head_size": 128, "kv_heads": 1}
    del facts["attention_layers"], facts["ssm_inner"]
    shape = shape_from_card(facts, 1000)
    assert (shape.latent.rank, shape.latent.rope, shape.latent.key_size) == (512, 64, 192)
    assert estimate(shape, Load(4096)).kv_cache == 40 * 4096 * (512 + 64) * 2
