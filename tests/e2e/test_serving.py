"""`serve`, `ps`, `stop`, `logs` with a real runtime, real processes and real clients."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelrunner.system.installation import add
from modelrunner.units import format_size
from tests.conftest import CommandLine
from tests.support.openai_server import OpenAIServer, Reply, event, refuses
from tests.support.waiting import alive, wait_until

pytestmark = pytest.mark.model

SMOLLM2 = "ai/smollm2:135M-Q4_1"
TALKER, VECTORS = "fixtures/tiny-llama", "fixtures/tiny-bert"
RANKER = "fixtures/tiny-ranker"
CALLER = "ai/granite-4.0-micro"
QUESTION = "What is the capital of France? Answer in one sentence."
SENTENCE = "Hello! I am a tiny model: my weights were made by hand, so this is all they can say."
TOOL = {
    "type": "function",
    "function": {"name": "now", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True)
class Endpoint:
    """A server in the foreground, as its first line says."""

    url: str
    process: "subprocess.Popen[str]"

    def ask(
        self, path: str, value: object = None, timeout: float = 60, **headers: str
    ) -> tuple[int, Any]:
        connection = self.connect(timeout)
        try:
            body = None if value is None else json.dumps(value)
            connection.request("GET" if body is None else "POST", path, body, headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=timeout)

    def chat(self, model: str, text: str = "hi", **more: object) -> tuple[int, Any]:
        return self.ask("/v1/chat/completions", chat(model, text, **more))


def chat(model: str, text: str = "hi", **more: object) -> Mapping[str, object]:
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": text},
    ]
    return {"model": model, "messages": messages, **more}


@contextmanager
def serving(models: CommandLine, *arguments: str, **environ: str) -> Iterator[Endpoint]:
    with subprocess.Popen(
        models.argv("serve", *arguments, "--port", "0"),
        env={**models.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C is for it, not for pytest
        start_new_session=True,
    ) as process:
        try:
            url = process.stdout.readline().rstrip("\n")
            assert url, process.stderr.read()
            yield Endpoint(url, process)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def detached(models: CommandLine) -> Iterator[CommandLine]:
    """A command line after whose test nothing is served."""
    yield models
    assert models("stop", "--all").returncode == 0


# Answers.


def test_the_model_answers_and_says_how_it_is_asked(models: CommandLine) -> None:
    with serving(models, SMOLLM2) as endpoint:
        status, answer = endpoint.chat("smollm2:135M-Q4_1", QUESTION, temperature=0, max_tokens=20)
        endpoint.process.terminate()
        _, said = endpoint.process.communicate(timeout=20)
    assert status == 200
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert f"serving {SMOLLM2}; press Ctrl-C to stop\n" in said
    assert f"OPENAI_BASE_URL={endpoint.url}/v1 OPENAI_API_KEY=none\n" in said
    assert re.search(rf"^{SMOLLM2} loaded with xllamacpp in [\d.]+ s$", said, re.MULTILINE)


def test_a_saved_system_prompt_counts_where_a_request_brings_none(models: CommandLine) -> None:
    models("configure", TALKER, "--system", "one two three four five six seven eight nine ten")
    hi = {"role": "user", "content": "hi"}
    own = {"role": "system", "content": "one"}
    with serving(models, TALKER) as endpoint:

        def tokens(path: str, field: str, **body: object) -> int:
            status, answer = endpoint.ask(path, {"max_tokens": 1, **body})
            assert status == 200, answer
            usage = answer.get("usage", answer)
            found: int = usage[field] + usage.get("cache_read_input_tokens", 0)
            return found

        chat = "/v1/chat/completions", "prompt_tokens"
        saved = tokens(*chat, messages=[hi])
        assert saved > tokens(*chat, messages=[own, hi])
        counted = "/v1/messages/count_tokens", "input_tokens"
        assert tokens(*counted, messages=[hi]) == saved
        assert tokens(*counted, messages=[hi], system="one") < saved
        assert tokens("/v1/messages", "input_tokens", messages=[hi]) == saved
        assert tokens("/v1/responses", "input_tokens", input="hi") == saved
        endpoint.process.terminate()
        _, said = endpoint.process.communicate(timeout=20)
    assert "warning" not in said


def test_a_stream_is_the_runtimes_own_to_the_byte(models: CommandLine) -> None:
    with serving(models, TALKER) as endpoint:
        connection = endpoint.connect()
        body = json.dumps(chat("tiny-llama", stream=True) | {"model": TALKER})
        connection.request("POST", "/engines/llama.cpp/v1/chat/completions", body)
        reply = connection.getresponse()
        raw = reply.read()
        connection.close()
    assert reply.headers["content-type"] == "text/event-stream"
    *chunks, end = [part for part in raw.split(b"\n\n") if part]
    assert end == b"data: [DONE]"
    pieces = [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks]
    said = "".join(p["choices"][0]["delta"].get("content") or "" for p in pieces if p["choices"])
    assert said == SENTENCE


def test_vectors_come_from_an_embedding_model_and_a_chat_with_it_is_refused(
    models: CommandLine,
) -> None:
    with serving(models, TALKER, VECTORS) as endpoint:
        asked = {"model": VECTORS, "input": ["one", "two"]}
        for path in ("/v1/embeddings", "/engines/v1/embeddings"):
            status, answer = endpoint.ask(path, asked)
            assert (status, len(answer["data"])) == (200, 2)
        status, answer = endpoint.chat(VECTORS)
        assert status == 400
        assert "use /v1/embeddings" in answer["error"]["message"]
        status, answer = endpoint.ask("/v1/embeddings", asked | {"model": TALKER})
        assert status == 400


def test_scores_come_from_a_reranking_model(models: CommandLine) -> None:
    with serving(models, RANKER, VECTORS) as endpoint:
        documents = ["hello world", "tiny model", "of the"]
        asked = {"model": RANKER, "query": "hello world", "documents": documents}
        for path in ("/v1/rerank", "/engines/v1/rerank", "/rerank"):
            status, answer = endpoint.ask(path, asked)
            assert status == 200
            assert sorted(found["index"] for found in answer["results"]) == [0, 1, 2]
            assert len({found["relevance_score"] for found in answer["results"]}) == 3
        status, answer = endpoint.chat(RANKER)
        assert status == 400
        assert "use /v1/rerank" in answer["error"]["message"]
        status, answer = endpoint.ask("/v1/rerank", asked | {"model": VECTORS})
        assert status == 400
        assert "use /v1/embeddings" in answer["error"]["message"]


def test_a_text_longer_than_the_context_is_refused_by_the_runtime(models: CommandLine) -> None:
    with serving(models, SMOLLM2, "--context", "256", "--parallel", "1") as endpoint:
        status, answer = endpoint.chat(SMOLLM2, "word " * 1000)
        assert status == 400
        assert answer["error"]["type"] == "exceed_context_size_error"
        status, answer = endpoint.chat(SMOLLM2, "word " * 2_000_000, max_tokens=1)
        assert status == 400


def test_a_model_that_the_runtime_refuses_says_why(models: CommandLine) -> None:
    with serving(models, "fixtures/nonesuch") as endpoint:
        for _ in range(2):
            status, answer = endpoint.chat("fixtures/nonesuch")
    # and it was tried once: of every try something would be in the log
    assert status == 422
    assert "unknown model architecture: 'nonesuch'" in answer["error"]["message"]


def test_a_missing_model_is_pulled_first(cli: CommandLine, mirror: str) -> None:
    settings = {"MODELRUNNER_MIRRORS": mirror, "MODELRUNNER_RUNTIME": "xllamacpp"}
    with serving(cli, TALKER, **settings) as endpoint:
        assert endpoint.chat(TALKER)[0] == 200


def test_every_model_that_can_be_served_is_with_all(models: CommandLine) -> None:
    with serving(models, "--all", "--json") as endpoint:
        told = json.loads(endpoint.url)
        assert SMOLLM2 in told["models"]
    assert told["openai_url"] == f"{told['url']}/v1"


# Clients.


def test_the_openai_package_chats_streams_calls_tools_and_embeds(models: CommandLine) -> None:
    openai = pytest.importorskip("openai")
    with (
        serving(models, SMOLLM2, VECTORS, CALLER, "--api-key", "secret") as endpoint,
        openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key="secret", max_retries=0) as client,
    ):
        settings = dict(chat(SMOLLM2, QUESTION, temperature=0, max_tokens=20))
        whole = client.chat.completions.create(**settings)
        assert "Paris" in whole.choices[0].message.content
        assert whole.usage.prompt_tokens > 10
        with client.chat.completions.create(**settings, stream=True) as stream:
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(pieces) == whole.choices[0].message.content
        # this one calls tools by its chat template
        must = {"tools": [TOOL], "tool_choice": "required", "temperature": 0, "max_tokens": 256}
        called = client.chat.completions.create(**chat(CALLER, "hi"), **must)
        (call,) = called.choices[0].message.tool_calls
        assert (call.function.name, call.function.arguments) == ("now", "{}")
        assert called.choices[0].finish_reason == "tool_calls"
        other = {"type": "function", "function": {"name": "later", "parameters": {}}}
        choice = {"type": "function", "function": {"name": "now"}}
        one = must | {"tools": [other, TOOL], "tool_choice": choice}
        called = client.chat.completions.create(**chat(CALLER, "hi"), **one)
        assert [each.function.name for each in called.choices[0].message.tool_calls] == ["now"]
        with pytest.raises(openai.BadRequestError, match="does not support tools"):
            client.chat.completions.create(**chat(SMOLLM2, "hi"), **must)
        schema = {
            "type": "object",
            "properties": {"country": {"type": "string", "enum": ["France", "Spain"]}},
            "required": ["country"],
        }
        form: Any = {"format": {"type": "json_schema", "name": "place", "schema": schema}}
        placed = client.responses.create(
            model=SMOLLM2, input="Where is Paris?", text=form, max_output_tokens=40, temperature=0
        )
        assert json.loads(placed.output_text)["country"] in {"France", "Spain"}
        vectors = client.embeddings.create(model=VECTORS, input=["a", "b"])
        assert len(vectors.data) == 2
        listed = [model.id for model in client.models.list()]
        assert listed == [SMOLLM2, f"{VECTORS}:latest", f"{CALLER}:latest"]
        with pytest.raises(openai.NotFoundError, match="model not found"):
            client.chat.completions.create(**settings | {"model": "gpt-4o"})
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()


def test_curl_chats(models: CommandLine) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with serving(models, TALKER) as endpoint:
        done = subprocess.run(
            ["curl", "-sS", f"{endpoint.url}/v1/chat/completions", "-d", json.dumps(chat(TALKER))],
            capture_output=True,
            text=True,
            check=True,
        )
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == SENTENCE


def test_langchains_client_chats(models: CommandLine) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    with serving(models, TALKER) as endpoint:
        model = langchain.ChatOpenAI(
            base_url=f"{endpoint.url}/v1", api_key="none", model=TALKER, max_retries=0
        )
        assert model.invoke("hi").content == SENTENCE
        assert "".join(chunk.content for chunk in model.stream("hi")) == SENTENCE


def test_the_program_llm_chats(models: CommandLine, tmp_path: Path) -> None:
    program = shutil.which("llm", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("llm is not installed")
    with serving(models, TALKER) as endpoint:
        (tmp_path / "extra-openai-models.yaml").write_text(
            f"- model_id: here\n  model_name: {TALKER}\n  api_base: {endpoint.url}/v1\n"
        )
        done = subprocess.run(
            [program, "-m", "here", "--key", "none", "hi"],
            capture_output=True,
            text=True,
            env={**models.environ, "LLM_USER_PATH": str(tmp_path)},
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout.strip()) == (0, SENTENCE), done.stderr


# Who may ask.


def test_beyond_loopback_a_key_is_made_and_shown_once(models: CommandLine) -> None:
    with serving(models, TALKER, "--host", "0.0.0.0") as endpoint:
        here = Endpoint(endpoint.url.replace("0.0.0.0", "127.0.0.1"), endpoint.process)
        assert here.ask("/v1/models")[0] == 401
        said = []
        while not any("anyone who can reach" in line for line in said):
            said.append(endpoint.process.stderr.readline())
        key = next(line for line in said if line.startswith("API key: ")).split()[2]
        assert here.ask("/v1/models", Authorization=f"Bearer {key}")[0] == 200
        assert any("anyone who can reach http://0.0.0.0:" in line for line in said)
        assert f"OPENAI_BASE_URL={here.url}/v1 OPENAI_API_KEY={key}\n" in said
        # a child has a key of its own, and its port is on loopback only
        records = list((models.home / "state" / "serve").glob("*"))
        assert not any(key in path.read_text() for path in records)


def test_a_reverse_proxy_and_programs_with_pages_may_ask_where_they_are_named(
    models: CommandLine,
) -> None:
    options = ("--allow-host", "LLM.example", "--allow-origin", "HTTPS://Chat.example:443/")
    with serving(models, TALKER, *options, "--allow-origin", "app://obsidian.md") as endpoint:
        for asked, status in (
            ({"Host": "llm.example"}, 200),
            ({"Origin": "https://chat.example"}, 200),
            ({"Origin": "app://obsidian.md"}, 200),
            ({"Origin": "https://other.example"}, 403),
        ):
            assert endpoint.ask("/v1/models", **asked)[0] == status
        endpoint.process.terminate()
        _, said = endpoint.process.communicate(timeout=20)
    assert (
        f"anyone who can reach llm.example can use {TALKER}:latest without a key:"
        " add `--api-key generated`\n"
    ) in said


def test_a_web_page_cannot_ask(models: CommandLine) -> None:
    with serving(models, TALKER) as endpoint:
        assert endpoint.ask("/v1/models", Host="evil.example")[0] == 403
        assert endpoint.ask("/v1/models", Origin="https://evil.example")[0] == 403


# Ends.


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_whatever_ends_it_ends_its_runtimes(
    models: CommandLine, number: signal.Signals, code: int
) -> None:
    with serving(models, SMOLLM2, TALKER) as endpoint:
        assert endpoint.chat(TALKER)[0] == 200
        with streaming(endpoint) as reply:
            children = offspring(endpoint.process.pid)
            assert len(children) >= 4
            endpoint.process.send_signal(number)
            assert endpoint.process.wait(60) == code
            wait_until(lambda: not any(map(alive, children)))
            del reply
        assert "Traceback" not in endpoint.process.stderr.read()
    assert json.loads(models("ps", "--json").stdout) == []
    assert list((models.home / "state" / "serve").glob("*.json")) == []


def test_a_runtime_killed_in_mid_answer_ends_the_stream_and_comes_back(
    models: CommandLine,
) -> None:
    with serving(models, SMOLLM2) as endpoint:
        with streaming(endpoint) as reply:
            kill_runtimes(endpoint)
            last = reply.read().rstrip().rpartition(b"data: ")[2]
        assert "exited during the answer" in json.loads(last)["error"]["message"]
        assert endpoint.chat(SMOLLM2, max_tokens=1)[0] == 200
    said = models("logs", "-n", "20").stdout
    assert f"WARNING {SMOLLM2}: the runtime exited; restarting it" in said


def test_anthropics_client_raises_when_the_runtime_is_killed_in_mid_answer(
    models: CommandLine,
) -> None:
    anthropic = pytest.importorskip("anthropic")
    with (
        serving(models, SMOLLM2) as endpoint,
        anthropic.Anthropic(base_url=endpoint.url, api_key="none", max_retries=0) as client,
    ):
        message = {"role": "user", "content": "Count from 1 to 1000."}
        with client.messages.create(
            model=SMOLLM2, messages=[message], max_tokens=1000, stream=True
        ) as stream:
            assert next(stream).type == "message_start"
            kill_runtimes(endpoint)
            with pytest.raises(anthropic.APIStatusError, match="exited during the answer"):
                list(stream)


def test_a_runtime_killed_while_idle_comes_back_unnoticed(models: CommandLine) -> None:
    with serving(models, TALKER) as endpoint:
        assert endpoint.chat(TALKER)[0] == 200
        kill_runtimes(endpoint)
        assert endpoint.chat(TALKER)[0] == 200


def test_a_client_that_goes_away_frees_the_runtime(models: CommandLine) -> None:
    with serving(models, SMOLLM2, "--parallel", "1") as endpoint:
        for _ in range(3):
            with streaming(endpoint):
                pass
        assert endpoint.chat(SMOLLM2, max_tokens=1)[0] == 200
    (log,) = (models.home / "state" / "serve").glob("*-*.log")
    # a thousand were asked for, each time
    numbers = re.findall(r"stop processing: n_tokens = (\d+)", log.read_text())
    assert len(numbers) == 4
    assert all(int(number) < 1000 for number in numbers)


# Room.


def test_a_model_in_the_way_is_unloaded(models: CommandLine) -> None:
    with serving(models, TALKER, VECTORS, "--keep-alive", "1h", "--budget", "2MiB") as endpoint:
        assert endpoint.chat(TALKER)[0] == 200
        assert states(models) == {f"{TALKER}:latest": "loaded", f"{VECTORS}:latest": "idle"}
        assert endpoint.ask("/v1/embeddings", {"model": VECTORS, "input": "x"})[0] == 200
        assert states(models) == {f"{TALKER}:latest": "idle", f"{VECTORS}:latest": "loaded"}


def test_a_model_unused_is_unloaded(models: CommandLine) -> None:
    with serving(models, TALKER, "--keep-alive", "1s") as endpoint:
        assert endpoint.chat(TALKER)[0] == 200
        wait_until(lambda: set(states(models).values()) == {"idle"})


def test_a_budget_binds_a_single_model(models: CommandLine) -> None:
    done = models("serve", TALKER, "--port", "0", "--budget", "100KiB")
    assert (done.returncode, done.stdout) == (7, "")
    assert re.fullmatch(
        rf"error: {TALKER}:latest needs [\d.]+ MiB, the budget is 100.00 KiB\n"
        r"hint: raise --budget to [\d.]+ MiB at least, or use a smaller variant\n",
        done.stderr,
    )
    with serving(models, TALKER, "--budget", "2MiB") as endpoint:
        assert endpoint.chat(TALKER)[0] == 200
        (state,) = json.loads(models("ps", "--json").stdout)
        endpoint.process.terminate()
        _, said = endpoint.process.communicate(timeout=20)
    needed = format_size(state["memory_bytes"])
    assert state["memory_bytes"] <= 2 * 1024 * 1024
    assert f"fits, needs {needed} of the 2.00 MiB budget; context {state['context']} of" in said


# In the background.


def test_in_the_background_it_is_found_asked_logged_and_stopped(detached: CommandLine) -> None:
    done = detached("serve", TALKER, VECTORS, "--port", "0", "--detach", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["models"] == [f"{TALKER}:latest", f"{VECTORS}:latest"]
    port = told["url"].rpartition(":")[2]
    again = detached("serve", TALKER, "--port", port, "--detach")
    assert (again.returncode, again.stdout) == (8, "")
    assert again.stderr == (
        f"error: port {port} is in use: modelrunner serves {TALKER}:latest, {VECTORS}:latest on"
        " it\nhint: stop it with `modelrunner stop --all`, or use --port 0 for a free port\n"
    )
    os.kill(told["pid"], signal.SIGHUP)
    assert post(told["url"], chat(TALKER))[0] == 200
    first, second = json.loads(detached("ps", "--json").stdout)
    assert (first["state"], first["url"], first["runtime"]) == ("loaded", told["url"], "xllamacpp")
    assert first["placement"]["gpu_layers"] == 0
    assert first["placement"]["devices"][0]["name"] == "host"
    assert second["placement"] is None
    assert (second["state"], second["pid"], second["server_pid"]) == ("idle", None, told["pid"])
    heading, line, _ = detached("ps").stdout.splitlines()
    assert heading.split() == [
        *("MODEL", "URL", "RUNTIME", "STATE", "MEMORY", "PROCESSOR", "CONTEXT", "UNTIL"),
    ]
    assert line.startswith(f"{TALKER}:latest  {told['url']}  xllamacpp  loaded  ")
    assert "llama" in detached("logs", TALKER).stdout
    assert len(detached("logs", TALKER, "-n", "2").stdout.splitlines()) == 2
    assert f"INFO {TALKER}:latest loaded with xllamacpp" in detached("logs").stdout
    stopped = detached("stop", TALKER)
    assert (stopped.returncode, stopped.stdout, stopped.stderr) == (
        0,
        f"Stopped: {TALKER}:latest\n",
        "",
    )
    gone = detached("stop", TALKER)
    assert (gone.returncode, gone.stdout) == (3, "")
    assert gone.stderr == (
        f"error: {TALKER} is not being served\nhint: served models: {VECTORS}:latest\n"
    )
    last = detached("stop", VECTORS)
    assert last.stderr == f"stopped the server at {told['url']}\n"
    assert not alive(told["pid"])
    assert list((detached.home / "state" / "serve").glob("*.json")) == []


def test_a_server_in_the_background_that_was_killed_leaves_nothing(detached: CommandLine) -> None:
    told = json.loads(detached("serve", TALKER, "--port", "0", "-d", "--json").stdout)
    assert post(told["url"], chat(TALKER))[0] == 200
    children = offspring(told["pid"])
    assert children
    os.kill(told["pid"], signal.SIGKILL)
    wait_until(lambda: not any(map(alive, [told["pid"], *children])))
    done = detached("ps")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.startswith("no models are served")
    assert detached("stop", TALKER).returncode == 3
    assert detached("logs", TALKER).returncode == 0


def test_a_log_is_followed(detached: CommandLine) -> None:
    told = json.loads(detached("serve", TALKER, "--port", "0", "-d", "--json").stdout)
    with subprocess.Popen(
        detached.argv("logs", "--follow"),
        env=dict(detached.environ),
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        post(told["url"], chat(TALKER))
        assert "loaded with xllamacpp" in follower.stdout.readline()
        assert "all layers on the CPU" in follower.stdout.readline()
        assert " 200 chat/completions " in follower.stdout.readline()
        follower.send_signal(signal.SIGINT)
        assert follower.wait(60) == 130


def test_requests_are_logged_and_what_was_said_only_where_it_is_asked_for(
    detached: CommandLine,
) -> None:
    plain = json.loads(detached("serve", TALKER, "--port", "0", "-d", "--json").stdout)
    post(plain["url"], chat(TALKER))
    wait_until(lambda: detached("logs", "--requests").stdout != "")
    (entry,) = map(json.loads, detached("logs", "--requests", "--json").stdout.splitlines())
    assert (entry["method"], entry["path"]) == ("POST", "/v1/chat/completions")
    assert (entry["model"], entry["status"]) == (f"{TALKER}:latest", 200)
    assert entry["prompt_tokens"] > 0
    assert "request" not in entry
    detached("stop", "--all")
    told = json.loads(
        detached("serve", TALKER, "--port", "0", "-d", "--json", "--record-requests").stdout
    )
    with subprocess.Popen(
        detached.argv("logs", "--requests", "--follow", TALKER),
        env=dict(detached.environ),
        stdout=subprocess.PIPE,
        text=True,
    ) as follower:
        post(told["url"], {"model": "nobody"})
        post(told["url"], chat(TALKER))
        assert f" 200 POST /v1/chat/completions {TALKER}:latest " in follower.stdout.readline()
        assert follower.stdout.readline().startswith("request: {")
        follower.send_signal(signal.SIGINT)
        assert follower.wait(60) == 130
    every = detached("logs", "--requests", "--json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in every] == [404, 200]
    last = detached("logs", "--requests", "--json", "-n", "1").stdout.splitlines()
    assert last == every[-1:]
    assert list((detached.home / "state" / "serve").glob("*.jsonl")) != []


# What is wrong with the command line.


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "no model given"),
        ((TALKER, "--all"), 2, "--all and model names cannot be combined"),
        ((TALKER, "--keep-alive", "soon"), 2, "--keep-alive: invalid duration 'soon'"),
        ((TALKER, "--keep-alive", "-5m"), 2, "--keep-alive: invalid duration '-5m'"),
        ((TALKER, "--allow-origin", "evil"), 2, "invalid origin: 'evil'"),
        ((TALKER, "--allow-origin", "null"), 2, "invalid origin: 'null'"),
        ((TALKER, "--allow-host", "https://x"), 2, "invalid host name: 'https://x'"),
        ((TALKER, "--api-key", ""), 2, "invalid API key in --api-key: expected printable"),
        ((TALKER, "--kv-type", "q9"), 2, "--kv-type must be one of f32, f16, "),
        (
            ("fixtures/none-of-this", "--offline"),
            9,
            "fixtures/none-of-this:latest is not in the local store",
        ),
        ((TALKER, "--host", "192.0.2.1"), 8, "cannot listen on 192.0.2.1:0: 192.0.2.1 is not"),
    ],
)
def test_what_cannot_be_served_is_said(
    models: CommandLine, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = models("serve", *arguments, "--port", "0", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout) == (code, "")
    assert error["message"].startswith(message)


def test_nothing_is_stopped_where_nothing_runs(cli: CommandLine) -> None:
    assert cli("stop", "--all").returncode == 0
    assert cli("stop", "ai/smollm2").returncode == 3
    assert cli("stop").returncode == 2
    assert cli("logs").returncode == 3
    assert cli("ps", "--json").stdout == "[]\n"


BARE = """
import sys
from importlib.machinery import PathFinder
class Nothing(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name == "starlette" else super().find_spec(name, path, target)
sys.meta_path[:] = [Nothing if entry is PathFinder else entry for entry in sys.meta_path]
from modelrunner.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_the_extra_it_says_what_installs_it(models: CommandLine) -> None:
    def bare(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", BARE, *arguments],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env=dict(models.environ),
            check=False,
        )

    done = bare("serve", TALKER)
    assert (done.returncode, done.stdout, done.stderr) == (
        8,
        "",
        (f"error: serving needs the Python module starlette\nhint: `{add('serve')}`\n"),
    )
    assert bare("ps").returncode == bare("stop", "--all").returncode == 0


# Speed.


def test_the_speed_of_a_model_is_measured(models: CommandLine) -> None:
    options = ("--prompt", "16,48", "--parallel", "1,2", "--generate", "8", "--rounds", "1")
    done = models("bench", TALKER, *options, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["reference"], found["runtime"]) == (f"{TALKER}:latest", "xllamacpp")
    results = found["results"]
    assert [entry["parallel"] for entry in results] == [1, 2, 1, 2]
    assert all(abs(entry["prompt_tokens"] - 16) < 8 for entry in results[:2])
    assert all(entry["generated_tokens"] == 8 for entry in results)
    assert all(entry["prompt_tokens_per_s"] > 0 for entry in results)
    table = models("bench", TALKER, *options).stdout.splitlines()
    assert len(table) == 5
    assert table[0].startswith("PROMPT  PARALLEL  ")


def test_the_speed_of_a_server_that_runs_is_measured_too(models: CommandLine) -> None:
    with serving(models, TALKER) as endpoint:
        options = ("--prompt", "16", "--parallel", "2", "--generate", "4", "--rounds", "1")
        done = models("bench", TALKER, *options, "--runtime", f"{endpoint.url}/v1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runtime"] == "url"


def test_rows_before_a_failure_are_shown_with_it(cli: CommandLine) -> None:
    def count(tokens: int) -> Reply:
        body = {"choices": [{"text": "x"}], "usage": {"prompt_tokens": tokens}}
        return Reply((json.dumps(body).encode(),), kind="application/json")

    written = Reply(tuple(event({"choices": [{"text": text}]}) for text in "ab"))
    options = ("--prompt", "16,32", "--parallel", "1", "--rounds", "1")
    with OpenAIServer() as server:
        for flags in ((), ("--json",)):
            server.next(count(16), written, written, refuses(500, message="broken"))
            done = cli("bench", "m", *options, "--runtime", f"{server.url}/v1", *flags)
            assert done.returncode == 8
            assert "broken" in done.stderr
            if not flags:
                assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [["16", "1"]]
                continue
            found = json.loads(done.stdout)
            assert [entry["prompt_tokens"] for entry in found["results"]] == [16]
            assert "broken" in found["error"]["message"]


def test_the_speed_is_that_with_the_settings_of_the_model(models: CommandLine) -> None:
    assert models("configure", TALKER, "--threads", "1").returncode == 0
    options = ("--prompt", "16", "--parallel", "1", "--generate", "4", "--rounds", "1")
    assert ", 1 threads" in models("bench", TALKER, *options).stderr
    assert ", 2 threads" in models("bench", TALKER, *options, "--threads", "2").stderr


@pytest.mark.parametrize(
    ("option", "hint"), [("context=512", "--prompt"), ("parallel=2", "--parallel")]
)
def test_what_the_requests_decide_cannot_be_set(
    models: CommandLine, option: str, hint: str
) -> None:
    done = models("bench", TALKER, "--set", option)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"hint: use {hint} instead\n")


