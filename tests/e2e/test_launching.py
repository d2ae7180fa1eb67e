"""`launch`: an app, the model that it gets, and what is left of both."""

import json
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf
from tests.support.terminal import in_terminal
from tests.support.waiting import alive, wait_until

TALKER, CALLER = "fixtures/tiny-llama", "ai/granite-4.0-micro"
SHOW = "{{ messages[0].content }}"


@pytest.fixture
def stored(cli: CommandLine, tmp_path: Path) -> CommandLine:
    """A store with one model that cannot call tools."""
    file = tiny_gguf(tmp_path / "m.gguf", metadata={"tokenizer.chat_template": SHOW})
    assert cli("package", str(file), "local/m").returncode == 0
    return replace(cli, environ={**cli.environ, "MODELRUNNER_RUNTIME": "xllamacpp"})


def program(folder: Path, name: str, text: str) -> str:
    """A program on PATH; the PATH with it."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_without_an_app_all_are_listed(cli: CommandLine, tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "claude", "exit 0").partition(":")[0]
    done = cli("launch", "--json", PATH=path)
    listed = {entry.pop("app"): entry for entry in json.loads(done.stdout)}
    assert listed["claude"] == {
        "title": "Claude Code",
        "path": f"{path}/claude",
        "install": "npm install -g @anthropic-ai/claude-code",
    }
    assert [*listed] == ["claude", "codex", "opencode", "goose", "aider", "open-webui", "env"]
    shown = cli("launch", PATH=path).stdout.splitlines()
    assert shown[0].split() == ["APP", "STARTS", "INSTALLED"]
    assert shown[2].split() == [
        *("codex", "Codex", "CLI", "no;", "`npm", "install", "-g", "@openai/codex`")
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (
            ("claud",),
            2,
            "error: unknown app claud\nhint: did you mean `modelrunner launch claude`?\n",
        ),
        (
            ("claude-code",),
            2,
            "error: unknown app claude-code\nhint: did you mean `modelrunner launch claude`?\n",
        ),
        (
            ("something",),
            2,
            (
                "error: unknown app something\nhint: use one of claude, codex, opencode, goose,"
                " aider, open-webui, env; `env` is for anything else\n"
            ),
        ),
        (
            ("claude",),
            3,
            (
                "error: Claude Code not found: no `claude` on PATH\nhint: install it: `npm install"
                " -g @anthropic-ai/claude-code`\n"
            ),
        ),
        (
            ("goose",),
            3,
            (
                "error: Goose not found: no `goose` on PATH\nhint: install it: `curl -fsSL"
                " https://github.com/block/goose/releases/download/stable/download_cli.sh | bash`\n"
            ),
        ),
        (
            ("codex", "--print", "--mcp", "x.json"),
            2,
            (
                "error: --mcp: Codex CLI takes MCP servers from its own configuration only\n"
                "hint: configure them there; claude and opencode take --mcp\n"
            ),
        ),
        (
            ("claude", "--print", "--mmproj", "x.gguf"),
            2,
            (
                "error: --mmproj needs a GGUF file, and no model was given\nhint: add --model"
                " FILE.gguf\n"
            ),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_started_is_said(
    stored: CommandLine, tmp_path: Path, arguments: tuple[str, ...], code: int, error: str
) -> None:
    done = stored("launch", *arguments, PATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", error)


def test_a_store_without_a_model_for_agents_names_one_to_download(stored: CommandLine) -> None:
    done = stored("launch", "claude", "--print")
    assert done.returncode == 3
    assert done.stderr.startswith(
        "error: no local model calls tools and fits with a context of 65536 (local/m:latest: its"
        " chat template has no tools)\nhint: `modelrunner pull ai/"
    )
    assert done.stdout == ""


def test_print_starts_nothing_and_shows_command_variables_and_files(stored: CommandLine) -> None:
    done = stored("launch", "codex", "--print", "--model", "local/m", "--", "exec", "it's")
    lines = done.stdout.splitlines()
    assert lines[0] == "export MODELRUNNER_LAUNCH_KEY=KEY"
    assert lines[1].startswith("codex -c 'model=\"local/m:latest\"' ")
    assert lines[1].endswith(" exec 'it'\"'\"'s'")
    assert lines[3] == "# DIRECTORY/models.json"
    assert json.loads("\n".join(lines[4:]))["models"][0]["slug"] == "local/m:latest"
    assert done.stderr.splitlines()[0] == (
        "warning: the chat template of local/m:latest does not support tools: Codex CLI will not"
        " be able to read or change files"
    )
    assert not [*(stored.home / "state").glob("serve/*")]
    (shown,) = [
        json.loads(
            stored(
                "launch", "env", "--print", "--json", "--port", "4000", "--model", "local/m"
            ).stdout
        )
    ]
    assert {key: shown[key] for key in ("app", "url", "model", "context", "command", "files")} == {
        "app": "env",
        "url": "http://127.0.0.1:4000",
        "model": "local/m:latest",
        "context": shown["context"],
        "command": [],
        "files": {},
    }
    assert shown["environment"]["OPENAI_API_KEY"] == "KEY"
    assert shown["environment"]["OLLAMA_CONTEXT_LENGTH"] == str(shown["context"])


def test_print_downloads_nothing(cli: CommandLine) -> None:
    done = cli("launch", "claude", "--print", "--model", "ai/none", MODELRUNNER_RUNTIME="xllamacpp")
    assert done.returncode == 3
    assert "ai/none" in done.stderr


ASK = """
import json, os, sys, urllib.request
body = json.dumps({"model": os.environ["OPENAI_MODEL"], "messages": [{"role": "user",
    "content": "hi"}]}).encode()
