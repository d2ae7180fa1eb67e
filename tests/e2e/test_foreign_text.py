"""Text that strangers wrote, in each field that a command shows: none of it controls a terminal.

`FIELDS` is each kind of foreign text with where it stands; `CASES` is each command that shows some,
with the fields that its output must have, so that nothing is tested in vain. A command in neither
`CASES` nor `SHOW_NOTHING` fails the test of the table.
"""

import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from modelrunner.cli.parser.command_table import COMMANDS
from modelrunner.registry import lan
from modelrunner.system.processes import process_start
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.docker_hub import Hub as DockerHub
from tests.support.foreign_stores import docker_models
from tests.support.gguf import tiny_gguf
from tests.support.hugging_face import Hub, Repository, hugging_face
from tests.support.openai_server import OpenAIServer, Reply, calls, refuses, says
from tests.support.registry import Registry
from tests.support.signing import Signer, attestation, keyless_bundle
from tests.support.strangers import parrot, program
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
    "reason": "the words after a status code",
    "status": "what should be a status line",
    "realm": "a header that says how to log in",
    "place": "a header that says where to look instead",
    "kind": "a header that says what an answer is",
    "signer": "the certificate of a signature",
    "peer": "the name of a neighbor on the local network",
    "helper": "what a credential helper answers",
    "complaint": "what a credential helper complains of",
    "login": "the name of a registry in a file of logins",
    "version": "what another program says of itself",
    "driver": "the name of a GPU",
    "proxy": "a variable of the environment",
    "result": "what a function that a model calls returns",
    "raised": "what such a function raises",
    "key": "a key of an object where a value was expected",
    "listed": "the name of a file in a directory that is read",
    "record": "what a server notes of itself",
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
        return [self.filled(word) for word in words]

    def filled(self, text: str) -> str:
        """A text with the names that it has in capitals."""
        for name, value in self.names.items():
            text = re.sub(rf"\b{name}\b", lambda _: value, text)  # noqa: B023
        return text


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
MISCALLS = lambda: calls(("now", json.dumps({nasty("key"): 1})))  # noqa: E731
FAILS = lambda: refuses(400, message=nasty("failure"))  # noqa: E731


def at(words: str, *shows: str, **environ: str) -> Case:
    """A case in another environment."""
    return Case(tuple(words.split()), shows, environ=environ)


def hubs_at(words: str, parrot: str) -> Case:
    return at(words, MODELRUNNER_HUB_API=f"http://{parrot}", HF_ENDPOINT=f"http://{parrot}")


_ANSWERS = {
    "reason": "HTTP/1.1 500 {}\r\n\r\n",
    "status": "{}\r\n\r\n",
    "realm": 'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm="http://127.0.0.1/{0}",scope="{0}"\r\n\r\n',
    "place": "HTTP/1.1 302 Found\r\nLocation: http://{}/\r\n\r\n",
    "kind": "HTTP/1.1 200 OK\r\nContent-Type: {0}\r\nDocker-Content-Digest: {0}\r\n\r\n{{}}",
}
PARROTS = tuple(f"PARROT-{name}" for name in _ANSWERS)
HELPERS = ("ANSWERS", "COMPLAINS", "STORE", "NAMES")

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
    case("copy DENIED MODEL", "message"),
    case("copy DENIED MODEL --json", "message"),
    case("delete DENIED --yes", "message"),
    case("discover MODEL"),
    case("discover MODEL --json"),
    case("trust test MODEL"),
    case("trust test MODEL --json", "predicate"),
    case("attach MODEL FILE --type card"),
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
    case(f"{ASK} --tools TOOLS --yes-tools", "result", reply=lambda: calls(("told", "{}"))),
    case(f"{ASK} --tools TOOLS --yes-tools", "raised", reply=lambda: calls(("fail", "{}"))),
    case(f"{ASK} --tools TOOLS --yes-tools", "key", reply=MISCALLS),
    *(case(f"pull {name}/team/model:1 --timeout 1") for name in PARROTS),
    case("run MODEL hello --runtime http://PARROT-kind"),
    case("run MODEL hello --runtime http://PARROT-realm"),
    *(hubs_at("search text", name) for name in PARROTS),
    case("inspect --security MODEL --identity me@example.com --issuer https://example.com"),
    *(at("pull MODEL", DOCKER_CONFIG=name) for name in HELPERS),
    at("logout registry.example", DOCKER_CONFIG="COMPLAINS"),
    at("logout registry.example", "login", DOCKER_CONFIG="STORE"),
    at("doctor", DOCKER_CONFIG="NAMES"),
    *(at(words, PATH="PROGRAMS") for words in ("runtimes", "devices")),
    at("doctor", "proxy", HTTPS_PROXY=f"http://{nasty('proxy')}", NO_PROXY=nasty("proxy")),
    at("config", MODELRUNNER_MIRRORS=nasty("proxy")),
    case("import --from lmstudio --folder LISTED", "listed"),
    case("import LISTED", "listed"),
    case("ps", "record"),
    case("ps --json", "record"),
    case("path MODEL"),
    case("prune --dry-run"),
    case("save MODEL -o SAVED"),
    case("doctor"),
    case("rm MODEL"),
]
"""The last ones change the store."""

NOT_SHOWN = {
    *("license", "template", "signer"),
    *("reason", "status", "realm", "place", "kind"),
    *("helper", "complaint", "version", "driver"),
    "peer",
}
"""Fields of which no command prints the text, or not so that it is found."""

