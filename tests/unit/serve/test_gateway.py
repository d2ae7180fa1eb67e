"""The gateway over runtimes that do what a test wants: loads, room, ends, and what passes."""

import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from modelrunner.errors import RuntimeFailedError
from modelrunner.runtime.capabilities.facts import Capabilities, TemplateFacts
from modelrunner.serve.models import Facts, Served
from tests.support.openai_server import Reply, breaks_off, chopped, event, refuses, says, waits
from tests.support.serving import Scripted, gateway, model
from tests.support.waiting import wait_until

ONE, TWO, THREE = model("ai/one"), model("ai/two"), model("ai/three")


# What passes.


def test_bodies_pass_as_they_are() -> None:
    runtime = Scripted(scripts={"ai/one:latest": [says("Hel", "lo", pause=0.01)]})
    asked = b'{ "model":"one",  "messages":[{"role":"user","content":"\\u00e9"}], "tools": [1.0]}'
    expected = b"".join(says("Hel", "lo").pieces)
    with gateway(runtime, ONE) as running:
        answer = running.ask("POST", "/v1/chat/completions", asked, Content_Type="application/json")
        (request,) = runtime.last.answers.requests
    assert (answer.status, answer.body) == (200, expected)
    assert answer.headers["content-type"] == "text/event-stream"
    assert request.path == "/v1/chat/completions"
    assert int(request.headers["content-length"]) == len(asked)
    assert request.body == json.loads(asked)


def test_the_key_of_a_client_does_not_reach_the_runtime_nor_the_other_way_round() -> None:
    runtime = Scripted()
    with gateway(runtime, ONE, api_key="ours") as running:
        answer = running.chat("one", Authorization="Bearer ours")
        (request,) = runtime.last.answers.requests
        assert answer.status == 200
        assert request.headers["authorization"] == f"Bearer {runtime.last.api_key}"
        everything = b"".join(
            [answer.body, str(answer.headers).encode(), running.control("GET", "models").body]
        )
    assert runtime.last.api_key.encode() not in everything


def test_a_refusal_of_the_runtime_passes_too() -> None:
    runtime = Scripted(scripts={"ai/one:latest": [refuses(400, message="too long")]})
    with gateway(runtime, ONE) as running:
        answer = running.chat("one")
    assert (answer.status, answer.error) == (400, "too long")


@pytest.mark.parametrize("prefix", ["/v1", "/engines/v1", "/engines/llama.cpp/v1"])
def test_every_prefix_leads_to_the_model(prefix: str) -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        asked = {"model": "ai/one", "messages": [{"role": "user", "content": "hi"}]}
        assert running.post(f"{prefix}/chat/completions", asked).status == 200
        assert runtime.last.answers.requests[0].path == "/v1/chat/completions"
        found = running.get(f"{prefix}/models").json
        assert [entry["id"] for entry in found["data"]] == ["ai/one:latest"]
        assert running.get(f"{prefix}/models/ai/one").json["id"] == "ai/one:latest"


@pytest.mark.parametrize(
    "name",
    [
        *("one", "ONE", "ai/one", "ai/one:latest", "docker.io/ai/one", "index.docker.io/ai/one"),
        *(str(ONE.digest), ONE.digest.hex, ONE.digest.short, f"anything@{ONE.digest}"),
    ],
)
def test_a_model_may_be_called_by_any_of_its_names(name: str) -> None:
    runtime = Scripted()
    with gateway(runtime, ONE, TWO) as running:
        assert running.chat(name).status == 200
    assert runtime.started == ["ai/one:latest"]


def test_the_only_model_need_not_be_named() -> None:
    with gateway(Scripted(), ONE) as running:
        assert running.chat(None).status == 200


# What is refused.


@pytest.mark.parametrize("name", ["ai/four", "one:other", "not a name!", "https://x/y", "0" * 12])
def test_an_unknown_model_is_not_found_and_the_known_are_named(name: str) -> None:
    runtime = Scripted()
    with gateway(runtime, ONE, TWO) as running:
        answer = running.chat(name)
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    assert answer.error == f"model not found: {name}; this server has ai/one:latest, ai/two:latest"
    assert runtime.started == []


