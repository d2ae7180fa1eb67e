"""`--rpc`: who computes on other machines is warned, and llama.cpp is told where they are."""

import os
import shlex
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from modelrunner.runtime.settings import RPC_WARNING
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.modules import folder_of
from tests.support.stores import put

STAND_IN = Path(__file__).parents[1] / "support" / "llama_server.py"
SMOLLM2 = "ai/smollm2:135M-Q4_1"


def with_llama_server(cli: CommandLine, tmp_path: Path, script: str) -> CommandLine:
    """The command line where `llama-server` on PATH is a script that notes how it is called."""
    program = tmp_path / "bin" / "llama-server"
    program.parent.mkdir()
    noted = shlex.quote(str(tmp_path / "arguments"))
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {noted}\n{script}\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{cli.environ['PATH']}"
    return replace(
        cli, environ={**cli.environ, "PATH": path, "MODELRUNNER_RUNTIME": "llama-server"}
    )


@pytest.mark.model
def test_the_servers_reach_llama_cpp(models: CommandLine, tmp_path: Path) -> None:
    folder_of("xllamacpp", "the stand-in for llama-server needs xllamacpp")
    cli = with_llama_server(
        models, tmp_path, f'exec {shlex.join([sys.executable, str(STAND_IN)])} "$@"'
    )
    done = cli(
        *(
            "run",
            SMOLLM2,
            "What is the capital of France? Answer in one sentence.",
            "--temperature",
            "0",
            "--context",
            "512",
        ),
        *("--max-tokens", "8", "--rpc", "127.0.0.1:50052, gpu-2:50052"),
    )
    assert done.returncode == 0, done.stderr
    told = (tmp_path / "arguments").read_text().splitlines()
    assert told[told.index("--rpc") + 1] == "127.0.0.1:50052,gpu-2:50052"
    assert f"warning: {RPC_WARNING}\n" in done.stderr


def test_a_build_without_rpc_is_said_to_be_one(
    cli: CommandLine, tiny: Artifact, tmp_path: Path
) -> None:
    put(cli.store, tiny, "ai/tiny:1")
    cli = with_llama_server(cli, tmp_path, 'echo "error: invalid argument: --rpc" >&2\nexit 1')
    done = cli("run", "ai/tiny:1", "hi", "--rpc", "gpu-1:50052")
    assert done.returncode == 8
    assert "hint: use a llama.cpp built with GGML_RPC=ON" in done.stderr


@pytest.mark.parametrize("command", ["run", "serve", "bench"])
def test_nonsense_is_refused_before_anything_starts(cli: CommandLine, command: str) -> None:
    more = ["hi"] if command == "run" else []
    done = cli(command, "ai/tiny:1", *more, "--rpc", "gpu-1", "--offline")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--rpc must be HOST:PORT,..." in done.stderr


@pytest.mark.parametrize("runtime", ["xllamacpp", "llama-cpp-python"])
@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_runtime_that_cannot_says_who_can(
    cli: CommandLine, tiny: Artifact, command: str, runtime: str
) -> None:
    module = {"xllamacpp": "xllamacpp", "llama-cpp-python": "llama_cpp"}[runtime]
    # to import it here would load llama.cpp into the tests
    if find_spec(module) is None:
        pytest.skip(f"needs {runtime}")
    put(cli.store, tiny, "ai/tiny:1")
    more = ["hi"] if command == "run" else ["--port", "0"]
    done = cli(command, "ai/tiny:1", *more, "--rpc", "gpu-1:50052", "--runtime", runtime)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {runtime} does not offer RPC servers\n" in done.stderr
    assert "--runtime llama-server" in done.stderr


def test_a_server_of_several_models_warns_once(
    cli: CommandLine, tiny: Artifact, tmp_path: Path
) -> None:
    put(cli.store, tiny, "ai/tiny:1")
    cli = with_llama_server(cli, tmp_path, "exit 1")
    done = cli("serve", "ai/tiny:1", "--rpc", "gpu-1:50052", "--detach", "--port", "0")
    assert cli("stop", "--all").returncode == 0
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(RPC_WARNING) == 1
