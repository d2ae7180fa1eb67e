"""The call by which `launch` finds out whether a model loads and its tool calls are understood."""

import json

import pytest

from modelrunner.agents.app import Endpoint
from modelrunner.errors import RuntimeFailedError
from modelrunner.operations.agents.check import Outcome, check_tools, warm_up
from modelrunner.runtime.capabilities.facts import Thinking
from tests.support.openai_server import OpenAIServer, Reply, refuses


def answers(message: object) -> Reply:
    raw = json.dumps({"choices": [{"message": message}]}).encode()
    return Reply((raw,), kind="application/json")


def endpoint(server: OpenAIServer) -> Endpoint:
    return Endpoint(url=server.url, key="key", model="ai/m:1", context=8192)


def called(name: str, arguments: str) -> object:
    return {"tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        (called("save_note", '{"text": "ready"}'), "called"),
        (called("save_note", "ready"), "not understood"),
        (called("save_note", '"ready"'), "not understood"),
        (called("other", "{}"), "not understood"),
        ({"content": '<tool>{"name": "save_note"}</tool>'}, "not understood"),
        ({"content": "I cannot do that."}, "not called"),
        ({"content": None}, "not called"),
        ("nonsense", "not understood"),
    ],
)
def test_what_a_model_does_with_a_tool_is_told_apart(message: object, outcome: Outcome) -> None:
    with OpenAIServer(api_key="key") as server:
        server.next(answers(message))
        assert check_tools(endpoint(server), None) == outcome
        (asked,) = server.requests
    assert asked.body["model"] == "ai/m:1"
    assert asked.body["tools"][0]["function"]["name"] == "save_note"
    assert "chat_template_kwargs" not in asked.body


def test_a_model_that_can_do_without_thoughts_is_asked_to() -> None:
    thinking = Thinking(switch="enable_thinking", on=True, off=False)
    with OpenAIServer(api_key="key") as server:
        server.next(answers(called("save_note", "{}")))
        assert check_tools(endpoint(server), thinking) == "called"
        assert server.requests[0].body["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("thinking", "most"),
    [
        (None, 128),
        (Thinking(switch="enable_thinking", on=True, off=False), 128),
        (Thinking(default=True, opens=True), 512),
    ],
)
def test_only_a_model_that_cannot_do_without_thoughts_may_write_long(
    thinking: Thinking | None, most: int
) -> None:
    with OpenAIServer(api_key="key") as server:
        server.next(answers(called("save_note", "{}")))
        check_tools(endpoint(server), thinking)
        assert server.requests[0].body["max_tokens"] == most


def test_a_model_that_does_not_load_is_an_error_in_its_own_words() -> None:
    with OpenAIServer(api_key="key") as server:
        server.next(refuses(500, message="out of memory\x1b[31m"))
        with pytest.raises(RuntimeFailedError) as error:
            warm_up(endpoint(server))
    assert error.value.message == "ai/m:1: out of memory"
    assert error.value.exit_code == 8
    with pytest.raises(RuntimeFailedError, match="no response from the runtime"):
        warm_up(Endpoint(url="http://127.0.0.1:1", key="key", model="ai/m:1", context=8192))
