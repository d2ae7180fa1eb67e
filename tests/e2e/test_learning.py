"""What a model took when it ran is what the next answers say, with every runtime that is here."""

import importlib.util
import json
import os
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import CommandLine

pytestmark = pytest.mark.model

SMOLLM2 = "ai/smollm2:135M-Q4_1"
STAND_IN = Path(__file__).parents[1] / "support" / "llama_server.py"
SEEN = re.compile(
    r"^note: measured in an earlier run: (\S+ MiB) at context (\d+) with ([^\s,;]+)"
    r"(?:, \S+ MiB of it in the mapped file)?[;,] (.*)$",
    re.MULTILINE,
)
MODULES = {"xllamacpp": "xllamacpp", "llama-cpp-python": "llama_cpp", "llama-server": "xllamacpp"}


@pytest.fixture(params=list(MODULES))
def runtime(request: pytest.FixtureRequest) -> str:
    """Each runtime that is here, by its name."""
    name = str(request.param)
    if importlib.util.find_spec(MODULES[name]) is None:
        pytest.skip(f"no Python module {MODULES[name]}")
    return name


@pytest.fixture
def learner(runtime: str, models: CommandLine, tmp_path: Path) -> CommandLine:
    """The command line with one runtime chosen."""
    environ = {**models.environ, "MODELRUNNER_RUNTIME": runtime}
    if runtime == "llama-server":
        program = tmp_path / "bin" / runtime
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(STAND_IN)])} "$@"\n')
        program.chmod(0o755)
        environ["PATH"] = f"{program.parent}{os.pathsep}{environ['PATH']}"
    return replace(models, environ=environ)


def ask(learner: CommandLine) -> str:
    """Runs the model once; what stderr said."""
    done = learner("run", SMOLLM2, "hi", "--context", "512", "--max-tokens", "1")
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_after_a_run_estimates_say_what_it_took(learner: CommandLine, runtime: str) -> None:
    before = learner("estimate", SMOLLM2, "--context", "512").stdout
    assert "measured earlier" not in before
    assert "measured earlier" not in ask(learner)
    after = learner("estimate", SMOLLM2, "--context", "512").stdout
    size, context, who, what = SEEN.findall(after)[0]
    assert (who, context, what) == (runtime, "512", "the compute figure was adjusted")
    first = after.partition("\n")[0]
    assert first.startswith(f"{SMOLLM2}: fits, needs {size} of ")
    assert first.endswith(" (measured earlier on this machine); context 512")
    assert f" needs {size} of " in ask(learner)
    answer = json.loads(learner("estimate", SMOLLM2, "--context", "512", "--json").stdout)
    assert answer["source"] == "header"
    assert answer["low_bytes"] <= answer["bytes"]["total"] <= answer["high_bytes"]


def test_a_run_says_that_it_was_seen_before(learner: CommandLine) -> None:
    ask(learner)
    assert re.search(
        r"fits, needs \S+ MiB of \S+ GiB memory \(measured earlier on this machine\); ",
        ask(learner),
    )


def test_a_run_with_more_layers_or_another_context_counts_for_itself(learner: CommandLine) -> None:
    ask(learner)
    for use in (["--context", "1024"], ["--context", "512", "--gpu-layers", "0"]):
        first = learner("estimate", SMOLLM2, *use).stdout.partition("\n")[0]
        assert "measured earlier" not in first
    other = learner("estimate", SMOLLM2, "--context", "1024").stdout
    assert SEEN.findall(other)[0][1] == "512"


def test_a_pull_says_what_it_took_when_it_was_here(
    learner: CommandLine, mirror: str, tmp_path: Path
) -> None:
    environ = {"MODELRUNNER_MIRRORS": mirror, "MODELRUNNER_HOME": str(tmp_path / "empty")}
    done = learner("run", SMOLLM2, "hi", "--max-tokens", "1", **environ)
    assert done.returncode == 0, done.stderr
    assert "measured earlier" not in done.stderr
    assert learner("rm", SMOLLM2, **environ).returncode == 0
    pulled = learner("pull", SMOLLM2, **environ)
    assert pulled.returncode == 0
    assert " (measured earlier on this machine); context 8192" in pulled.stderr
