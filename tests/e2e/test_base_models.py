"""`run` with models that have no chat template: they continue text, and answers have an end."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.base_models import base_model, endless_model
from tests.support.fixtures import script
from tests.support.terminal import in_terminal

pytestmark = pytest.mark.model

SENTENCE = "Hello! I am a tiny model: my weights were made by hand, so this is all they can say.\n"
CONTINUES = (
    "fixtures/base:latest is a base model (no chat template): it continues text;"
    " to chat with it, try --chat-template chatml"
)
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


@pytest.fixture
def bare(cli: CommandLine, tmp_path: Path) -> CommandLine:
    """The command line with models that have no chat template."""
    for name, file in {
        "base": base_model(tmp_path / "models"),
        "endless": endless_model(tmp_path / "models"),
    }.items():
        assert cli("package", str(file), f"fixtures/{name}").returncode == 0
    return CommandLine(cli.home, {**cli.environ, "MODELRUNNER_RUNTIME": "xllamacpp"})


def test_a_base_model_continues_text_and_says_so_once(bare: CommandLine) -> None:
    done = bare("run", "fixtures/base", "Say hello")
    assert (done.returncode, done.stdout) == (0, SENTENCE)
    assert done.stderr.splitlines()[1:] == [CONTINUES]


def test_raw_leaves_the_chat_template_out(bare: CommandLine, tmp_path: Path) -> None:
    (llama,) = script("models").write_model("llama", tmp_path / "models")
    assert bare("package", str(llama), "fixtures/tiny-llama").returncode == 0

    def tokens(*options: str) -> int:
        done = bare("run", "fixtures/tiny-llama", "Hello", "--json", *options)
        assert SENTENCE.endswith(json.loads(done.stdout)["answer"] + "\n")
        found: int = json.loads(done.stdout)["prompt_tokens"]
        return found

    assert tokens("--raw") == 1
    assert tokens() > tokens("--raw")
    assert bare("run", "fixtures/tiny-llama", "Hello", "--raw").stdout == SENTENCE[5:]
    done = bare("run", "fixtures/base", "Say hello", "--raw")
    assert (done.returncode, done.stdout) == (0, SENTENCE)
    assert "base model" not in done.stderr


def tokens_read(said: str) -> int:
    """The tokens of the prompt; `hi` alone has two."""
    match = re.search(r"^prompt (\d+) tokens", said, re.MULTILINE)
    assert match, said
    return int(match[1])


@pytest.mark.parametrize("by", ["name", "file", "setting", "configured"])
def test_a_base_model_takes_the_chat_template_of_a_relative(
    bare: CommandLine, tmp_path: Path, by: str
) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(TEMPLATE)
    options = {
        "name": ["--chat-template", "gemma"],
        "file": ["--chat-template", str(file)],
        "setting": ["--set", "chat-template=gemma"],
        "configured": [],
    }[by]
    if by == "configured":
        assert bare("configure", "fixtures/base", "--set", "chat-template=gemma").returncode == 0
    done = bare("run", "fixtures/base", "hi", "--verbose", *options)
    assert (done.returncode, done.stdout) == (0, SENTENCE)
    assert tokens_read(done.stderr) > 3
    assert done.stderr.splitlines()[1] == (
        "fixtures/base:latest is a base model (no chat template): using the chat template "
        f"{file if by == 'file' else 'gemma'}"
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--chat-template", "chatlm"], "error: unknown chat template 'chatlm'\nhint: did you"),
        (["--chat-template", "./no.jinja"], "error: ./no.jinja: file not found\nhint: use one of"),
        (["--set", "chat-template=nosuch"], "error: unknown chat template 'nosuch'\nhint: use"),
        (["--raw", "--system", "Be brief"], "error: --system needs a chat template, and --raw"),
        (["--raw", "--chat-template", "gemma"], "error: --chat-template needs a chat template, "),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_pulled(
    cli: CommandLine, options: list[str], told: str
) -> None:
    done = cli("run", "fixtures/not-there", "hi", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(told)


def test_a_base_model_has_no_place_for_a_system_prompt(bare: CommandLine) -> None:
    done = bare("run", "fixtures/base", "hi", "--system", "Be brief")
    assert done.returncode == 2
    assert done.stderr.endswith(
        "error: --system needs a chat template, and fixtures/base:latest has none\n"
        "hint: add --chat-template chatml, or remove --system\n"
    )


def test_an_answer_that_repeats_itself_is_stopped(bare: CommandLine) -> None:
    done = bare("run", "fixtures/endless", "Say hello", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["finish_reason"]) == (0, "repetition")
    assert 500 < found["completion_tokens"] < 2_000
    assert found["prompt_tokens"] > 0
    shown = bare("run", "fixtures/endless", "Say hello", "--repeat-penalty", "1")
    assert (shown.returncode, shown.stderr.splitlines()[-1]) == (
        0,
        "the answer was stopped: it repeats itself",
    )


def test_an_answer_has_a_limit_without_being_told(bare: CommandLine) -> None:
    done = bare("run", "fixtures/endless", "Say hello", "--context", "256")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith("the answer was cut off: ")
    cut = bare("run", "fixtures/endless", "Say hello", "--max-tokens", "30")
    assert (cut.returncode, cut.stderr.splitlines()[-1]) == (
        0,
        "the answer was cut off: it reached `max_tokens`, 30 tokens",
    )


def test_a_chat_with_a_base_model_completes_each_line(bare: CommandLine) -> None:
    command = bare.argv("run", "fixtures/base")
    with in_terminal(command, bare.environ) as (terminal, _process):
        terminal.wait_for("it continues text")
        terminal.wait_for("Send a message")
        terminal.type("Say hello\r")
        terminal.wait_for("this is all they can")
        terminal.wait_for("Send a message")
        terminal.type("/system Be brief\r")
        terminal.wait_for("a model without a chat template has no system prompt")
