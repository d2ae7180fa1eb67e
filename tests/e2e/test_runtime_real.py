"""A real `llama-server` out of an image, with another C library than this machine's, answers."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelrunner.runtime.images import start
from modelrunner.runtime.images.library import Library
from tests.conftest import CommandLine
from tests.support.artifacts import docker_artifact
from tests.support.bare import ROOT, bare_argv, bare_environ
from tests.support.docker_registry import docker_registry, needs_docker_registry, push_artifact
from tests.support.images import Image
from tests.support.registry import Registry
from tests.support.runtime_image import artifact_of, real_image, shell_image
from tests.support.terminal import in_terminal

# the image is unpacked once for all of them
pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.xdist_group("real image"),
    needs_docker_registry,
]

REPOSITORY = "ggml-org/llama.cpp"
_CACHE = Path(os.environ.get("MODELRUNNER_CI_WHEELS") or "/var/cache/modelrunner-ci")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image."""
    cache = _CACHE if os.access(_CACHE, os.W_OK) else tmp_path_factory.mktemp("cache")
    return real_image(cache / "llama-server")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, image: Image) -> Path:
    """A home with the runtime installed, from a registry that is not ours."""
    folder = tmp_path_factory.mktemp("real")
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    with docker_registry(folder / "registry") as registry:
        push_artifact(registry, artifact_of(image), REPOSITORY, ["server"])
        environ = {
            **kept,
            "HOME": str(folder / "user"),
            "MODELRUNNER_HOME": str(folder / "home"),
            "MODELRUNNER_MIRRORS": f"ghcr.io=http://{registry.host}",
        }
        done = CommandLine(folder / "home", environ)("runtimes", "install", "cpu", "--yes")
    assert done.returncode == 0, done.stderr
    return folder / "home"


@pytest.fixture
def installed(cli: CommandLine, home: Path) -> CommandLine:
    """The command line with the runtime installed."""
    shutil.copytree(home / "runtimes", cli.home / "runtimes", symlinks=True)
    return cli


def test_it_answers(installed: CommandLine, smollm2_gguf: Path) -> None:
    question = "What is the capital of France? Answer in one sentence."
    done = installed(
        "run", str(smollm2_gguf), question, "--max-tokens", "24", "--temperature", "0", "--json",
        MODELRUNNER_RUNTIME="installed",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"].strip()


def test_a_machine_with_nothing_pulls_both_and_answers(
    cli: CommandLine, image: Image, smollm2_gguf: Path, tmp_path: Path
) -> None:
    with docker_registry(tmp_path / "registry") as registry:
        push_artifact(registry, artifact_of(image), REPOSITORY, ["server"])
        name = registry.reference("ai/smollm2:1")
        assert cli("package", str(smollm2_gguf), name, "--push").returncode == 0
        assert cli("rm", name, "--force").returncode == 0
        environ = {
            **bare_environ(cli.environ, tmp_path),
            "MODELRUNNER_MIRRORS": f"ghcr.io=http://{registry.host}",
        }
        question = "What is the capital of France? Answer in one sentence."
        command = bare_argv("run", name, question, "--max-tokens", "24", "--temperature", "0")
        with in_terminal(command, environ, folder=ROOT) as (terminal, process):
            terminal.wait_for("? [y/N] ")
            terminal.type("y\n")
            rest = terminal.drain()
            assert process.wait(60) == 0, rest
    assert "installed cpu" in rest
    assert "Paris" in rest


def test_auto_tries_it_first(installed: CommandLine) -> None:
    rows = json.loads(installed("runtimes", "--json").stdout)
    assert (rows[0]["name"], rows[0]["chosen"]) == ("installed", True)


@pytest.mark.parametrize("isolate", [True, False], ids=["isolated", "by a loader"])
def test_both_ways_of_starting_it_find_its_libraries(installed: CommandLine, isolate: bool) -> None:
    one = Library(installed.home / "runtimes").current()
    assert one is not None
    said = _said(start.command(one, ["--version"], os.environ, isolate=isolate))
    assert one.version is not None
    assert one.version in said


def test_a_project_runs_on_its_locked_build_and_knows_it_when_another_one_fails(
    cli: CommandLine, registry: Registry, project: Path, image: Image, smollm2_gguf: Path
) -> None:
    model = docker_artifact(smollm2_gguf.read_bytes())
    registry.add(model, "team/smollm2", ["1"])
    index = registry.add(artifact_of(image), REPOSITORY, ["server"])
    ghcr = CommandLine(
        cli.home, {**cli.environ, "MODELRUNNER_MIRRORS": f"ghcr.io=http://{registry.host}"}
    )
    name = f"{registry.host}/team/smollm2:1"
    (project / "modelrunner.toml").write_text(
        f'[models]\nchat = "{name}"\n[runtime]\nimage = "cpu"\n'
    )
    for command in (("lock",), ("pull", "--locked"), ("verify", "--deep"), ("pull", "--frozen")):
        done = ghcr(*command)
        assert done.returncode == 0, done.stderr
    question = ("run", name, "hi", "--max-tokens", "4", "--context", "256")
    done = ghcr(*question, "--runtime", "installed", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["runtime_image"]
    worked = said["name"]
    assert (said["digest"], worked.partition("@")[0]) == (index, "cpu")
    measured = ghcr(
        "bench", name, "--prompt", "8", "--parallel", "1", "--generate", "2", "--rounds", "1",
        "--runtime", f"installed:{worked}", "--json",
    )  # fmt: skip
    assert json.loads(measured.stdout)["runtime_image"] == said
    registry.add(artifact_of(shell_image("b999999")), REPOSITORY, ["server"])
    assert ghcr("runtimes", "update", "--yes").returncode == 0
    failed = ghcr(*question, "--runtime", "installed")
    assert failed.returncode == 8
    back = f"`modelrunner runtimes use {worked}`"
    assert f"hint: {name} last worked with {worked}: {back} goes back to it\n" in failed.stderr
    kept = json.loads(ghcr("configure", name, "--show", "--json").stdout)
    assert kept["last_worked_with"]["image"] == worked
    assert ghcr("runtimes", "use", worked).returncode == 0
    assert ghcr(*question, "--runtime", "installed").returncode == 0


def _said(made: start.Command) -> str:
    environ: Mapping[str, str] = made.environ
    done = subprocess.run(
        made.argv, env=dict(environ), capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout + done.stderr
