"""`run`, with the real runtime and real models out of a store: one question, and the chat."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelrunner.system.installation import add
from tests.conftest import CommandLine
from tests.support.bare import ROOT, bare_argv, bare_environ
from tests.support.gguf import tiny_gguf
from tests.support.mounts import read_only
from tests.support.openai_server import OpenAIServer, says
from tests.support.terminal import Terminal, chatting, in_terminal
from tests.support.waiting import alive, wait_until

pytestmark = pytest.mark.model

SMOLLM2 = "ai/smollm2:135M-Q4_1"
QUESTION = "What is the capital of France? Answer in one sentence."
LIKELIEST = ("--temperature", "0")
SENTENCE = "Hello! I am a tiny model: my weights were made by hand, so this is all they can say.\n"
FIT = re.compile(
    r"fits, needs [\d.]+ MiB of [\d.]+ GiB (GPU )?memory; context (\d+( of \d+)?), \d+ threads$"
)


# One question.


def test_it_knows_the_capital_of_france(models: CommandLine) -> None:
    done = models("run", SMOLLM2, QUESTION, *LIKELIEST)
    assert done.returncode == 0
    assert "Paris" in done.stdout
    assert done.stdout.endswith(".\n")
    assert done.stderr.startswith(f"{SMOLLM2}: fits, needs ")
    assert FIT.search(done.stderr.rstrip("\n"))[2] == "8192"
    assert nothing_left(models)


def test_the_same_question_gets_the_same_answer(models: CommandLine) -> None:
    answers = {
        models("run", SMOLLM2, "Say", "hi.", "-q", "--max-tokens", "8").stdout for _ in range(2)
    }
    assert len(answers) == 1


def test_a_missing_model_is_pulled_first(cli: CommandLine, mirror: str) -> None:
    done = cli("run", SMOLLM2, QUESTION, *LIKELIEST, MODELRUNNER_MIRRORS=mirror)
    assert done.returncode == 0
    assert "Paris" in done.stdout
    assert done.stdout.endswith(".\n")
    lines = done.stderr.splitlines()
    assert lines[0] == (f"Unable to find model '{SMOLLM2}' locally. Pulling from the registry.")
    assert lines[1] == f"pulling {SMOLLM2}: 93.81 MiB"
    assert FIT.search(lines[-1])
    assert cli("path", SMOLLM2).returncode == 0


def test_a_missing_model_is_not_pulled_offline(cli: CommandLine) -> None:
    done = cli("run", SMOLLM2, QUESTION, "--offline")
    assert (done.returncode, done.stdout) == (9, "")


def test_quiet_leaves_the_answer(models: CommandLine) -> None:
    done = models("run", "fixtures/tiny-llama", "hi", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, SENTENCE, "")


def test_what_is_piped_in_is_the_prompt(models: CommandLine) -> None:
    done = models("run", SMOLLM2, "-q", *LIKELIEST, stdin=f"{QUESTION}\n".encode())
    assert done.returncode == 0
    assert "Paris" in done.stdout
    assert done.stdout.endswith(".\n")


def test_what_is_piped_in_goes_with_the_prompt(models: CommandLine) -> None:
    def tokens(*prompt: str, stdin: bytes = b"") -> int:
        done = models("run", "fixtures/tiny-llama", *prompt, "--json", stdin=stdin)
        return json.loads(done.stdout)["prompt_tokens"]

    one, other = tokens("Sum up:"), tokens(stdin=b"one two")
    assert tokens("Sum", "up:", stdin=b"one two\n") > max(one, other)


def test_an_answer_as_json(models: CommandLine) -> None:
    done = models("run", SMOLLM2, QUESTION, *LIKELIEST, "--json")
    found = json.loads(done.stdout)
    assert found.pop("tokens_per_s") > 0
    assert found.pop("prompt_tokens") > 10
    assert found.pop("completion_tokens") > 5
    assert "Paris" in found.pop("answer")
    timings, placement = found.pop("timings"), found.pop("placement")
    assert (placement["gpu_layers"], placement["layers"]) == (0, None)
    (host,) = placement["devices"]
    assert host["name"] == "host"
    assert host["weights_bytes"] > 90 << 20
    assert found.pop("runtime_build")
    assert set(timings) == {"load_s", "prompt_s", "answer_s"}
    assert all(seconds > 0 for seconds in timings.values())
    assert (found, done.stderr) == (
        {
            "reference": SMOLLM2,
            "reasoning": None,
            "finish_reason": "stop",
            "context": 8192,
            "sampling": {"temperature": {"value": 0.0, "source": "option"}},
            "seed": 42,
            "tool_calls": [],
            "runtime": "xllamacpp",
            "runtime_image": None,
        },
        "",
    )


def test_where_the_model_was_put_is_said_when_asked_for(models: CommandLine) -> None:
    done = models("run", "fixtures/tiny-llama", "hi", "--verbose", "--max-tokens", "4")
    assert "\nall layers on the CPU; host " in done.stderr


def test_nothing_asked_is_a_usage_error(models: CommandLine) -> None:
    done = models("run", SMOLLM2)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no prompt given, and stdin is empty\nhint: ")


def test_what_is_no_text_is_a_usage_error(models: CommandLine) -> None:
    done = models("run", SMOLLM2, stdin=b"caf\xe9")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "error: stdin is not UTF-8 text\nhint: convert it with iconv\n",
    )


def test_an_answer_that_was_cut_says_so(models: CommandLine) -> None:
    done = models("run", "fixtures/tiny-llama", QUESTION, "--max-tokens", "3")
    assert (done.returncode, done.stdout) == (0, "Hello! I\n")
    assert done.stderr.endswith("the answer was cut off: it reached `max_tokens`, 3 tokens\n")


def test_the_context_asked_for_is_told(models: CommandLine) -> None:
    done = models("run", SMOLLM2, QUESTION, "--context", "2048")
    assert FIT.search(done.stderr.splitlines()[0])[2] == "2048 of 8192"


def test_a_prompt_longer_than_the_context_is_a_capacity_error(models: CommandLine) -> None:
    done = models("run", SMOLLM2, "word " * 1000, "--context", "512", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (7, "", "context_exceeded")


def test_a_context_beyond_the_trained_one_is_never_silently_less(models: CommandLine) -> None:
    done = models("run", SMOLLM2, QUESTION, "--context", "16384", "--max-tokens", "1")
    assert done.returncode == 0
    assert "warning: a context of 16384 exceeds the trained context of 8192" in done.stderr
    assert "warning: the runtime uses a context of 8192 instead of 16384" in done.stderr


def test_a_model_trained_for_a_million_tokens_gets_a_usual_context(models: CommandLine) -> None:
    done = models("run", "ai/granite-4.0-micro", "hi")
    assert (done.returncode, done.stdout) == (0, SENTENCE)
    assert FIT.search(done.stderr.rstrip("\n"))[2] == "32768 of 1048576"


@pytest.mark.parametrize(
    "name",
    [
        *("tiny-llama:docker", "tiny-llama:modelpack", "tiny-llama:shards"),
        *("tiny-llama:shards-modelpack", "tiny-llava:docker", "tiny-llava:modelpack"),
        "tiny-llama:template",
    ],
)
def test_every_kind_of_artifact_runs(models: CommandLine, name: str) -> None:
    done = models("run", f"fixtures/{name}", "hi")
    assert (done.returncode, done.stdout) == (0, SENTENCE)
    assert done.stderr.startswith(f"fixtures/{name}")


def test_a_model_is_called_what_the_user_calls_it(models: CommandLine) -> None:
    assert models("run", "ai/smollm2", "hi", "--max-tokens", "1").stderr.startswith(
        "ai/smollm2:latest Q4_1: fits, "
    )


# What cannot run.


def test_an_embedding_model_is_refused(models: CommandLine) -> None:
    done = models("run", "fixtures/tiny-bert", "hi")
    assert (done.returncode, done.stdout, done.stderr) == (
        10,
        "",
        (
            "error: fixtures/tiny-bert:latest is an embedding model: it cannot chat\nhint: "
            "serve it with `modelrunner serve fixtures/tiny-bert:latest` and use POST "
            "/v1/embeddings\n"
        ),
    )


def test_a_reranking_model_is_refused(models: CommandLine) -> None:
    done = models("run", "fixtures/tiny-ranker", "hi")
    assert (done.returncode, done.stdout, done.stderr) == (
        10,
        "",
        (
            "error: fixtures/tiny-ranker:latest is a reranking model: it cannot chat\nhint: "
            "serve it with `modelrunner serve fixtures/tiny-ranker:latest` and use POST "
            "/v1/rerank\n"
        ),
    )


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{% for m in messages %}{{ m.content ", "Parser Error: Expected }}"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "Callee is not a function"),
        ("{{ raise_exception('no\x1b[31mpe') }}", "nope"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_named(
    models: CommandLine, tmp_path: Path, template: str, cause: str
) -> None:
    file, weights = tmp_path / "chat.jinja", tmp_path / "x.gguf"
    file.write_text(template)
    weights.write_bytes(Path(models("path", "fixtures/tiny-llama").stdout.strip()).read_bytes())
    packed = models("package", str(weights), "me/hostile", "--chat-template", str(file))
    assert packed.returncode == 0
    done = models("run", "me/hostile", "hi")
    assert (done.returncode, done.stdout) == (8, "")
    assert "invalid chat template: " in done.stderr
    assert cause in done.stderr
    assert "\x1b" not in done.stderr
    assert "--chat-template FILE" in done.stderr
    assert nothing_left(models)


def test_a_model_that_the_runtime_refuses_is_a_runtime_error(models: CommandLine) -> None:
    done = models("run", "fixtures/nonesuch", "hi")
    assert (done.returncode, done.stdout) == (8, "")
    assert "unknown model architecture: 'nonesuch'" in done.stderr
    assert done.stderr.endswith(
        "hint: update the runtime or choose another: this llama.cpp does not support the model\n"
    )
    assert nothing_left(models)


def test_a_damaged_model_is_not_started(models: CommandLine) -> None:
    damage(models, "fixtures/tiny-llama:docker")
    done = models("run", "fixtures/tiny-llama:docker", "hi", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (6, "", "corrupt_store")
    assert error["hint"] == (
        "import or load it again, or run `modelrunner pull fixtures/tiny-llama:docker` if a "
        "registry has it"
    )


def damage(models: CommandLine, name: str) -> None:
    """Another byte in the weights; the file is a new one, for the fixtures' are shared."""
    found = json.loads(models("inspect", name).stdout)
    digest = found["layers"][0]["digest"].removeprefix("sha256:")
    blob = models.home / "store" / "v1" / "blobs" / "sha256" / digest
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.unlink()
    blob.write_bytes(content)