def test_one_of_several_models_has_to_be_named() -> None:
    with gateway(Scripted(), ONE, TWO) as running:
        answer = running.chat(None)
    assert (answer.status, answer.json["error"]["code"]) == (400, "no_model")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"one"', b'{"model": 1}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        answer = running.ask("POST", "/v1/chat/completions", body)
        assert answer.status == 400
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert running.chat("one").status == 200


def test_a_chat_with_an_embedding_model_names_what_to_ask_instead() -> None:
    vectors = model("ai/vectors", kind="embedding")
    with gateway(Scripted(), ONE, vectors) as running:
        chat = running.chat("vectors")
        embedding = running.post("/v1/embeddings", {"model": "one", "input": "hi"})
    assert chat.status == embedding.status == 400
    assert chat.error.endswith("use /v1/embeddings")
    assert embedding.error.endswith("use /v1/chat/completions")


def test_a_body_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with gateway(Scripted(), ONE) as running:
        with socket.create_connection(address(running.url), timeout=60) as client:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            client.sendall(head + b"Content-Length: 100000000000\r\n\r\n{")
            answer = client.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
        with socket.create_connection(address(running.url), timeout=60) as client:
            client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
            sent, answer = 0, b""
            try:
                while sent < 70:
                    client.sendall(piece)
                    sent += 1
                answer = client.recv(65536)
            except (BrokenPipeError, ConnectionResetError):
                # it hung up while we were still sending, which loses the answer
                assert 60 <= sent < 70
            else:
                assert answer.startswith(b"HTTP/1.1 413 ")
        assert running.chat("one").status == 200


def test_ten_megabytes_of_json_pass() -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        answer = running.chat("one", "x" * 10_000_000)
    assert answer.status == 200
    assert runtime.starts[0][0] == "ai/one:latest"


def test_headers_have_a_limit() -> None:
    with gateway(Scripted(), ONE) as running:
        with socket.create_connection(address(running.url), timeout=60) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 300_000)
            assert client.recv(65536).startswith(b"HTTP/1.1 4")
        assert running.get("/health").status == 200


def test_addresses_and_methods_that_are_none_are_told_as_errors() -> None:
    with gateway(Scripted(), ONE) as running:
        assert running.get("/nowhere").json["error"]["code"] == "not_found"
        assert running.get("/v1/chat/completions").status == 405
        assert running.get("/v1/models/ai/four").status == 404


# Loading.


def test_a_model_is_loaded_by_the_first_request_and_only_once() -> None:
    runtime = Scripted(load_s=0.3)
    with gateway(runtime, ONE, TWO) as running:
        assert running.states() == {"ai/one:latest": "idle", "ai/two:latest": "idle"}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: running.chat("one").status, range(8)))
        assert answers == [200] * 8
        assert runtime.started == ["ai/one:latest"]
        assert running.states() == {"ai/one:latest": "loaded", "ai/two:latest": "idle"}


def test_a_client_that_leaves_while_a_model_loads_does_not_stop_the_load() -> None:
    runtime = Scripted(load_s=0.5)
    with gateway(runtime, ONE) as running:
        leave(running.url, once=lambda: bool(runtime.starts))
        wait_until(lambda: running.states() == {"ai/one:latest": "loaded"})
        wait_until(lambda: in_progress(running) == 0)
        assert not runtime.last.answers.requests


@dataclass
class Noted:
    """A history of starts."""

    loaded: list[str] = field(default_factory=list)

    def ready(self, model: Served) -> None:
        self.loaded.append(model.name)

    def explained(self, model: Served, error: RuntimeFailedError) -> RuntimeFailedError:
        return error.with_hint(f"{model.name} last worked with vulkan@b101")


