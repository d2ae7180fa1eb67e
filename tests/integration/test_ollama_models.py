"""Ollama's API over a real store: models are listed, shown, pulled, copied, created, deleted."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from modelrunner.oci.reference import Reference
from modelrunner.runtime.placement import HOST, Held, Placement
from modelrunner.serve.apis import keep_alive
from modelrunner.serve.apis.ollama import names
from modelrunner.serve.apis.ollama.models import API_VERSION
from modelrunner.store.store import Store
from modelrunner.version import __version__
from tests.support.artifacts import Artifact, docker_artifact, modelpack_artifact
from tests.support.gguf import F32, Typed, encode_gguf
from tests.support.registry import Registry
from tests.support.served_store import ServedStore
from tests.support.serving import Answer, Running, gateway
from tests.support.stores import put
from tests.support.waiting import wait_until

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}{% if tools %}{{ tools }}{% endif %}"
WEIGHTS = encode_gguf(
    metadata={
        "general.name": "One",
        "llama.context_length": 4096,
        "llama.embedding_length": 64,
        "llama.block_count": 2,
        "tokenizer.chat_template": TEMPLATE,
        "tokenizer.ggml.tokens": Typed("string", ["a", "b"]),
    },
    tensors=[("token_embd.weight", (64, 32), F32)],
)
LICENSE = b"Do as you like."
ONE = docker_artifact(
    WEIGHTS, license=LICENSE, config={"settings": {"temperature": 0.5, "system": "Be kind."}}
)
TWO = modelpack_artifact(WEIGHTS + bytes(8))
HEX = ONE.digest.removeprefix("sha256:")


@pytest.fixture
def served(store: Store, tmp_path) -> ServedStore:
    return ServedStore(store, tmp_path / "0")


@contextmanager
def ollama(served: ServedStore, **more: Any) -> Iterator[Running]:
    models = served.served_from_the_start()
    with gateway(served.runtime, *models, library=served.library(), **more) as running:
        yield running


def lines(answer: Answer) -> list[dict[str, Any]]:
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.body.splitlines()]


# Names.


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("smollm2", "smollm2:latest"),
        ("ai/smollm2:135M-Q4_1", "smollm2:135M-Q4_1"),
        ("team/model:1", "team/model:1"),
        ("local/mine", "local/mine:latest"),
        ("ghcr.io/ai/x:1", "ghcr.io/ai/x:1"),
        ("hf.co/Org/Repo:Q4_K_M", "hf.co/Org/Repo:Q4_K_M"),
        ("ai/0123456789ab:1", "0123456789ab:1"),
        # without `ai/` these would be something else
        ("ai/x/y:1", "ai/x/y:1"),
        (f"ai/sha256:{HEX}", f"ai/sha256:{HEX}"),
    ],
)
def test_a_name_is_written_as_ollama_does_and_means_the_same(reference: str, shown: str) -> None:
    parsed = Reference.parse(reference)
    assert names.shown(parsed) == shown
    assert Reference.parse(names.shown(parsed)) == parsed


# What is there.


def test_the_version_is_that_of_the_api_and_ours(served: ServedStore) -> None:
    with ollama(served) as running:
        answer = running.get("/api/version").json
        assert answer == {"version": API_VERSION, "modelrunner": __version__}
        assert running.ask("HEAD", "/").status == 200
        assert running.get("/api/tags").json == {"models": []}
        assert running.get("/api/ps").json == {"models": []}


def test_what_is_listed_can_be_asked_for(served: ServedStore, store: Store) -> None:
    put(store, ONE, "ai/one:1", "team/one:2")
    with ollama(served) as running:
        listed = running.get("/api/tags").json["models"]
        assert [each["name"] for each in listed] == ["one:1", "team/one:2"]
        for each in listed:
            assert running.post("/api/show", {"model": each["model"]}).status == 200
    first = listed[0]
    assert first["digest"] == HEX
    assert first["size"] == ONE.size
    assert first["details"] == {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "3.19B",
        "quantization_level": "Q4_K_M",
    }
    assert first["capabilities"] == ["completion", "tools"]
    assert first["modified_at"] > "2020"


def test_a_model_is_shown_with_the_context_that_it_has(served: ServedStore, store: Store) -> None:
    put(store, ONE, "ai/one:1")
    with ollama(served) as running:
        shown = running.post("/api/show", {"model": "one:1"}).json
        verbose = running.post("/api/show", {"name": "one:1", "verbose": True}).json
    assert shown["capabilities"] == ["completion", "tools"]
    assert shown["template"] == TEMPLATE
    assert shown["system"] == "Be kind."
    assert shown["license"] == LICENSE.decode()
    assert shown["parameters"].split() == ["num_ctx", "8", "temperature", "0.5"]
    assert shown["modelfile"] == ('FROM one:1\nSYSTEM """Be kind."""\nPARAMETER temperature 0.5\n')
    info = shown["model_info"]
    # the served one: the header says 4096
    assert info["llama.context_length"] == 8
    assert info["llama.embedding_length"] == 64
    assert info["general.architecture"] == "llama"
    assert info["general.parameter_count"] == 64 * 32
    assert "tokenizer.ggml.tokens" not in info
    assert verbose["model_info"]["tokenizer.ggml.tokens"] is None


@pytest.mark.parametrize("path", ["/api/show", "/api/delete", "/api/pull", "/api/copy"])
def test_a_request_has_to_name_a_model(served: ServedStore, path: str) -> None:
    method = "DELETE" if path == "/api/delete" else "POST"
    with ollama(served) as running:
        answer = running.ask(method, path, b"{}")
    assert answer.status == 400
    field = "source" if path == "/api/copy" else "model"
    assert answer.json == {"error": f"the field `{field}` is missing"}


def test_an_unknown_model_is_not_found_in_ollamas_words(served: ServedStore) -> None:
    expected = {"error": "model 'nope' not found"}
    with ollama(served) as running:
        for method, path, body in (
            ("POST", "/api/show", {"model": "nope"}),
            ("DELETE", "/api/delete", {"model": "nope"}),
            ("POST", "/api/copy", {"source": "nope", "destination": "x"}),
            ("POST", "/api/create", {"from": "nope", "model": "x"}),
        ):
            answer = running.ask(method, path, json.dumps(body).encode())
            assert (answer.status, answer.json) == (404, expected), path


def test_what_is_in_memory_is_listed_with_its_end(served: ServedStore, store: Store) -> None:
    put(store, ONE, "ai/one:1")
    with ollama(served, keep_alive=300.0) as running:
        assert running.chat("one:1").status == 200
        (loaded,) = running.get("/api/ps").json["models"]
        assert loaded.pop("expires_at") > "2020"
        assert loaded == {
            "name": "one:1",
            "model": "one:1",
            "size": 1,
            "digest": HEX,
            "details": loaded["details"],
            "size_vram": 0,
            "context_length": 8,
        }
    with ollama(served) as running:
        assert running.chat("one:1").status == 200
        held = Held("CUDA0", bytes={"weights": 60}), Held(HOST, bytes={"weights": 30, "cache": 10})
        running.pool.slots["ai/one:1"].placement = Placement(held)
        (loaded,) = running.get("/api/ps").json["models"]
        assert loaded["expires_at"] == "9999-12-31T23:59:59Z"
        assert (loaded["size"], loaded["size_vram"]) == (100, 60)


# Pulls.


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        registry.add(ONE, "ai/one", tags=["1"])
        yield registry


def test_a_pull_reports_its_steps_and_serves_the_model(
    served: ServedStore, registry: Registry
) -> None:
    name = registry.reference("ai/one:1")
    with ollama(served) as running:
        steps = lines(running.post("/api/pull", {"model": name}))
        assert [each["name"] for each in running.get("/api/tags").json["models"]] == [name]
        assert running.chat(name).status == 200
    assert steps[0] == {"status": "pulling manifest"}
    assert [step["status"] for step in steps[-3:]] == [
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    ends = {step["digest"]: step for step in steps if "digest" in step}
    weights = ONE.layer_digests[0]
    assert set(ends) == set(ONE.blobs)
    assert ends[weights] == {
        "status": f"pulling {weights.removeprefix('sha256:')[:12]}",
        "digest": weights,
        "total": len(WEIGHTS),
        "completed": len(WEIGHTS),
    }


def test_a_pull_without_a_stream_is_one_answer(served: ServedStore, registry: Registry) -> None:
    name = registry.reference("ai/one:1")
    with ollama(served) as running:
        answer = running.post("/api/pull", {"model": name, "stream": False})
        assert (answer.status, answer.json) == (200, {"status": "success"})
        missing = running.post("/api/pull", {"model": f"{name}x", "stream": False})
        assert missing.status == 404
        assert "1x" in missing.json["error"]


def test_a_pull_of_nothing_has_a_status(served: ServedStore, registry: Registry) -> None:
    with ollama(served) as running:
        answer = running.post("/api/pull", {"model": registry.reference("ai/one:nope")})
        assert answer.status == 404
        assert list(answer.json) == ["error"]
        assert running.post("/api/pull", {"model": "not a name!"}).status == 400


def test_a_pull_that_fails_on_the_way_ends_with_an_error(
    served: ServedStore, registry: Registry
) -> None:
    registry.corrupt(ONE.layer_digests[0])
    with ollama(served) as running:
        steps = lines(running.post("/api/pull", {"model": registry.reference("ai/one:1")}))
        assert running.get("/api/tags").json == {"models": []}
    assert steps[0] == {"status": "pulling manifest"}
    assert list(steps[-1]) == ["error"]
    assert steps[-1]["error"].startswith("expected sha256:")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_its_pull(
    served: ServedStore, store: Store, registry: Registry, stream: bool
) -> None:
    stalled = registry.stall_after(100, 600, digest=ONE.layer_digests[0])
    asked = {"model": registry.reference("ai/one:1"), "stream": stream}
    with ollama(served) as running:
        connection = running.connect()
        connection.request("POST", "/api/pull", json.dumps(asked))
        stalled.wait()
        connection.close()
        wait_until(lambda: not any(each.name.startswith("pull ") for each in threading.enumerate()))
    assert store.models() == ()


# Changes.


def test_a_copy_is_another_name(served: ServedStore, store: Store) -> None:
    put(store, ONE, "ai/one:1")
    with ollama(served) as running:
        answer = running.post("/api/copy", {"source": "one:1", "destination": "gpt-4"})
        assert (answer.status, answer.body) == (200, b"")
        listed = running.get("/api/tags").json["models"]
        assert [each["name"] for each in listed] == ["one:1", "gpt-4:latest"]
        assert running.chat("gpt-4").status == 200


def test_a_deleted_model_is_served_no_more(served: ServedStore, store: Store) -> None:
    put(store, ONE, "ai/one:1")
    with ollama(served) as running:
        answer = running.ask("DELETE", "/api/delete", b'{"model":"one:1"}')
        assert (answer.status, answer.body) == (200, b"")
        assert running.get("/api/tags").json == {"models": []}
        assert running.chat("one:1").status == 404
    assert store.models() == ()


@pytest.mark.parametrize("artifact", [ONE, TWO], ids=["docker", "modelpack"])
def test_a_model_is_created_of_one_that_is_there(
    served: ServedStore, store: Store, artifact: Artifact
) -> None:
    put(store, artifact, "ai/one:1")
    recipe = {
        "model": "pirate",
        "from": "one:1",
        "system": "You are a pirate.",
        "parameters": {"temperature": 0.1, "num_ctx": 2048, "top_k": 20},
        "license": ["Mine."],
        "template": TEMPLATE + "!",
    }
    with ollama(served) as running:
        steps = lines(running.post("/api/create", recipe))
        assert steps[-1] == {"status": "success"}
        shown = running.post("/api/show", {"model": "pirate"}).json
        assert running.chat("pirate").status == 200
        again = running.post("/api/create", recipe | {"stream": False})
        assert again.json == {"status": "success"}
    assert shown["system"] == "You are a pirate."
    assert shown["template"] == TEMPLATE + "!"
    assert "Mine." in shown["license"]
    words = shown["parameters"].split()
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "num_ctx": "8",
        "temperature": "0.1",
        "top_k": "20",
    }
    made = store.resolve("pirate")
    assert made.config.context_size == 2048
    before = store.resolve("one:1")
    assert (
        made.artifact.weights[0].descriptor.digest == before.artifact.weights[0].descriptor.digest
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"files": {"a.gguf": "sha256:0"}}, "`files` is not supported"),
        ({"adapters": {"a.gguf": "sha256:0"}}, "`adapters` is not supported"),
        ({"quantize": "q4_K_M"}, "`quantize` is not supported"),
        ({"messages": [{"role": "user", "content": "x"}]}, "`messages` is not supported"),
        ({"parameters": {"stop": ["x"]}}, "the parameter 'stop' cannot be kept in a model"),
        ({"parameters": {"temperature": -3}}, "temperature"),
        ({"template": "{{ .Prompt }}"}, "invalid `template`: expected Jinja, got a Go template"),
        (
            {"template": "{{- if .System }}x{{ end }}"},
            "invalid `template`: expected Jinja, got a Go template",
        ),
    ],
)
def test_what_cannot_be_created_is_said(
    served: ServedStore, store: Store, more: dict[str, object], message: str
) -> None:
    put(store, ONE, "ai/one:1")
    with ollama(served) as running:
        answer = running.post("/api/create", {"model": "new", "from": "one:1", **more})
        assert answer.status == 400
        assert message in answer.json["error"]
        assert [each["name"] for each in running.get("/api/tags").json["models"]] == ["one:1"]


def test_pushes_and_files_are_refused_in_words(served: ServedStore, store: Store) -> None:
    put(store, ONE, "ai/one:1")
    with ollama(served) as running:
        pushed = running.post("/api/push", {"model": "one:1"})
        assert pushed.status == 501
        assert pushed.json["error"] == "cannot push one:1 over HTTP: use `modelrunner push`"
        for path in ("/api/me", "/api/signout"):
            refused = running.post(path, {})
            assert refused.status == 501
            assert refused.json["error"] == (
                "this server has no account at ollama.com: for other registries, use"
                " `modelrunner login` and `modelrunner push`"
            )
        assert running.ask("HEAD", f"/api/blobs/{ONE.digest}").status == 404
        sent = running.ask("POST", f"/api/blobs/{ONE.digest}", b"GGUF")
        assert sent.status == 501
        assert "modelrunner package" in sent.json["error"]


def test_pages_and_proxies_change_nothing(served: ServedStore, store: Store) -> None:
    put(store, ONE, "ai/one:1")
    foreign = ({"Origin": "http://localhost:3000"}, {"X-Forwarded-For": "10.0.0.1"})
    asked: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("POST", "/api/pull", {"model": "one:1"}),
        ("POST", "/api/copy", {"source": "one:1", "destination": "x"}),
        ("POST", "/api/create", {"from": "one:1", "model": "x"}),
        ("DELETE", "/api/delete", {"model": "one:1"}),
    )
    with ollama(served) as running:
        for method, path, body in asked:
            for headers in foreign:
                answer = running.ask(method, path, json.dumps(body).encode(), **headers)
                assert answer.status == 403, (path, headers)
                assert "control key" in answer.json["error"]
        assert len(running.get("/api/tags", **foreign[0]).json["models"]) == 1
        key = {"Authorization": "Bearer control", **foreign[0]}
        assert running.ask("DELETE", "/api/delete", b'{"model":"one:1"}', **key).status == 200


# Durations.


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        (0, 0.0),
        ("0", 0.0),
        ("0s", 0.0),
        (300, 300.0),
        (1.5, 1.5),
        ("3600", 3600.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("300ms", 0.3),
        (-1, float("inf")),
        ("-1", float("inf")),
        ("-1m", float("inf")),
        (1e300, float("inf")),
    ],
)
def test_a_duration_is_read_as_ollama_does(value: object, seconds: float | None) -> None:
    assert keep_alive.parse(value) == seconds


@pytest.mark.parametrize(
    "value", ["5 minutes", "m", "1x", "h1", [], True, float("nan"), "1" * 200, "5m5"]
)
def test_what_is_no_duration_is_said(value: object) -> None:
    with pytest.raises(keep_alive.InvalidDurationError):
        keep_alive.parse(value)
