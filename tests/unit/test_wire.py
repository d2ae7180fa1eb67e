"""What strangers send as numbers and JSON; and that nobody parses it elsewhere."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelrunner
from modelrunner.wire import LARGEST, MAX_DEPTH, parse_count, parse_json, parse_object

SOURCES = Path(modelrunner.__file__).parent


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


OWN = {
    # Docker's file, which its user writes
    "registry/login.py",
    # what our own child and our own parent say
    "runtime/handover.py",
    "runtime/guard.py",
}
"""Modules that read JSON which is not a stranger's."""

ELSEWHERE = {
    # its digits are matched before
    "runtime/threads.py",
    "runtime/settings.py",
    "runtime/container.py",
    "runtime/docker_socket.py",
    "registry/lan.py",
    # a number of our own parser
    "registry/retry.py",
    "chat/answer.py",
    # arguments of a call, with bounds of their own
    "chat/tool_call.py",
}
"""Modules whose numbers are not a stranger's, or bounded there."""


@pytest.mark.parametrize("package", ["registry", "runtime", "chat", "operations/bench.py"])
def test_strangers_are_read_by_one_parser(package):
    around = []
    place = SOURCES / package
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        name = path.relative_to(SOURCES).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in {"json.loads", "json.load"} and name not in OWN | ELSEWHERE:
                around.append(f"{name}:{node.lineno} {called}")
            if called.endswith(".json") and not node.args:
                around.append(f"{name}:{node.lineno} {called}")
            if called in {"int", "float"} and node.args and name not in ELSEWHERE:
                around.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    assert around == []