def test_a_start_is_remembered_and_a_failed_one_names_what_worked() -> None:
    runtime, history = Scripted(refuses=True), Noted()
    with gateway(runtime, ONE, history=history) as running:
        failed = running.chat("one")
        assert failed.status == 500
        assert b"ai/one:latest last worked with vulkan@b101" in failed.body
        assert history.loaded == []
        runtime.refuses = False
        assert running.chat("one").status == 200
    assert history.loaded == ["ai/one:latest"]


def test_a_model_that_does_not_load_is_an_error_with_the_reason() -> None:
    runtime = Scripted(refuses=True)
    with gateway(runtime, ONE) as running:
        answer = running.chat("one")
        assert (answer.status, answer.error) == (500, "it does not start; update it")
        runtime.refuses = False
        assert running.chat("one").status == 200


def test_a_model_that_the_runtime_does_not_know_is_tried_once() -> None:
    runtime = Scripted(refuses=True, unsupported=True)
    with gateway(runtime, ONE) as running:
        answers = [running.chat("one") for _ in range(3)]
        for answer in answers:
            assert (answer.status, answer.error) == (422, "it does not start; update it")
            assert answer.json["error"]["code"] == "unsupported_model"
            assert answer.headers["x-should-retry"] == "false"
        assert b'modelrunner_load_failures_total{model="ai/one:latest"} 1\n' in metrics(running)
    assert runtime.tries == 1


@pytest.mark.real
def test_openais_client_does_not_ask_again_where_a_model_cannot_be_loaded() -> None:
    openai = pytest.importorskip("openai")
    for unsupported, kind in ((True, openai.UnprocessableEntityError), (False, openai.APIError)):
        runtime = Scripted(refuses=True, unsupported=unsupported)
        with (
            gateway(runtime, ONE) as running,
            openai.OpenAI(base_url=f"{running.url}/v1", api_key="none") as client,
            pytest.raises(kind, match="it does not start"),
        ):
            client.chat.completions.create(model="one", messages=[])
        assert runtime.tries == 1


def test_the_end_does_not_wait_for_a_load() -> None:
    runtime = Scripted(load_s=600)
    with gateway(runtime, ONE) as running:
        leave(running.url, once=lambda: bool(runtime.starts))


# Room.


def test_what_nobody_asks_for_is_unloaded() -> None:
    runtime = Scripted()
    with gateway(runtime, ONE, keep_alive=0.2) as running:
        assert running.chat("one").status == 200
        wait_until(lambda: running.states() == {"ai/one:latest": "idle"})
        # a thread ends it
        wait_until(lambda: not runtime.last.running)
        assert running.chat("one").status == 200
    assert runtime.started == ["ai/one:latest"] * 2


def test_a_model_that_answers_is_not_unloaded() -> None:
    runtime = Scripted(scripts={"ai/one:latest": [says(*"abcdefgh", pause=0.1)]})
    with gateway(runtime, ONE, keep_alive=0.1) as running:
        answer = running.chat("one")
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert runtime.started == ["ai/one:latest"]


def test_the_model_used_least_recently_makes_room() -> None:
    runtime = Scripted()
    with gateway(runtime, ONE, TWO, THREE, budget=2) as running:
        for name in ("one", "two", "one", "three"):
            assert running.chat(name).status == 200
        assert running.states() == {
            "ai/one:latest": "loaded",
            "ai/two:latest": "idle",
            "ai/three:latest": "loaded",
        }


def test_a_model_is_unloaded_for_another_that_needs_its_gpu() -> None:
    runtime, gpu = Scripted(), (("CUDA0", 3),)
    one, two = (model(f"ai/{name}", on_gpus=(("CUDA0", 2),)) for name in ("one", "two"))
    with gateway(runtime, one, two, budget=100, gpus=gpu) as running:
        for name in ("one", "two"):
            assert running.chat(name).status == 200
        assert running.states() == {"ai/one:latest": "idle", "ai/two:latest": "loaded"}


