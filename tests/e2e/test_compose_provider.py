"""`provider: type: modelrunner`: Docker Compose starts a server with a project, and ends it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.docker_daemon import DockerDaemon
from tests.support.exports import COMPOSE, compose
from tests.support.machine_image import PYTHON, import_image, python_files

pytestmark = pytest.mark.model

TALKER = "fixtures/tiny-llama"


@dataclass(frozen=True)
class Lines:
    code: int
    messages: list[Mapping[str, str]]

    @property
    def variables(self) -> Mapping[str, str]:
        said = [each["message"] for each in self.messages if each["type"] == "setenv"]
        return dict(each.split("=", 1) for each in said)


@pytest.fixture
def provided(models: CommandLine) -> Iterator[CommandLine]:
    """A command line after whose test nothing is served."""
    yield models
    models("stop", "--all")


def up(cli: CommandLine, *arguments: str) -> Lines:
    done = cli("compose", "--project-name=demo", "up", *arguments)
    return Lines(done.returncode, [json.loads(line) for line in done.stdout.splitlines()])


def serves(cli: CommandLine) -> list[tuple[str, int]]:
    return [(each["url"], each["context"]) for each in json.loads(cli("ps", "--json").stdout)]


def test_a_service_gets_a_server_that_stays_until_its_project_goes(provided: CommandLine) -> None:
    asked = (f"--model={TALKER}", "--context-size=512", "--host=127.0.0.1", "llm")
    first = up(provided, *asked)
    assert first.code == 0
    assert any(each["message"].startswith(f"serving {TALKER}") for each in first.messages)
    ((url, context),) = serves(provided)
    port = url.rpartition(":")[2]
    assert context == 512
    assert first.variables == {
        "MODEL": TALKER,
        "URL": f"http://host.docker.internal:{port}/engines/v1/",
        "API_KEY": "none",
    }
    # once more is the same; other options are another server
    assert up(provided, *asked).variables == first.variables
    assert serves(provided) == [(url, 512)]
    flags = "--runtime-flags=--threads 1 --ctx-size 256"
    other = up(provided, f"--model={TALKER}", flags, "--host=127.0.0.1", "llm")
    assert other.code == 0
    ((_, context),) = serves(provided)
    assert context == 256
    down = provided("compose", "--project-name=demo", "down", "llm")
    assert (down.returncode, down.stdout) == (0, "")
    assert serves(provided) == []
    assert provided("compose", "--project-name=demo", "down", "llm").returncode == 0


def test_what_goes_wrong_is_a_message_for_compose(provided: CommandLine) -> None:
    for arguments, message in (
        (("llm",), "no model given for the service"),
        (("--model=local/none", "--host=127.0.0.1", "llm"), "local/none"),
        (
            (f"--model={TALKER}", "--runtime-flags=--log-file x", "llm"),
            "the runtime flag '--log-file' is not allowed",
        ),
    ):
        failed = up(provided, *arguments)
        assert failed.code != 0
        last = failed.messages[-1]
        assert last["type"] == "error"
        assert message in last["message"]
    assert serves(provided) == []


ASK = """
import json, os, urllib.request
headers = {"Authorization": f"Bearer {os.environ['LLM_API_KEY']}"}
asked = {"model": os.environ["LLM_MODEL"], "messages": [{"role": "user", "content": "hi"}]}
url = os.environ["LLM_URL"] + "chat/completions"
request = urllib.request.Request(url, json.dumps(asked).encode(), headers)
answer = json.load(urllib.request.urlopen(request, timeout=60))
print("answer:", answer["choices"][0]["message"]["content"])
"""
PROJECT = {
    "services": {
        "llm": {
            "provider": {
                "type": "modelrunner",
                "options": {"model": TALKER, "context-size": 512, "host": "127.0.0.1"},
            }
        },
        "app": {
            "image": "test/python",
            "command": [str(PYTHON), "-c", ASK.replace("$", "$$")],
            "depends_on": ["llm"],
            "network_mode": "host",
            # as Docker Desktop has it
            "extra_hosts": ["host.docker.internal:127.0.0.1"],
        },
    }
}


@pytest.mark.docker
@pytest.mark.skipif(not COMPOSE.is_file(), reason="no docker-compose")
def test_docker_compose_starts_it_for_a_container_and_ends_it(
    provided: CommandLine, docker_daemon: DockerDaemon, tmp_path: Path
) -> None:
    import_image(docker_daemon.host, "test/python", tmp_path / "image.tar", python_files())
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "modelrunner"
    words = " ".join(f"'{word}'" for word in provided.argv())
    wrapper.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    wrapper.chmod(0o755)
    file = tmp_path / "compose.json"
    file.write_text(json.dumps(PROJECT))
    environ = {
        **provided.environ,
        "PATH": f"{wrapper.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "DOCKER_HOST": docker_daemon.host,
    }
    started = compose("demo", file, environ, "up", "--no-color")
    try:
        assert "I am a tiny model" in started.stdout, started.stderr
        ((_, context),) = serves(provided)
        assert context == 512
    finally:
        ended = compose("demo", file, environ, "down")
    assert ended.returncode == 0, ended.stderr
    assert serves(provided) == []


MODELS = {
    "models": {"llm": {"model": TALKER, "context_size": 512, "runtime_flags": ["--threads=1"]}},
    "services": {
        "app": {
            **PROJECT["services"]["app"],
            "depends_on": [],
            "environment": {"LLM_API_KEY": "none"},
            "models": {"llm": {}},
        }
    },
}


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """This program in the place of Docker's plugin, as a link to its console script would be."""
    folder = tmp_path / ".docker" / "cli-plugins"
    folder.mkdir(parents=True)
    program = folder / "docker-model"
    program.write_text(f"#!{sys.executable}\nfrom modelrunner.__main__ import main\n\nmain()\n")
    program.chmod(0o755)
    return program


