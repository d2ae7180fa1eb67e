"""Programs that speak Ollama's API, unchanged, against real models and a real registry."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from modelrunner.serve.apis.ollama.models import API_VERSION
from tests.conftest import CommandLine
from tests.e2e.test_serving import QUESTION, Endpoint, serving
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.model,
    pytest.mark.xdist_group("ollama clients"),
    pytest.mark.usefixtures("leaving_nothing_open"),
]

_WARNS = pytest.mark.filterwarnings("ignore")
"""For libraries whose own code warns, and leaves sockets open."""

SMOLLM2 = "smollm2:135M-Q4_1"
VECTORS = "fixtures/tiny-bert:latest"
SETTINGS = {"temperature": 0, "num_predict": 24, "seed": 1}
SCHEMA = {
    "type": "object",
    "properties": {"country": {"type": "string", "enum": ["France", "Spain"]}},
    "required": ["country"],
}
ASKED = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": QUESTION},
]


@pytest.fixture(scope="module")
def server(
    fixture_home: Path, mirror: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Endpoint]:
    """A server of two models, for all clients; more can be pulled from a registry beside it."""
    home = tmp_path_factory.mktemp("ollama") / "home"
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home.parent / "user"),
        "MODELRUNNER_HOME": str(home),
        "MODELRUNNER_MIRRORS": mirror,
        "MODELRUNNER_RUNTIME": "xllamacpp",
    }
    models = CommandLine(home, environ)
    arguments = (f"ai/{SMOLLM2}", VECTORS, "--context", "1024", "--parallel", "2")
    with serving(models, *arguments) as endpoint:
        yield endpoint


def response_error() -> type[Exception]:
    found: type[Exception] = pytest.importorskip("ollama").ResponseError
    return found


@pytest.fixture
def client(server: Endpoint) -> Iterator[Any]:
    """The client of Ollama's own package."""
    ollama = pytest.importorskip("ollama")
    with closing(ollama.Client(server.url)) as found:
        yield found


def test_the_python_package_chats_streams_and_forms_answers(client: Any) -> None:
    whole = client.chat(SMOLLM2, ASKED, options=SETTINGS)
    assert "Paris" in whole.message.content
    assert (whole.done, whole.done_reason, whole.model) == (True, "stop", SMOLLM2)
    assert whole.prompt_eval_count > 10
    assert whole.eval_count > 2
    assert whole.total_duration > whole.eval_duration > 0
    pieces = list(client.chat(SMOLLM2, ASKED, options=SETTINGS, stream=True))
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    cut = client.chat(SMOLLM2, ASKED, options=SETTINGS | {"num_predict": 2})
    assert (cut.done_reason, cut.eval_count) == ("length", 2)
    stopped = client.chat(SMOLLM2, ASKED, options=SETTINGS | {"stop": ["Paris"]})
    assert "Paris" not in stopped.message.content
    placed = client.chat(
        SMOLLM2, [{"role": "user", "content": "Where is Paris?"}], format=SCHEMA, options=SETTINGS
    )
    assert json.loads(placed.message.content)["country"] in {"France", "Spain"}
    likely = client.chat(SMOLLM2, ASKED, options=SETTINGS, logprobs=True, top_logprobs=2)
    assert len(likely.logprobs[0].top_logprobs) == 2
    assert "".join(entry.token for entry in likely.logprobs).startswith("The")
    with pytest.raises(response_error(), match="does not support thinking") as refused:
        client.chat(SMOLLM2, ASKED, think=True)
    assert refused.value.status_code == 400
    with pytest.raises(response_error(), match="model 'nope' not found") as missing:
        client.chat("nope", ASKED)
    assert missing.value.status_code == 404


def test_the_python_package_generates_and_goes_on(client: Any) -> None:
    first = client.generate(SMOLLM2, QUESTION, system="You are helpful.", options=SETTINGS)
    assert "Paris" in first.response
    assert len(first.context) > 4
    second = client.generate(SMOLLM2, "And now?", context=first.context, options=SETTINGS)
    assert second.prompt_eval_count > first.prompt_eval_count
    raw = client.generate(SMOLLM2, "The capital of France is", raw=True, options=SETTINGS)
    assert "Paris" in raw.response
    assert raw.context is None
    pieces = list(client.generate(SMOLLM2, QUESTION, stream=True, options=SETTINGS))
    assert pieces[-1].done
    form = client.generate(SMOLLM2, "Where is Paris?", format=SCHEMA, options=SETTINGS)
    assert json.loads(form.response)["country"] in {"France", "Spain"}
    with pytest.raises(response_error(), match="`context` is not from this server"):
        client.generate(SMOLLM2, "hi", context=[1, 2, 3])


