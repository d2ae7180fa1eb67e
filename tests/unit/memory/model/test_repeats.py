"""Repetitions are left out of graphs, and no peak changes by that."""

import json
from functools import cache

import pytest

from benchmarks.accuracy import DATA
from benchmarks.model_headers import header
from modelrunner.memory import schedule
from modelrunner.memory.model.repeats import kept, shortened
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.graph import compute_bytes, graph_of
from modelrunner.memory.plan.kv_cache import planned
from modelrunner.memory.plan.load import Load
from modelrunner.memory.split import placement

DESCRIBED = {
    model["name"]: model
    for name in ("models.json", "more_models.json")
    for model in json.loads((DATA / name).read_text())
}


@cache
def shape_of(name):
    return ModelShape.from_header(header(DESCRIBED[name]))


@pytest.mark.parametrize(
    ("letters", "left"),
    [
        ("", ""),
        ("a", "a"),
        ("aaa", "aaa"),
        ("aaaaaaaa", "aaa"),
        ("abababababab", "ababab"),
        ("ababababababa", "abababa"),
        ("aaaaaabbbbbbc", "aaabbbc"),
        ("xaaabaaabaaabaaabaaab", "xaaabaaabaaab"),
        ("abcdefghij", "abcdefghij"),
    ],
)
def test_of_a_run_three_repetitions_are_left(letters, left):
    assert "".join(letters[i] for i in kept(letters)) == left


@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_the_peak_is_that_of_all_layers(name):
    shape = shape_of(name)
    if shortened(shape) is shape:
        return  # nothing is left out
    for load in (Load(8192), Load(16384, "q8_0", parallel=4)):
        whole = planned(shape, load)
        assert compute_bytes(shape, load) == graph_of.__wrapped__(shape, whole).peak()


@pytest.mark.parametrize("name", ["deepseek-v3", "gpt-oss-120b", "llama-3.2-3b", "gemma3-12b"])
@pytest.mark.parametrize(
    ("free", "layers", "experts"),
    [([1], 99, 0), ([1], 12, 0), ([3, 1], 99, 0), ([1, 1], 12, 0), ([1], 99, 7), ([1, 1], 99, 30)],
)
def test_what_each_device_holds_is_that_of_all_layers(monkeypatch, name, free, layers, experts):
    shape, load = shape_of(name), Load(8192)
    placed = placement(shape, free, layers=layers, experts=experts, shares=())
    found = schedule.compute_by_device(shape, load, placed)
    monkeypatch.setattr(schedule, "_shortened", lambda shape, placed: (shape, placed))
    assert found == schedule.compute_by_device(shape, load, placed)


def test_a_large_model_becomes_a_few_layers():
    shape = shape_of("deepseek-v3")
    assert (len(shape.layers), len(shortened(shape).layers)) == (61, 6)
