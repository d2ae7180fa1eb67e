"""Docker Model Runner's API over a real store and a real registry; runtimes are scripted."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.operations.serve.plan import ServePlan
from modelrunner.serve.observability.request_log import RequestLog
from modelrunner.store.store import Store, StoredModel
from modelrunner.version import __version__
from tests.support.artifacts import docker_artifact
from tests.support.openai_server import Reply
from tests.support.registry import Registry
from tests.support.served_store import ServedStore, planned
from tests.support.serving import Running, gateway
from tests.support.stores import put
from tests.support.waiting import wait_until

ONE = docker_artifact(b"GGUF" + bytes(200_000))
TWO = docker_artifact(b"GGUF" + b"2" * 100_000)
JAVA = {
    "User_Agent": "Java/17.0.15",
    "Accept": "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
    "Content_Type": "application/json",
}
"""What Java's HttpURLConnection sends."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        registry.add(ONE, "ai/one", tags=["1"])
        yield registry


@pytest.fixture
def serving(store: Store, tmp_path: Path) -> ServedStore:
    put(store, TWO, "ai/two:latest")
    return ServedStore(store, tmp_path / "0")


@contextmanager
def running(serving: ServedStore) -> Iterator[Running]:
    with gateway(
        serving.runtime, *serving.served_from_the_start(), library=serving.library()
    ) as server:
        yield server


def lines(body: bytes) -> list[Mapping[str, object]]:
    return [json.loads(line) for line in body.splitlines()]


# Pulls.


def test_a_pull_has_a_line_for_each_step_and_is_served(
    serving: ServedStore, registry: Registry
) -> None:
    name = registry.reference("ai/one:1")
    with running(serving) as server:
        answer = server.post("/models/create", {"from": name})
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        *steps, last = lines(answer.body)
        assert last == {
            "type": "success",
            "message": "Model pulled successfully",
            "total": 0,
            "layer": {"size": 0, "current": 0},
            "mode": "pull",
        }
        assert {step["type"] for step in steps} == {"progress"}
        assert all(step["mode"] == "pull" for step in steps)
        done = {step["layer"]["id"]: step["layer"] for step in steps}
        assert all(layer["current"] == layer["size"] for layer in done.values())
        assert {step["total"] for step in steps} == {sum(layer["size"] for layer in done.values())}
        assert steps[-1]["message"].startswith("Downloaded: ")
        ids = [model["id"] for model in server.get("/models").json]
        assert ONE.digest in ids
        assert server.chat(name).status == 200
        asked = {"Accept": "application/json"}
        again = server.post("/models/create", {"from": name}, **asked)
        assert again.headers["content-type"] == "application/json"
        (known,) = lines(again.body)
        assert known["type"] == "success"
        assert known["message"].startswith("Using cached model: ")


def test_a_pull_that_fails_at_once_has_a_status_and_a_line_of_text(
    serving: ServedStore, registry: Registry
) -> None:
    with running(serving) as server:
        for asked, status in (
            ({"from": registry.reference("ai/none:1")}, 404),
            ({"from": "no such name!"}, 400),
            ({}, 400),
            ({"from": ""}, 400),
            ({"from": 5}, 400),
        ):
            answer = server.post("/models/create", asked)
            assert answer.status == status
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert b"{" not in answer.body
            assert answer.body.endswith(b"\n")


def test_a_pull_says_that_it_tries_again(serving: ServedStore, registry: Registry) -> None:
    registry.answer(503, times=1, on="blob")
    with running(serving) as server:
        steps = lines(server.post("/models/create", {"from": registry.reference("ai/one:1")}).body)
    assert [step["type"] for step in steps if step["type"] != "progress"] == ["warning", "success"]


def test_a_pull_that_fails_on_the_way_ends_with_an_error(
    serving: ServedStore, registry: Registry
) -> None:
    registry.corrupt(ONE.layer_digests[0])
    with running(serving) as server:
        answer = server.post("/models/create", {"from": registry.reference("ai/one:1")})
    assert answer.status == 200
    first, *_, last = lines(answer.body)
    assert (first["type"], last["type"]) == ("progress", "error")
    assert last["message"].startswith("expected sha256:")


def test_a_token_of_the_request_is_not_passed_on_and_said_so(
    serving: ServedStore, registry: Registry
) -> None:
    asked = {"from": registry.reference("ai/one:1"), "bearer-token": "hf_secret"}
    with running(serving) as server:
        first, *_ = lines(server.post("/models/create", asked).body)
    assert first["type"] == "warning"
    assert first["message"] == "the token of the request is not used: the server has its own"
    assert not any("hf_secret" in str(request.authorization) for request in registry.requests)


