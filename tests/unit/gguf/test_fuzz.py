"""Whatever the bytes: a header comes out, or `MalformedGGUFError`, soon, and in little memory.

`MODELRUNNER_FUZZ_SECONDS` says how long the mutations go on, `MODELRUNNER_FUZZ_SEED` where they
start; a failure prints its seed.
"""

import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelrunner.errors import MalformedGGUFError
from modelrunner.gguf.metadata import Metadata
from modelrunner.gguf.reader import parse_header
from tests.support.gguf import (
    F32,
    Q4_0,
    Typed,
    encode_gguf,
    string,
    tiny_metadata,
    tiny_tensors,
)

SECONDS = float(os.environ.get("MODELRUNNER_FUZZ_SECONDS", "3"))
SEED = int(os.environ.get("MODELRUNNER_FUZZ_SEED", "20250601"))

SMALL = encode_gguf(
    metadata={
        "general.alignment": 64,
        "general.name": "Small",
        "flag": True,
        "layers": [1, 2, 3],
        "flags": [True, False],
        "words": ["one", "two"],
        "wide": Typed("int64", -1),
    },
    tensors=[("a", (32, 2), Q4_0), ("b", (8,), F32)],
)
LONG = encode_gguf(metadata={"words": ["word"] * 260, "after": 1})
TINY = encode_gguf(metadata=tiny_metadata("llama", 1, 2048), tensors=tiny_tensors(1))
SEEDS = [
    SMALL,
    LONG,
    TINY,
    encode_gguf(version=2),
    encode_gguf(architecture="clip", metadata={"k": []}),
]
INTERESTING = [
    *(0, 1, 2, 8, 9, 12, 13, 31, 32, 255, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1),
    *(2**32, 2**60, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1),
]


def survive(content: bytes) -> None:
    """Read it as pulled models are read; anything but the one error is a failure."""
    for size in (len(content), None):
        survive_with(content, size)


def survive_with(content: bytes, size: int | None) -> None:
    with suppress(MalformedGGUFError):
        header = parse_header(lambda offset, length: content[offset:][:length], size)
        said = Metadata.from_header(header)
        said.string_values()
        assert header.tensor_bytes <= sum(header.sizes.values())
        assert said.parameters >= len(header.tensors)


@given(content=st.sampled_from(SEEDS), data=st.data())
def test_any_cut_and_any_flipped_bits_are_survived(content: bytes, data: st.DataObject):
    mutant = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for place in data.draw(st.lists(st.integers(0, max(0, len(mutant) * 8 - 1)), max_size=8)):
        if mutant:
            mutant[place // 8] ^= 1 << place % 8
    survive(bytes(mutant))


def test_every_single_flipped_bit_of_a_header_is_survived():
    header_bits = parse_header(lambda o, n: SMALL[o:][:n], len(SMALL)).data_offset * 8
    for place in range(header_bits):
        mutant = bytearray(SMALL)
        mutant[place // 8] ^= 1 << place % 8
        survive(bytes(mutant))


@given(st.binary(max_size=400))
@example(b"")
def test_any_bytes_after_a_good_start_are_survived(rest: bytes):
    survive(b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + rest)


def flip(mutant: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(mutant) * 8)
    mutant[place // 8] ^= 1 << place % 8


def overwrite_number(mutant: bytearray, chance: random.Random) -> None:
    width, layout = chance.choice([(1, "<B"), (4, "<I"), (8, "<Q")])
    place = chance.randrange(len(mutant))
    number = chance.choice(INTERESTING) % (1 << 8 * width)
    mutant[place : place + width] = struct.pack(layout, number)


def remove(mutant: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(mutant))
    del mutant[place : place + chance.randint(1, 64)]


def repeat(mutant: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(mutant))
    piece = mutant[place : place + chance.randint(1, 64)]
    mutant[place:place] = piece * chance.randint(1, 8)


def splice(mutant: bytearray, chance: random.Random) -> None:
    other = chance.choice(SEEDS)
    start = chance.randrange(len(other))
    place = chance.randrange(len(mutant))
    mutant[place : place + chance.randint(0, 64)] = other[start : start + chance.randint(1, 128)]


def cut(mutant: bytearray, chance: random.Random) -> None:
    del mutant[chance.randrange(1, len(mutant) + 1) :]


def change_a_count(mutant: bytearray, chance: random.Random) -> None:
    if len(mutant) >= 24:
        counts = [chance.choice([0, 1, 2, 5, 9, 17, 40, *INTERESTING]) for _ in range(2)]
        struct.pack_into("<QQ", mutant, 8, *counts)


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    flip,
    overwrite_number,
    overwrite_number,
    remove,
    repeat,
    splice,
    cut,
    change_a_count,
]


def mutated(seed: int) -> bytes:
    chance = random.Random(seed)
    mutant = bytearray(chance.choice(SEEDS))
    for _ in range(chance.randint(1, 6)):
        if mutant:
            chance.choice(MUTATIONS)(mutant, chance)
    return bytes(mutant)


@pytest.mark.timeout(SECONDS + 60)
def test_random_mutations_are_survived():
    seed, end = SEED, time.monotonic() + SECONDS
    while time.monotonic() < end:
        content, begun = mutated(seed), time.process_time()
        try:
            survive(content)
            assert time.process_time() - begun < 1, "takes longer than a second"
        except BaseException as exc:
            exc.add_note(f"to see it again: MODELRUNNER_FUZZ_SEED={seed}")
            raise
        seed += 1
    assert seed > SEED


@pytest.mark.parametrize(
    "claim",
    [
        struct.pack("<QQ", 2**17, 0),
        struct.pack("<QQ", 0, 2**16),
        struct.pack("<QQ", 2**60, 2**60),
        struct.pack("<QQ", 0, 1) + struct.pack("<Q", 2**60),
        struct.pack("<QQ", 0, 1) + string("k") + struct.pack("<IQ", 8, 2**60),
        struct.pack("<QQ", 0, 1) + string("k") + struct.pack("<IIQ", 9, 4, 2**60),
        struct.pack("<QQ", 0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 2**60),
        struct.pack("<QQ", 0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 256),
    ],
)
@pytest.mark.parametrize("size_is_known", [True, False])
def test_a_claim_makes_nothing(claim: bytes, size_is_known: bool):
    content = b"GGUF" + struct.pack("<I", 3) + claim + bytes(16)
    size = len(content) if size_is_known else None
    tracemalloc.start()
    try:
        with pytest.raises(MalformedGGUFError):
            parse_header(lambda offset, length: content[offset:][:length], size)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1024
