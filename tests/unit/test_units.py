import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.units import (
    format_context,
    format_count,
    format_duration,
    format_size,
    parse_size,
)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (98364124, "93.81 MiB"),
        (1943472701, "1.81 GiB"),
        (1024**5 * 3000, "3000.00 PiB"),
    ],
)
def test_sizes_are_shown_in_binary_units(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 * 1024**3),
        ("8 gib", 8 * 1024**3),
        ("20 MB", 20_000_000),
        ("512k", 512 * 1024),
        ("1.5G", 1610612736),
        ("100", 100),
        ("100B", 100),
        (" 7 ", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1e3", "8quux", "1,5G", "0x10", "٣GiB x", "1 2"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        parse_size(text)


@given(st.integers(0, 2**60))
def test_a_plain_number_of_bytes_is_itself(size: int) -> None:
    assert abs(parse_size(str(size)) - size) <= size // 2**52


@given(st.integers(0, 1024**6))
def test_a_size_that_is_shown_is_nearly_the_size(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= max(size * 0.005, 0)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (134_515_008, "135M"), (3_190_000_000, "3.19B"), (10**12, "1T")],
)
def test_counts_are_decimal(count: int, text: str) -> None:
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("tokens", "text"), [(512, "512"), (8192, "8K"), (131072, "131K"), (1048576, "1M")]
)
def test_contexts_are_shown_as_cards_do(tokens: int, text: str) -> None:
    assert format_context(tokens) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (41.6, "42s"), (59.7, "1m 00s"), (185, "3m 05s"), (7800, "2h 10m")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
