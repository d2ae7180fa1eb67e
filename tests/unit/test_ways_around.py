"""Nobody goes around the helpers for what strangers send, keep and write.

What is searched is each module's syntax; each rule is tried on a module that breaks it.
"""

import ast

import pytest

from tests.support.sources import Source, around, called, method, sources

# one worker parses everything
pytestmark = pytest.mark.xdist_group("sources")

# Numbers and JSON: `modelrunner.wire`.

_ARITHMETIC = (ast.BinOp, ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Constant)
_OF_NUMBERS = {"round", "len", "max", "min", "sum", "abs", "time.time", "divmod"}
_TEXTS = (
    "chat",
    "cards",
    "disk",
    "huggingface",
    "lockfile",
    "oci",
    "operations",
    "other_stores",
    "provenance",
    "registry",
    "runtime",
    "serve",
    "share",
    "store",
    "tools",
    "transfer",
)
"""Packages that read what others wrote; numbers elsewhere are our own, or those of a person."""


def parses_json(call: ast.Call) -> bool:
    name = called(call)
    if name in {"json.loads", "json.load", "loads", "json.JSONDecoder", "JSONDecoder"}:
        return True
    # the answer of requests and its like, which parses without bounds
    return method(call) == "json" and not call.args


def parses_number(call: ast.Call) -> bool:
    if called(call) not in {"int", "float"} or not call.args:
        return False
    given = call.args[0]
    if isinstance(given, ast.Call) and called(given) in _OF_NUMBERS:
        return False
    return not isinstance(given, _ARITHMETIC)


def test_json_is_parsed_by_one_module() -> None:
    assert around(sources("wire.py"), "trusted", parses_json) == []


def test_numbers_of_strangers_are_parsed_by_one_module() -> None:
    modules = [each for each in sources("wire.py") if each.name.split("/")[0] in _TEXTS]
    assert around(modules, "bounded", parses_number) == []


# Files in a store: `modelrunner.disk.inside`.

_OPENING = {"open", "read_bytes", "read_text", "write_bytes", "write_text", "touch"}
_FUNCTIONS = {
    "open",
    "io.open",
    "os.open",
    "shutil.copy",
    "shutil.copy2",
    "shutil.copyfile",
    "shutil.copytree",
}


def opens_a_file(call: ast.Call) -> bool:
    name = called(call)
    return name in _FUNCTIONS or (
        method(call) in _OPENING and name not in {"os.open", "tarfile.open"}
    )


def test_files_in_a_store_are_opened_by_one_module() -> None:
    assert around(sources("disk/inside.py"), "outside", opens_a_file) == []


# Text on a terminal: `Console`, and `render.write` for what streams.


def writes_to_a_stream(call: ast.Call) -> bool:
    name = called(call)
    if name == "print" or name.startswith(("sys.stdout.", "sys.stderr.")):
        return name == "print" or method(call) in {"write", "writelines"}
    streams = {"out", "err", "stdout", "stderr", "stream", "screen", "console.out", "console.err"}
    owner = name.removesuffix(f".{method(call)}").removeprefix("self.").lstrip("_")
    owner = owner.removeprefix("context.")
    return method(call) in {"write", "writelines"} and owner in streams


def test_text_reaches_a_terminal_by_one_module() -> None:
    modules = [each for each in sources("cli/terminal/console.py") if each.name.startswith("cli/")]
    assert around(modules, "own text", writes_to_a_stream) == []


# Patterns: `re.search` and its like take flags where a compiled pattern's methods take a position.


def passes_a_position_for_flags(call: ast.Call) -> bool:
    if called(call) not in {f"re.{name}" for name in _SEARCHES} or len(call.args) < 3:
        return False
    return any(not ast.unparse(given).startswith("re.") for given in call.args[2:])


_SEARCHES = ("search", "match", "fullmatch", "finditer", "findall")


def test_no_position_is_taken_for_flags() -> None:
    assert around(sources(), "flags", passes_a_position_for_flags) == []


# The rules themselves.


@pytest.mark.parametrize(
    ("rule", "tag", "code"),
    [
        (parses_json, "trusted", "json.loads(raw)"),
        (parses_json, "trusted", "json.load(file)"),
        (parses_json, "trusted", "session.get(url).json()"),
        (parses_number, "bounded", "int(headers['content-length'])"),
        (parses_number, "bounded", "float(match[1])"),
        (parses_number, "bounded", "int(text, 16)"),
        (opens_a_file, "outside", "blobs.path(digest).open('rb')"),
        (opens_a_file, "outside", "(layout / 'index.json').read_bytes()"),
        (opens_a_file, "outside", "open(path)"),
        (opens_a_file, "outside", "os.open(path, os.O_RDONLY)"),
        (opens_a_file, "outside", "shutil.copyfile(blob, target)"),
        (writes_to_a_stream, "own text", "print(model.title)"),
        (writes_to_a_stream, "own text", "sys.stdout.write(text)"),
        (writes_to_a_stream, "own text", "self._err.write(text)"),
        (writes_to_a_stream, "own text", "context.console.err.write(text)"),
        (passes_a_position_for_flags, "flags", "re.search(pattern, text, position)"),
    ],
)
def test_a_way_around_is_found_unless_it_has_a_reason(rule, tag: str, code: str) -> None:
    planted = Source("planted.py", f"import json\n\nvalue = {code}\n")
    found = around([planted], tag, rule)
    assert len(found) == 1
    assert found[0].startswith("planted.py:3: ")
    for reasoned in (
        f"value = {code}  # {tag}: a reason\n",
        f"# {tag}: a reason\nvalue = {code}\n",
        f"value = (\n    {code}  # {tag}: a reason\n)\n",
    ):
        assert around([Source("planted.py", reasoned)], tag, rule) == []
    assert around([Source("planted.py", f"value = {code}  # {tag}: \n")], tag, rule) != []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (parses_json, "parse_json(raw)"),
        (parses_json, "json.dumps(value)"),
        (parses_number, "int(seconds // 60)"),
        (parses_number, "int(round(share))"),
        (parses_number, "parse_count(text)"),
        (opens_a_file, "open_inside(path, 'read')"),
        (opens_a_file, "webbrowser_open(url)"),
        (writes_to_a_stream, "console.print(text)"),
        (writes_to_a_stream, "archive.write(output, listener)"),
        (passes_a_position_for_flags, "re.search(pattern, text, re.DOTALL | re.IGNORECASE)"),
        (passes_a_position_for_flags, "opening.search(text, position)"),
    ],
)
def test_the_helpers_and_other_things_are_no_way_around(rule, code: str) -> None:
    assert around([Source("planted.py", f"value = {code}\n")], "any", rule) == []
