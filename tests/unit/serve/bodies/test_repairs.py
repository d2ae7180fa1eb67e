"""What OpenAI's servers accept and llama.cpp refuses is put right before a runtime sees it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from modelrunner.serve.bodies.parsing import INLINE
from tests.support.serving import Scripted, gateway, model

HI: dict[str, Any] = {"role": "user", "content": "hi"}
SYSTEM: dict[str, Any] = {"role": "system", "content": "own"}
RESULT: dict[str, Any] = {"role": "tool", "tool_call_id": "a", "content": "12"}
PARAMETERS: dict[str, Any] = {"type": "object", "properties": {"description": None}}


def tool(name: str = "now", **more: object) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": PARAMETERS, **more}}


def calling(arguments: object) -> dict[str, Any]:
    function = {"name": "now", "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": function}],
    }


def received(body: Mapping[str, Any], system: str | None = None) -> Any:
    """What the runtime gets for a request."""
    runtime = Scripted()
    with gateway(runtime, replace(model("ai/one"), system=system)) as running:
        running.ask("POST", "/v1/chat/completions", json.dumps(body).encode())
        (request,) = runtime.last.answers.requests
    assert int(request.headers["content-length"]) == len(request.raw)
    return request.body


@pytest.mark.parametrize(
    ("sent", "right"),
    [
        ({"messages": [{**HI, "name": None}]}, {"messages": [HI]}),
        (
            {"messages": [HI, {"role": "assistant", "content": "x", "reasoning_content": None}]},
            {"messages": [HI, {"role": "assistant", "content": "x"}]},
        ),
        (
            {"messages": [HI, calling(""), {**RESULT, "name": None}]},
            {"messages": [HI, calling("{}"), RESULT]},
        ),
        (
            {"messages": [HI], "tools": [tool(), tool("later", description=None)]},
            {"messages": [HI], "tools": [tool(), tool("later")]},
        ),
    ],
    ids=["name", "thoughts", "arguments", "description"],
)
@pytest.mark.parametrize("text", ["hi", "x" * (INLINE + 1)], ids=["short", "long"])
def test_null_is_as_if_it_were_missing_and_no_arguments_are_an_object(
    sent: Mapping[str, Any], right: Mapping[str, Any], text: str
) -> None:
    front = {"role": "user", "content": text}
    sent, right = ({**each, "messages": [front, *each["messages"]]} for each in (sent, right))
    assert received(sent) == right
    # the model's own system prompt is put before them all the same
    assert received(sent, system="own") == {**right, "messages": [SYSTEM, *right["messages"]]}
    own = {**sent, "messages": [SYSTEM, *sent["messages"]]}
    assert received(own, system="other") == {**right, "messages": [SYSTEM, *right["messages"]]}


def test_a_tool_that_is_chosen_is_put_right_too() -> None:
    body = {
        "messages": [HI],
        "tools": [tool(description=None), tool("later", description=None)],
        "tool_choice": {"type": "function", "function": {"name": "later"}},
    }
    assert received(body) == {**body, "tools": [tool("later")], "tool_choice": "required"}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [HI, calling("{}"), RESULT], "tools": [tool(description="")]},
        {"messages": [{**HI, "name": "a"}, {"role": "assistant", "content": None}]},
        {"messages": None, "tools": None},
        {"messages": [None, "hi", {"tool_calls": [None, {"function": None}]}]},
        {"messages": [HI], "tools": [None, "x", {"function": None}]},
    ],
)
def test_all_else_passes_as_it_is(body: Mapping[str, Any]) -> None:
    assert received(body) == body