def test_a_model_that_answers_is_waited_for_when_its_room_is_needed() -> None:
    runtime = Scripted(scripts={"ai/one:latest": [says(*"abcdef", pause=0.1)]})
    with gateway(runtime, ONE, TWO, budget=1) as running, ThreadPoolExecutor() as pool:
        first = pool.submit(running.chat, "one")
        wait_until(lambda: bool(runtime.starts and runtime.last.answers.requests))
        assert running.chat("two").status == 200
        assert first.result().body.endswith(b"data: [DONE]\n\n")
    assert runtime.started == ["ai/one:latest", "ai/two:latest"]


def test_a_model_larger_than_all_memory_is_tried_alone() -> None:
    with gateway(Scripted(), ONE, model("ai/huge", memory=100), budget=2) as running:
        assert running.chat("one").status == 200
        assert running.chat("huge").status == 200
        assert running.states() == {"ai/one:latest": "idle", "ai/huge:latest": "loaded"}


def test_a_model_larger_than_a_budget_that_was_set_is_never_loaded() -> None:
    runtime = Scripted()
    huge = model("ai/huge", memory=3 * 1024**3)
    with gateway(runtime, ONE, huge, budget=2 * 1024**3, strict=True) as running:
        assert running.chat("one").status == 200
        answer = running.chat("huge")
        assert (answer.status, answer.json["error"]["code"]) == (507, "does_not_fit")
        assert answer.headers["x-should-retry"] == "false"
        assert answer.error == (
            "ai/huge:latest needs 3.00 GiB, the budget is 2.00 GiB; start the server with a "
            "larger --budget, or use a smaller model"
        )
        assert running.states() == {"ai/one:latest": "loaded", "ai/huge:latest": "idle"}
    assert runtime.started == ["ai/one:latest"]


def test_a_model_whose_memory_is_not_known_counts_with_its_files() -> None:
    runtime = Scripted()
    unknown = replace(model("ai/unknown", memory=None), facts=Facts(size_bytes=2))
    with gateway(runtime, ONE, unknown, budget=2) as running:
        assert running.chat("one").status == 200
        assert running.chat("unknown").status == 200
        assert running.states() == {"ai/one:latest": "idle", "ai/unknown:latest": "loaded"}


# Ends.


def test_a_runtime_that_dies_in_mid_answer_ends_the_stream_with_an_error() -> None:
    runtime = Scripted(mortals=1, scripts={"ai/one:latest": [breaks_off("I was", " about to")]})
    with gateway(runtime, ONE) as running:
        answer = running.chat("one")
        assert answer.status == 200
        *said, last = [part for part in answer.body.split(b"\n\n") if part]
        assert len(said) == 2
        assert json.loads(last.removeprefix(b"data: "))["error"]["message"] == (
            "the runtime of ai/one:latest exited during the answer;"
            " the next request starts it again"
        )
        assert running.chat("one").status == 200
        assert b'modelrunner_runtime_deaths_total{model="ai/one:latest"} 1' in metrics(running)
    assert runtime.started == ["ai/one:latest"] * 2


def test_a_runtime_that_dies_before_it_answers_is_started_again_for_the_same_request() -> None:
    # a status of one digit is no answer
    no_answer = Reply((), status=0, end="cut")
    runtime = Scripted(mortals=1, scripts={"ai/one:latest": [no_answer]})
    with gateway(runtime, ONE) as running:
        assert running.chat("one").status == 200
    assert runtime.started == ["ai/one:latest"] * 2


def test_an_answer_that_is_no_stream_is_cut_where_the_runtime_died() -> None:
    half = Reply((b'{"choices": ',), kind="application/json", end="cut")
    runtime = Scripted(mortals=1, scripts={"ai/one:latest": [half]})
    with gateway(runtime, ONE) as running:
        connection = running.connect()
        body = json.dumps({"messages": []})
        connection.request("POST", "/v1/chat/completions", body)
        reply = connection.getresponse()
        with pytest.raises(Exception, match="IncompleteRead"):
            reply.read()
        connection.close()


