"""Measuring a server that does not do what it should."""

import json
from types import SimpleNamespace

import pytest

from modelrunner.errors import RuntimeFailedError, UsageError
from modelrunner.operations.bench import BenchRequest, bench
from tests.support.openai_server import OpenAIServer, Reply, event, refuses

WISH = BenchRequest(prompts=[16], parallels=[1], generate=4, rounds=1)


def counts(tokens: int) -> Reply:
    body = {"choices": [{"text": "x"}], "usage": {"prompt_tokens": tokens}}
    return Reply((json.dumps(body).encode(),), kind="application/json")


def writes(*texts: str, end: str = "complete") -> Reply:
    return Reply(tuple(event({"choices": [{"text": text}]}) for text in texts), end=end)


@pytest.fixture
def server():
    with OpenAIServer() as running:
        yield running


def measured(server):
    ready = SimpleNamespace(base_url=f"{server.url}/v1", api_key="", name="url")
    return bench(ready, "m", WISH, lambda _speed: None)


def test_answers_are_counted_where_the_server_does_not_say(server):
    server.next(counts(20), counts(16), writes("a", "b"), writes("a", "b", "c"))
    (speed,) = measured(server)
    assert (speed.prompt_tokens, speed.parallel, speed.generated_tokens) == (16, 1, 3)


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        ([Reply((b"<html>",), kind="text/html")], "unexpected answer from"),
        ([Reply((b"[]",), kind="application/json")], "does not report token counts"),
        ([Reply((b'{"usage": 7}',), kind="application/json")], "does not report token counts"),
        ([refuses(503, message="Loading model")], "returned HTTP 503: Loading model$"),
        ([Reply((b'{"detail": "no"}',), status=404)], "returned HTTP 404: no$"),
        ([Reply((b'{"id": 7}',), status=500)], "returned HTTP 500$"),
        ([Reply((b"<html>oh</html>",), status=502)], "returned HTTP 502$"),
        ([Reply((b"not now\n",), status=503)], "returned HTTP 503: not now$"),
        ([counts(20), counts(16), Reply(())], "returned an empty answer"),
        ([counts(20), counts(16), Reply((b"data: nonsense\n\n",))], "unexpected answer from"),
        ([counts(20), counts(16), Reply((b"data: [1]\n\n",))], "returned an empty answer"),
        ([counts(20), counts(16), writes("a", end="cut")], "no response from"),
    ],
)
def test_a_server_in_trouble_is_a_runtime_error(server, replies, message):
    server.next(*replies)
    with pytest.raises(RuntimeFailedError, match=message):
        measured(server)


def test_nobody_there_is_a_runtime_error():
    with OpenAIServer() as gone:
        pass
    with pytest.raises(RuntimeFailedError, match="no response from"):
        measured(gone)


def test_the_length_of_a_prompt_is_met_by_counting_again(server):
    request = BenchRequest(prompts=[100], parallels=[1], generate=4, rounds=1)
    server.next(counts(80), counts(130), counts(101), writes("a", "b"), writes("a", "b"))
    ready = SimpleNamespace(base_url=f"{server.url}/v1", api_key="", name="url")
    (speed,) = bench(ready, "m", request, lambda _speed: None)
    assert speed.prompt_tokens == 101
    words = [len(request.body["prompt"].split()) for request in server.requests]
    # 16 words have 80 tokens: 20 have 130, so 18 come next
    assert words == [16, 20, 18, 18, 18]
    first, again = [request.body["prompt"].split() for request in server.requests[-2:]]
    assert first[0] != again[0]
    assert sorted(first[1:]) == sorted(again[1:])


def test_a_length_that_does_not_fit_the_context_is_skipped(server):
    request = BenchRequest(prompts=[16, 600, 1000], parallels=[1], generate=4, rounds=1)
    server.next(counts(16), writes("a", "b"), writes("a", "b"))
    ready = SimpleNamespace(base_url=f"{server.url}/v1", api_key="", name="url")
    skipped = []
    found = bench(ready, "m", request, lambda _speed: None, lambda *each: skipped.append(each), 512)
    assert [speed.prompt_tokens for speed in found] == [16]
    assert skipped == [(600, 512), (1000, 512)]
    with pytest.raises(UsageError, match="no prompt fits into the context of 8 tokens"):
        bench(ready, "m", WISH, lambda _speed: None, context=8)


def test_rows_before_a_failure_are_told(server):
    request = BenchRequest(prompts=[16, 32], parallels=[1], generate=4, rounds=1)
    server.next(counts(16), writes("a", "b"), writes("a", "b"), refuses(500, message="broken"))
    ready = SimpleNamespace(base_url=f"{server.url}/v1", api_key="", name="url")
    told = []
    with pytest.raises(RuntimeFailedError, match="broken"):
        bench(ready, "m", request, told.append)
    assert [speed.prompt_tokens for speed in told] == [16]
