"""A module that is loaded late is the module, for whoever uses it."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

START = "import sys\nfrom modelrunner.cli.late import load_late\nload_late('inspect')\n"


def run(program: str) -> Sequence[str]:
    command = [sys.executable, "-c", START + program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="dataclasses read annotations with it")
def test_it_is_not_loaded_by_the_import_of_a_dataclass_that_says_what_it_is() -> None:
    program = (
        "from dataclasses import dataclass, replace\n"
        "@dataclass(frozen=True, order=True)\n"
        "class A:\n"
        "    '''A number.'''\n"
        "    b: int\n"
        "print(replace(A(1), b=2), 'ast' in sys.modules)\n"
    )
    assert run(program) == ["A(b=2) False"]


def test_it_is_loaded_for_a_dataclass_without_a_docstring() -> None:
    program = (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    b: int = 3\nprint(A.__doc__)\n"
    )
    assert run(program) == ["A(b: int = 3)"]


@pytest.mark.parametrize(
    "use",
    [
        "import inspect; print(inspect.isfunction(run))",
        "from inspect import isfunction; print(isfunction(run))",
        "import inspect as i; i.isfunction; import inspect; print(inspect.isfunction(run))",
        "import inspect; inspect.x = 1; print(inspect.isfunction(run))",
    ],
)
def test_it_is_the_module_for_who_uses_it(use: str) -> None:
    assert run(f"def run(): pass\n{use}\nprint(sys.modules['inspect'].__file__ is None)") == [
        "True",
        "False",
    ]


def test_threads_that_use_it_at_the_same_time_get_the_same() -> None:
    program = (
        "import inspect, threading\n"
        "sys.setswitchinterval(1e-6)\n"
        "found = []\n"
        "def use():\n"
        "    gate.wait()\n"
        "    found.append(inspect.Signature)\n"
        "gate = threading.Barrier(8)\n"
        "threads = [threading.Thread(target=use) for _ in range(8)]\n"
        "for each in threads: each.start()\n"
        "for each in threads: each.join()\n"
        "print(len(found), len(set(found)))\n"
    )
    assert run(program) == ["8 1"]


def test_what_it_does_not_have_is_an_error_of_attributes() -> None:
    program = (
        "import inspect\n"
        "try:\n    inspect.nothing\n"
        "except AttributeError as exc:\n    print(exc)\n"
        "print(hasattr(inspect, '__path__'))\n"
    )
    assert run(program) == ["module 'inspect' has no attribute 'nothing'", "False"]


def test_a_module_that_is_loaded_already_stays() -> None:
    assert run("import json, inspect\nload_late('json')\nprint(json.dumps([1]))") == ["[1]"]


@pytest.mark.parametrize(
    "use",
    [
        "from urllib.parse import quote_from_bytes; print(quote_from_bytes(b'a b'))",
        "import urllib.parse; print(urllib.parse.quote('a b'))",
        "from urllib import parse; print(parse.quote('a b'))",
        "from urllib.parse import quote; print(quote('a b'))",
        "import urllib.parse as p; p.quote('a'); import urllib; print(urllib.parse.quote('a b'))",
        "from pathlib import Path; print(Path('/a b').as_uri().removeprefix('file:///'))",
    ],
)
def test_a_module_of_a_package_is_the_module_for_who_uses_it(use: str) -> None:
    start = "load_late(*STANDARD)\nkind = type(sys.modules['urllib.parse']).__name__\n"
    program = "from modelrunner.cli.late import STANDARD\n" + start + f"{use}\n"
    program += "print(kind, type(sys.modules['urllib.parse']).__name__)"
    assert run(program) == ["a%20b", "_Late module"]


def test_what_is_imported_by_its_name_is_loaded_when_it_is_called() -> None:
    program = (
        "load_late('urllib.parse')\n"
        "from urllib.parse import quote_from_bytes\n"
        "print('unquote' in vars(sys.modules['urllib.parse']))\n"
        "print(quote_from_bytes(b'/a b', safe='/'), quote_from_bytes(b'/a b', ''))\n"
        "print('unquote' in vars(sys.modules['urllib.parse']))\n"
    )
    assert run(program) == ["False", "/a%20b %2Fa%20b", "True"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later releases do not load it")
def test_paths_do_without_what_is_for_addresses_and_for_windows() -> None:
    program = (
        "from modelrunner.cli.late import STANDARD\nload_late(*STANDARD)\n"
        "from pathlib import Path\n(Path('/') / 'a').parent.exists()\n"
        "print([name for name in STANDARD if type(sys.modules[name]).__name__ != '_Late'])\n"
    )
    assert run(program) == ["[]"]
