"""Measuring a server that does not do what it should."""

import json
from types import SimpleNamespace

import pytest

from modelrunner.errors import RuntimeFailedError
from modelrunner.operations.bench import BenchWish, bench
from tests.support.openai_server import OpenAIServer, Reply, event, refuses

WISH = BenchWish(prompts=[16], parallels=[1], generate=4, rounds=1)


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
        ([Reply((b"<html>",), kind="text/html")], "answers with something else"),
        ([Reply((b"[]",), kind="application/json")], "does not count tokens"),
        ([Reply((b'{"usage": 7}',), kind="application/json")], "does not count tokens"),
        ([refuses(503, message="Loading model")], "refuses with HTTP status 503: .*Loading model"),
        ([counts(20), counts(16), Reply(())], "wrote nothing"),
        ([counts(20), counts(16), Reply((b"data: nonsense\n\n",))], "answers with something else"),
        ([counts(20), counts(16), Reply((b"data: [1]\n\n",))], "wrote nothing"),
        ([counts(20), counts(16), writes("a", end="cut")], "does not answer"),
    ],
)
def test_a_server_in_trouble_is_a_runtime_error(server, replies, message):
    server.next(*replies)
    with pytest.raises(RuntimeFailedError, match=message):
        measured(server)


def test_nobody_there_is_a_runtime_error():
    with OpenAIServer() as gone:
        pass
    with pytest.raises(RuntimeFailedError, match="does not answer"):
        measured(gone)
