"""Text that strangers wrote, in each field that a command shows: none of it controls a terminal.

`FIELDS` is each kind of foreign text with where it stands; `CASES` is each command that shows some,
with the fields that its output must have, so that nothing is tested in vain. A command in neither
`CASES` nor `SHOW_NOTHING` fails the test of the table.
"""

import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from modelrunner.cli.parser.command_table import COMMANDS
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.docker_hub import Hub as DockerHub
from tests.support.foreign_stores import docker_models
from tests.support.gguf import tiny_gguf
from tests.support.hugging_face import Hub, Repository, hugging_face
from tests.support.openai_server import OpenAIServer, Reply, calls, refuses, says
from tests.support.registry import Registry
from tests.support.signing import Signer, attestation
from tests.support.terminal import in_terminal

C0 = "".join(chr(code) for code in range(1, 32) if chr(code) not in "\t\n\r")
C1 = "".join(map(chr, range(0x80, 0xA0)))
DIRECTIONS = "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
DIRECTIONS += "\u2060\u2066\u2067\u2068\u2069\ufeff"
SEQUENCES = (
    "\x1b]0;title\x07",
    "\x1b]52;c;b3duZWQ=\x1b\\",
    "\x1bPq#0\x1b\\",
    "\x1b[2J",
    "\x1b[31;7m",
    "\x1b[6n",
    "\x1bc",
    "\x9b2J",
    "\x9d0;title\x9c",
    "\rover",
)
NASTY = f"{''.join(SEQUENCES)}{C1}{DIRECTIONS}\x7f{C0}"

_OURS = re.compile(
    r"\x1b\[(?:\d{1,2}(?:;\d{1,2})?)?m|\x1b\[[?]\d+[hl]|\x1b\[\d*[KGAJ]|\r(?=\n)|\r(?=\x1b)"
)
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)
_NEVER = ("\x1b[31;7m", "\x1b[2J", "\x1b[6n")


def controls(shown: str) -> set[str]:
    """What in an output a terminal would obey, besides what the program itself draws."""
    found = {sequence for sequence in _NEVER if sequence in shown}
    return found | set(_FORBIDDEN.findall(_OURS.sub("", shown)))


def nasty(name: str) -> str:
    """A foreign text whose place an output can be searched for."""
    return f"{name}-text{NASTY}"


FIELDS = {
    "architecture": "a model's config",
    "quantization": "a model's config",
    "license": "a layer",
    "template": "a layer, and the header of a GGUF file",
    "annotation": "a manifest",
    "title": "the file name of a layer",
    "header": "metadata of a GGUF file",
    "file": "the name of a file",
    "member": "the name of a file in an archive",
    "tag": "a registry's list of tags",
    "message": "an error of a registry",
    "predicate": "a statement beside a model",
    "repository": "a result of a search",
    "card": "a description on Docker Hub",
    "answer": "what a model says",
    "thought": "what a model thinks",
    "failure": "an error of a model's server",
    "tool": "the name of a function that a model calls",
    "arguments": "what a model calls it with",
    "log": "what a runtime prints",
    "stored": "the name of a model in another program's store",
    "lock": "a lock file of somebody else's project",
    "intent": "a file of somebody else's project that names models",
}


@dataclass(frozen=True)
class World:
    """Everything that a case may need, with strangers' texts in it."""

    cli: CommandLine
    names: Mapping[str, str]
    server: OpenAIServer

    def argv(self, words: tuple[str, ...]) -> list[str]:
        return [self.names.get(word, word) for word in words]


@dataclass(frozen=True)
class Case:
    """A command, the fields that it shows, and what its server says."""

    words: tuple[str, ...]
    shows: tuple[str, ...] = ()
    reply: Callable[[], Reply] | None = None
    """What the model's server answers."""
    environ: Mapping[str, str] = field(default_factory=dict)


def case(words: str, *shows: str, reply: Callable[[], Reply] | None = None) -> Case:
    return Case(tuple(words.split()), shows, reply)


ASK = "run MODEL hello --runtime SERVER"
SAYS = lambda: says(nasty("answer"), thinks=(nasty("thought"),))  # noqa: E731
CALLS = lambda: calls((nasty("tool"), json.dumps({"a": nasty("arguments")})))  # noqa: E731
FAILS = lambda: refuses(400, message=nasty("failure"))  # noqa: E731