def test_testcontainers_waits_and_pulls_as_its_source_does(
    serving: ServedStore, registry: Registry
) -> None:
    with running(serving) as server:
        # older releases wait for this sentence
        assert b"The service is running" in server.get("/", Accept=JAVA["Accept"]).body
        assert b"The service is running" in server.get("/").body
        body = f'{{"from":"{registry.reference("ai/one:1")}"}}'.encode()
        pulled = server.ask("POST", "/models/create", body, **JAVA)
        assert pulled.status == 200
        # its endpoint ends in /engines; Spring AI's and LangChain4j's base URLs follow
        name = registry.reference("ai/one:1")
        asked = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
        for base in ("/engines/v1", "/engines", "/engines/llama.cpp/v1", "//engines/v1"):
            assert server.post(f"{base}/chat/completions", asked, **JAVA).status == 200
        assert server.get("/engines/v1/models", **JAVA).json["object"] == "list"
        host = {"Host": "model-runner.docker.internal"}
        assert server.get("/engines/v1/models", **host).status == 200


# Names.


def test_a_name_is_added_and_removed(serving: ServedStore) -> None:
    with running(serving) as server:
        tagged = server.ask("POST", "/models/ai/two/tag?repo=team/mine&tag=2")
        assert (tagged.status, tagged.json) == (
            201,
            {"message": 'Model tagged successfully with "team/mine:2"', "target": "team/mine:2"},
        )
        assert server.chat("team/mine:2").status == 200
        for query in ("", "?repo=x", "?tag=x"):
            assert server.ask("POST", f"/models/ai/two/tag{query}").status == 400
        assert server.ask("POST", "/models/none/tag?repo=a&tag=b").status == 404
        conflict = server.ask("DELETE", f"/models/{TWO.digest}")
        assert conflict.status == 409
        untagged = server.ask("DELETE", "/models/team/mine:2")
        assert untagged.json == [{"Untagged": "docker.io/team/mine:2"}]
        deleted = server.ask("DELETE", "/models/two?force=false")
        assert deleted.json == [{"Untagged": "docker.io/ai/two:latest"}, {"Deleted": TWO.digest}]
        assert server.ask("DELETE", "/models/two").status == 404
        assert server.get("/models").json == []


def test_force_removes_all_names_of_an_id_and_purge_everything(serving: ServedStore) -> None:
    put(serving.store, ONE, "ai/one:latest")
    with running(serving) as server:
        server.ask("POST", "/models/ai/two/tag?repo=b&tag=2")
        forced = server.ask("DELETE", f"/models/{TWO.digest}?force=true")
        assert [*forced.json][-1] == {"Deleted": TWO.digest}
        assert server.ask("DELETE", "/models/purge").status == 200
    assert list(serving.store.models()) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/models/create"),
        ("DELETE", "/models/two"),
        ("DELETE", "/models/purge"),
        ("POST", "/models/two/tag?repo=a&tag=b"),
        ("POST", "/models/two/repackage"),
        ("POST", "/engines/_configure"),
    ],
)
def test_web_pages_change_nothing(serving: ServedStore, method: str, path: str) -> None:
    with running(serving) as server:
        refused = server.ask(method, path, b"{}", Origin="http://localhost:3000")
        assert refused.status == 403
    assert len(serving.store.models()) == 1


@pytest.mark.parametrize(
    ("method", "path", "instead"),
    [
        ("POST", "/engines/install-backend", "`modelrunner runtimes`"),
        ("POST", "/engines/uninstall-backend", "`modelrunner runtimes`"),
    ],
)
def test_what_is_not_done_over_http_names_the_command(
    serving: ServedStore, method: str, path: str, instead: str
) -> None:
    with running(serving) as server:
        answer = server.ask(method, path, b"{}")
    assert answer.status == 501
    assert instead in answer.body.decode()


# What runs.


def test_version_and_disk_usage(serving: ServedStore) -> None:
    with running(serving) as server:
        assert server.get("/version").json == {"version": f"modelrunner {__version__}"}
        usage = server.get("/engines/df").json
    assert sorted(usage) == ["default_backend_disk_usage", "models_disk_usage"]
    assert usage["models_disk_usage"] > 100_000