def run_without_runtimes(
    models: CommandLine, tmp_path: Path, choice: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        bare_argv("run", SMOLLM2, "hi"),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**bare_environ(models.environ, tmp_path), "MODELRUNNER_RUNTIME": choice},
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_a_runtime_that_is_not_installed_is_named_with_what_installs_it(
    models: CommandLine, tmp_path: Path
) -> None:
    done = run_without_runtimes(models, tmp_path, "llama-cpp-python")
    assert (done.returncode, done.stdout, done.stderr) == (
        8,
        "",
        (
            "error: llama-cpp-python: no Python module llama_cpp\n"
            f"hint: `{add('llama-cpp-python')}`\n"
        ),
    )


def test_no_runtime_at_all_says_what_installs_one(models: CommandLine, tmp_path: Path) -> None:
    done = run_without_runtimes(models, tmp_path, "auto")
    assert (done.returncode, done.stdout, done.stderr) == (
        8,
        "",
        (
            "error: no runtime found that can run a model (installed: none is installed; "
            "llama-server: no llama-server on PATH; llama-cpp-python: no Python module llama_cpp; "
            "xllamacpp: no Python module xllamacpp; docker: no daemon: "
            "/nowhere/docker.sock not found)\n"
            f"hint: `{add('embedded')}`, or `modelrunner runtimes install` for a GPU\n"
        ),
    )