def test_nothing_can_be_set_for_a_server_that_runs(models: CommandLine) -> None:
    url = "http://127.0.0.1:9/v1"
    done = models("bench", TALKER, "--runtime", url, "--threads", "1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cannot set threads: the server is already running")


@pytest.mark.parametrize("option", ["--prompt", "--parallel"])
@pytest.mark.parametrize("text", ["", "x", "1,", "0", "-1"])
def test_what_cannot_be_measured_is_said(models: CommandLine, option: str, text: str) -> None:
    done = models("bench", TALKER, f"{option}={text}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {option}: invalid list {text!r}")


# Processes.


@contextmanager
def streaming(endpoint: Endpoint) -> Iterator[http.client.HTTPResponse]:
    """A long answer that has begun; its reader goes away at the end of the block."""
    connection = endpoint.connect()
    asked = chat(SMOLLM2, "Count to a thousand.", stream=True, max_tokens=1000, ignore_eos=True)
    connection.request("POST", "/v1/chat/completions", json.dumps(asked))
    reply = connection.getresponse()
    assert reply.status == 200
    assert reply.read1(10)
    try:
        yield reply
    finally:
        reply.close()
        connection.close()


def post(url: str, value: object) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(value))
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def states(models: CommandLine) -> dict[str, str]:
    return {each["model"]: each["state"] for each in json.loads(models("ps", "--json").stdout)}


def kill_runtimes(endpoint: Endpoint) -> None:
    """kill -9 for those that compute; their guards see it."""
    guards = children_of(endpoint.process.pid)
    for child in [child for guard in guards for child in children_of(guard)]:
        os.kill(child, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    pairs = [line.split() for line in listed.splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


def offspring(pid: int) -> list[int]:
    """The children of a process and theirs."""
    found = children_of(pid)
    return found + [each for child in found for each in offspring(child)]


def test_a_port_that_somebody_else_has_is_a_runtime_error(models: CommandLine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = models("serve", TALKER, "--port", str(port), "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (8, "", "port_in_use")
    hint = "choose another port with --port, or 0 for any free one"
    assert (error["port"], error["hint"]) == (port, hint)
