"""A projector's buffers: what mtmd of llama.cpp plans for headers of ten kinds."""

import json

import pytest

from benchmarks.accuracy import DATA
from benchmarks.model_headers import header
from modelrunner.memory.plan.vision import vision_bytes

DESCRIBED = {model["name"]: model for model in json.loads((DATA / "projectors.json").read_text())}
EXACT = 64
"""Bytes of alignment."""
ROUGH = {"internvl3-2b": 4190208, "mistral-small-3.1": -327680}
"""How far the others are."""


@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_the_buffers_for_an_image_are_what_mtmd_plans(name):
    made = header(DESCRIBED[name])
    weights = sum(tensor.size or 0 for tensor in made.tensors)
    found = vision_bytes(made)
    assert found is not None
    off = weights + found - DESCRIBED[name]["memory"] - ROUGH.get(name, 0)
    assert abs(off) <= EXACT


@pytest.mark.parametrize(
    "values",
    [
        {"clip.vision.patch_size": 0},
        {"clip.vision.patch_size": 1 << 30},
        {"clip.vision.image_size": 1 << 30},
        {"clip.vision.block_count": 1 << 30},
        {"clip.vision.embedding_length": 0},
        {"clip.vision.attention.head_count": 0, "clip.vision.attention.head_count_kv": 0},
    ],
    ids=str,
)
def test_a_header_with_odd_numbers_is_no_failure(values):
    made = header(DESCRIBED["llava-1.5-7b"])
    odd = made._replace(metadata={**made.metadata, **values})
    assert vision_bytes(odd) is None or vision_bytes(odd) > 0


@pytest.mark.parametrize("shape", [None, (64,)], ids=["missing", "a vector"])
def test_half_of_a_deepstack_is_no_failure(shape):
    made = header(DESCRIBED["qwen3-vl-8b"])
    name = next(x.name for x in made.tensors if x.name.endswith(".fc2.weight"))
    tensors = [x for x in made.tensors if x.name != name]
    if shape is not None:
        tensors += [x._replace(shape=shape) for x in made.tensors if x.name == name]
    assert vision_bytes(made._replace(tensors=tuple(tensors))) > 0