SHOW_NOTHING = {
    "ls": "another name of `list`",
    "tag": "names that a person types",
    "serve": "names of the store; what it answers goes to programs",
    "launch": "names of the store; the app shows the rest",
    "skill": "our own text",
    "compose": "names that Compose passes",
    "docker-model": "what our own server says, for Compose",
    "stop": "names of the store",
    "bench": "numbers",
    "share": "an address",
    "mirror": "messages of registries, as with `copy`",
    "sign": "names of the store, and what is known of a key",
    "cards": "our own catalogue",
    "login": "messages of registries, as with `pull`",
    "configure": "settings that a person types",
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


def certificate(text: str) -> bytes:
    """A certificate of somebody who calls himself so."""
    key = Signer.make().key
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:20])])
    address = x509.UniformResourceIdentifier(f"https://{text.encode('ascii', 'ignore').decode()}")
    begins = datetime(2025, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begins, begins.replace(2035))
    made = made.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


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
        made.add(keyless_bundle(artifact, certificate(nasty("signer"))), "team/model")
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


@pytest.fixture(scope="module")
def strangers() -> Iterator[dict[str, str]]:
    """The addresses of servers that answer with one text."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(parrot(answer.format(nasty(kind)).encode()))
            for name, (kind, answer) in zip(PARROTS, _ANSWERS.items(), strict=True)
        }


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
    strangers: dict[str, str],
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
    tools.write_text(
        'def now() -> str:\n    """The time."""\n    return "noon"\n\n\n'
        f'def told() -> str:\n    """What a page says."""\n    return {nasty("result")!r}\n\n\n'
        f'def fail() -> str:\n    """Fails."""\n    raise ValueError({nasty("raised")!r})\n'
    )
    listed = tmp_path / "listed" / "of" / nasty("listed").replace("/", "")
    listed.mkdir(parents=True)
    shutil.copy(file, listed)
    for name, prints, complains, code in (
        ("answers", json.dumps({"Username": nasty("helper"), "Secret": nasty("helper")}), "", 0),
        ("complains", nasty("helper"), nasty("complaint"), 1),
    ):
        program(
            tmp_path / "bin" / f"docker-credential-{name}",
            prints=prints,
            complains=complains,
            code=code,
        )
    logins = {
        "answers": {"credsStore": "answers"},
        "complains": {"credHelpers": {registry.host: "complains", "registry.example": "complains"}},
        "store": {"credsStore": nasty("login")},
        "names": {
            "auths": {
                nasty("login"): {"auth": nasty("login")},
                "registry.example": {"auth": nasty("login")},
            }
        },
    }
    for name, value in logins.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(value))
    program(
        tmp_path / "programs" / "llama-server",
        prints=f"Available devices:\n  Vulkan0: {nasty('driver')} (9 MiB, 9 MiB free)\n",
        complains=nasty("version"),
    )
    logs = cli.home / "state" / "serve"
    logs.mkdir(parents=True, exist_ok=True)
    record = {"name": "9", "pid": os.getpid(), "started": process_start(os.getpid())}
    record |= {"url": f"http://{strangers[PARROTS[0]]}", "control_key": "key"}
    (logs / "9.json").write_text(json.dumps({**record, "models": [nasty("record")]}))
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
        "LISTED": str(tmp_path / "listed"),
        "PROGRAMS": f"{tmp_path / 'programs'}:{cli.environ['PATH']}",
        **{name.upper(): str(tmp_path / name) for name in logins},
        **strangers,
    }
    docker, hub = hubs
    path = f"{tmp_path / 'bin'}:{cli.environ['PATH']}"
    environ = {
        **cli.environ,
        "MODELRUNNER_HUB_API": docker.url,
        "HF_ENDPOINT": hub.url,
        "PATH": path,
    }
    with OpenAIServer() as server:
        names["SERVER"] = server.url
        yield World(replace(cli, environ=environ), names, server)


@pytest.mark.parametrize("tried", CASES, ids=lambda each: " ".join(each.words)[:60])
def test_no_text_of_a_stranger_controls_a_terminal(world: World, tried: Case) -> None:
    argv = world.argv(tried.words)
    if tried.reply is not None:
        world.server.next(tried.reply(), says("done"))
    environ = {name: world.filled(value) for name, value in tried.environ.items()}
    with in_terminal(world.cli.argv(*argv), {**world.cli.environ, **environ}) as (
        terminal,
        process,
    ):
        shown = terminal.drain()
        process.wait(60)
    assert shown
    assert "Traceback" not in shown
    assert controls(shown) == set()
    plain = _OURS.sub("", shown).replace("\r\n", "").replace("\n", "").replace(" ", "")
    assert [name for name in tried.shows if f"{name}-text" not in plain] == [], shown


@pytest.mark.xdist_group("lan")
def test_no_name_of_a_neighbor_controls_a_terminal(
    world: World, strangers: Mapping[str, str]
) -> None:
    zeroconf = pytest.importorskip("zeroconf")
    name = f"peer-text{C1[:8]}{DIRECTIONS[:8]}.{lan.SERVICE}"
    properties = {nasty("peer")[:30]: nasty("peer")[:30]}
    network = zeroconf.Zeroconf(interfaces=["127.0.0.1"])
    try:
        for number, address in enumerate(strangers.values()):
            told = {"port": int(address.rpartition(":")[2]), "properties": properties}
            told["parsed_addresses"] = ["127.0.0.1"]
            network.register_service(
                zeroconf.ServiceInfo(lan.SERVICE, f"{number}-{name}", **told),
            )
        argv = world.cli.argv("pull", world.names["DENIED"], "--lan", "--timeout", "5")
        with in_terminal(argv, world.cli.environ) as (terminal, process):
            shown = terminal.drain()
            process.wait(60)
    finally:
        network.close()
    assert "error:" in shown
    assert "Traceback" not in shown
    assert controls(shown) == set()


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
