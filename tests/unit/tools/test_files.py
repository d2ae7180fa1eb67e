"""Tools are read from a Python file or from JSON; what is neither is refused with a reason."""

import json
import re
from pathlib import Path

import pytest

from modelrunner.errors import UsageError
from modelrunner.tools.call import call
from modelrunner.tools.files import load_tools

WEATHER = '''
import json
from math import sqrt
from typing import Literal

print("loading is noisy")

def get_weather(city: str, unit: Literal["C", "F"] = "C", days: list[int] | None = None):
    """Weather of a city, now.

    More of it here.

    Args:
        city: Where, in any
            language.
        unit: Of degrees.

    Returns:
        Something.
    """
    print("asking")
    return {"city": city, "unit": unit}

def shout(text):
    print(text.upper())

def fails(): raise KeyError("x")

def _helper(): ...
'''


@pytest.fixture
def weather(tmp_path: Path) -> Path:
    file = tmp_path / "weather tools.py"
    file.write_text(WEATHER)
    return file


def test_functions_of_a_python_file_are_described_by_hints_and_docstrings(weather: Path) -> None:
    box = load_tools(weather)
    assert list(weather.parent.iterdir()) == [weather]
    assert box.names == ["get_weather", "shout", "fails"]
    assert box.tools[0].to_dict() == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city, now. More of it here.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where, in any language."},
                    "unit": {"enum": ["C", "F"], "description": "Of degrees."},
                    "days": {"type": "array", "items": {"type": "integer"}},
                },
                "required": ["city"],
            },
        },
    }


def test_a_python_function_answers_by_what_it_returns_or_else_prints(weather: Path) -> None:
    asked, shout, fails = load_tools(weather).tools
    assert json.loads(call(asked, '{"city": "Paris"}').text) == {"city": "Paris", "unit": "C"}
    assert call(shout, '{"text": "ja"}').text == "JA"
    error = json.loads(call(fails, "{}").text)["error"]
    assert error == "exit code 1: loading is noisy\nKeyError: 'x'"
    missing = call(asked, '{"town": "Paris"}')
    assert not missing.succeeded
    assert "unexpected keyword argument 'town'" in missing.text


def test_a_python_function_may_print_a_gigabyte(tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    file.write_text(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (400_000_000, 400_000_000))\n"
        "def loud():\n"
        "    for _ in range(1000):\n"
        "        print('x' * 1_000_000)\n"
    )
    (loud,) = load_tools(file).tools
    done = call(loud, "{}")
    assert done.succeeded
    assert done.text.startswith("xxx")
    assert done.text.endswith("[cut: only 32768 bytes of the result are kept]")


def test_json_names_the_program_beside_it(tmp_path: Path) -> None:
    program = tmp_path / "echo.sh"
    program.write_text("#!/bin/sh\ncat\n")
    program.chmod(0o755)
    file = tmp_path / "tools.json"
    function = {"name": "echo", "description": "Says it.", "parameters": {"type": "object"}}
    file.write_text(
        json.dumps(
            [
                {"type": "function", "function": function, "command": ["./echo.sh"]},
                {"name": "ask_me"},
            ]
        )
    )
    echo, ask_me = load_tools(file).tools
    assert call(echo, '{"a": 1}').text == '{"a": 1}'
    assert (ask_me.command, ask_me.parameters) == ((), {"type": "object", "properties": {}})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", "{", "a.json: expected JSON at line 1"),
        ("a.json", "[]", "no functions found"),
        ("a.json", "[1]", "a.json[0] is not the description of a function"),
        ("a.json", '[{"name": "a b"}]', "a.json[0]: invalid function name"),
        ("a.json", '[{"function": 3}]', "a.json[0]: invalid function name"),
        ("a.json", '[{"name": "a", "parameters": 3}]', "`parameters` must be a JSON Schema"),
        ("a.json", '[{"name": "a", "command": "ls"}]', "`command` must be a list of strings"),
        ("a.json", '[{"name": "a"}, {"name": "a"}]', "duplicate function a"),
        ("a.json", "[" * 100_000, "a.json: JSON nested too deeply"),
        ("a.json", " " * 1_100_000, "exceeds"),
        ("a.py", "x = 1", "no functions found"),
        ("a.py", "def f(:", "a.py: SyntaxError"),
        ("a.py", "import nowhere_to_be_found", "a.py: ModuleNotFoundError"),
        ("a.py", "raise SystemExit(3)", "cannot load"),
        ("a.txt", "", "expected a .py or .json file"),
    ],
)
def test_what_describes_no_tools_is_refused(tmp_path: Path, name, content, says) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(UsageError, match=re.escape(says)):
        load_tools(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file not found"):
        load_tools(tmp_path / "a.py")
