"""Docker Model Runner's own command line, pointed at `serve` by MODEL_RUNNER_HOST."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import CommandLine
from tests.support.docker_daemon import DockerDaemon
from tests.support.docker_model import PROGRAM, DockerModel, needs_docker_model
from tests.support.docker_registry import docker_registry, needs_docker_registry
from tests.support.exports import COMPOSE, compose
from tests.support.machine_image import PYTHON, import_image, python_files
from tests.support.model_directories import ONE, write
from tests.support.registry import Registry
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.model, pytest.mark.real, needs_docker_model]

TALKER, VECTORS = "fixtures/tiny-llama", "fixtures/tiny-bert"


@dataclass(frozen=True)
class Served:
    """A server over a store with one model, and Docker's command line that asks it."""

    docker: DockerModel
    ours: CommandLine

    def names(self) -> list[str]:
        """The names in the local store."""
        found = json.loads(self.ours("list", "--json").stdout)
        return sorted(name for model in found for name in model["references"])


@pytest.fixture
def served(cli: CommandLine, mirror: str, tmp_path: Path) -> Iterator[Served]:
    """A server that begins with the chat model and can pull the others."""
    environ = {
        **cli.environ,
        "MODELRUNNER_RUNTIME": "xllamacpp",
        "MODELRUNNER_MIRRORS": mirror,
    }
    ours = CommandLine(cli.home, environ)
    assert ours("pull", TALKER).returncode == 0
    with subprocess.Popen(
        ours.argv("serve", "--all", "--port", "0", "--record-requests"),
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            url = process.stdout.readline().strip()
            (tmp_path / "docker").mkdir()
            yield Served(DockerModel(url, tmp_path / "docker"), ours)
        finally:
            process.terminate()
            process.wait(30)


def test_what_runs_and_what_there_is(served: Served) -> None:
    docker = served.docker
    status = docker("status")
    assert status.code == 0
    assert status.said.startswith("Docker Model Runner is running\n")
    assert ["llama.cpp", "Running", "xllamacpp"] in status.lines
    assert json.loads(docker("status", "--json").said)["endpoint"] == f"{docker.url}/v1/"
    version = docker("version")
    assert "modelrunner" in version.said
    assert "not reachable" not in version.said
    listed = docker("list")
    (model,) = json.loads(served.ours("list", "--json").stdout)
    heads, row = listed.lines
    assert heads == [
        "MODEL",
        "NAME",
        "PARAMETERS",
        "QUANTIZATION",
        "ARCHITECTURE",
        "MODEL",
        "ID",
        "CREATED",
        "CONTEXT",
        "SIZE",
    ]
    assert row[0] == TALKER
    assert model["id"].removeprefix("sha256:")[:12] in row
    assert "8192" in row
    assert docker("list", "-q").said == model["id"].removeprefix("sha256:")[:12] + "\n"
    (found,) = json.loads(docker("list", "--json").said)
    assert found["id"] == model["id"]
    assert json.loads(docker("list", "--openai").said)["data"][0]["id"] == f"{TALKER}:latest"
    assert json.loads(docker("inspect", TALKER).said)["id"] == model["id"]
    assert json.loads(docker("inspect", "--openai", TALKER).said)["object"] == "model"
    assert docker("show", TALKER).said.startswith(f"Model:       {model['id']}\n")
    models, *_ = docker("df").lines[1:]
    assert models[0] == "Models"
    assert models[1].endswith("kB")


def test_chats_are_answered_and_kept_in_memory(served: Served) -> None:
    docker = served.docker
    answer = docker("run", TALKER, "hi")
    assert answer.code == 0
    assert "I am a tiny model" in answer.said
    heads, row = docker("ps").lines
    assert heads == ["MODEL", "NAME", "BACKEND", "MODE", "UNTIL"]
    assert row[:3] == [TALKER, "llama.cpp", "completion"]
    assert " ".join(row[3:]).endswith("minutes from now")
    assert docker("unload", TALKER).code == 0
    assert docker("ps").lines == [heads]
    assert docker("run", "--detach", TALKER).code == 0
    assert docker("ps").lines[1][0] == TALKER
    bench = docker("bench", TALKER, "--concurrency", "1", "--duration", "1s", "--json")
    assert bench.code == 0, bench.said


def test_models_are_pulled_named_and_removed(served: Served) -> None:
    docker = served.docker
    pulled = docker("pull", VECTORS)
    assert pulled.code == 0, pulled.said
    assert "Downloaded " in pulled.said
    assert pulled.said.endswith("Model pulled successfully\n")
    again = docker("pull", VECTORS)
    assert "Using cached model: " in again.said
    missing = docker("pull", "fixtures/none")
    assert missing.code == 1
    assert "404 Not Found" in missing.said
    assert "{" not in missing.said
    assert docker("tag", VECTORS, "mine/vectors:2").code == 0
    assert docker("inspect", "mine/vectors:2").code == 0
    expected = [f"docker.io/{name}" for name in (f"{VECTORS}:latest", f"{TALKER}:latest")]
    assert served.names() == sorted([*expected, "docker.io/mine/vectors:2"])
    untagged = docker("rm", "mine/vectors:2")
    assert untagged.said.strip() == "Untagged: docker.io/mine/vectors:2"
    deleted = docker("rm", VECTORS)
    assert deleted.lines[0] == ["Untagged:", f"docker.io/{VECTORS}:latest"]
    assert deleted.lines[1][0] == "Deleted:"
    assert docker("rm", VECTORS).code == 1
    assert docker("package", "--from", TALKER, "--context-size", "512", "mine/short:1").code == 0
    assert "512" in docker("list").said
    assert docker("purge", "--force").code == 0
    assert served.names() == []


def test_a_model_is_configured_until_the_server_ends(served: Served) -> None:
    docker = served.docker
    done = docker("configure", "--context-size", "1024", TALKER, "--", "--threads", "1", "--temp=0")
    assert (done.code, done.said) == (0, "")
    (shown,) = json.loads(docker("configure", "show", TALKER).said)
    assert shown["Config"] == {
        "context-size": 1024,
        "runtime-flags": ["--threads", "1", "--temp=0"],
    }
    wait_until(lambda: len(docker("ps").lines) == 2 and "Loading" not in docker("ps").said)
    (state,) = json.loads(served.ours("ps", "--json").stdout)
    assert (state["context"], state["state"]) == (1024, "loaded")
    for flags in (("--log-file", "x"), ("--model=/etc/passwd",), ("--api-key", "x")):
        refused = docker("configure", TALKER, "--", *flags)
        assert refused.code == 1
        name = flags[0].partition("=")[0]
        assert f"the runtime flag '{name}' is not allowed over HTTP" in refused.said


def test_options_of_commands_reach_the_server(served: Served) -> None:
    docker = served.docker
    url = f"{docker.url}/v1"
    assert f"{TALKER}:latest" in docker("list", "--openaiurl", url).said
    assert "I am a tiny model" in docker("run", "--openaiurl", url, TALKER, "hi").said
    assert "I am a tiny model" in docker("run", TALKER, text="hi").said
    assert docker("unload", "--backend", "llama.cpp", TALKER).said == "Unloaded 1 model(s).\n"
    assert docker("stop", "--all").said == "No models are running.\n"
    assert docker("configure", "--keep-alive", "2h", "--think=false", TALKER).code == 0
    wait_until(lambda: "hour" in docker("ps").said)
    for option, message in (
        (("--mode", "embedding"), "cannot be run in the mode 'embedding'"),
        (("--hf_overrides", '{"a": 1}'), "models are run by llama.cpp"),
        (("--gpu-memory-utilization", "0.5"), "models are run by llama.cpp"),
    ):
        refused = docker("configure", *option, TALKER)
        assert (refused.code, message in refused.said) == (1, True), refused.said
    assert docker("inspect", "tiny-llama").code == 0
    assert docker("tag", "fixtures/none", "mine/none").code == 1
    assert docker("tag", TALKER, "mine/other:1").code == 0
    identity = docker("list", "--quiet").said.split()[0]
    assert "409 Conflict" in docker("rm", identity).said
    several = docker("rm", "mine/other:1", "mine/none:1")
    assert several.code == 1
    assert several.said.startswith("Untagged: docker.io/mine/other:1\n")
    assert docker("rm", "--force", identity).code == 0
    assert served.names() == []


def test_a_context_of_dockers_names_the_server(served: Served) -> None:
    docker = replace(served.docker, url="")
    assert docker("context", "create", "here", "--host", served.docker.url).code == 0
    assert docker("context", "use", "here").code == 0
    assert docker("list").lines[1][0] == TALKER


def test_a_model_is_started_for_a_project_of_compose(served: Served) -> None:
    docker = served.docker
    project = ("--project-name", "demo")
    options = ("--context-size", "256", "--runtime-flags", "--threads 1", "--backend", "llama.cpp")
    up = docker("compose", "up", *project, "--model", f"docker.io/{TALKER}:latest", *options)
    assert up.code == 0, up.said
    said = [json.loads(line) for line in up.said.splitlines()]
    assert {"type": "setenv", "message": f"URL={docker.url}/engines/v1/"} in said
    (shown,) = json.loads(docker("configure", "show", TALKER).said)
    assert shown["Config"] == {"context-size": 256, "runtime-flags": ["--threads", "1"]}
    assert docker("compose", "down", *project).code == 0


def test_requests_and_logs_are_shown(served: Served) -> None:
    docker = served.docker
    assert docker("run", TALKER, "a word to find").code == 0
    # the program is done with an answer a moment before the server is
    while True:
        (group,) = json.loads(docker("requests").said)
        (record,) = group["records"]
        if "response" in record:
            break
    assert group["count"] == 1
    assert "a word to find" in record["request"]
    assert record["response"].startswith("data: ")
    assert record["status_code"] == 200
    assert json.loads(docker("requests", "--model", "fixtures/none").said) == []
    logs = docker("logs")
    assert "200 chat/completions" in logs.said
    assert "200 chat/completions" in docker("logs", "--no-engines").said


def test_requests_are_followed(served: Served) -> None:
    docker = served.docker
    assert docker("run", TALKER, "the first one").code == 0
    with docker.following("requests", "--follow", "--include-existing") as lines:
        first = next(line for line in lines if line.startswith("["))
        assert "the first one" in json.loads(first)[0]["records"][0]["request"]
        assert docker("run", TALKER, "the second one").code == 0
        second = next(line for line in lines if line.startswith("["))
        assert "the second one" in json.loads(second)[0]["records"][0]["request"]


def test_logs_are_followed(served: Served) -> None:
    docker = served.docker
    with docker.following("logs", "--follow", "--no-engines") as lines:
        assert docker("run", TALKER, "hi").code == 0
        assert any("200 chat/completions" in line for line in lines)


@needs_docker_registry
def test_a_model_is_pushed_and_looked_at_in_its_registry(served: Served, tmp_path: Path) -> None:
    docker = served.docker
    with docker_registry(tmp_path / "registry") as registry:
        name = registry.reference("team/tiny:1")
        assert docker("tag", TALKER, name).code == 0
        assert docker("inspect", "--remote", name).code == 1
        pushed = docker("push", name)
        assert pushed.code == 0, pushed.said
        assert pushed.said.endswith("\nModel pushed successfully\n")
        (model,) = json.loads(served.ours("list", "--json").stdout)
        found = json.loads(docker("inspect", "--remote", name).said)
        assert (found["id"], found["config"]["architecture"]) == (model["id"], "llama")
        assert "tags" not in found
        shown = docker("show", "--remote", name)
        assert shown.said.startswith(f"Model:       {model['id']}\n")
        assert docker("rm", name).code == 0
        assert docker("pull", name).code == 0
    missing = docker("push", "fixtures/none")
    assert missing.code == 1
    assert "404 Not Found: fixtures/none: not in the local store" in missing.said
    nowhere = docker("push", "hf.co/team/none")
    assert nowhere.code == 1


def test_a_push_that_fails_on_the_way_ends_with_an_exit_code(
    served: Served, registry: Registry
) -> None:
    name = registry.reference("team/tiny:1")
    assert served.docker("tag", TALKER, name).code == 0
    registry.answer(400, method="PUT", on="manifest", body=b"&quot;no&quot;")
    pushed = served.docker("push", name)
    assert pushed.code == 1
    assert "Downloaded " in pushed.said
    assert "Failed to push model: " in pushed.said


def test_files_are_packaged(
    served: Served, tiny_models: Mapping[str, Path | list[Path]], tmp_path: Path
) -> None:
    docker = served.docker
    licenses = []
    for text in ("do as you like", "no warranty"):
        licenses += ["--license", str(_written(tmp_path / text.split()[0], text))]
    template = _written(tmp_path / "t.jinja", TEMPLATE)
    weights = ("--gguf", str(tiny_models["llama"]))
    options = ("--context-size", "512", "--chat-template", str(template))
    packaged = docker("package", *weights, *licenses, *options, "mine/full:1")
    assert packaged.code == 0, packaged.said
    assert packaged.said.endswith("\nModel loaded successfully\n")
    projector = ("--mmproj", str(tiny_models["projector"]))
    assert docker("package", *weights, *projector, "mine/eyes:1").code == 0
    shards = tiny_models["llama-shards"]
    assert isinstance(shards, list)
    assert docker("package", "--gguf", str(shards[0]), "mine/shards:1").code == 0
    assert docker("package", *weights, "--format", "cncf", "mine/cncf:1").code == 0
    # the same license once more: an archive with one blob twice
    again = docker("package", "--from", "mine/full:1", *licenses[:2], "mine/again:1")
    assert again.code == 0, again.said
    rows = {row[0]: row for row in docker("list").lines[1:]}
    for name in ("full", "eyes", "shards", "cncf", "again"):
        assert "I am a tiny model" in docker("run", f"mine/{name}:1", "hi").said
        assert ("512" in rows[f"mine/{name}:1"]) == (name in {"full", "again"})
    full = json.loads(served.ours("inspect", "mine/full:1").stdout)
    roles = [layer["role"] for layer in full["layers"]]
    assert roles == ["weights", "license", "license", "template"]
    assert full["packaged"] == {"context": 512}
    with urlopen(f"{docker.url}/models/mine/eyes:1", timeout=30) as answer:
        assert json.load(answer)["config"]["capabilities"] == ["chat", "images"]


def test_a_directory_of_safetensors_is_stored_and_not_run(served: Served, tmp_path: Path) -> None:
    folder = write(tmp_path / "safetensors", ONE)
    packaged = served.docker("package", "--safetensors-dir", str(folder), "mine/weights:1")
    assert packaged.code == 0, packaged.said
    shown = json.loads(served.ours("inspect", "mine/weights:1").stdout)
    assert (shown["format"], shown["context_length"]) == ("safetensors", 2048)
    place = Path(served.ours("path", "mine/weights:1").stdout.strip())
    assert {path.name: path.read_bytes() for path in place.iterdir()} == ONE
    assert served.docker("run", "mine/weights:1", "hi").code == 1


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


TEMPLATE = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}<|im_start|>assistant
"""
ASK = """
import json, os, urllib.request
asked = {"model": os.environ["CHAT_MODEL"], "messages": [{"role": "user", "content": "hi"}]}
url = os.environ["CHAT_URL"] + "chat/completions"
request = urllib.request.Request(url, json.dumps(asked).encode())
answer = json.load(urllib.request.urlopen(request, timeout=60))
print("answer:", answer["choices"][0]["message"]["content"])
"""
PROJECT = {
    "models": {"chat": {"model": TALKER, "context_size": 512, "runtime_flags": ["--threads=1"]}},
    "services": {
        "app": {
            "image": "test/python",
            "command": [str(PYTHON), "-c", ASK],
            "network_mode": "host",
            "models": {"chat": {}},
        }
    },
}


@pytest.mark.docker
@pytest.mark.skipif(not COMPOSE.is_file(), reason="no docker-compose")
def test_models_of_a_compose_file_need_no_runner_of_dockers(
    served: Served, docker_daemon: DockerDaemon, tmp_path: Path
) -> None:
    import_image(docker_daemon.host, "test/python", tmp_path / "image.tar", python_files())
    plugins = served.docker.home / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-model").symlink_to(PROGRAM)
    file = tmp_path / "compose.json"
    file.write_text(json.dumps(PROJECT))
    environ = {**served.docker.environ, "DOCKER_HOST": docker_daemon.host}
    started = compose("demo", file, environ, "up", "--no-color")
    try:
        assert "I am a tiny model" in started.stdout, started.stderr
        (state,) = json.loads(served.ours("ps", "--json").stdout)
        assert state["context"] == 512
    finally:
        assert compose("demo", file, environ, "down").returncode == 0
