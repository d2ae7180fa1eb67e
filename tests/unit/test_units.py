from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.units import (
    format_context,
    format_count,
    format_duration,
    format_moment,
    format_seconds,
    format_size,
    parse_size,
    utc_seconds,
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


MOMENTS = st.integers(-(10**8), 10**10).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
ZONES = st.sampled_from(["Z", ".5Z", "", "+02:00", "z"])


@given(MOMENTS.map(datetime.isoformat), ZONES, st.integers(0, 25), st.text("0129:-T"))
def test_seconds_of_a_moment_are_those_of_datetime_or_unknown(text, zone, at, change):
    for told in (f"{text[:19]}{zone}", f"{text[:at]}{change}{text[at + len(change) :]}{zone}"):
        seconds = utc_seconds(told)
        if seconds is not None:
            moment = datetime.fromisoformat(told)
            assert seconds == int(moment.timestamp())
            assert format_seconds(seconds) == format_moment(moment)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2000-02-29T12:00:00Z", 951825600),
        ("2024-12-31T23:59:59.999999999Z", 1735689599),
        ("2100-03-01T00:00:00Z", 4107542400),
    ],
)
def test_usual_moments_are_read_without_datetime(text, seconds):
    assert utc_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "Z", "2025-10-02", "2025-10-02T09:00:00", "2025-10-02T09:00:00+00:00"),
        *("2025-02-29T09:00:00Z", "2025-13-01T09:00:00Z", "2025-00-01T09:00:00Z"),
        *("2025-01-00T09:00:00Z", "2025-01-01T24:00:00Z", "2025-01-01T09:60:00Z"),
        *("2025-01-01T09:00:60Z", "2025-01-01T09:00:00.Z", "2025-01-01T09:00:00,5Z"),
        *("1969-12-31T23:59:59Z", "2025-10-02t09:00:00Z", "٢٠٢٥-10-02T09:00:00Z"),
    ],
)
def test_other_moments_are_left_to_datetime(text):
    assert utc_seconds(text) is None
