"""`configure`, and settings from option to runtime: what is kept, what counts, what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.docker_daemon import DockerDaemon
from tests.support.llama_image import IMAGE

SMOLLM2 = "ai/smollm2:135M-Q4_1"
ID = "docker.io/ai/smollm2:135M-Q4_1"


def error_of(done):
    assert done.stdout == ""
    return json.loads(done.stderr.splitlines()[-1])["error"]


def test_settings_are_kept_shown_and_unset(cli: CommandLine) -> None:
    done = cli("configure", SMOLLM2, "--context", "1024", "--set", "mmap=off", "--json")
    assert json.loads(done.stdout) == {
        "reference": ID,
        "configuration": {"mmap": False, "context": 1024},
    }
    assert cli("configure", SMOLLM2, "--show").stdout == "mmap=off\ncontext=1024\n"
    assert cli("configure", "smollm2:135M-Q4_1", "--unset", "context").stdout == "mmap=off\n"
    done = cli("configure", SMOLLM2, "--unset", "mmap")
    assert (done.stdout, done.stderr) == ("", f"no settings saved for {SMOLLM2}\n")
    assert list((cli.home / "state" / "models").iterdir()) == []


def test_settings_are_of_one_tag_alone(cli: CommandLine) -> None:
    cli("configure", SMOLLM2, "--context", "1024")
    assert cli("configure", "ai/smollm2", "--show").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "contxt=1"], "unknown setting 'contxt'"),
        (["--set", "context=no"], "context must be a whole number of at least 1, got 'no'"),
        (["--kv-type", "q9"], "--kv-type must be one of f32, f16, "),
        (["--unset", "contxt"], "unknown setting 'contxt'"),
        (["--set", "mmap=on", "--unset", "mmap"], "cannot set and unset mmap at the same time"),
        (["--show", "--context", "5"], "--show cannot be combined with changes"),
    ],
)
def test_what_is_not_understood_changes_nothing(
    cli: CommandLine, arguments: list[str], message: str
) -> None:
    cli("configure", SMOLLM2, "--context", "1024")
    done = cli("configure", SMOLLM2, *arguments, "--json")
    assert done.returncode == 2
    assert error_of(done)["message"].startswith(message)
    assert cli("configure", SMOLLM2).stdout == "context=1024\n"


def test_damaged_file_is_named_and_not_overwritten(cli: CommandLine) -> None:
    cli("configure", SMOLLM2, "--context", "1024")
    (file,) = (cli.home / "state" / "models").iterdir()
    file.write_text("{")
    done = cli("configure", SMOLLM2, "--threads", "1", "--json")
    assert done.returncode == 2
    assert error_of(done)["path"] == str(file)
    assert file.read_text() == "{"


@pytest.mark.model
class TestStart:
    """What a start makes of them."""

    def test_option_beats_configuration_and_that_beats_the_file(self, models: CommandLine) -> None:
        (models.home / "config.toml").write_text("context = 300\nthreads = 1\n")
        plain = models("run", SMOLLM2, "hi", "--max-tokens", "1")
        assert "context rounded up to 512 of 8192, 1 threads" in plain.stderr
        models("configure", SMOLLM2, "--context", "400", "--kv-type", "q8_0")
        configured = models("run", SMOLLM2, "hi", "--max-tokens", "1", "--json", "-q")
        assert json.loads(configured.stdout)["context"] == 512  # as llama.cpp rounds it
        configured = models("run", SMOLLM2, "hi", "--max-tokens", "1")
        assert "context rounded up to 512 of 8192, its cache q8_0, 1 threads" in configured.stderr
        asked = models("run", SMOLLM2, "hi", "--max-tokens", "1", "--set", "context=600")
        assert "context rounded up to 768 of 8192, its cache q8_0" in asked.stderr
        shown = json.loads(models("inspect", SMOLLM2).stdout)["configuration"]
        assert shown == {"kv_type": "q8_0", "context": 400}

    def test_draft_model_guesses_and_the_answer_stays_the_same(self, models: CommandLine) -> None:
        question = [
            "run",
            SMOLLM2,
            "What is the capital of France? Answer in one sentence.",
            "--temperature",
            "0",
            "--max-tokens",
            "12",
        ]
        alone = models(*question)
        helped = models(*question, "--draft", SMOLLM2, "--set", "draft-tokens=3")
        assert helped.returncode == 0, helped.stderr
        assert helped.stdout == alone.stdout

    def test_the_system_prompt_and_the_seed_are_kept_and_an_option_beats_them(
        self, models: CommandLine
    ) -> None:
        def tokens(*options: str) -> int:
            done = models("run", "fixtures/tiny-llama", "hi", "--json", *options)
            found: int = json.loads(done.stdout)["prompt_tokens"]
            return found

        plain = tokens()
        said = models(
            *("configure", "fixtures/tiny-llama", "--set", "system=one two three four five six"),
            *("--set", "seed=7", "--set", "temp=0.5"),
        )
        assert said.stdout == "system=one two three four five six\nseed=7\ntemperature=0.5\n"
        configured = tokens()
        assert configured > plain
        assert tokens("--system", "one") < configured
        shown = models("run", "fixtures/tiny-llama", "hi", "--verbose", "--max-tokens", "2")
        assert "temperature 0.5 (`modelrunner configure`)" in shown.stderr
        assert "; seed 7" in shown.stderr

    def test_draft_model_that_is_not_here_is_named(self, models: CommandLine) -> None:
        done = models("run", SMOLLM2, "hi", "--draft", "ai/nothing", "--json")
        assert done.returncode == 3
        assert "ai/nothing" in error_of(done)["message"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--rpc", "gpu-1:50052"], "xllamacpp does not offer RPC servers"),
            (
                ["--set", "lora=nothing.gguf"],
                "adapter nothing.gguf: file not found",
            ),
            (["--device", "CUDA7"], "device CUDA7: not found"),
            (["--set", "main-gpu=1"], "main-gpu 1: xllamacpp has 0 GPUs"),
            (
                ["--draft", "mtp"],
                f"draft mtp: {SMOLLM2} has no layers that predict further tokens (MTP)",
            ),
            (["--set", "draft-tokens=3"], "draft-tokens needs a draft model"),
            (
                ["--kv-type", "q8_0", "--set", "flash-attention=off"],
                "kv-type-v q8_0 needs flash attention, which is off",
            ),
            (
                ["--runtime", "http://127.0.0.1:9/v1", "--kv-type", "q8_0"],
                "cannot set kv-type: the server is already running",
            ),
        ],
    )
    def test_what_cannot_be_done_is_refused_before_the_start(
        self, models: CommandLine, arguments: list[str], message: str
    ) -> None:
        # all behind `--` is for the runtime
        done = models("run", SMOLLM2, "hi", "--json", *arguments)
        assert done.returncode == 2
        assert error_of(done)["message"] == message

    @pytest.mark.docker
    def test_flags_of_llama_server_reach_a_container(
        self, models: CommandLine, docker_with_llama: DockerDaemon
    ) -> None:
        environ = {
            "MODELRUNNER_RUNTIME": "docker",
            "MODELRUNNER_CONTAINER_IMAGE": IMAGE,
            "DOCKER_HOST": docker_with_llama.host,
        }
        done = models(
            "run",
            SMOLLM2,
            "What is the capital of France? Answer in one sentence.",
            "--temperature",
            "0",
            **environ,
        )
        assert done.returncode == 0, done.stderr
        assert "Paris" in done.stdout
        done = models("run", SMOLLM2, "hi", "--json", "--", "--no-such-flag", **environ)
        assert done.returncode == 8
        assert "--no-such-flag" in error_of(done)["message"]


class TestRuntimes:
    """Which there are, which is used, and why not the others."""

    def test_every_runtime_has_a_reason_or_is_the_one(self, cli: CommandLine) -> None:
        rows = json.loads(cli("runtimes", "--json").stdout)
        assert [row["name"] for row in rows] == [
            "installed", "llama-server", "llama-cpp-python", "xllamacpp", "docker",
        ]  # fmt: skip
        assert sum(row["chosen"] for row in rows) <= 1
        for row in rows:
            assert row["chosen"] is (row["why_not"] is None)
            assert row["available"] or (row["hint"] and row["detail"])
            assert bool(row["devices"]) is row["available"]

    def test_the_one_that_was_chosen_is_marked(self, cli: CommandLine, tmp_path: Path) -> None:
        program = tmp_path / "bin" / "llama-server"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\necho 'version: 6107 (abc)'\n")
        program.chmod(0o755)
        path = f"{program.parent}:{Path(shutil.which('sh') or '/bin/sh').parent}"
        rows = json.loads(cli("runtimes", "--json", PATH=path).stdout)
        found = {row["name"]: row for row in rows}
        assert found["llama-server"]["chosen"] is True
        assert found["llama-server"]["version"] == "6107 (abc)"
        here = [row["why_not"] for row in rows if row["available"] and not row["chosen"]]
        assert set(here) <= {"llama-server is preferred"}


def test_a_name_that_is_spelled_wrong_is_not_kept(cli: CommandLine) -> None:
    done = cli("configure", "ai/smolm2", "--context", "5")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "error: ai/smolm2: not in the local store\n"
        "hint: did you mean `ai/smollm2`? If not, pull the model first\n"
    )
    assert cli("configure", "ai/smolm2", "--show").stdout == ""


@pytest.mark.parametrize("name", ["ghcr.io/acme/assistant", "ghcr.io/acme/smollm2"])
def test_a_model_that_nobody_knows_yet_is_kept_with_a_warning(cli: CommandLine, name: str) -> None:
    done = cli("configure", name, "--context", "512")
    assert (done.returncode, done.stdout) == (0, "context=512\n")
    assert f"{name}:latest is not in the local store" in done.stderr
    assert cli("configure", "ai/smollm2", "--context", "512").stderr == (
        "warning: ai/smollm2:latest is not in the local store; settings saved anyway\n"
    )