@pytest.mark.docker
@pytest.mark.skipif(not COMPOSE.is_file(), reason="no docker-compose")
def test_models_of_a_compose_file_need_no_plugin_of_dockers(
    provided: CommandLine, plugin: Path, docker_daemon: DockerDaemon, tmp_path: Path
) -> None:
    import_image(docker_daemon.host, "test/python", tmp_path / "image.tar", python_files())
    assert provided("serve", TALKER, "--port", "0", "--detach").returncode == 0
    file = tmp_path / "compose.json"
    file.write_text(json.dumps(MODELS))
    environ = {**provided.environ, "HOME": str(tmp_path), "DOCKER_HOST": docker_daemon.host}
    started = compose("models", file, environ, "up", "--no-color")
    assert compose("models", file, environ, "down").returncode == 0
    assert "I am a tiny model" in started.stdout, started.stderr
    ((_, context),) = serves(provided)
    assert context == 512


def test_the_plugin_says_what_compose_asks(
    provided: CommandLine, plugin: Path, mirror: str
) -> None:
    environ = {**provided.environ, "MODELRUNNER_MIRRORS": mirror}

    def asked(*words: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [plugin, *words],
            env={**environ, **more},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert json.loads(asked("docker-cli-plugin-metadata").stdout)["SchemaVersion"] == "0.1.0"
    alone = asked("status", "--json")
    assert alone.returncode == 8
    assert "no server is running" in alone.stderr
    online = CommandLine(provided.home, environ)
    assert online("serve", TALKER, "--port", "0", "--detach").returncode == 0
    ((url, _),) = serves(provided)
    port = url.rpartition(":")[2]
    status = json.loads(asked("status", "--json").stdout)
    assert status["endpoint"] == f"http://host.docker.internal:{port}/v1/"
    named = json.loads(asked("model", "status", "--json", MODEL_RUNNER_HOST=url).stdout)
    assert named["endpoint"] == f"{url}/v1/"
    (model,) = json.loads(asked("ls", "--json").stdout)
    expected = {f"docker.io/{TALKER}:latest", f"{TALKER}:latest", TALKER, f"docker.io/{TALKER}"}
    assert expected <= set(model["tags"])
    pulled = asked("pull", TALKER)
    assert (pulled.returncode, pulled.stderr) == (0, "")
    assert pulled.stdout.startswith("Using cached model: ")
    missing = asked("pull", "local/none")
    assert missing.returncode == 8
    refused = asked("configure", TALKER, "--", "--log-file=x")
    assert refused.returncode == 8
    assert "the runtime flag '--log-file' is not allowed" in refused.stderr
    unknown = asked("run", TALKER)
    assert unknown.returncode == 2
    assert "`modelrunner run`" in unknown.stderr
    metadata = json.loads(asked("compose", "metadata").stdout)
    assert metadata["description"] == "Serve local models with modelrunner"