def test_a_model_is_loaded_kept_and_unloaded_as_asked(client: Any) -> None:

    def loaded() -> dict[str, Any]:
        return {each.model: each for each in client.ps().models}

    assert client.generate(SMOLLM2, "", keep_alive=-1).done_reason == "load"
    here = loaded()[SMOLLM2]
    assert here.expires_at.year == 9999
    assert here.context_length == 1024
    assert here.size > 10_000_000
    assert client.generate(SMOLLM2, keep_alive=0).done_reason == "unload"
    assert SMOLLM2 not in loaded()
    client.chat(SMOLLM2, ASKED, options=SETTINGS, keep_alive="10m")
    assert loaded()[SMOLLM2].expires_at.year < 9999
    client.chat(SMOLLM2, ASKED, options=SETTINGS, keep_alive=0)
    wait_until(lambda: SMOLLM2 not in loaded())


def test_the_python_package_makes_vectors(client: Any) -> None:
    both = client.embed(VECTORS, ["hello world", "tiny model"])
    assert len(both.embeddings) == 2
    assert both.prompt_eval_count > 2
    one = client.embed(VECTORS, "hello world", dimensions=8)
    (vector,) = one.embeddings
    assert len(vector) == 8
    assert sum(number * number for number in vector) == pytest.approx(1)
    old = client.embeddings(VECTORS, "hello world")
    assert old.embedding == pytest.approx(both.embeddings[0])
    with pytest.raises(response_error(), match="does not support embeddings"):
        client.embed(SMOLLM2, "x")
    with pytest.raises(response_error(), match="does not support chat"):
        client.chat(VECTORS, ASKED)


def test_the_python_package_pulls_names_creates_and_deletes(client: Any) -> None:
    steps = list(client.pull("fixtures/tiny-llama", stream=True))
    assert steps[0].status == "pulling manifest"
    assert steps[-1].status == "success"
    assert any(step.completed == step.total for step in steps if step.digest)
    assert client.pull("fixtures/tiny-llama").status == "success"
    listed = {each.model: each for each in client.list().models}
    assert listed["fixtures/tiny-llama:latest"].details.family == "llama"
    shown = client.show("fixtures/tiny-llama")
    assert "completion" in shown.capabilities
    assert shown.modelinfo["llama.context_length"] > 0
    client.copy("fixtures/tiny-llama", "gpt-4o")
    assert client.chat("gpt-4o", ASKED, options=SETTINGS).message.content
    created = client.create(
        "pirate",
        from_="fixtures/tiny-llama",
        system="You are a pirate.",
        parameters={"temperature": 0.1, "num_ctx": 256},
    )
    assert created.status == "success"
    pirate = client.show("pirate")
    assert "temperature" in pirate.parameters
    assert "You are a pirate." in pirate.modelfile
    for name in ("pirate", "gpt-4o", "fixtures/tiny-llama"):
        assert client.delete(name).status == "success"
    assert not {"pirate:latest", "gpt-4o:latest"} & {each.model for each in client.list().models}
    with pytest.raises(response_error()) as missing:
        client.pull("fixtures/nope")
    assert missing.value.status_code == 404
    with pytest.raises(response_error(), match="modelrunner push"):
        client.push(SMOLLM2)


def test_the_python_package_works_asynchronously(server: Endpoint) -> None:
    ollama = pytest.importorskip("ollama")

    async def work() -> tuple[str, str]:
        client = ollama.AsyncClient(server.url)
        try:
            return await both(client)
        finally:
            await client.close()

    async def both(client: Any) -> tuple[str, str]:
        whole, stream = await asyncio.gather(
            client.chat(SMOLLM2, ASKED, options=SETTINGS),
            client.chat(SMOLLM2, ASKED, options=SETTINGS, stream=True),
        )
        pieces = [piece.message.content async for piece in stream]
        return whole.message.content, "".join(pieces)

    whole, streamed = asyncio.run(work())
    assert whole == streamed