asked = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body,
    {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]})
print(json.load(urllib.request.urlopen(asked))["choices"][0]["message"]["content"])
print(os.environ["OPENAI_BASE_URL"])
sys.exit(7)
"""


@pytest.mark.model(short=True)
def test_a_program_talks_to_the_model_and_its_exit_code_is_ours(models: CommandLine) -> None:
    done = models("launch", "env", "--model", TALKER, "--", sys.executable, "-c", ASK)
    said, url = done.stdout.splitlines()
    assert said.startswith("Hello! I am a tiny model")
    assert done.returncode == 7
    # nothing is left: no server, no log of it
    assert models("ps", "--json").stdout == "[]\n"
    assert [*(models.home / "state" / "serve").iterdir()] == []
    assert url.startswith("http://127.0.0.1:")


LOOK = """\
test "$1" = --settings || exit 9
ls -ld "$(dirname "$2")" | cut -c1-10; ls -l "$2" | cut -c1-10; echo "$2"
cat "$2" | grep MAX_CONTEXT; env | grep MAX_CONTEXT; echo "key=$ANTHROPIC_API_KEY"
echo "$NO_PROXY"; shift 2; echo "$@"; kill -TERM $$"""


@pytest.mark.model(short=True)
def test_an_app_gets_a_private_file_that_is_gone_afterwards(
    models: CommandLine, tmp_path: Path
) -> None:
    path = program(tmp_path / "bin", "claude", LOOK)
    proxy = {"https_proxy": "http://proxy.example:1", "no_proxy": "example.com"}
    done = models(
        "launch",
        "claude",
        "--model",
        CALLER,
        "--context",
        "8192",
        "--",
        "-p",
        "a b",
        PATH=path,
        ANTHROPIC_API_KEY="mine",
        **proxy,
    )
    folder, file, place, inside, outside, key, no_proxy, said = done.stdout.splitlines()
    assert (folder, file) == ("drwx------", "-rw-------")
    assert inside.strip() == '"CLAUDE_CODE_MAX_CONTEXT_TOKENS": "8192",'
    assert outside == "CLAUDE_CODE_MAX_CONTEXT_TOKENS=8192"
    assert (key, no_proxy, said) == ("key=", "example.com,127.0.0.1,localhost", "-p a b")
    # as a shell has it for a program that a signal has ended
    assert done.returncode == 128 + signal.SIGTERM
    assert not Path(place).exists()
    assert "a context of 8192 is too short: Claude Code sends about 24000 tokens" in done.stderr


@pytest.mark.model(short=True)
def test_a_model_that_answers_the_test_in_words_is_reported(
    models: CommandLine, tmp_path: Path
) -> None:
    path = program(tmp_path / "bin", "codex", "exit 0")
    template = tmp_path / "tools.jinja"
    template.write_text("{{ messages[0].content }}{{ tools if tools }}")
    done = models("launch", "codex", "--model", TALKER, "--chat-template", str(template), PATH=path)
    assert done.returncode == 0
    assert (
        f"warning: {TALKER}:latest answered a test in words instead of calling a tool: Codex CLI"
        " may not be able to read and change files" in done.stderr
    )


@contextmanager
def launched(
    models: CommandLine, *arguments: str, **environ: str
) -> Iterator["subprocess.Popen[str]"]:
    environ_: Mapping[str, str] = {**models.environ, **environ}
    with subprocess.Popen(
        models.argv("launch", *arguments),
        env=environ_,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def served_by(models: CommandLine) -> list[int]:
    """The processes of servers and of their models."""
    states = json.loads(models("ps", "--json").stdout)
    return [pid for each in states for pid in (each["server_pid"], each["pid"]) if pid]


WAIT = "trap 'echo got it; exit 5' INT TERM; echo ready; while :; do sleep 0.05; done"


@pytest.mark.model(short=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_launch_ends_the_app_and_the_server(
    models: CommandLine, number: signal.Signals
) -> None:
    wait = WAIT.replace("INT TERM", "INT TERM HUP")
    with launched(models, "env", "--model", TALKER, "--", "sh", "-c", wait) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        there = served_by(models)
        assert len(there) == 2
        process.send_signal(number)
        assert process.stdout.readline() == "got it\n"
        assert process.wait(30) == 5
    wait_until(lambda: not any(map(alive, there)))


@pytest.mark.model(short=True)
def test_a_launch_that_is_killed_takes_the_server_with_it(models: CommandLine) -> None:
    with launched(models, "env", "--model", TALKER) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("export OPENAI_BASE_URL=http://127.0.0.1:")
        there = served_by(models)
        process.kill()
        process.wait()
    wait_until(lambda: not any(map(alive, there)))


@pytest.mark.model(short=True)
def test_an_app_whose_launch_is_killed_keeps_the_server_until_it_ends(
    models: CommandLine, tmp_path: Path
) -> None:
    told, ended = tmp_path / "go", tmp_path / "answer"
    app = (
        f'echo "$OPENAI_BASE_URL $OPENAI_API_KEY"; until [ -e {told} ]; do sleep 0.05; done;'
        f" echo done >{ended}"
    )
    with launched(models, "env", "--model", TALKER, "--", "sh", "-c", app) as process:
        assert process.stdout is not None
        url, key = process.stdout.readline().split()
        there = served_by(models)
        process.kill()
        process.wait()
    # the server has seen that by now, and would have ended
    wait_until(lambda: any("launch was killed" in log for log in server_logs(models)))
    request = Request(f"{url}/models", headers={"Authorization": f"Bearer {key}"})
    with urlopen(request, timeout=30) as answer:
        assert TALKER in answer.read().decode()
    assert all(map(alive, there))
    told.touch()
    wait_until(ended.exists)
    wait_until(lambda: not any(map(alive, there)))


def server_logs(models: CommandLine) -> list[str]:
    logs = (models.home / "state" / "serve").glob("*.log")
    return [path.read_text(errors="replace") for path in logs]


@pytest.mark.model(short=True)
def test_env_alone_prints_the_variables_and_serves_until_ctrl_c(models: CommandLine) -> None:
    with launched(models, "env", "--model", TALKER, "--json") as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["environment"]["OPENAI_BASE_URL"] == f"{said['url']}/v1"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130


@pytest.mark.model(short=True)
def test_a_program_that_cannot_be_started_is_said(models: CommandLine, tmp_path: Path) -> None:
    done = models("launch", "env", "--model", TALKER, "-q", "--", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: cannot start {tmp_path}/none: ")


@pytest.mark.model(short=True)
def test_ctrl_c_is_for_the_app_and_the_terminal_is_as_before(models: CommandLine) -> None:
    wait = f"stty -echo -icanon; {WAIT}"
    command = models.argv("launch", "env", "--model", TALKER, "--", "sh", "-c", wait)
    with in_terminal(command, models.environ) as (terminal, process):
        before = termios.tcgetattr(terminal.master)
        terminal.wait_for("ready")
        there = served_by(models)
        assert termios.tcgetattr(terminal.master) != before
        # the app alone ends by it, and says so in its own way
        terminal.type("\x03")
        terminal.wait_for("got it")
        assert process.wait(60) == 5
        assert termios.tcgetattr(terminal.master) == before
    wait_until(lambda: not any(map(alive, there)))


REPLAY = """
import json, os, sys, urllib.request
base, key = os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"]
name = os.environ["OPENAI_MODEL"]
user = {"role": "user", "content": "hi"}
system = {"role": "system", "content": "You are goose."}
function = {"name": "developer__shell", "description": "Runs a command.",
            "parameters": {"type": "object", "properties": {"command": {"type": "string"}}}}
