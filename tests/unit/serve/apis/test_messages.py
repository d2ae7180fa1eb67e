"""Anthropic's Messages over a runtime's chat completions: requests, answers, and the models."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from modelrunner.runtime.capabilities.facts import Capabilities, TemplateFacts, Thinking
from modelrunner.serve.bodies.parsing import INLINE
from modelrunner.serve.models import Facts
from tests.support.openai_server import Reply, calls, delta, ending, event, fails_midway, says
from tests.support.serving import Answer, Scripted, gateway, model

ONE, TWO, THREE = model("ai/one"), model("ai/two"), model("ai/three")
NAME = "ai/one:latest"
PATH = "/v1/messages"
HI = {"role": "user", "content": "hi"}
NOW = {"name": "now", "description": "d", "input_schema": {"type": "object"}}
LATER = {"type": "custom", "name": "later", "cache_control": {"type": "ephemeral"}}
CHAT_NOW = {
    "type": "function",
    "function": {"name": "now", "description": "d", "parameters": {"type": "object"}},
}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
VERSION = {"Anthropic_Version": "2023-06-01"}


def received(body: Mapping[str, Any], path: str = PATH, one: Any = ONE) -> Any:
    """What the runtime gets for a request."""
    runtime = Scripted(scripts={NAME: [says("a")]})
    with gateway(runtime, one) as running:
        answer = running.post(path, {"messages": [HI], **body})
        assert answer.status == 200, answer.body
        (request,) = runtime.last.answers.requests
    assert request.path == "/v1/chat/completions"
    return request.body


def answered(reply: Reply, **body: object) -> Answer:
    with gateway(Scripted(scripts={NAME: [reply]}), ONE) as running:
        return running.post(PATH, {"messages": [HI], "max_tokens": 9, **body})


def streamed(answer: Answer) -> list[Any]:
    blocks = [block.split("\n") for block in answer.body.decode().split("\n\n") if block]
    found = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name.removeprefix("event: ") for name, _ in blocks] == [e["type"] for e in found]
    return found


# What the runtime is asked.


@pytest.mark.parametrize(
    "path",
    [PATH, "/v1/messages?beta=true", "/anthropic/v1/messages", "/engines/v1/messages"],
)
def test_a_request_becomes_a_chat(path: str) -> None:
    body = {
        "model": "one",
        "max_tokens": 5,
        "system": "be kind",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop_sequences": ["x"],
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
        "cache_prompt": False,
    }
    assert received(body, path) == {
        "model": "one",
        "cache_prompt": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "max_tokens": 5,
        "messages": [{"role": "system", "content": "be kind"}, HI],
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        "stop": ["x"],
        "verbose": True,
    }


def test_the_line_for_anthropics_accounts_is_no_part_of_the_prompt() -> None:
    system = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=1a2b3"},
        {"type": "text", "text": "one", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "two"},
    ]
    assert received({"system": system})["messages"][0] == {
        "role": "system",
        "content": "one\n\ntwo",
    }


@pytest.mark.parametrize("length", [1, INLINE + 1])
def test_blocks_become_messages_of_a_chat(length: int) -> None:
    text = "x" * length
    given = [
        {
            "role": "user",
            "content": [{"type": "text", "text": text}, {"type": "text", "text": "b"}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "wait"},
                {"type": "tool_use", "id": "t1", "name": "now", "input": {"a": "ä"}},
                {"type": "tool_use", "id": "t2", "name": "now", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "12"},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "is_error": True,
                    "content": [{"type": "text", "text": "no clock"}],
                },
                {"type": "text", "text": "and?"},
            ],
        },
        {"role": "assistant", "content": "so"},
    ]
    assert received({"messages": given})["messages"] == [
        {"role": "user", "content": f"{text}\n\nb"},
        {
            "role": "assistant",
            "content": "wait",
            "reasoning_content": "hm",
            "tool_calls": [
                {
                    "id": "t1",
                    "type": "function",
                    "function": {"name": "now", "arguments": '{"a": "ä"}'},
                },
                {"id": "t2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "12"},
        {"role": "tool", "tool_call_id": "t2", "content": "Error: no clock"},
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "so"},
    ]


def test_documents_of_text_and_images_are_shown() -> None:
    sees = replace(ONE, spec=replace(ONE.spec, mmproj=ONE.spec.model))
    text = {"type": "text", "text": "inner"}
    image = {"type": "base64", "media_type": "image/png", "data": "AA"}
    content = [
        {"type": "document", "title": "T", "source": {"type": "text", "data": "words"}},
        {"type": "document", "source": {"type": "content", "content": [text]}},
        {"type": "search_result", "title": "S", "source": "http://s", "content": [text]},
        {"type": "image", "source": image},
        {"type": "image", "source": {"type": "url", "url": "http://i"}},
    ]
    found = received({"messages": [{"role": "user", "content": content}]}, one=sees)
    assert found["messages"][0]["content"] == [
        {"type": "text", "text": "T"},
        {"type": "text", "text": "words"},
        {"type": "text", "text": "inner"},
        {"type": "text", "text": "S\nhttp://s\ninner"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        {"type": "image_url", "image_url": {"url": "http://i"}},
    ]


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        (None, None, ["now", "later"]),
        ({"type": "auto"}, "auto", ["now", "later"]),
        ({"type": "none"}, "none", ["now", "later"]),
        ({"type": "any"}, "required", ["now", "later"]),
        ({"type": "tool", "name": "later"}, "required", ["later"]),
    ],
)
def test_tools_are_functions_and_what_anthropic_would_run_is_left_out_beside_them(
    choice: Any, mode: str | None, names: Sequence[str]
) -> None:
    body: dict[str, Any] = {"tools": [NOW, SEARCH, LATER]}
    if choice:
        body["tool_choice"] = {**choice, "disable_parallel_tool_use": True}
    found = received(body)
    assert [each["function"]["name"] for each in found["tools"]] == names
    assert (found.get("tool_choice"), found.get("parallel_tool_calls")) == (
        mode,
        False if choice else None,
    )
    if "now" in names:
        assert found["tools"][0] == CHAT_NOW


@pytest.mark.parametrize("field", ["output_format", "output_config"])
def test_the_form_of_an_answer_is_that_of_a_chat(field: str) -> None:
    form = {"type": "json_schema", "schema": {"type": "object"}}
    found = received({field: form if field == "output_format" else {"format": form}})
    assert found["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("body", "added"),
    [
        ({"thinking": {"type": "disabled"}}, {"chat_template_kwargs": {"enable_thinking": False}}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_budget_tokens": 2048},
        ),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_budget_tokens": 1024},
        ),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({}, {}),
    ],
)
def test_thinking_is_said_in_the_words_of_the_template(
    body: Mapping[str, Any], added: Mapping[str, Any]
) -> None:
    thinking = Thinking(switch="enable_thinking", on=True, off=False)
    template = TemplateFacts(tools=True, thinking=thinking)
    known = replace(ONE, facts=Facts(capabilities=Capabilities(template=template)))
    found = received(body, one=known)
    names = ("chat_template_kwargs", "reasoning_budget_tokens")
    assert {name: found[name] for name in names if name in found} == added


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"messages": []}, "`messages` is missing, or is empty"),
        (
            {"messages": [{"role": "robot", "content": ""}]},
            "`messages[0].role` is robot: expected user or assistant",
        ),
        (
            {"messages": [{"role": "user", "content": 3}]},
            "`messages[0].content` is neither a string nor a list of blocks",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload"}]}]},
            "`messages[0].content[0]` is a container_upload, which is not supported",
        ),
        (
            {"messages": [HI, {"role": "assistant", "content": [{"type": "server_tool_use"}]}]},
            "`messages[1].content[0]` is a server_tool_use, which is not supported",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
            (
                "`messages[0].content[0]`: documents can only be plain text: send the text of a "
                "PDF or a file"
            ),
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "`messages[0].content[0]`: files cannot be read: send the image as base64 or as a URL",
        ),
        (
            {"tools": [SEARCH]},
            (
                "tools of the type web_search_20250305 are not supported: use tools with an "
                "`input_schema`, which your program runs"
            ),
        ),
        (
            {"tools": [NOW, SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}},
            "`tool_choice` names web_search, which is not among `tools`",
        ),
        (
            {"tool_choice": {"type": "odd"}},
            "`tool_choice.type` is odd: expected auto, any, tool or none",
        ),
        ({"mcp_servers": [{"name": "x"}]}, "`mcp_servers` is not supported: leave it out"),
        ({"max_tokens": 0}, "`max_tokens` is not a positive number"),
        ({"stop_sequences": "x"}, "`stop_sequences` is not a list of strings"),
        (
            {"thinking": {"type": "odd"}},
            "`thinking.type` is odd: expected enabled, disabled or adaptive",
        ),
        (
            {"output_config": {"effort": "odd"}},
            "`output_config.effort` is odd: expected one of low, medium, high, xhigh, max",
        ),
        (
            {"output_config": {"format": {"type": "xml"}}},
            "`output_config.format` can only be json_schema with a `schema`",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_in_words(body: Mapping[str, Any], message: str) -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        answer = running.post(PATH, {"messages": [HI], **body})
    assert (answer.status, answer.error) == (400, message)
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert runtime.started == []


# What the client gets.


def progress(total: int, cache: int) -> bytes:
    """What a runtime says while it reads a prompt."""
    said = {"total": total, "cache": cache, "processed": cache, "time_ms": 0}
    return event({"choices": [{"index": 0, "delta": {}}], "prompt_progress": said})


def test_a_message_is_whole() -> None:
    found = answered(says("Hel", "lo", thinks=("I ", "think"), usage=(20, 10))).json
    assert found == {
        "id": found["id"],
        "type": "message",
        "role": "assistant",
        "model": NAME,
        "content": [
            {"type": "thinking", "thinking": "I think", "signature": ""},
            {"type": "text", "text": "Hello"},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "input_tokens": 20,
            "output_tokens": 10,
        },
    }


def test_a_stream_has_every_block_one_after_the_other() -> None:
    called = calls(("now", '{"a":1}'), ("later", "{}"))
    front = (progress(20, 4), progress(20, 4), delta(reasoning_content="hm"), delta(content="so:"))
    reply = Reply((*front, *called.pieces))
    found = streamed(answered(reply, stream=True))
    start, *middle, last, stop = found
    assert start["message"]["usage"] == {
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "input_tokens": 16,
        "output_tokens": 0,
    }
    assert (start["message"]["content"], start["message"]["stop_reason"]) == ([], None)
    kinds = [(each["index"], each["type"].removeprefix("content_block_")) for each in middle]
    assert kinds == [
        (0, "start"),
        (0, "delta"),
        (0, "delta"),
        (0, "stop"),
        (1, "start"),
        (1, "delta"),
        (1, "stop"),
        (2, "start"),
        (2, "delta"),
        (2, "delta"),
        (2, "stop"),
        (3, "start"),
        (3, "delta"),
        (3, "delta"),
        (3, "stop"),
    ]
    blocks = [each["content_block"] for each in middle if "content_block" in each]
    assert blocks == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "c0", "name": "now", "input": {}},
        {"type": "tool_use", "id": "c1", "name": "later", "input": {}},
    ]
    deltas = [each["delta"] for each in middle if "delta" in each]
    assert deltas[:3] == [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": ""},
        {"type": "text_delta", "text": "so:"},
    ]
    assert "".join(each.get("partial_json", "") for each in deltas) == '{"a":1}{}'
    assert last["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert (last["usage"]["input_tokens"], last["usage"]["output_tokens"]) == (20, 10)
    assert stop == {"type": "message_stop"}


@pytest.mark.parametrize(
    ("finish", "said", "reason", "sequence"),
    [
        ("stop", {}, "end_turn", None),
        ("stop", {"stop_type": "word", "stopping_word": "x"}, "stop_sequence", "x"),
        ("stop", {"stop_type": "eos", "stopping_word": ""}, "end_turn", None),
        ("length", {}, "max_tokens", None),
    ],
)
def test_why_it_ended_is_said(finish: str, said: object, reason: str, sequence: str | None) -> None:
    last = event(
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "__verbose": said}
    )
    found = answered(Reply((delta(content="a"), last)), stop_sequences=["x"]).json
    assert (found["stop_reason"], found["stop_sequence"]) == (reason, sequence)


def test_a_call_that_was_cut_has_no_input() -> None:
    piece = {"index": 0, "id": "c", "function": {"name": "now", "arguments": '{"a": '}}
    cut = event({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]})
    found = answered(Reply((cut, *ending("length")))).json
    assert found["content"] == [{"type": "tool_use", "id": "c", "name": "now", "input": {}}]


def test_an_error_within_the_runtimes_stream_is_one_of_the_client() -> None:
    reply = fails_midway("Hel", message="it is broken")
    whole = answered(reply)
    last = streamed(answered(reply, stream=True))[-1]
    assert (whole.status, whole.error) == (500, "it is broken")
    assert (last["type"], last["error"]["message"]) == ("error", "it is broken")


def test_a_stream_that_ends_early_is_an_error() -> None:
    assert answered(Reply(says("Hel").pieces[:2])).status == 502


@pytest.mark.parametrize(
    "path", ["/v1/messages/count_tokens", "/anthropic/v1/messages/count_tokens"]
)
def test_tokens_are_counted_in_anthropics_shape(path: str) -> None:
    said = b'{"input_tokens":31,"object":"response.input_tokens"}'
    runtime = Scripted(scripts={NAME: [Reply((said,), kind="application/json")]})
    with gateway(runtime, ONE) as running:
        answer = running.post(path, {"messages": [HI], "system": "s", "tools": [NOW]})
        (request,) = runtime.last.answers.requests
    assert answer.json == {"input_tokens": 31}
    assert request.path == "/v1/chat/completions/input_tokens"
    assert (request.body["tools"], request.body["messages"][0]["content"]) == ([CHAT_NOW], "s")


@pytest.mark.parametrize("stream", [True, False])
def test_the_metrics_count_what_clients_are_told(stream: bool) -> None:
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    reply = Reply((progress(20, 4), *ending()[:1], event({"choices": [], "usage": usage})))
    with gateway(Scripted(scripts={NAME: [reply]}), ONE) as running:
        assert running.post(PATH, {"messages": [HI], "stream": stream}).status == 200
        text = running.get("/metrics").body.decode()
    assert f'modelrunner_prompt_tokens_total{{model="{NAME}"}} 20\n' in text
    assert f'modelrunner_completion_tokens_total{{model="{NAME}"}} 10\n' in text


# The models.


@pytest.mark.parametrize("path", ["/v1/models", "/anthropic/v1/models"])
def test_the_models_have_anthropics_shape_for_its_clients_page_by_page(path: str) -> None:
    headers = VERSION if path == "/v1/models" else {}
    with gateway(Scripted(), ONE, TWO, THREE) as running:

        def page(query: str) -> tuple[list[str], bool]:
            found = running.get(f"{path}{query}", **headers).json
            names = [each["id"] for each in found["data"]]
            ends = (names[0], names[-1]) if names else (None, None)
            assert (found["first_id"], found["last_id"]) == ends
            return [name.removesuffix(":latest") for name in names], found["has_more"]

        assert page("") == (["ai/one", "ai/two", "ai/three"], False)
        assert page("?limit=2") == (["ai/one", "ai/two"], True)
        assert page("?limit=2&after_id=ai/two:latest") == (["ai/three"], False)
        assert page("?limit=1&before_id=ai/three:latest") == (["ai/two"], True)
        assert page("?after_id=ai/three:latest") == ([], False)
        assert running.get(f"{path}?limit=0", **headers).status == 400
        assert running.get(f"{path}?after_id=x", **headers).status == 404
        assert running.get(f"{path}/ai/two", **headers).json == {
            "type": "model",
            "id": "ai/two:latest",
            "display_name": "ai/two:latest",
            "created_at": "1970-01-01T00:00:00Z",
            "max_input_tokens": 8,
            "max_tokens": 8,
        }
        assert running.get("/v1/models").json["object"] == "list"