@_WARNS
def test_langchain_chats_streams_embeds_and_forms_answers(server: Endpoint) -> None:
    langchain = pytest.importorskip("langchain_ollama")
    model = langchain.ChatOllama(
        model=SMOLLM2,
        base_url=server.url,
        temperature=0,
        num_predict=24,
        validate_model_on_init=True,
    )
    answer = model.invoke(QUESTION)
    assert "Paris" in answer.content
    assert answer.usage_metadata["output_tokens"] > 2
    assert "".join(piece.content for piece in model.stream(QUESTION)) == answer.content
    formed = model.with_structured_output(SCHEMA, method="json_schema").invoke("Where is Paris?")
    assert formed["country"] in {"France", "Spain"}
    vectors = langchain.OllamaEmbeddings(model=VECTORS, base_url=server.url)
    assert len(vectors.embed_documents(["hello world", "tiny model"])) == 2
    text = langchain.OllamaLLM(model=SMOLLM2, base_url=server.url, temperature=0, num_predict=24)
    assert "Paris" in text.invoke(QUESTION)


@_WARNS
@pytest.mark.parametrize("provider", ["ollama", "ollama_chat"])
def test_litellm_chats_and_streams(server: Endpoint, provider: str) -> None:
    litellm = pytest.importorskip("litellm")
    asked: dict[str, Any] = {
        "model": f"{provider}/{SMOLLM2}",
        "api_base": server.url,
        "messages": ASKED,
        "temperature": 0,
        "max_tokens": 24,
    }
    answer = litellm.completion(**asked)
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.completion_tokens > 2
    pieces = [
        part.choices[0].delta.content or "" for part in litellm.completion(**asked, stream=True)
    ]
    assert "Paris" in "".join(pieces)
    if provider == "ollama":
        found = litellm.embedding(
            model=f"ollama/{VECTORS}", api_base=server.url, input=["hello world"]
        )
        assert len(found.data) == 1


_NODE = """
import { Ollama } from "ollama";
const [host, model, vectors] = process.argv.slice(2);
const client = new Ollama({ host });
const messages = [{ role: "user", content: %s }];
const options = { temperature: 0, num_predict: 24, seed: 1 };
const whole = await client.chat({ model, messages, options });
let streamed = "";
for await (const part of await client.chat({ model, messages, options, stream: true })) {
  streamed += part.message.content;
}
const embedded = await client.embed({ model: vectors, input: "hello world" });
const listed = await client.list();
const shown = await client.show({ model });
let missing = "";
try { await client.chat({ model: "nope", messages }); } catch (error) { missing = error.message; }
console.log(JSON.stringify({
  whole: whole.message.content, streamed, vectors: embedded.embeddings.length,
  listed: listed.models.map((each) => each.model), capabilities: shown.capabilities, missing,
}));
"""


def test_the_package_for_node_chats_streams_embeds_and_lists(
    server: Endpoint, tmp_path: Path
) -> None:
    found = _run_node(tmp_path, _NODE % json.dumps(QUESTION), server.url, SMOLLM2, VECTORS)
    assert "Paris" in found["whole"]
    assert found["streamed"] == found["whole"]
    assert found["vectors"] == 1
    assert SMOLLM2 in found["listed"]
    assert "completion" in found["capabilities"]
    assert found["missing"] == "model 'nope' not found"