# Ends.


@contextmanager
def answering(models: CommandLine) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A process in the middle of a long answer, and the processes that it started."""
    with subprocess.Popen(
        models.argv("run", SMOLLM2, "Count to a thousand.", "--temperature", "1", "--seed", "1"),
        env=dict(models.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Ctrl-C is for us, not for pytest; a shell's background jobs would ignore it
        start_new_session=True,
    ) as process:
        assert process.stdout.read(1)
        children = offspring(process.pid)
        assert children
        try:
            yield process, children
        finally:
            process.kill()
            process.stdout.close()
            process.stderr.close()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_whatever_ends_it_ends_its_runtime(
    models: CommandLine, number: signal.Signals, code: int
) -> None:
    with answering(models) as (process, children):
        process.send_signal(number)
        assert process.wait(60) == code
        wait_until(lambda: not any(map(alive, children)))
        assert b"Traceback" not in process.stderr.read()


def test_ctrl_c_on_the_whole_group_ends_it_once(models: CommandLine) -> None:
    with answering(models) as (process, children):
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        wait_until(lambda: not any(map(alive, children)))


def test_a_reader_that_leaves_ends_it(models: CommandLine) -> None:
    with answering(models) as (process, children):
        process.stdout.close()
        assert process.wait(60) == 0
        wait_until(lambda: not any(map(alive, children)))


# The chat.


def test_a_chat_remembers_and_leaves(models: CommandLine) -> None:
    with chatting(models, "--temperature", "0") as (terminal, process):
        children = offspring(process.pid)
        terminal.type(f"{QUESTION}\r")
        terminal.wait_for("Paris")
        terminal.wait_for("> ")
        terminal.type('"""\rWhat is\rthe capital of Italy?"""\r')
        terminal.wait_for("Rome")
        terminal.wait_for("> ")
        terminal.type("/bye\r")
        assert process.wait(60) == 0
        wait_until(lambda: not any(map(alive, children)))
    history = models.home / "state" / "history"
    assert QUESTION in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def into_the_answer(terminal: Terminal) -> None:
    """Past the echo of the message, and past its redrawing."""
    terminal.wait_for("sea.")
    terminal.wait_for("\n")
    terminal.wait_for(" ")


def test_ctrl_c_stops_the_answer_and_ctrl_d_the_chat(models: CommandLine) -> None:
    with chatting(models) as (terminal, process):
        children = offspring(process.pid)
        terminal.type("Write a long story about the sea.\r")
        into_the_answer(terminal)
        terminal.type("\x03")
        terminal.wait_for("(stopped)")
        terminal.wait_for("> ")
        terminal.type("\x04")
        assert process.wait(60) == 0
        wait_until(lambda: not any(map(alive, children)))


@pytest.mark.parametrize("amid", ["the prompt", "an answer"])
def test_a_terminal_that_goes_away_ends_everything(models: CommandLine, amid: str) -> None:
    with chatting(models) as (terminal, process):
        children = offspring(process.pid)
        if amid == "an answer":
            terminal.type("Write a long story about the sea.\r")
            into_the_answer(terminal)
        terminal.hang_up()
        assert process.wait(60) in {0, 129}
        wait_until(lambda: not any(map(alive, children)))


@pytest.mark.model(short=True)
def test_a_chat_can_be_suspended_and_goes_on(models: CommandLine) -> None:
    shell = ["bash", "--norc", "--noprofile", "-i"]
    # an answer that does not end while the chat is stopped, however long that takes
    server = OpenAIServer()
    server.next(says(*(f"wave {number} " for number in range(20_000)), pause=0.02))
    environ = {**models.environ, "PS1": "shell: ", "MODELRUNNER_RUNTIME": f"{server.url}/v1"}
    with server, in_terminal(shell, environ) as (terminal, process):
        terminal.wait_for("shell: ")
        terminal.type(f"{shlex.join(models.argv('run', SMOLLM2))}\r")
        terminal.wait_for("Send a message (/? for help)")
        for amid in ("the prompt", "an answer"):
            if amid == "an answer":
                # what is typed before the chat has the terminal again is bash's
                terminal.wait_for("Send a message (/? for help)")
                terminal.type("Write a long story about the sea.\r")
                into_the_answer(terminal)
            terminal.type("\x1a")
            terminal.wait_for("Stopped")
            terminal.wait_for("shell: ")
            terminal.type("fg\r")
            # bash names what goes on before it gives the terminal to it
            terminal.wait_for("modelrunner run")
        terminal.wait_for("wave")
        terminal.type("\x03")
        terminal.wait_for("(stopped)")
        terminal.type("/bye\r")
        terminal.wait_for("shell: ")
        terminal.type("exit $?\r")
        assert process.wait(60) == 0


def test_a_chat_has_no_json(models: CommandLine) -> None:
    master, slave = pty.openpty()
    done = subprocess.run(
        models.argv("run", SMOLLM2, "--json"),
        stdin=slave,
        capture_output=True,
        env=dict(models.environ),
        check=False,
    )
    os.close(master)
    os.close(slave)
    assert (done.returncode, done.stdout) == (2, b"")
    assert json.loads(done.stderr)["error"]["message"] == "--json needs a prompt"


def test_a_read_only_store_runs(models: CommandLine, tmp_path: Path) -> None:
    models("path", "fixtures/tiny-llama:docker")
    store = models.home / "store"
    with read_only(store):
        done = models("run", "fixtures/tiny-llama:docker", "hi")
    assert (done.returncode, done.stdout) == (0, SENTENCE), done.stderr


def test_garbage_that_calls_itself_gguf_is_an_integrity_error(
    cli: CommandLine, tmp_path: Path
) -> None:
    from tests.support.artifacts import docker_artifact
    from tests.support.registry import Registry

    with Registry() as registry:
        registry.add(docker_artifact(b"garbage" * 1000), "team/garbage", ["1"])
        done = cli("run", registry.reference("team/garbage:1"), "hi", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (6, "", "malformed_gguf")


def test_a_gguf_without_a_tokenizer_is_refused_by_the_runtime(
    cli: CommandLine, tmp_path: Path
) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf", metadata={"tokenizer.ggml.model": None})
    assert cli("package", str(file), "mine").returncode == 0
    done = cli("run", "mine", "hi")
    assert (done.returncode, done.stdout) == (8, "")
    assert re.search(r"^error: \S+ cannot serve ai/mine:latest: ", done.stderr, re.MULTILINE)


# Processes.


def offspring(pid: int) -> list[int]:
    """The children of a process and theirs."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    parents = {int(one): int(two) for one, two in (line.split() for line in listed.splitlines())}
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        children = [one for one, other in parents.items() if other == parent]
        found += children
        waiting += children
    return found


def nothing_left(models: CommandLine) -> bool:
    """Whether no log of a good run is left, and no runtime of this home runs."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True
    ).stdout
    return str(models.home) not in listed


def test_a_log_that_cannot_be_written_is_one_sentence(models: CommandLine, tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "logs").mkdir(parents=True)
    with read_only(state):
        done = models("run", SMOLLM2, "hi", MODELRUNNER_STATE=str(state))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "hint: check its owner and permissions, or set MODELRUNNER_STATE to another directory"
    )