CASES = [
    case("inspect MODEL", "architecture", "quantization", "header"),
    case("inspect --remote MODEL", "architecture", "quantization"),
    case("inspect --security MODEL", "predicate"),
    case("inspect --json MODEL", "architecture"),
    case("inspect FILE", "file"),
    case("list", "quantization"),
    case("list --json", "quantization"),
    case("show MODEL", "architecture"),
    case("estimate FILE", "file"),
    case("estimate --json MODEL"),
    case("estimate MODEL"),
    case("tags MODEL", "tag"),
    case("pull DENIED", "message"),
    case("pull --json DENIED", "message"),
    case("pull TITLED", "title"),
    case("pull UNKNOWN", "annotation"),
    case("push MODEL DENIED"),
    case("outdated"),
    case("update"),
    case("search text", "repository"),
    case("search text --json", "repository"),
    case("card ai/newcomer", "card"),
    case("card ai/newcomer --json", "card"),
    case("verify MODEL"),
    case("df"),
    case("export vllm MODEL"),
    case("export compose MODEL"),
    case("import --from docker --folder DOCKER", "stored"),
    case("import --from docker --folder DOCKER --json", "stored"),
    case("import FILE"),
    case("package FILE local/packaged"),
    case("load ARCHIVE", "member"),
    case("logs", "log"),
    case("logs --json", "log"),
    case("lock --diff", "intent"),
    case("pull --locked", "intent"),
    case("cache-key", "lock"),
    case(ASK, "answer", "thought", reply=SAYS),
    case(f"{ASK} --plain", "answer", reply=SAYS),
    case(f"{ASK} --json", "answer", reply=SAYS),
    case(f"{ASK} --tools TOOLS --yes-tools", "tool", "arguments", reply=CALLS),
    case(ASK, "failure", reply=FAILS),
    case("path MODEL"),
    case("prune --dry-run"),
    case("save MODEL -o SAVED"),
    case("doctor"),
    case("rm MODEL"),
]
"""The last ones change the store."""

NOT_SHOWN = {"license", "template"}
"""Fields of which no command prints the text."""

SHOW_NOTHING = {
    "ls": "another name of `list`",
    "tag": "names that a person types",
    "serve": "names of the store; what it answers goes to programs",
    "ps": "names of the store",
    "stop": "names of the store",
    "bench": "numbers",
    "share": "an address",
    "devices": "this machine's drivers",
    "runtimes": "this machine's programs",
    "cards": "our own catalogue",
    "login": "messages of registries, as with `pull`",
    "logout": "a host that a person types",
    "configure": "settings that a person types",
    "config": "settings of the person",
    "completion": "our own script",
    "help": "our own text",
    "version": "our own text",
}


def test_every_command_and_every_field_is_in_the_table() -> None:
    shown = {"inspect" if each.words[0] == "show" else each.words[0] for each in CASES}
    assert shown.isdisjoint(SHOW_NOTHING)
    assert shown | set(SHOW_NOTHING) == set(COMMANDS), "say what it shows of what strangers write"
    assert {name for each in CASES for name in each.shows} | NOT_SHOWN == set(FIELDS)


def with_annotations(artifact: Artifact, annotations: Mapping[str, str]) -> Artifact:
    manifest = {**json.loads(artifact.manifest), "annotations": dict(annotations)}
    return replace(artifact, manifest=json.dumps(manifest).encode())


def of_nobody(text: str) -> Artifact:
    """An artifact that is not a model, and says in words what it is."""
    artifact = docker_artifact(b"GGUF")
    manifest = json.loads(artifact.manifest)
    manifest["config"]["mediaType"] = "application/vnd.example.config+json"
    manifest["artifactType"] = text
    for layer in manifest["layers"]:
        layer["mediaType"] = "application/vnd.example.layer"
        layer["annotations"] = {"org.opencontainers.image.title": text}
    return replace(artifact, manifest=json.dumps(manifest).encode())


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    header = {"general.name": nasty("header"), "tokenizer.chat_template": nasty("template")}
    tiny_gguf(path, metadata=header)
    texts = {name: nasty(name) for name in ("quantization", "architecture")}
    more = {name: nasty("header") for name in ("parameters", "size", "format_version", "note")}
    gguf = {"general.name": nasty("header"), nasty("header"): nasty("header")}
    artifact = docker_artifact(
        path.read_bytes(),
        license=nasty("license").encode(),
        template=f"{{{{ messages }}}} {nasty('template')}".encode(),
        config={**texts, **more, "gguf": gguf},
    )
    artifact = with_annotations(artifact, {"org.opencontainers.image.title": nasty("annotation")})
    with Registry() as made:
        made.add(artifact, "team/model", tags=["1"])
        made.tag("team/model", nasty("tag"), artifact.digest)
        beside = attestation(Signer.make(), artifact.digest, nasty("predicate"))
        made.add(beside, "team/model", tags=[f"{artifact.digest.replace(':', '-')}.att"])
        titled = docker_artifact(path.read_bytes(), filenames=[f"../{nasty('title')}.gguf"])
        made.add(titled, "team/titled", tags=["1"])
        made.add(of_nobody(nasty("annotation")), "team/unknown", tags=["1"])
        denial = {"errors": [{"code": "DENIED", "message": nasty("message")}]}
        body = json.dumps(denial).encode()
        made.answer(
            403,
            None,
            {"Content-Type": "application/json"},
            body,
            reference="denied",
        )
        yield made