def test_a_model_is_loaded_without_an_answer(serving: ServedStore) -> None:
    with running(serving) as server:
        asked = {"model": "two", "messages": []}
        answer = server.post("/engines/v1/chat/completions", asked, X_Preload_Only="true")
        assert (answer.status, answer.body) == (200, b"")
        (shown,) = server.get("/engines/ps").json
        assert serving.runtime.last.answers.requests == []
    assert shown["model_name"] == "ai/two:latest"
    assert shown["mode"] == "completion"
    assert shown["keep_alive"] == "-1"
    assert (shown["loading"], shown["in_use"]) == (False, False)


# Configuration.


def configured(server: Running, **fields: object) -> int:
    return server.post("/engines/_configure", {"model": "two", **fields}).status


def test_a_model_is_configured_and_loaded_with_what_was_said(serving: ServedStore) -> None:
    with running(serving) as server:
        assert server.get("/engines/_configure").json == []
        said = {"context-size": 4, "raw-runtime-flags": "--threads 2 -ngl 0", "keep_alive": "10m"}
        assert configured(server, **said) == 202
        (shown,) = server.get("/engines/_configure?model=two").json
        assert shown == {
            "Backend": "llama.cpp",
            "Model": "ai/two:latest",
            "ModelID": TWO.digest,
            "Mode": "completion",
            "Config": {
                "context-size": 4,
                "runtime-flags": ["--threads", "2", "-ngl", "0"],
                "keep_alive": "10m",
            },
        }
        assert server.chat("two").status == 200
        assert serving.runtime.last.context == 4
        (state,) = server.get("/engines/ps").json
        assert state["keep_alive"] == "600s"
        assert server.get("/engines/_configure?model=none").status == 404
        # and so it stays when it is loaded once more
        assert server.post("/engines/unload", {"all": True}).json == {"unloaded_runners": 1}
        assert server.chat("two").status == 200
        (state,) = server.get("/engines/ps").json
        assert state["keep_alive"] == "600s"


@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ({"context-size": 4}, {"context": "4"}),
        # others stand for what the model has by itself
        ({"context-size": 0}, {}),
        ({"context-size": -1}, {}),
        (
            {"runtime-flags": ["-ngl", "5", "--temp=0.5", "-t", "2", "--no-mmap", "--jinja"]},
            {"gpu-layers": "5", "temperature": "0.5", "threads": "2", "mmap": "off"},
        ),
        (
            {"raw-runtime-flags": "--tensor-split '3,1' -kvu"},
            {"tensor-split": "3,1", "kv-unified": "on"},
        ),
        (
            {"speculative": {"draft_model": "ai/one", "num_tokens": 4}},
            {"draft": "ai/one", "draft-tokens": "4"},
        ),
        ({"llamacpp": {"reasoning-budget": 0}}, {"think": "off"}),
        ({"llamacpp": {"reasoning-budget": 512}}, {"think": "512"}),
        ({"llamacpp": {"reasoning-budget": -1}}, {}),
    ],
)
def test_what_is_configured_is_what_configure_sets(
    serving: ServedStore, fields: Mapping[str, object], settings: Mapping[str, str]
) -> None:
    seen = []

    def plan(stored: StoredModel, name: str, changed: Mapping[str, str]) -> ServePlan:
        seen.append(changed)
        return planned(stored, name)

    serving.plan = plan
    with running(serving) as server:
        assert configured(server, **fields) == 202
    assert seen == [settings]


def test_a_model_that_was_removed_and_came_again_is_configured_anew(serving: ServedStore) -> None:
    with running(serving) as server:
        assert configured(server, **{"context-size": 4}) == 202
        assert server.ask("DELETE", "/models/two?force=true").status == 200
        put(serving.store, TWO, "ai/two:latest", "ai/two:1")
        server.post("/api/copy", {"source": "two:1", "destination": "two:2"})
        assert server.get("/engines/_configure").json == []
        assert configured(server, **{"context-size": 4}) == 202
        assert server.chat("two").status == 200
        assert serving.runtime.last.context == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runtime-flags": ["--log-file", "x"]}, "the runtime flag '--log-file' is not allowed"),
        ({"runtime-flags": ["--api-key=x"]}, "the runtime flag '--api-key' is not allowed"),
        ({"runtime-flags": ["-m", "/etc/passwd"]}, "the runtime flag '-m' is not allowed"),
        ({"runtime-flags": ["--chat-template-file=x"]}, "'--chat-template-file' is not allowed"),
        ({"runtime-flags": ["x"]}, "the runtime flag 'x' is not allowed"),
        ({"runtime-flags": ["--jinja"] * 129}, "expected at most 128"),
        ({"runtime-flags": ["--threads"]}, "the runtime flag --threads has no value"),
        ({"raw-runtime-flags": "'"}, "unclosed quote"),
        ({"runtime-flags": "--threads"}, "expected a list of texts"),
        ({"context-size": "1k"}, "invalid `context-size`"),
        ({"context-size": True}, "invalid `context-size`"),
        (
            {"keep_alive": "soon"},
            "invalid `keep_alive`: expected a duration such as 5m, got 'soon'",
        ),
        ({"mode": "embedding"}, "cannot be run in the mode 'embedding'"),
        ({"vllm": {"gpu-memory-utilization": 0.5}}, "`vllm` is not supported"),
        ({"speculative": {"draft_model": "/m.gguf"}}, "got a path"),
        ({"llamacpp": {"reasoning-budget": "x"}}, "invalid `reasoning-budget`"),
    ],
)
def test_what_cannot_be_configured_is_refused(
    serving: ServedStore, fields: Mapping[str, object], message: str
) -> None:
    with running(serving) as server:
        answer = server.post("/engines/llama.cpp/_configure", {"model": "two", **fields})
        assert server.get("/engines/_configure").json == []
    assert answer.status == 400
    assert message in answer.body.decode()
    assert serving.runtime.started == []


