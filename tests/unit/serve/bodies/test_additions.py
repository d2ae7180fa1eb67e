"""What llama.cpp passes over is said in its words: functions that are named."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from modelrunner.runtime.capabilities.facts import Capabilities, TemplateFacts
from modelrunner.serve.bodies.parsing import INLINE
from modelrunner.serve.models import Facts
from tests.support.serving import Scripted, gateway, model

ONE = model("ai/one")
SILENT = replace(ONE, facts=Facts(capabilities=Capabilities(template=TemplateFacts(tools=False))))
KNOWS = replace(ONE, facts=Facts(capabilities=Capabilities(template=TemplateFacts(tools=True))))
HI = [{"role": "user", "content": "hi"}]
NOW, LATER, NEVER = (
    {"type": "function", "function": {"name": name, "parameters": {}}}
    for name in ("now", "later", "never")
)
CHAT = "/v1/chat/completions"


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *tools: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


def received(path: str, body: Mapping[str, Any]) -> Any:
    """What the runtime gets for a request."""
    runtime = Scripted()
    with gateway(runtime, KNOWS) as running:
        running.ask("POST", path, json.dumps(body).encode())
        (request,) = runtime.last.answers.requests
    assert int(request.headers["content-length"]) == len(request.raw)
    return request.body


@pytest.mark.parametrize(
    ("choice", "tools", "mode"),
    [
        (named("later"), [LATER], "required"),
        (allowed("required", named("now"), named("later")), [NOW, LATER], "required"),
        (allowed("auto", named("never")), [NEVER], "auto"),
    ],
)
@pytest.mark.parametrize("text", ["hi", "x" * (INLINE + 1)], ids=["short", "long"])
def test_only_what_a_chat_names_is_left(
    choice: Mapping[str, Any], tools: list[Mapping[str, Any]], mode: str, text: str
) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": text}]
    body = {"messages": messages, "tool_choice": choice, "tools": [NOW, LATER, NEVER]}
    assert received(CHAT, body) == {**body, "tools": tools, "tool_choice": mode}


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [NOW], "tool_choice": "required"},
        {"tools": [NOW], "tool_choice": "auto"},
        {"tools": [NOW], "tool_choice": "none"},
        {"tools": [NOW]},
        {"tool_choice": named("now")},
        {"tools": [NOW], "tool_choice": {"type": "strange"}},
        {"tools": [NOW], "tool_choice": {"type": "allowed_tools", "allowed_tools": 3}},
    ],
)
def test_all_else_stays_as_it_was(more: Mapping[str, Any]) -> None:
    body = {"messages": HI, **more}
    assert received(CHAT, body) == body


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (named("other"), "other"),
        (allowed("auto", named("now"), named("other")), "other"),
        ({"type": "function", "function": {}}, "no function"),
    ],
)
def test_a_function_that_is_not_there_is_refused(choice: Mapping[str, Any], name: str) -> None:
    runtime = Scripted()
    with gateway(runtime, KNOWS) as running:
        answer = running.post(CHAT, {"messages": HI, "tools": [NOW], "tool_choice": choice})
    said = f"`tool_choice` names {name}, which is not among `tools`"
    assert (answer.status, answer.error) == (400, said)
    assert runtime.started == []


@pytest.mark.parametrize("choice", ["required", named("now"), allowed("required", named("now"))])
def test_a_call_that_the_template_cannot_show_is_refused(choice: object) -> None:
    body = {"messages": HI, "tools": [NOW], "tool_choice": choice}
    runtime = Scripted()
    with gateway(runtime, SILENT) as running:
        answer = running.post(CHAT, body)
    assert (answer.status, answer.json["error"]["code"]) == (400, "unsupported_field")
    assert answer.error == (
        "the chat template of ai/one:latest does not support tools: leave out `tool_choice`, "
        "or use a model with tools"
    )
    with gateway(Scripted(), SILENT) as running:
        assert running.post(CHAT, {**body, "tool_choice": "auto"}).status == 200
