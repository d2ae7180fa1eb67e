"""What strangers send as numbers and JSON; for who parses it see `test_ways_around`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.wire import (
    LARGEST,
    MAX_DEPTH,
    parse_count,
    parse_document,
    parse_json,
    parse_object,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), (str(LARGEST), LARGEST), ("1234567890", 1234567890)],
)
def test_number_is_read(text, number):
    assert parse_count(text) == number


NO_NUMBERS = ["", "-5", "+5", " 5", "5 ", "5\n", "1_000", "1e3", "0x10", "5.0", "\u0665", "\u00b2"]
NO_NUMBERS += ["9" * 20, "9" * 5000, str(LARGEST + 1), "zz"]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_anything_else_is_no_number(text):
    assert parse_count(text) is None


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser_of_numbers(text):
    found = parse_count(text)
    assert found is None or 0 <= found <= LARGEST


def test_json_is_read():
    assert parse_json(b'{"a": [1, -2.5, null, "x"]}') == {"a": [1, -2.5, None, "x"]}
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert parse_json(b'[1e100, 12345678901234567890, "e999", "\\u0000"]') == [
        1e100,
        12345678901234567890,
        "e999",
        "\0",
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
        b"1" + b"0" * 5000,
        b"1" + b"0" * 100,
        b"1e999",
        b"-1e999",
        b"1E+999",
        b"[1.5, 2.5e1000]",
        "[1e999]".encode("utf-16"),
        "[1e999]".encode("utf-32-le"),
        b"NaN",
        b"Infinity",
    ],
)
def test_json_out_of_bounds_is_a_value_error(raw):
    with pytest.raises(ValueError, match=r"."):
        parse_json(raw)


@pytest.mark.parametrize("raw", [b"[]", b"null", b"5", b'"{}"'])
def test_what_is_no_object_is_a_value_error(raw):
    with pytest.raises(ValueError, match="expected a JSON object"):
        parse_object(raw)


def test_a_document_may_be_out_of_bounds_where_nobody_looks():
    deep = b'{"a": %b%b, "b": %b}' % (b"[" * 400, b"]" * 400, b"9" * 300)
    assert parse_document(deep)["b"] == int("9" * 300)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b"1" + b"0" * 5000])
def test_a_document_that_cannot_be_held_is_a_value_error(raw):
    with pytest.raises(ValueError, match=r"."):
        parse_document(raw)
