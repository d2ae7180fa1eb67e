"""A model asks for functions over real HTTP, and what it is told of them."""

import io
import json
import sys
from collections.abc import Iterator

import pytest

from modelrunner.chat.client import ChatClient
from modelrunner.chat.conversation import Conversation
from modelrunner.cli.chat.answer import answer_once
from modelrunner.cli.chat.tools import MOST_ROUNDS, Caller
from modelrunner.errors import RuntimeFailedError
from modelrunner.tools.tool import Tool, Toolbox
from tests.support.openai_server import OpenAIServer, calls, says

ECHO = Tool("echo", "Says it.", {"type": "object"}, (sys.executable, "-c", "print(input())"))
BY_HAND = Tool("ask_me", "Asks.", {"type": "object"})


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


def ask(server: OpenAIServer, caller: Caller):
    conversation, out = Conversation(), io.StringIO()
    conversation.add_user("hi")
    client = ChatClient(server.url, None, "m")
    done = answer_once(client, conversation, context=512, out=out, err=io.StringIO(), caller=caller)
    return done, out.getvalue(), conversation


def test_a_call_is_run_and_its_result_is_returned_to_the_model(server: OpenAIServer) -> None:
    server.next(calls(("echo", '{"a": "ä"}'), text="Let me see."), says("It said ä."))
    told = []
    done, out, _ = ask(server, Caller(Toolbox((ECHO,)), told.append, allowed=True))
    assert (done.finish_reason, out) == ("stop", "Let me see.\nIt said ä.\n")
    first, second = (request.body for request in server.requests)
    assert first["tools"] == second["tools"] == [ECHO.to_dict()]
    wanted, result = second["messages"][1:]
    assert wanted == {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [
            {
                "id": "c0",
                "type": "function",
                "function": {"name": "echo", "arguments": '{"a": "ä"}'},
            }
        ],
    }
    assert (result["role"], result["tool_call_id"]) == ("tool", "c0")
    assert json.loads(result["content"]) == {"a": "ä"}
    assert told[0] == 'calling echo(a="ä")'


def test_the_person_is_asked_and_may_say_no_or_always(server: OpenAIServer) -> None:
    answers = iter(["n", "always"])
    asked = []

    def person(question: str) -> str:
        asked.append(question)
        return next(answers)

    server.next(calls(("echo", "{}"), ("echo", "{}"), ("echo", "{}")), says("ok"))
    ask(server, Caller(Toolbox((ECHO,)), ask=person))
    refused, first, second = [m["content"] for m in server.requests[1].body["messages"][2:]]
    assert refused == '{"error": "The user denied this call."}'
    assert (first, second) == ("{}", "{}")
    assert asked == ["call echo()? [y]es, [n]o, [a]lways: "] * 2


def test_nothing_is_called_where_nobody_can_be_asked(server: OpenAIServer) -> None:
    server.next(calls(("echo", "{}")), says("ok"))
    ask(server, Caller(Toolbox((ECHO,))))
    assert "denied" in server.requests[1].body["messages"][-1]["content"]


def test_a_function_that_does_not_exist_is_told_with_a_near_one(server: OpenAIServer) -> None:
    server.next(calls(("ecko", "{}")), says("ok"))
    ask(server, Caller(Toolbox((ECHO,)), allowed=True))
    assert json.loads(server.requests[1].body["messages"][-1]["content"]) == {
        "error": "unknown function ecko; did you mean `echo`?"
    }


def test_a_call_that_nobody_here_can_answer_is_the_end_of_the_answer(server) -> None:
    server.next(calls(("ask_me", '{"x": 1}')))
    done, out, _ = ask(server, Caller(Toolbox((ECHO, BY_HAND)), allowed=True))
    assert out == ""
    assert [(each.name, each.arguments) for each in done.calls] == [("ask_me", '{"x": 1}')]


def test_the_person_answers_for_a_function_without_a_program(server: OpenAIServer) -> None:
    server.next(calls(("ask_me", "{}")), says("ok"))
    ask(server, Caller(Toolbox((BY_HAND,)), ask=lambda _question: "seven\n", by_hand=True))
    assert server.requests[1].body["messages"][-1]["content"] == "seven"