def test_a_client_that_goes_away_ends_the_work_of_the_runtime() -> None:
    runtime = Scripted(scripts={"ai/one:latest": [waits("Once", " upon")]})
    with gateway(runtime, ONE) as running:
        connection = running.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps({"messages": []}))
        reply = connection.getresponse()
        assert reply.read1()
        reply.close()
        connection.close()
        assert runtime.last.answers.gone.wait(60)
        wait_until(lambda: in_progress(running) == 0)


def test_a_slow_client_holds_back_its_runtime_and_nobody_else() -> None:
    much = Reply(tuple(event({"text": "x" * 60_000}) for _ in range(400)))
    runtime = Scripted(scripts={"ai/one:latest": [much]})
    with gateway(runtime, ONE) as running:
        connection = running.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps({"messages": []}))
        reply = connection.getresponse()
        time.sleep(0.5)
        before = peak_memory()
        assert running.chat("one").status == 200
        # 24 MB were to come: they wait where they were made
        assert peak_memory() - before < 8 * 1024 * 1024
        assert len(reply.read()) == sum(map(len, much.pieces))
        connection.close()


def test_a_model_that_was_stopped_is_not_served_any_more_and_the_others_are() -> None:
    with gateway(Scripted(), ONE, TWO) as running:
        assert running.chat("one").status == 200
        stopped = running.control("POST", "stop", {"model": "ai/one"}).json
        assert stopped == {"stopped": "ai/one:latest", "left": ["ai/two:latest"]}
        assert running.chat("one").status == 404
        assert running.control("POST", "stop", {"model": "ai/one"}).status == 404
        assert running.chat("two").status == 200


def test_stopping_the_last_model_ends_the_server() -> None:
    with gateway(Scripted(), ONE) as running:
        assert running.chat("one").status == 200
        assert running.control("POST", "stop", {"model": "one"}).json["left"] == []
        wait_until(lambda: not answers(running.url))


def test_docker_model_runners_clients_see_and_unload_what_runs() -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        assert running.get("/engines/ps").json == []
        running.chat("one")
        (entry,) = running.get("/engines/ps").json
        assert (entry["model_name"], entry["mode"]) == ("ai/one:latest", "completion")
        assert running.get("/models").json[0]["tags"] == ["docker.io/ai/one:latest"]
        assert running.get("/models/one").json["id"] == str(ONE.digest)
        asked = {"models": ["one"]}
        assert running.post("/engines/unload", asked).json == {"unloaded_runners": 1}
        assert running.get("/engines/ps").json == []
        assert running.get("/engines/status").json == {"llama.cpp": "Running: scripted"}
        assert running.get("/models").json[0]["config"]["context_size"] == 8


def test_lists_have_what_a_model_can_do_in_the_shape_of_each_client() -> None:
    facts = Facts(capabilities=Capabilities(template=TemplateFacts(tools=True), images=True))
    with gateway(Scripted(), replace(ONE, facts=facts), TWO) as running:
        assert [
            entry["dmr"]["capabilities"] for entry in running.get("/v1/models").json["data"]
        ] == [
            ["chat", "tools", "images"],
            None,
        ]
        assert running.get("/models/one").json["config"]["capabilities"] == [
            *("chat", "tools", "images")
        ]


def test_lists_have_the_context_that_the_runtime_runs() -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        running.chat("one")
        runtime.last.context = 4
        assert running.get("/models/one").json["config"]["context_size"] == 4
        assert running.get("/v1/models/one").json["dmr"]["context_window"] == 4
        (state,) = running.control("GET", "models").json
        assert state["context"] == 4


def test_tokens_and_requests_are_counted() -> None:
    runtime = Scripted(scripts={"ai/one:latest": [says("Hi", usage=(20, 10))]})
    with gateway(runtime, ONE) as running:
        running.chat("one")
        running.chat("four")
        text = metrics(running).decode()
    asked = 'endpoint="chat/completions"'
    for line in (
        f'modelrunner_requests_total{{{asked},model="ai/one:latest",status="200"}} 1',
        f'modelrunner_requests_total{{{asked},model="",status="404"}} 1',
        'modelrunner_prompt_tokens_total{model="ai/one:latest"} 20',
        'modelrunner_completion_tokens_total{model="ai/one:latest"} 10',
        'modelrunner_loads_total{model="ai/one:latest"} 1',
        'modelrunner_model_loaded{model="ai/one:latest"} 1',
    ):
        assert f"\n{line}\n" in text


