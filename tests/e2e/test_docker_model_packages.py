"""What Docker Model Runner packages, and what both programs make of it: the same bytes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.conftest import CommandLine
from tests.support.docker_model import DockerModel, needs_docker_model
from tests.support.docker_registry import DockerRegistry, docker_registry, needs_docker_registry
from tests.support.gguf import tiny_gguf
from tests.support.model_directories import ONE, write

pytestmark = [
    pytest.mark.real,
    pytest.mark.registry,
    needs_docker_model,
    needs_docker_registry,
]


class Content:
    """What a registry has, as it has it."""

    def __init__(self, registry: DockerRegistry) -> None:
        self._registry = registry

    def name(self, rest: str) -> str:
        """The name by which both programs speak plain http."""
        return f"localhost:{self._registry.port}/{rest}"

    def manifest(self, repository: str, tag: str) -> dict[str, object]:
        return json.loads(self._get(f"{repository}/manifests/{tag}"))

    def config(self, repository: str, tag: str) -> bytes:
        digest = self.manifest(repository, tag)["config"]["digest"]
        return self._get(f"{repository}/blobs/{digest}")

    def layers(self, repository: str, tag: str) -> list[tuple[str, str]]:
        found = self.manifest(repository, tag)["layers"]
        return [(layer["mediaType"], layer["digest"]) for layer in found]

    def _get(self, path: str) -> bytes:
        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
        asked = Request(f"http://{self._registry.host}/v2/{path}", headers=accept)
        with urlopen(asked, timeout=30) as answer:
            return answer.read()


@pytest.fixture
def content(tmp_path: Path) -> Iterator[Content]:
    with docker_registry(tmp_path / "registry") as running:
        yield Content(running)


@pytest.fixture
def docker(cli: CommandLine, tmp_path: Path) -> Iterator[DockerModel]:
    """Docker's command line, asking a server of ours that has models in its store."""
    first = tiny_gguf(tmp_path / "first.gguf", seed=9)
    assert cli("package", str(first), "local/first:1").returncode == 0
    with subprocess.Popen(
        cli.argv("serve", "--all", "--port", "0"),
        env={**cli.environ, "MODELRUNNER_RUNTIME": "xllamacpp"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            url = process.stdout.readline().strip()
            (tmp_path / "docker").mkdir()
            yield DockerModel(url, tmp_path / "docker")
        finally:
            process.terminate()
            process.wait(30)


def test_both_programs_make_the_same_of_a_model(
    docker: DockerModel, cli: CommandLine, content: Content, tmp_path: Path
) -> None:
    texts = {"LICENSE": "be kind", "NOTICE": "be <very> kind", "MORE": "and then some"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages }}")
    base = content.name("team/base:1")
    made = docker(
        *("package", "--gguf", str(tiny_gguf(tmp_path / "tiny.gguf", context_length=8192))),
        *("-l", str(tmp_path / "LICENSE"), "-l", str(tmp_path / "NOTICE")),
        *("--chat-template", str(template), "--context-size", "1024", "--push", base),
    )
    assert made.code == 0, made.said
    assert [kind for kind, _ in content.layers("team/base", "1")] == [
        "application/vnd.docker.ai.gguf.v3",
        "application/vnd.docker.ai.license",
        "application/vnd.docker.ai.license",
        "application/vnd.docker.ai.chat.template.jinja",
    ]
    # without a copy of the weights, then with one
    options = ("-l", str(tmp_path / "MORE"), "--context-size", "2048")
    ours = content.name("team/ours:1")
    done = cli("package", "--from", base, ours, *options, "--push")
    assert done.returncode == 0, done.stderr
    assert cli("pull", base).returncode == 0
    theirs = docker("package", "--from", base, *options, "--push", content.name("team/theirs:1"))
    assert theirs.code == 0, theirs.said
    assert content.config("team/ours", "1") == content.config("team/theirs", "1")
    assert content.layers("team/ours", "1") == content.layers("team/theirs", "1")
    before, after = content.manifest("team/base", "1"), content.manifest("team/ours", "1")
    assert after["layers"][:4] == before["layers"]
    # one of a context alone is made by the server
    small = content.name("team/small:1")
    variant = docker("package", "--from", base, "--context-size", "512", small)
    assert variant.code == 0, variant.said
    shown = json.loads(cli("inspect", small).stdout)
    assert shown["context_length"] == 512


def test_an_artifact_of_docker_is_pushed_as_it_came(
    docker: DockerModel, cli: CommandLine, content: Content, tmp_path: Path
) -> None:
    base = content.name("team/base:1")
    file = tiny_gguf(tmp_path / "tiny.gguf")
    made = docker("package", "--gguf", str(file), "--format", "cncf", "--push", base)
    assert made.code == 0, made.said
    assert cli("pull", base).returncode == 0
    copy = content.name("team/copy:1")
    assert cli("tag", base, copy).returncode == 0
    assert cli("push", copy).returncode == 0
    assert content.manifest("team/copy", "1") == content.manifest("team/base", "1")
    licensed = content.name("team/licensed:1")
    (tmp_path / "LICENSE").write_text("be kind")
    done = cli("package", "--from", base, licensed, "-l", str(tmp_path / "LICENSE"), "--push")
    assert done.returncode == 0, done.stderr
    theirs = content.name("team/theirs:1")
    said = docker("package", "--from", base, "-l", str(tmp_path / "LICENSE"), "--push", theirs)
    assert said.code == 0, said.said
    assert content.config("team/licensed", "1") == content.config("team/theirs", "1")
    assert content.layers("team/licensed", "1") == content.layers("team/theirs", "1")


def test_a_directory_becomes_what_docker_makes_of_it(
    docker: DockerModel, cli: CommandLine, content: Content, tmp_path: Path
) -> None:
    files = {**ONE, "sub/more.json": b"{ }", ".hidden": b"x"}
    folder = write(tmp_path / "model", files)
    theirs, ours = content.name("team/theirs:1"), content.name("team/ours:1")
    said = docker("package", "--safetensors-dir", str(folder), "--push", theirs)
    assert said.code == 0, said.said
    done = cli("package", str(folder), ours, "--push")
    assert done.returncode == 0, done.stderr
    assert content.layers("team/ours", "1") == content.layers("team/theirs", "1")
    one, other = (json.loads(content.config("team/" + name, "1")) for name in ("ours", "theirs"))
    # ours says it, out of config.json
    assert one["config"].pop("architecture") == "llama"
    assert (one["config"], one["rootfs"]) == (other["config"], other["rootfs"])
    assert list(one) == list(other)
    # what Docker has packaged is delivered, and made another one of, byte for byte
    assert cli("pull", theirs, "--output", str(tmp_path / "out")).returncode == 0
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert found == {name: text for name, text in files.items() if name != ".hidden"}
    (tmp_path / "MORE").write_text("and then some")
    more = ("-l", str(tmp_path / "MORE"), "--context-size", "512", "--push")
    derived = cli("package", "--from", theirs, content.name("team/a:1"), *more)
    assert derived.returncode == 0, derived.stderr
    said = docker("package", "--from", theirs, *more, content.name("team/b:1"))
    assert said.code == 0, said.said
    assert content.config("team/a", "1") == content.config("team/b", "1")
    assert content.layers("team/a", "1") == content.layers("team/b", "1")


def test_a_dduf_file_becomes_what_docker_makes_of_it(
    docker: DockerModel, cli: CommandLine, content: Content, tmp_path: Path
) -> None:
    file = tmp_path / "image.dduf"
    file.write_bytes(b"PK" + bytes(2000))
    theirs, ours = content.name("team/theirs:1"), content.name("team/ours:1")
    said = docker("package", "--dduf", str(file), "--push", theirs)
    assert said.code == 0, said.said
    assert cli("package", str(file), ours, "--push").returncode == 0
    assert content.layers("team/ours", "1") == content.layers("team/theirs", "1")
    one, other = (json.loads(content.config("team/" + name, "1")) for name in ("ours", "theirs"))
    assert one["config"] == other["config"]
