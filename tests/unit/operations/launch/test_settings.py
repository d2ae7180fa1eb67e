"""What a start settles by itself: a context and a cache that fit, whatever it was made for."""

import json
from pathlib import Path

import pytest

from benchmarks.accuracy import DATA
from benchmarks.model_headers import header
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.fit import fit
from modelrunner.memory.model.shape import ModelShape
from modelrunner.operations.launch.plan import chosen
from modelrunner.operations.launch.request import LaunchRequest

GIB = 1024**3


@pytest.fixture(scope="module")
def shapes():
    """Models as they are published, by name."""
    models = [
        model
        for file in ("models.json", "more_models.json")
        for model in json.loads((DATA / file).read_text())
        if file == "models.json" or model["name"] == "grok-1-314b"
    ]
    return {model["name"]: ModelShape.from_header(header(model)) for model in models}


def machine(free):
    """A machine without a GPU that has so many GiB free."""
    total = max(8, free) * GIB
    return [
        Device(
            name="x86_64",
            kind="host",
            backend="cpu",
            total_bytes=total,
            free_bytes=int(free * GIB),
        )
    ]


@pytest.mark.parametrize("free", [8, 6, 4])
@pytest.mark.parametrize("name", ["granite-4.0-h-micro"])
def test_hybrid_model_made_for_a_million_tokens_fits_a_machine_of_8_gib(shapes, name, free):
    shape, here = shapes[name], machine(free)
    assert shape.context == 1_048_576
    request = chosen(LaunchRequest(), shape, here)
    assert (request.context, request.kv_type) == (32768, None)
    assert fit(shape, request.load(request.context), here).verdict == "fits"


def test_cache_is_packed_tighter_only_where_the_context_would_be_short(shapes):
    shape = shapes["llama-3.2-3b"]
    plenty = chosen(LaunchRequest(), shape, machine(16))
    assert (plenty.context, plenty.kv_type) == (32768, None)
    here = machine(2.75)
    short = chosen(LaunchRequest(kv_type="f16"), shape, here)
    tight = chosen(LaunchRequest(), shape, here)
    assert short.context < 8192
    assert (tight.kv_type, tight.cache_types) == ("q8_0", ("q8_0", "q8_0"))
    assert tight.context > 1.5 * short.context
    assert fit(shape, tight.load(tight.context), here).verdict == "fits"


@pytest.mark.parametrize(
    ("name", "asked", "free"),
    [
        # keys of 80 numbers are no multiple of a block
        ("phi-2", LaunchRequest(), 1.9),
        # values are packed with flash attention only
        ("llama-3.2-3b", LaunchRequest(flash_attention="off"), 2.75),
        ("grok-1-314b", LaunchRequest(), 179),
    ],
)
def test_no_cache_is_chosen_that_llama_cpp_does_not_have_for_a_model(shapes, name, asked, free):
    found = chosen(asked, shapes[name], machine(free))
    assert (found.kv_type, found.kv_type_v) == (None, None)
    assert found.context < min(8192, shapes[name].context)


@pytest.mark.parametrize(
    "asked",
    [
        LaunchRequest(kv_type="f16"),
        LaunchRequest(kv_type_v="f16"),
        LaunchRequest(flash_attention="off"),
        LaunchRequest(context=4096),
    ],
)
def test_what_was_asked_for_is_not_packed_tighter(shapes, asked):
    found = chosen(asked, shapes["llama-3.2-3b"], machine(2.75))
    assert (found.kv_type, found.kv_type_v) == (asked.kv_type, asked.kv_type_v)


def test_conversations_at_the_same_time_share_what_fits(shapes):
    shape, here = shapes["llama-3.2-3b"], machine(4)
    one = chosen(LaunchRequest(kv_type="f16"), shape, here)
    four = chosen(LaunchRequest(kv_type="f16", parallel=4), shape, here)
    assert four.context <= one.context / 3
    assert fit(shape, four.load(four.context), here).verdict == "fits"


@pytest.mark.parametrize(
    ("settings", "types"),
    [
        ({"kv-type": "q8_0"}, ("q8_0", "q8_0")),
        ({"kv-type-k": "q8_0"}, ("q8_0", "f16")),
        ({"kv-type-v": "q8_0"}, ("f16", "q8_0")),
        ({"kv-type-k": "q8_0", "kv-type-v": "q4_0"}, ("q8_0", "q4_0")),
        ({}, ("f16", "f16")),
    ],
)
def test_the_types_of_keys_and_values_are_those_of_the_runtime_and_of_the_plan(settings, types):
    request = LaunchRequest.of(settings)
    spec = request.spec(Path("m.gguf"), "m", 512)
    assert (spec.cache_type_k, spec.cache_type_v) == types
    assert request.load(512).kv_types == types


def test_settings_become_fields_of_the_spec():
    request = LaunchRequest.of(
        {"context": 512, "kv-type-v": "q8_0", "batch": 64, "mmap": False}, raw_flags=("--x",)
    )
    assert (request.context, request.threads, request.cache_types) == (512, None, ("f16", "q8_0"))
    assert (request.batch, request.memory_map, request.raw_flags) == (64, False, ("--x",))
    assert request.spec(Path("m.gguf"), "m", 512).batch == 64