def test_a_model_that_never_stops_calling_is_stopped(server: OpenAIServer) -> None:
    server.next(*[calls(("echo", "{}"))] * MOST_ROUNDS)
    with pytest.raises(RuntimeFailedError, match=f"called functions {MOST_ROUNDS} times"):
        ask(server, Caller(Toolbox((ECHO,)), allowed=True))


def test_every_call_has_a_result_when_a_tool_is_interrupted(server: OpenAIServer) -> None:
    def leaves(_question: str) -> str:
        raise KeyboardInterrupt

    server.next(calls(("echo", "{}"), ("echo", "{}")))
    conversation = Conversation()
    conversation.add_user("hi")
    with pytest.raises(KeyboardInterrupt):
        answer_once(
            ChatClient(server.url, None, "m"),
            conversation,
            context=None,
            out=io.StringIO(),
            err=io.StringIO(),
            caller=Caller(Toolbox((ECHO,)), ask=leaves),
        )
    assert [turn.role for turn in conversation.turns] == ["user", "assistant", "tool", "tool"]
    assert Conversation.from_dict(conversation.to_dict()).turns == conversation.turns


def test_a_call_shows_no_control_characters(server: OpenAIServer) -> None:
    server.next(calls(("echo", '{"a": "\\u001b[31m"}'), ("e\x1b[1mcho", "not json")), says("ok"))
    told = []
    ask(server, Caller(Toolbox((ECHO,)), told.append, allowed=True))
    assert told
    assert "\x1b" not in "".join(told)


def test_whoever_allows_a_call_sees_all_of_it(server: OpenAIServer) -> None:
    hidden = json.dumps({"a": "x" * 5000 + " && rm -rf /"})
    server.next(calls(("echo", hidden)), says("ok"))
    asked = []

    def person(question: str) -> str:
        asked.append(question)
        return "n"

    ask(server, Caller(Toolbox((ECHO,)), ask=person))
    assert "&& rm -rf /" in asked[0]


def test_a_call_too_long_to_be_read_is_not_asked_about(server: OpenAIServer) -> None:
    server.next(calls(("echo", json.dumps({"a": "x" * 30_000}))), says("ok"))
    asked = []
    ask(server, Caller(Toolbox((ECHO,)), ask=lambda question: asked.append(question) or "y"))
    assert asked == []
    assert "too long to be shown" in server.requests[1].body["messages"][-1]["content"]


def test_a_call_that_cannot_be_made_is_valid_in_the_next_request(server: OpenAIServer) -> None:
    server.next(
        calls(("echo", "not json"), ("", "{}"), ("e cho", "[]")),
        calls(("echo", '{"a": 1}')),
        says("ok"),
    )
    told = []
    ask(server, Caller(Toolbox((ECHO,)), told.append, allowed=True))
    sent = server.requests[2].body["messages"]
    assert [turn["role"] for turn in sent] == [
        "user", "assistant", "tool", "tool", "tool", "assistant", "tool"
    ]  # fmt: skip
    wanted = [call["function"] for call in sent[1]["tool_calls"]]
    assert wanted == [
        {"name": "echo", "arguments": '{"invalid_arguments": "not json"}'},
        {"name": "unnamed", "arguments": "{}"},
        {"name": "e_cho", "arguments": '{"invalid_arguments": "[]"}'},
    ]
    assert [json.loads(turn["content"])["error"] for turn in sent[2:5]] == [
        "the arguments are not a JSON object: invalid JSON at character 1",
        "the call does not name a function",
        "the arguments are not a JSON object: expected an object, got an array",
    ]
    ids = [call["id"] for turn in sent for call in turn.get("tool_calls", ())]
    assert [turn["tool_call_id"] for turn in sent if turn["role"] == "tool"] == ids
    assert len(set(ids)) == 4
    assert told[0].endswith("the arguments are not a JSON object: invalid JSON at character 1")