def test_prompt_tokens_are_those_that_clients_are_told() -> None:
    chat = {"usage": {"prompt_tokens": 40, "completion_tokens": 3}, "timings": {"prompt_n": 1}}
    timings = {"prompt_n": 1, "cache_n": 30, "predicted_n": 5}
    said = json.dumps('a text with "prompt_tokens": 1000, in it').encode()
    replies = {
        "chat/completions": (whole(chat), 40, 3),
        "completions": (Reply((event({"timings": timings}),)), 31, 5),
    }
    for endpoint, (reply, prompt, completion) in replies.items():
        told = replace(reply, pieces=(*reply.pieces[:-1], reply.pieces[-1] + b" " + said))
        # in pieces that end anywhere
        runtime = Scripted(scripts={"ai/one:latest": [chopped(told, 7)]})
        with gateway(runtime, ONE) as running:
            assert running.post(f"/v1/{endpoint}", {}).status == 200
            text = metrics(running).decode()
        assert f'\nmodelrunner_prompt_tokens_total{{model="ai/one:latest"}} {prompt}\n' in text
        written = f'modelrunner_completion_tokens_total{{model="ai/one:latest"}} {completion}'
        assert f"\n{written}\n" in text


def test_tokens_that_are_only_counted_are_no_prompt() -> None:
    reply = whole({"input_tokens": 31})
    with gateway(Scripted(scripts={"ai/one:latest": [reply]}), ONE) as running:
        asked = {"messages": [{"role": "user", "content": "hi"}]}
        assert running.post("/v1/messages/count_tokens", asked).json == {"input_tokens": 31}
        assert b"prompt_tokens" not in metrics(running)


def test_durations_are_counted_in_histograms_that_prometheus_reads() -> None:
    with gateway(Scripted(), ONE) as running:
        for _ in range(3):
            assert running.chat("one").status == 200
        text = metrics(running).decode()
    labels = 'endpoint="chat/completions",model="ai/one:latest"'
    for name in ("request_duration_seconds", "time_to_first_token_seconds"):
        lines = [line for line in text.splitlines() if line.startswith(f"modelrunner_{name}")]
        assert lines[-1] == f"modelrunner_{name}_count{{{labels}}} 3"
        assert lines[-3] == f'modelrunner_{name}_bucket{{{labels},le="+Inf"}} 3'
        assert lines[0].startswith(f'modelrunner_{name}_bucket{{{labels},le="0.05"}} ')
        counts = [int(line.rpartition(" ")[2]) for line in lines if "_bucket" in line]
        assert counts == sorted(counts)
        assert float(lines[-2].rpartition(" ")[2]) > 0
        assert f"# TYPE modelrunner_{name} histogram\n" in text


def test_no_thread_is_left_behind() -> None:
    before = set(threading.enumerate())
    with gateway(Scripted(), ONE) as running:
        running.chat("one")
    wait_until(lambda: set(threading.enumerate()) <= before)


# Helpers.


def whole(value: object) -> Reply:
    """An answer that is no stream."""
    return Reply((json.dumps(value).encode(),), kind="application/json")


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def answers(url: str) -> bool:
    try:
        socket.create_connection(address(url), timeout=1).close()
    except OSError:
        return False
    return True


def leave(url: str, once: Callable[[], bool]) -> None:
    """Asks, and leaves without an answer once something has happened."""
    with socket.create_connection(address(url), timeout=60) as client:
        body = b'{"messages": []}'
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        wait_until(once)


def metrics(running: object) -> bytes:
    return running.get("/metrics").body


def in_progress(running: object) -> int:
    (state,) = running.control("GET", "models").json
    return state["requests"]


def peak_memory() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
