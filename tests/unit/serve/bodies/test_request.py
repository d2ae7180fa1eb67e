"""What the gateway refuses of requests before a runtime sees them."""

import json
import socket
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from modelrunner.serve.client.limits import Limits
from modelrunner.serve.models import Facts
from tests.support.openai_server import Reply
from tests.support.serving import Scripted, gateway, model
from tests.support.waiting import wait_until

ONE = model("ai/one")
FOUR = replace(ONE, spec=replace(ONE.spec, parallel=4))
VECTORS = replace(model("ai/vectors", kind="embedding"), facts=Facts(embedding_length=64))
TEXT = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("path", "asked", "message"),
    [
        (
            "chat/completions",
            {"messages": TEXT, "n": 9},
            (
                "`n` is 9, but ai/one:latest answers 4 requests at a time: use a smaller "
                "`n`, or start the server with --parallel 9"
            ),
        ),
        ("completions", {"prompt": "a", "echo": True}, "`echo` is not supported: leave it out"),
        (
            "completions",
            {"prompt": "a", "suffix": "b"},
            "`suffix` is not supported: use /infill with a model for code",
        ),
        (
            "completions",
            {"prompt": "a", "best_of": 2},
            "`best_of` is not supported: leave it out, or use `n`",
        ),
        (
            "chat/completions",
            {"messages": TEXT, "functions": [{"name": "now"}]},
            "`functions` is not supported: use `tools`",
        ),
        (
            "chat/completions",
            {"messages": TEXT, "function_call": {"name": "now"}},
            "`function_call` is not supported: use `tool_choice`",
        ),
        (
            "chat/completions",
            {"messages": TEXT, "modalities": ["text", "audio"]},
            "`modalities` is not supported: answers are text",
        ),
        (
            "chat/completions",
            {"messages": TEXT, "audio": {"voice": "x"}},
            "`audio` is not supported: answers are text",
        ),
        (
            "chat/completions",
            {"messages": TEXT, "web_search_options": {}},
            "`web_search_options` is not supported: leave it out",
        ),
        (
            "chat/completions",
            {"messages": TEXT, "verbosity": "low"},
            "`verbosity` is not supported: say it in a message",
        ),
        (
            "embeddings",
            {"model": "vectors", "input": "a", "dimensions": 16},
            "`dimensions` is not supported: embeddings of ai/vectors:latest have 64 dimensions",
        ),
    ],
)
def test_what_would_be_ignored_is_said(path: str, asked: dict[str, Any], message: str) -> None:
    runtime = Scripted()
    with gateway(runtime, FOUR, VECTORS) as running:
        answer = running.post(f"/v1/{path}", {"model": "one", **asked})
    assert (answer.status, answer.error) == (400, message)
    assert answer.json["error"]["code"] == "unsupported_field"
    assert runtime.started == []


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("chat/completions", {"messages": TEXT, "n": 4}),
        ("chat/completions", {"messages": TEXT, "n": None, "logprobs": True}),
        ("completions", {"prompt": "a", "echo": False, "logprobs": None, "suffix": None}),
        ("completions", {"prompt": "a", "n": 2, "best_of": 2, "user": "u", "seed": 1}),
        ("completions", {"prompt": "a", "best_of": 1, "logit_bias": {"1": -100}}),
        ("chat/completions", {"messages": TEXT, "functions": [], "function_call": "auto"}),
        ("chat/completions", {"messages": TEXT, "modalities": ["text"], "verbosity": "medium"}),
        ("chat/completions", {"messages": TEXT, "service_tier": "auto", "store": True}),
        ("embeddings", {"model": "vectors", "input": "a", "dimensions": 64}),
        ("embeddings", {"model": "vectors", "input": "a", "dimensions": None}),
    ],
)
def test_what_is_possible_passes(path: str, asked: dict[str, Any]) -> None:
    done = Reply((b"{}",), kind="application/json")
    runtime = Scripted(scripts={"ai/one:latest": [done], "ai/vectors:latest": [done]})
    with gateway(runtime, FOUR, VECTORS) as running:
        assert running.post(f"/v1/{path}", {"model": "one", **asked}).status == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"model":\n  oops}', "the request is not JSON: expected JSON at line 2, column 3"),
        (b"\xff", "the request is not UTF-8"),
        (b"[" * 100_000, "invalid request: JSON nested too deeply"),
        (b'{"n": %b}' % (b"9" * 5000), "invalid request: number with too many digits"),
        (b"[]", "the request is not a JSON object"),
        (b'{"model": 1}', "the field `model` is not a string"),
        (
            b'{"messages": [%b[]]}' % (b"[]," * 250_001),
            "the request has more than 250,000 lists and objects",
        ),
        (
            b'{"prompt": [%b1]}' % (b"1," * 1_000_001),
            "the request has more than 1,000,000 values",
        ),
    ],
)
def test_what_is_wrong_with_a_body_is_said(body: bytes, message: str) -> None:
    with gateway(Scripted(), ONE) as running:
        answer = running.ask("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.error) == (400, message)


def test_bodies_have_a_limit_together_that_each_one_gives_back() -> None:
    limits = Limits(body=1000, bodies=3_000_000)
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 2_000_000}]}).encode()
    with gateway(Scripted(), ONE, limits=limits) as running:
        parts = urlsplit(running.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as slow:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            slow.sendall(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body[:-1]))

            held = f"\nmodelrunner_request_body_bytes {len(body) - 1}\n".encode()
            wait_until(lambda: held in running.get("/metrics").body)
            answer = running.ask("POST", "/v1/chat/completions", body)
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert running.chat("one").status == 200
        wait_until(
            lambda: running.ask("POST", "/v1/chat/completions", body).status == 200,
        )


def test_large_bodies_leave_small_ones_their_room() -> None:
    limits = Limits(body=1000, bodies=50_000)
    with gateway(Scripted(), ONE, limits=limits) as running:
        parts = urlsplit(running.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as slow:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            # all that large ones may have together, and not its end
            slow.sendall(head + b"Content-Length: 60000\r\n\r\n%b" % (b"x" * 51_000))
            held = b"\nmodelrunner_request_body_bytes 51000\n"
            wait_until(lambda: held in running.get("/metrics").body)
            assert running.chat("one", "x" * 500).status == 200
            assert running.chat("one", "x" * 1000).status == 503


def test_a_request_that_ends_its_runtime_twice_is_not_to_be_sent_again() -> None:
    no_answer = Reply((), status=0, end="cut")
    runtime = Scripted(mortals=2)
    with gateway(runtime, ONE) as running:
        runtime.scripts["ai/one:latest"] = [no_answer]
        runtime.again = {"ai/one:latest": [no_answer]}
        answer = running.chat("one")
    assert (answer.status, answer.headers["x-should-retry"]) == (502, "false")
    assert answer.error == (
        "the runtime of ai/one:latest exited twice before it answered this request"
    )
    assert runtime.started == ["ai/one:latest"] * 2


def test_a_bug_is_told_as_json_with_the_id_that_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with gateway(Scripted(), ONE) as running:
        monkeypatch.setattr(running.pool, "slots", None)
        answer = running.post(
            "/v1/messages",
            {"max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]},
            X_Request_Id="mine",
        )
        monkeypatch.undo()
    assert (answer.status, answer.headers["x-request-id"]) == (500, "mine")
    assert answer.json == {
        "type": "error",
        "error": {
            "type": "api_error",
            "message": "internal error: the log has more, with the request ID mine",
        },
        "request_id": "mine",
    }
