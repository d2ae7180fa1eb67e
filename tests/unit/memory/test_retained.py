"""What a server keeps of earlier prompts, in the memory that a model leaves free."""

from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.gguf.reader import read_header
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.fit import Fit, Held
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.load import Load
from modelrunner.memory.retained import Retained, retained, room_beside
from tests.support.gguf import tiny_gguf

MIB = 1024 * 1024
GIB = 1024 * MIB


@pytest.fixture
def shape(tmp_path: Path) -> ModelShape:
    """32 layers whose keys and values of a token take 32 KiB in f16, as in many 4B models."""
    found = ModelShape.from_header(read_header(tiny_gguf(tmp_path / "model.gguf", layers=32)))
    layers = tuple(replace(layer, cached=(256, 256)) for layer in found.layers)
    return replace(found, layers=layers)


@pytest.mark.parametrize(
    ("context", "room", "expected"),
    [
        # short conversations: what is usual
        (4096, 64 * GIB, Retained(512 * MIB, 8, 0, 4096)),
        # of 64k tokens, 2 GiB each: two of them
        (65536, 64 * GIB, Retained(4 * GIB, 8, 0, 65536)),
        # never more than llama.cpp would take by itself: half as long a prompt
        (262144, 64 * GIB, Retained(8 * GIB, 8, 0, 131072)),
        # half of what is free
        (65536, 4 * GIB, Retained(2 * GIB, 8, 0, 32768)),
        (65536, 100 * MIB, Retained(50 * MIB, 8, 0, 800)),
        (65536, 0, Retained(0, 8, 0, 0)),
        # nothing is known of the machine
        (65536, None, Retained(512 * MIB, 8, 0, 8192)),
    ],
)
def test_earlier_prompts_get_two_conversations_of_what_is_free(
    shape: ModelShape, context: int, room: int | None, expected: Retained
) -> None:
    assert retained(shape, Load(context), room) == expected


def test_conversations_at_the_same_time_count_one_by_one(shape: ModelShape) -> None:
    four = retained(shape, Load(4 * 65536, parallel=4), 64 * GIB)
    assert four == Retained(4 * GIB, 8, 0, 65536)


def test_what_was_asked_for_is_kept_whatever_is_free(shape: ModelShape) -> None:
    found = retained(shape, Load(65536), 0, prompts=GIB, checkpoints=3)
    assert found == Retained(GIB, 3, 0, 16384)


@pytest.mark.parametrize(
    ("room", "checkpoints"), [(None, 8), (64 * GIB, 8), (GIB, 4), (300 * MIB, 1), (200 * MIB, 0)]
)
def test_states_take_a_quarter_of_what_is_free(
    shape: ModelShape, room: int | None, checkpoints: int
) -> None:
    # 64 MiB of states in all
    layers = tuple(replace(layer, state=MIB // 2) for layer in shape.layers)
    found = retained(replace(shape, layers=layers), Load(4096), room)
    assert (found.checkpoints, found.states) == (checkpoints, checkpoints * 64 * MIB)


@pytest.mark.parametrize(
    ("load", "mebibytes"),
    [
        (Load(4096), 32),
        (Load(4096, micro_batch=2048), 32),
        (Load(4 * 4096, parallel=4), 128),
        (Load(4 * 4096, parallel=4, unified=True), 128),
        (Load(512), 16),
        (Load(4096, swa_full=True), 0),
    ],
)
def test_a_state_of_a_cache_with_a_window_has_the_tokens_in_the_window(
    shape: ModelShape, load: Load, mebibytes: int
) -> None:
    layers = tuple(replace(layer, windowed=True) for layer in shape.layers)
    found = retained(replace(shape, layers=layers, window=1024), load, None, checkpoints=2)
    assert found.states == 2 * mebibytes * MIB


def test_host_memory_beside_a_model_is_what_its_part_leaves() -> None:
    card = Device("card", "gpu", 8 * GIB, 8 * GIB, "cuda")
    host = Device("here", "host", 16 * GIB, 10 * GIB, "cpu")
    held = (Held("card", "gpu", 8 * GIB, 6 * GIB, 33), Held("here", "host", 10 * GIB, GIB, 0))
    fits = Fit("fits", 33, None, 8 * GIB, devices=held)
    assert room_beside(fits, 7 * GIB, [card, host]) == 9 * GIB
    # one memory for both
    both = [replace(card, shared=True), host]
    assert room_beside(replace(fits, budget_bytes=10 * GIB), 7 * GIB, both) == 3 * GIB
    assert room_beside(Fit("fits", None, None, 8 * GIB), 7 * GIB, []) == GIB
    assert room_beside(Fit("no", None, None, 6 * GIB), 7 * GIB, []) == 0
    assert room_beside(Fit("unknown", None, None, None), 7 * GIB, []) is None
