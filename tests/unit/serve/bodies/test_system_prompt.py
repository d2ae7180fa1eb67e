"""The system prompt of a model reaches the requests that bring none, in every API that has one."""

import json
from dataclasses import replace

import pytest

from modelrunner.serve.bodies.parsing import INLINE
from tests.support.serving import Scripted, gateway, model

PROMPT = 'Say "Arrr".\nAlways.'
PIRATE = replace(model("ai/pirate"), system=PROMPT)
HI = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": PROMPT}
LONG = {"role": "user", "content": "x" * (INLINE + 1)}
# of the same name, at other depths and within a text
TOOLS = [{"type": "function", "function": {"parameters": {"messages": [1]}}}]
DECOY = '"messages": ['


def received(path, body):
    """What the runtime gets for a request."""
    runtime = Scripted()
    with gateway(runtime, PIRATE) as running:
        running.ask("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode())
        (request,) = runtime.last.answers.requests
    assert int(request.headers["content-length"]) == len(request.raw)
    return request.body


@pytest.mark.parametrize("messages", [[HI], [LONG], [HI, {"role": "assistant", "content": "a"}]])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/engines/v1/chat/completions"])
def test_a_chat_begins_with_it(path, messages):
    body = {"user": DECOY, "tools": TOOLS, "messages": messages, "metadata": {"messages": [2]}}
    assert received(path, body) == {**body, "messages": [SYSTEM, *messages]}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("said", [{}, {"system": None}])
def test_a_message_of_anthropics_has_it_as_its_system(path, said):
    assert received(path, {"messages": [HI], **said})["messages"] == [SYSTEM, HI]


@pytest.mark.parametrize("own", ["own", [{"type": "text", "text": "own"}], ""])
def test_a_message_of_anthropics_keeps_its_own(own):
    text = own if isinstance(own, str) else "own"
    found = received("/v1/messages", {"messages": [HI], "system": own})["messages"]
    assert found == [{"role": "system", "content": text}, HI]


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/input_tokens"])
@pytest.mark.parametrize("given", ["hi", [HI]])
@pytest.mark.parametrize("said", [{}, {"instructions": None}])
def test_a_response_has_it_as_its_instructions(path, given, said):
    assert received(path, {**said, "input": given})["messages"] == [SYSTEM, HI]


@pytest.mark.parametrize(
    "body",
    [
        {"input": "hi", "instructions": "own"},
        {"input": [{"role": "developer", "content": "own"}, HI]},
        {"input": [{"role": "system", "content": "own"}, HI]},
    ],
)
def test_a_response_keeps_its_own(body):
    assert received("/v1/responses", body)["messages"] == [
        {"role": "system", "content": "own"},
        HI,
    ]


def test_an_empty_instruction_is_one():
    body = {"input": "hi", "instructions": ""}
    assert received("/v1/responses", body)["messages"] == [{"role": "system", "content": ""}, HI]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "own"}, HI]}),
        ("/v1/chat/completions", {"messages": [HI, {"role": "developer", "content": "own"}]}),
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": ""}, HI]}),
        ("/v1/completions", {"prompt": "hi", "messages": [HI]}),
        # what the runtime refuses is its own to say
        ("/v1/chat/completions", {"messages": []}),
        ("/v1/chat/completions", {"messages": "hi"}),
        ("/v1/chat/completions", {}),
    ],
)
def test_a_request_that_brings_its_own_or_has_no_place_for_one_passes_as_it_is(path, body):
    assert received(path, body) == body


def test_all_else_of_a_body_stays_as_it_was():
    body = b'{ "messages" :\n[ {"role":"user","content":"\\u00e9"}], "seed": 1.0, "n":1 }'
    found = received("/v1/chat/completions", body)
    assert found["messages"] == [SYSTEM, {"role": "user", "content": "é"}]
    runtime = Scripted()
    with gateway(runtime, PIRATE) as running:
        running.ask("POST", "/v1/chat/completions", body)
        (request,) = runtime.last.answers.requests
    put = json.dumps(SYSTEM).encode() + b","
    assert request.raw == body.replace(b"[ {", b"[" + put + b" {", 1)


def test_a_model_without_one_gets_requests_as_they_are():
    runtime = Scripted()
    with gateway(runtime, model("ai/plain")) as running:
        running.post("/v1/chat/completions", {"messages": [HI]})
        (request,) = runtime.last.answers.requests
    assert request.body == {"messages": [HI]}