def _run_node(folder: Path, script: str, *arguments: str) -> Mapping[str, Any]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed")
    installed = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--silent", "ollama@0.6.4"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    if installed.returncode:
        pytest.skip(f"npm's ollama is not to be had: {installed.stderr[-200:]}")
    (folder / "ask.mjs").write_text(script)
    done = subprocess.run(
        [node, "ask.mjs", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    value: Mapping[str, Any] = json.loads(done.stdout)
    return value


@pytest.fixture(scope="module")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program over the Go package that Ollama's own command line is made of."""
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        pytest.skip("go is not installed")
    folder = tmp_path_factory.mktemp("go")
    shutil.copy(Path(__file__).parents[1] / "support" / "ollama_client.go", folder / "main.go")
    for arguments in (
        ("mod", "init", "ask"),
        ("get", "github.com/ollama/ollama/api@v0.13.5"),
        ("build", "-o", "ask", "."),
    ):
        done = subprocess.run(
            [go, *arguments], cwd=folder, check=False, capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"Ollama's Go package is not to be had: {done.stderr[-200:]}")
    return folder / "ask"


def test_the_package_for_go_does_what_ollamas_command_line_does(
    server: Endpoint, go_client: Path
) -> None:
    done = subprocess.run(
        [go_client, SMOLLM2, "fixtures/tiny-llama", QUESTION],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
        env={"OLLAMA_HOST": server.url},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert SMOLLM2 in found.pop("listed")
    assert "Paris" in found.pop("chat")
    assert "Paris" in found.pop("generate")
    assert found.pop("context") > 2
    assert found.pop("eval_count") > 2
    assert found.pop("running") >= 1
    assert "completion" in found.pop("capabilities")
    assert found == {
        "version": API_VERSION,
        "reason": "stop",
        "pulled": "success",
        "created": "success",
        "missing": "model 'nope' not found",
    }


# Over plain HTTP.


def test_long_texts_are_cut_and_what_a_model_cannot_do_is_said(server: Endpoint) -> None:
    long = "hello world " * 2000
    status, cut = server.ask("/api/embed", {"model": VECTORS, "input": [long, "hello"]})
    assert (status, len(cut["embeddings"])) == (200, 2)
    whole = {"model": VECTORS, "input": long, "truncate": False}
    status, refused = server.ask("/api/embed", whole)
    assert status == 400
    assert "tokens" in refused["error"]
    asked = {"model": SMOLLM2, "prompt": "def f(", "suffix": "return 1", "stream": False}
    status, refused = server.ask("/api/generate", asked)
    assert status in {400, 501}, refused
    assert "infill" in refused["error"].lower()
    status, refused = server.ask(
        "/api/chat", {"model": SMOLLM2, "messages": [{"role": "user", "content": long}]}
    )
    assert status == 400
    assert "1024" in refused["error"]


def test_an_empty_store_can_be_served_and_filled(cli: CommandLine, mirror: str) -> None:
    environ = {"MODELRUNNER_MIRRORS": mirror, "MODELRUNNER_RUNTIME": "xllamacpp"}
    with serving(cli, "--all", "--control-key", "mine", **environ) as endpoint:
        assert endpoint.ask("/api/tags") == (200, {"models": []})
        asked = {"model": "fixtures/tiny-llama", "stream": False}
        status, refused = endpoint.ask("/api/pull", asked, Origin="http://localhost:3000")
        assert status == 403
        assert "control key" in refused["error"]
        key = {"Origin": "http://localhost:3000", "Authorization": "Bearer mine"}
        assert endpoint.ask("/api/pull", asked, **key) == (200, {"status": "success"})
        status, answer = endpoint.chat("fixtures/tiny-llama")
        assert (status, answer["object"]) == (200, "chat.completion")
        # what another program does counts too
        assert cli("rm", "fixtures/tiny-llama").returncode == 0
        assert endpoint.ask("/api/tags") == (200, {"models": []})
        endpoint.process.terminate()
        _, said = endpoint.process.communicate(timeout=20)
    assert "serving no models yet; press Ctrl-C to stop" in said


# Ollama's own command line.


@pytest.fixture(scope="module")
def ollama_command() -> str:
    """The program `ollama`: on the path, or where `.ci/run` has built it."""
    folders = [os.environ.get("MODELRUNNER_CI_PROGRAMS", ""), os.environ["PATH"]]
    found = shutil.which("ollama", path=os.pathsep.join(filter(None, folders)))
    if found is None:
        pytest.skip("the program ollama is not installed")
    return found


def test_ollamas_own_command_line_works(
    server: Endpoint, ollama_command: str, tmp_path: Path
) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [ollama_command, *arguments],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=240,
            env={"OLLAMA_HOST": server.url, "HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        )
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    assert SMOLLM2 in run("list")
    shown = run("show", SMOLLM2)
    assert "completion" in shown
    assert "1024" in shown
    likeliest = tmp_path / "Likeliest"
    likeliest.write_text(f"FROM {SMOLLM2}\nPARAMETER temperature 0\n")
    run("create", "likeliest", "-f", str(likeliest))
    assert "Paris" in run("run", "likeliest", QUESTION)
    run("rm", "likeliest")
    assert run("run", SMOLLM2, QUESTION).strip()
    assert SMOLLM2 in run("ps")
    run("stop", SMOLLM2)
    wait_until(lambda: SMOLLM2 not in run("ps"))
    run("pull", "fixtures/tiny-llama")
    run("cp", "fixtures/tiny-llama", "mine")
    assert "mine:latest" in run("list")
    modelfile = tmp_path / "Modelfile"
    modelfile.write_text('FROM mine\nSYSTEM "Be kind."\nPARAMETER temperature 0.2\n')
    run("create", "kind", "-f", str(modelfile))
    assert "temperature" in run("show", "kind")
    for name in ("kind", "mine", "fixtures/tiny-llama"):
        run("rm", name)
    assert "mine" not in run("list")
    assert "not found" in run("rm", "mine", code=1)
    for command in (["push", SMOLLM2], ["signin"], ["signout"]):
        assert "`modelrunner login` and `modelrunner push`" in run(*command, code=1)
    assert "use `modelrunner push`" in run("push", "localhost:5000/me/mine", code=1)