# Logs.


def test_logs_are_those_of_the_server_and_its_runtimes(serving: ServedStore) -> None:
    with running(serving) as server:
        logs = server.pool.logs
        logs.with_name("0.log").write_bytes(b"from the server\nnot yet com")
        server.pool.log_of(server.pool.served[0]).write_bytes(b"from \x1b[31ma runtime\n")
        both = server.get("/logs")
        assert both.headers["content-type"] == "text/plain; charset=utf-8"
        assert both.body == b"from the server\nfrom a runtime\n"
        assert server.get("/logs?no-engines=true").body == b"from the server\n"


def test_the_end_of_a_long_log_begins_with_a_whole_line(serving: ServedStore) -> None:
    with running(serving) as server:
        line = b"x" * 99 + b"\n"
        server.pool.logs.with_name("0.log").write_bytes(line * 20_000)
        found = server.get("/logs").body
    assert found == line * (1024 * 1024 // len(line))


def test_the_latest_requests_of_each_model_are_listed(serving: ServedStore) -> None:
    with running(serving) as server:
        server.pool.requests = RequestLog(server.pool.logs.with_name("requests"), bodies=True)
        server.pool.requests.begin()
        for number in range(11):
            assert server.chat("two", str(number)).status == 200

        def last_text() -> str:
            (group,) = server.get("/engines/requests").json
            text: str = json.loads(group["records"][-1]["request"])["messages"][0]["content"]
            return text

        # a request is noted when its answer is complete, which its client may know first
        wait_until(lambda: last_text() == "10")
        (group,) = server.get("/engines/requests").json
        assert (group["model"], group["count"]) == (TWO.digest, 10)
        last = group["records"][-1]
        assert (last["model"], last["method"], last["status_code"]) == (
            "ai/two:latest",
            "POST",
            200,
        )
        assert last["timestamp"] > 1_600_000_000
        assert server.get("/engines/requests?model=two").json == [group]
        assert server.get("/engines/requests?model=none").json == []


# Scores.


def test_scores_are_asked_for_as_ranks(serving: ServedStore) -> None:
    ranked = {
        "results": [
            {"index": 1, "relevance_score": 0.9},
            {"index": 0, "relevance_score": 0.1},
        ],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    raw = json.dumps(ranked).encode()
    ranker = [replace(each, kind="ranking") for each in serving.served_from_the_start()]
    with gateway(serving.runtime, *ranker) as server:
        for path in ("/score", "/v1/score", "/engines/score", "/engines/llama.cpp/score"):
            serving.runtime.scripts["ai/two:latest"] = [Reply((raw,), kind="application/json")]
            asked = {"model": "two", "text_1": "question", "text_2": ["a", "b"]}
            answer = server.post(path, asked)
            assert answer.status == 200, answer.body
            assert [(each["index"], each["score"]) for each in answer.json["data"]] == [
                (0, 0.1),
                (1, 0.9),
            ]
            (request,) = serving.runtime.last.answers.requests
            assert request.path == "/v1/rerank"
            assert request.body == {"query": "question", "documents": ["a", "b"], "model": "two"}
            server.post("/engines/unload", {"all": True})
        several = {"model": "two", "text_1": ["a", "b"], "text_2": ["c", "d"]}
        assert server.post("/score", several).status == 400
        assert server.post("/score", {"model": "two", "text_1": "a"}).status == 400
