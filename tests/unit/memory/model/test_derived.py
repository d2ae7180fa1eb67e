"""Architectures whose name nobody knows: what keys and tensors say is what llama.cpp plans."""

import json

import pytest

from benchmarks.accuracy import DATA, UNTOLD, unnamed
from benchmarks.model_headers import header
from modelrunner.memory.estimate import estimate
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load

DESCRIBED = {
    model["name"]: model
    for name in ("models.json", "more_models.json")
    for model in json.loads((DATA / name).read_text())
}
LONGEST = {
    (row["model"], row["kv_type"], row["sequences"], row["ubatch"]): row
    for name in ("truth.json", "more_truth.json")
    for row in sorted(json.loads((DATA / name).read_text()), key=lambda row: row["context"])
}
"""Of each model and use, llama.cpp's plan for the longest context."""


def shape_of(name):
    return unnamed(header(DESCRIBED[name]))


def pattern(shape, letter):
    return "".join(letter(layer) for layer in shape.layers)


def windows(shape):
    return pattern(shape, lambda layer: "w" if layer.windowed else "f")


def test_a_model_with_an_unknown_name_is_within_four_percent_and_always_in_its_range():
    shapes = {name: shape_of(name) for name in DESCRIBED}
    for row in LONGEST.values():
        found = estimate(
            shapes[row["model"]],
            Load(row["context"], row["kv_type"], row["sequences"], row["ubatch"]),
        )
        truth = row["total"] + found.output
        assert found.low <= truth <= found.high, row
        if DESCRIBED[row["model"]]["arch"] not in UNTOLD:
            assert found.total - found.output == pytest.approx(row["total"], rel=0.04), row


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemma3-270m", "wwwwwfwwwwwfwwwwwf"),
        ("gemma2-27b", "wf" * 23),
        ("gpt-oss-120b", "wf" * 18),
        ("command-r7b", "wwwf" * 8),
        ("made-muse-glimmer", "wwwf" * 3),
    ],
)
def test_a_window_without_a_list_of_layers_has_the_usual_period(name, expected):
    assert windows(shape_of(name)) == expected


def test_the_range_holds_a_cache_without_any_windows():
    shape, load = shape_of("command-r7b"), Load(131072)
    found = estimate(shape, load)
    plain = estimate(shape, Load(131072, swa_full=True))
    assert found.kv_cache < plain.kv_cache
    assert found.high > plain.total


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("qwen3.5-27b", "delta"),
        ("qwen3-coder-next-80b-a3b", "delta"),
        ("made-kimi-linear", "kda"),
        ("made-minimax-01", "lightning"),
        ("made-lfm2", "short"),
        ("falcon-h1-1.5b", "mamba"),
        ("made-arwkv7", "rwkv"),
    ],
)
def test_which_layers_recur_and_how_follows_from_their_tensors(name, kind):
    known, found = ModelShape.from_header(header(DESCRIBED[name])), shape_of(name)
    assert found.state_space == known.state_space
    assert found.state_space.kind == kind
    assert [x.state for x in found.layers] == [x.state for x in known.layers]
    assert [x.cached for x in found.layers] == [x.cached for x in known.layers]


def test_only_layers_with_the_tensors_of_an_indexer_have_one():
    assert pattern(shape_of("made-minimax-m3"), lambda x: "i" if x.indexer else "-") == "---iiiii"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("dream-7b", {"diffusion.shift_logits": True}),
        ("dream-7b", {"zz-unknown.attention.causal": False}),
        ("embeddinggemma-300m", {}),
    ],
)
def test_what_computes_a_whole_text_at_once_has_no_cache(name, values):
    made = header(DESCRIBED[name])
    made.metadata.update(values)
    shape = unnamed(made)
    assert shape.wiring.encoder
    assert estimate(shape, Load(2048)).kv_cache == 0


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("falcon-h1-1.5b", "both"),
        ("bge-m3", "norms_after"),
        ("made-rwkv6", "entry_norm"),
        ("made-t5", "crossed"),
        ("made-t5", "relative"),
        ("made-cogvlm", "all_rows"),
        ("arctic-480b", "dense_beside"),
        ("qwen3.5-27b", "query_gate"),
        ("made-olmo", "bare_norms"),
        ("made-arwkv7", "seventh"),
        ("made-lfm2", "residual_first"),
    ],
)
def test_how_a_layer_is_put_together_follows_from_its_tensors(name, field):
    assert getattr(shape_of(name).wiring, field)
    assert not getattr(shape_of("llama-3.2-3b").wiring, field)