@pytest.fixture(scope="module")
def hubs() -> Iterator[tuple[DockerHub, Hub]]:
    with DockerHub() as docker, hugging_face() as hub:
        docker.add("ai/newcomer", f"# {nasty('card')}\n\n{nasty('card')}\n")
        files = {f"{nasty('repository')}-Q4_K_M.gguf": b""}
        hub.repositories = {f"org/{nasty('repository')}": Repository(files, downloads=5)}
        yield docker, hub


def archive(path: Path) -> Path:
    with tarfile.open(path, "w") as made:
        for name in (f"../{nasty('member')}", nasty("member")):
            member = tarfile.TarInfo(name)
            member.size = 1
            made.addfile(member, io.BytesIO(b"x"))
    return path


@pytest.fixture
def world(
    cli: CommandLine,
    registry: Registry,
    hubs: tuple[DockerHub, Hub],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    model = registry.reference("team/model:1")
    done = cli("pull", model)
    assert done.returncode == 0, done.stderr
    file = tmp_path / f"file-text{NASTY.replace('/', '')}.gguf"
    tiny_gguf(file)
    docker_models(tmp_path / "docker", {nasty("stored"): docker_artifact(file.read_bytes())})
    tools = tmp_path / "tools.py"
    tools.write_text('def now() -> str:\n    """The time."""\n    return "noon"\n')
    logs = cli.home / "state" / "serve"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "12434.log").write_text(nasty("log"))
    escaped = json.dumps(nasty("intent"))
    (tmp_path / "modelrunner.toml").write_text(f"[models]\nchat = {escaped}\n")
    (tmp_path / "modelrunner.lock").write_text(f"version = {json.dumps(nasty('lock'))}\n")
    names = {
        "MODEL": model,
        "DENIED": registry.reference("team/model:denied"),
        "TITLED": registry.reference("team/titled:1"),
        "UNKNOWN": registry.reference("team/unknown:1"),
        "FILE": str(file),
        "DOCKER": str(tmp_path / "docker"),
        "ARCHIVE": str(archive(tmp_path / "models.tar")),
        "SAVED": str(tmp_path / "saved.tar"),
        "TOOLS": str(tools),
    }
    docker, hub = hubs
    environ = {**cli.environ, "MODELRUNNER_HUB_API": docker.url, "HF_ENDPOINT": hub.url}
    with OpenAIServer() as server:
        names["SERVER"] = server.url
        yield World(replace(cli, environ=environ), names, server)


@pytest.mark.parametrize("tried", CASES, ids=lambda each: " ".join(each.words)[:60])
def test_no_text_of_a_stranger_controls_a_terminal(world: World, tried: Case) -> None:
    argv = world.argv(tried.words)
    if tried.reply is not None:
        world.server.next(tried.reply(), says("done"))
    with in_terminal(world.cli.argv(*argv), world.cli.environ) as (terminal, process):
        shown = terminal.drain()
        process.wait(60)
    assert shown
    assert "Traceback" not in shown
    assert controls(shown) == set()
    plain = _OURS.sub("", shown).replace("\r\n", "").replace("\n", "").replace(" ", "")
    assert [name for name in tried.shows if f"{name}-text" not in plain] == [], shown


@pytest.mark.parametrize(
    "words", ["inspect MODEL", "list --json", "search text --json", "card ai/newcomer --json"]
)
def test_json_of_a_terminal_is_that_of_a_pipe(world: World, words: str) -> None:
    argv = world.argv(tuple(words.split()))
    piped = world.cli(*argv)
    with in_terminal(world.cli.argv(*argv), world.cli.environ) as (terminal, process):
        shown = terminal.drain()
        process.wait(60)
    assert json.loads(shown[shown.index(piped.stdout[0]) :]) == json.loads(piped.stdout)


def test_an_answer_in_a_pipe_has_no_controls_either(world: World) -> None:
    world.server.next(says(nasty("answer")), says(nasty("answer")))
    asked = world.argv(tuple(ASK.split()))
    # `| tee` leads to a terminal too
    assert controls(world.cli(*asked, "-q").stdout) == set()
    assert controls(json.loads(world.cli(*asked, "--json").stdout)["answer"]) == set()


def test_the_search_finds_what_a_terminal_would_obey() -> None:
    assert controls("plain text\r\n\x1b[1;31merror:\x1b[0m x\x1b[K\x1b[2K") == set()
    for sequence in SEQUENCES:
        assert controls(f"a{sequence}b"), sequence.encode()
    for mark in f"{C1}{DIRECTIONS}\x7f{C0}":
        assert controls(f"a{mark}b") == {mark}