tools = [{"type": "function", "function": function}]
asked = [
    # Goose: its models, an answer, and a name for the session
    ("/models", None),
    ("/chat/completions", {"model": name, "messages": [system, user], "tools": tools,
        "stream": True, "stream_options": {"include_usage": True},
        "max_completion_tokens": 64}),
    ("/chat/completions", {"model": name, "messages": [system, user], "temperature": 0.0}),
    # Open WebUI: its models, an answer, and a title
    ("/models", None),
    ("/chat/completions", {"stream": True, "model": name, "messages": [user]}),
    ("/chat/completions", {"model": name, "messages": [user], "stream": False,
        "max_completion_tokens": 64}),
]
for path, body in asked:
    request = urllib.request.Request(base + path, None if body is None else
        json.dumps(body).encode(), {"Authorization": "Bearer " + key,
        "Content-Type": "application/json"})
    reply = urllib.request.urlopen(request)
    text = reply.read().decode()
    ends = text.endswith("data: [DONE]" + chr(10) * 2)
    print(path, reply.status, ends if body and body.get("stream") else "error" in json.loads(text))
"""


@pytest.mark.model(short=True)
def test_what_goose_and_open_webui_ask_is_answered(models: CommandLine) -> None:
    done = models("launch", "env", "--model", TALKER, "--", sys.executable, "-c", REPLAY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "/models 200 False",
        "/chat/completions 200 True",
        "/chat/completions 200 False",
        "/models 200 False",
        "/chat/completions 200 True",
        "/chat/completions 200 False",
    ]
