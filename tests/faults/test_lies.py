"""Registries that lie in every field: a command ends right, or in words; nothing wrong is kept.

What is drawn is a list of lies about answers that are right otherwise, or a model whose manifest,
config or index says what it should not. Afterwards the same registry is honest, and the same
command has to work: no lie spoils what comes after it.
"""

import hashlib
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact
from tests.support.docker_hub import Hub as DockerHub
from tests.support.faults import size
from tests.support.faults.forks import Ended, Forks
from tests.support.faults.liar import Liar
from tests.support.faults.lies import artifacts, lies
from tests.support.gguf import tiny_gguf
from tests.support.hugging_face import Repository, hugging_face
from tests.support.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CODES = {0, 3, 4, 5, 6, 7, 9, 10}
HURRY = 200
LONGEST_S = 45
SIZED = settings(
    max_examples=size.examples(least=8, full=120),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    derandomize=not size.SIZE,
    database=None,
    suppress_health_check=list(HealthCheck),
)
PASSWORD = "correct horse"


class Client:
    """The command line in a folder that is empty for each case, and what it may write there."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.folder = folder
        self._forks = forks

    def begin(self, **files: bytes) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("work", "user", "home", "tmp"):
            (self.folder / name).mkdir(parents=True)
        for name, content in files.items():
            (self.folder / "work" / name).write_bytes(content)

    def run(self, *arguments: str, stdin: str = "", **environ: str) -> Ended:
        own = {
            "HOME": str(self.folder / "user"),
            "MODELRUNNER_HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "PATH": "/nowhere",
        }
        return self._forks.run(
            arguments,
            cwd=self.folder / "work",
            environ={**own, **environ},
            stdin=stdin,
            hurry=HURRY,
        )

    @property
    def store(self) -> Store:
        return Store(self.folder / "home" / "store")

    def written_elsewhere(self, *allowed: str) -> list[str]:
        """What lies outside of the home, beside what a command may write."""
        found = [path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()]
        names = [str(path) for path in found if path.parts[0] != "home"]
        beside = [str(path) for path in self.folder.parent.iterdir() if path != self.folder]
        return beside + [name for name in names if not name.startswith(allowed)]

    def wrong_bytes(self) -> list[str]:
        """Blobs that are not what their names say."""
        blobs = (self.folder / "home/store/v1/blobs/sha256").glob("*")
        return [
            str(blob)
            for blob in blobs
            if hashlib.sha256(blob.read_bytes()).hexdigest() != blob.name
        ]


@pytest.fixture(scope="module")
def forks():
    with Forks() as running:
        yield running


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny_gguf(tmp_path_factory.mktemp("weights") / "tiny.gguf").read_bytes()


@pytest.fixture(scope="module")
def client(tmp_path_factory, forks):
    return Client(tmp_path_factory.mktemp("client") / "place", forks)


@pytest.fixture(scope="module")
def registry(weights):
    with Registry(page_size=2) as running:
        artifact = docker_artifact(weights, license=b"free" * 50)
        running.add(artifact, "ai/lied", tags=["1", "2", "3", "latest"])
        yield running


@pytest.fixture(scope="module")
def liar(registry):
    with Liar(registry.url) as running:
        yield running


def judge(client: Client, ended: Ended, *allowed: str) -> None:
    note(f"{ended}")
    assert ended.in_words, ended
    assert ended.code in CODES, ended
    assert ended.seconds < LONGEST_S, ended
    assert client.wrong_bytes() == []
    assert client.written_elsewhere(*allowed) == []


READERS = (
    ("tags", "{}:1"),
    ("tags", "{}:1", "--details"),
    ("inspect", "--remote", "{}:1"),
    ("estimate", "{}:1"),
    ("lock", "--init", "{}:1", "--file", "models.toml"),
    ("estimate", "{}", "--variants"),
)


@SIZED
@given(
    lies=lies,
    demand=st.booleans(),
    way=st.sampled_from(["tag", "digest", "to a folder", "by a mirror", "as locked"]),
)
def test_a_pull_of_lies_ends_right_or_in_words(client, registry, liar, lies, demand, way):
    registry.demand_nothing()
    if demand:
        registry.demand_token({"me": PASSWORD}, realm=f"{liar.url}/token")
    digest = registry.tags("ai/lied")["1"]
    name, environ = f"{liar.host}/ai/lied:1", {}
    client.begin()
    arguments = ["pull", name, "--progress", "none"]
    if way == "digest":
        arguments[1] = f"{liar.host}/ai/lied@{digest}"
    elif way == "to a folder":
        arguments += ["--output", "out"]
    elif way == "by a mirror":
        arguments[1] = registry.reference("ai/lied:1")
        environ["MODELRUNNER_MIRRORS"] = f"{registry.host}={liar.url}"
    elif way == "as locked":
        assert client.run("lock", "--init", name).code == 0
        arguments = ["pull", "--locked", "--progress", "none"]
    liar.tell(lies)
    try:
        ended = client.run(*arguments, **environ)
    finally:
        liar.tell([])
    judge(client, ended, "work/out/", "work/modelrunner.")
    if ended.code == 0 and way in ("digest", "as locked"):
        assert [str(model.digest) for model in client.store.models()] == [digest]
    again = client.run(*arguments, **environ)
    assert again.code == 0, again
    assert client.run("verify", "--deep").code == 0


@SIZED
@given(lies=lies, demand=st.booleans(), arguments=st.sampled_from(READERS))
def test_whoever_asks_a_liar_is_told_in_words(client, registry, liar, lies, demand, arguments):
    registry.demand_nothing()
    if demand:
        registry.demand_token({"me": PASSWORD}, realm=f"{liar.url}/token")
    client.begin()
    liar.tell(lies)
    try:
        ended = client.run(*(word.format(f"{liar.host}/ai/lied") for word in arguments))
    finally:
        liar.tell([])
    judge(client, ended, "work/models.")


@SIZED
@given(lies=lies, what=st.sampled_from(["push", "login", "basic"]))
def test_whoever_sends_to_a_liar_is_told_in_words(client, registry, liar, weights, lies, what):
    registry.demand_nothing()
    registry.storage.repositories.pop("me/mine", None)
    if what == "basic":
        registry.demand_basic("me", PASSWORD)
    elif what == "login":
        registry.demand_token({"me": PASSWORD}, realm=f"{liar.url}/token")
    client.begin(tiny=weights)
    name = f"{liar.host}/me/mine:1"
    if what == "push":
        assert client.run("import", "tiny", "--name", name).code == 0
    liar.tell(lies)
    try:
        if what == "push":
            ended = client.run("push", name)
        else:
            login = ("login", liar.host, "-u", "me", "--password-stdin")
            ended = client.run(*login, stdin=PASSWORD)
    finally:
        liar.tell([])
    judge(client, ended, "work/tiny", "user/.docker/")
    assert PASSWORD not in ended.stdout + ended.stderr
    if what == "push":
        assert client.run("push", name).code == 0


@SIZED
@given(data=st.data(), command=st.sampled_from(["pull", "inspect", "estimate", "tags", "lock"]))
def test_a_model_that_lies_about_itself_is_taken_or_refused_in_words(
    client, registry, weights, data, command
):
    registry.demand_nothing()
    registry.storage.repositories.pop("ai/odd", None)
    registry.add(data.draw(artifacts(weights)), "ai/odd", tags=["1"])
    name = registry.reference("ai/odd:1")
    arguments = {
        "pull": ["pull", name, "--output", "out"],
        "inspect": ["inspect", "--remote", name],
        "estimate": ["estimate", name],
        "tags": ["tags", name, "--details"],
        "lock": ["lock", "--init", name, "--file", "models.toml"],
    }
    client.begin()
    ended = client.run(*arguments[command])
    judge(client, ended, "work/out/", "work/models.")
    if command == "pull" and ended.code == 0:
        # what was taken can be used by every command
        for reader in (["list"], ["inspect", name], ["path", name], ["estimate", name], ["df"]):
            judge(client, client.run(*reader), "work/out/")
        assert client.run("verify", "--deep").code == 0


HUB_COMMANDS = (
    ("pull", "hf.co/team/model:Q4_K_M"),
    ("tags", "hf.co/team/model"),
    ("inspect", "--remote", "hf.co/team/model"),
    ("search", "model", "--source", "huggingface"),
    ("estimate", "hf.co/team/model"),
)


@SIZED
@given(lies=lies, arguments=st.sampled_from(HUB_COMMANDS))
def test_whoever_asks_a_lying_hub_is_told_in_words(client, weights, lies, arguments):
    with hugging_face() as hub, Liar(hub.url) as liar:
        hub.repositories["team/model"] = Repository(
            {"model-Q4_K_M.gguf": weights, "model-Q8_0.gguf": weights + b"8", "README.md": b"# M"}
        )
        client.begin()
        liar.tell(lies)
        ended = client.run(*arguments, HF_ENDPOINT=liar.url)
        judge(client, ended)
        liar.tell([])
        if arguments[0] == "pull":
            assert client.run(*arguments, HF_ENDPOINT=liar.url).code == 0


@SIZED
@given(
    lies=lies,
    arguments=st.sampled_from([("search", "model", "--source", "dockerhub"), ("card", "ai/x")]),
)
def test_whoever_asks_a_lying_docker_hub_is_told_in_words(client, lies, arguments):
    with DockerHub() as hub, Liar(hub.url) as liar:
        hub.add("ai/model", "# Model\n\nA description.")
        hub.add("ai/x", "# X\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
        client.begin()
        liar.tell(lies)
        ended = client.run(*arguments, MODELRUNNER_HUB_API=liar.url)
        judge(client, ended)
