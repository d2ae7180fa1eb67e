"""OpenAI's Responses over a runtime's chat completions: requests, answers, and what is kept."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from modelrunner.serve.apis.responses.items import seal
from modelrunner.serve.apis.responses.kept import KeptItem, KeptResponse, KeptResponses
from modelrunner.serve.bodies.parsing import INLINE
from modelrunner.serve.client.keys import ApiKey, ApiKeys
from tests.support.openai_server import Reply, calls, ending, event, fails_midway, says
from tests.support.serving import Answer, Running, Scripted, gateway, model

ONE = model("ai/one")
NAME = "ai/one:latest"
PATH = "/v1/responses"
USER = {"role": "user", "content": "hi"}
NOW = {"type": "function", "name": "now", "parameters": {"type": "object"}, "strict": True}
LATER = {"type": "function", "name": "later", "description": "d"}
CHAT_NOW = {
    "type": "function",
    "function": {"name": "now", "parameters": {"type": "object"}, "strict": True},
}


@contextmanager
def serving(*replies: Reply) -> Iterator[Running]:
    runtime = Scripted(scripts={NAME: list(replies)})
    with gateway(runtime, ONE) as running:
        yield running


def received(body: Mapping[str, Any]) -> Any:
    """What the runtime gets for a request."""
    runtime = Scripted(scripts={NAME: [says("a")]})
    with gateway(runtime, ONE) as running:
        answer = running.post(PATH, body)
        assert answer.status == 200, answer.body
        (request,) = runtime.last.answers.requests
    assert request.path == "/v1/chat/completions"
    assert int(request.headers["content-length"]) == len(request.raw)
    return request.body


def messages(given: object, **more: object) -> Any:
    return received({"input": given, **more})["messages"]


def refused(**body: object) -> Answer:
    with serving() as running:
        answer = running.post(PATH, {"input": "hi", **body})
        assert not running.pool.runtime.started
    return answer


def streamed(answer: Answer) -> list[Any]:
    """The events of an answer; each has the name of its type, and the next number."""
    blocks = [block.split("\n") for block in answer.body.decode().split("\n\n") if block]
    found = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name.removeprefix("event: ") for name, _ in blocks] == [e["type"] for e in found]
    assert [each["sequence_number"] for each in found] == list(range(len(found)))
    return found


# What the runtime is asked.


def test_a_request_becomes_a_chat_and_unknown_fields_are_the_runtimes() -> None:
    body = {
        "model": "one",
        "input": "hi",
        "instructions": "be kind",
        "max_output_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "metadata": {"a": "b"},
        "user": "u",
        "service_tier": "flex",
        "include": ["web_search_call.results"],
        "store": False,
        "top_k": 3,
        "seed": 7,
    }
    assert received(body) == {
        "model": "one",
        "top_k": 3,
        "seed": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 5,
        "messages": [{"role": "system", "content": "be kind"}, USER],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("length", [1, INLINE + 1])
def test_items_of_a_turn_are_one_message(length: int) -> None:
    text = "x" * length
    call = {"type": "function_call", "name": "now", "arguments": "{}", "call_id": "c1", "id": "f"}
    given = [
        {"role": "developer", "content": "one"},
        {"role": "system", "content": [{"type": "input_text", "text": "two"}]},
        {"role": "user", "content": [{"type": "input_text", "text": text}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "wait"}]},
        call,
        {**call, "call_id": "c2"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "2"}],
        },
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "short"}]},
        {"role": "assistant", "content": "done"},
        {"role": "assistant", "content": "really"},
        {"role": "developer", "content": "later"},
        {"type": "message", "role": "user", "content": "go on"},
    ]
    function = {"name": "now", "arguments": "{}"}
    assert messages(given, instructions="zero") == [
        {"role": "system", "content": "zero\n\none\n\ntwo"},
        {"role": "user", "content": text},
        {
            "role": "assistant",
            "reasoning_content": "t",
            "content": "wait",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": function},
                {"id": "c2", "type": "function", "function": function},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "2"},
        {"role": "assistant", "reasoning_content": "short", "content": "done"},
        {"role": "assistant", "content": "really"},
        {"role": "system", "content": "later"},
        {"role": "user", "content": "go on"},
    ]


def test_reasoning_that_was_sealed_is_read_again() -> None:
    sealed = {"type": "reasoning", "summary": [], "encrypted_content": seal("hm")}
    foreign = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
    given = [USER, sealed, {"role": "assistant", "content": "a"}, USER, foreign, USER]
    assert messages(given) == [
        USER,
        {"role": "assistant", "reasoning_content": "hm", "content": "a"},
        USER,
        USER,
    ]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (
            {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True},
            {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
            },
        ),
        ({"type": "json_object"}, {"type": "json_object"}),
        ({"type": "text"}, None),
        (None, None),
    ],
)
def test_the_form_of_a_response_is_that_of_a_chat(form: object, expected: object) -> None:
    found = received({"input": "hi", "text": {"format": form, "verbosity": "medium"}})
    assert found.get("response_format") == expected
    assert "text" not in found


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        (None, None, ["now", "later"]),
        ("auto", "auto", ["now", "later"]),
        ("none", "none", ["now", "later"]),
        ("required", "required", ["now", "later"]),
        ({"type": "function", "name": "now"}, "required", ["now"]),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "later"}],
            },
            "auto",
            ["later"],
        ),
    ],
)
def test_only_what_a_response_names_is_left(
    choice: object, mode: str | None, names: Sequence[str]
) -> None:
    found = received({"input": "hi", "tools": [NOW, LATER], "tool_choice": choice})
    assert [each["function"]["name"] for each in found["tools"]] == names
    assert found.get("tool_choice") == mode
    if "now" in names:
        assert found["tools"][0] == CHAT_NOW


def test_what_openai_would_run_is_left_out_beside_functions_and_the_response_shows_it() -> None:
    with serving(says("a")) as running:
        answer = running.post(PATH, {"input": "hi", "tools": [{"type": "web_search"}, NOW]})
    assert answer.json["tools"] == [NOW]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"background": True}, "`background` is not supported: leave it out, and use `stream`"),
        ({"conversation": "c"}, "`conversation` is not supported: use `previous_response_id`"),
        ({"prompt": {"id": "p"}}, "`prompt` is not supported: put its text into `instructions`"),
        (
            {"truncation": "auto"},
            '`truncation` can only be "disabled": a request that is too long is refused',
        ),
        (
            {"text": {"verbosity": "low"}},
            "`text.verbosity` is not supported: say it in `instructions`",
        ),
        (
            {"text": {"format": {"type": "grammar"}}},
            "`text.format` is not supported: use text, json_object, or json_schema with a `schema`",
        ),
        (
            {"tools": [{"type": "web_search"}, {"type": "mcp"}]},
            (
                "tools of the type mcp, web_search are not supported: use functions, which your "
                "program calls"
            ),
        ),
        (
            {"tools": [NOW, {"type": "mcp"}], "tool_choice": {"type": "mcp"}},
            "tools of the type mcp are not supported: use functions, which your program calls",
        ),
        (
            {"tools": [NOW], "tool_choice": {"type": "function", "name": "later"}},
            "`tool_choice` names later, which is not among `tools`",
        ),
        ({"include": ["x"]}, "`include` has the unknown value x"),
        ({"metadata": {"a": 1}}, "`metadata` is not an object of strings"),
        ({"max_output_tokens": 0}, "`max_output_tokens` is not a positive number"),
        ({"top_logprobs": 21}, "`top_logprobs` is not between 0 and 20"),
        (
            {"reasoning": {"effort": "wild"}},
            (
                "`reasoning.effort` is wild: expected one of none, minimal, low, medium, high, "
                "xhigh, max"
            ),
        ),
        ({"input": None}, "`input` is neither a string nor a list of items"),
        ({"input": []}, "`input` is empty"),
        ({"input": [1]}, "`input[0]` is not an object"),
        ({"input": [{"content": "x"}]}, "`input[0]` has no `type`"),
        (
            {"input": [USER, {"type": "computer_call"}]},
            "`input[1]` is a computer_call, which is not supported",
        ),
        (
            {"input": [{"role": "robot", "content": ""}]},
            "`input[0].role` is robot: expected user, assistant, system or developer",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
            "`input[0].content[0]`: files cannot be read: send text, or an image as `image_url`",
        ),
        (
            {"input": [{"type": "item_reference", "id": "msg_1"}]},
            "`input[0]` refers to msg_1, which is not kept: send the item itself",
        ),
        (
            {"previous_response_id": "resp_1"},
            "the previous response resp_1 is not kept: send the whole conversation as `input`",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_in_words(body: Mapping[str, Any], message: str) -> None:
    answer = refused(**body)
    assert (answer.status, answer.error) == (400, message)


# What the client gets.


def test_a_response_shows_what_was_asked_and_what_came() -> None:
    body = {"input": "hi", "metadata": {"a": "b"}, "temperature": 0, "instructions": "be kind"}
    with serving(says("Hel", "lo", usage=(20, 10))) as running:
        found = running.post(PATH, body).json
    (message,) = found["output"]
    assert found == {
        "id": found["id"],
        "object": "response",
        "created_at": found["created_at"],
        "completed_at": found["completed_at"],
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": NAME,
        "reasoning": {"effort": None, "summary": None},
        "background": False,
        "instructions": "be kind",
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {"a": "b"},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 0,
        "tool_choice": "auto",
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "user": None,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tools": [],
        "output": [
            {
                "id": message["id"],
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": [
                    {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
                ],
            }
        ],
        "usage": {
            "input_tokens": 20,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 30,
        },
    }


def test_a_stream_has_every_event_in_its_order() -> None:
    with serving(says("Hel", "lo", thinks=("I ", "think"))) as running:
        answer = running.post(PATH, {"input": "hi", "stream": True})
        found = streamed(answer)
        last = found[-1]["response"]
        assert running.get(f"{PATH}/{last['id']}").json == last
    assert answer.headers["content-type"] == "text/event-stream"
    assert [each["type"] for each in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    created = found[0]["response"]
    assert (created["status"], created["output"], created["usage"]) == ("in_progress", [], None)
    assert [each.get("output_index") for each in found] == [None, None, *[0] * 7, *[1] * 7, None]
    assert found[2]["item"]["status"] == "in_progress"
    assert (found[6]["text"], found[13]["text"]) == ("I think", "Hello")
    assert last["output"] == [found[8]["item"], found[15]["item"]]
    assert {each["item_id"] for each in found[9:16] if "item_id" in each} == {
        last["output"][1]["id"]
    }
    assert last["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


def test_reasoning_is_a_summary_for_who_asks_for_one_and_is_sealed() -> None:
    body = {
        "input": "hi",
        "stream": True,
        "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"],
    }
    with serving(says("a", thinks=("hm",))) as running:
        found = streamed(running.post(PATH, body))
    assert [each["type"].removeprefix("response.") for each in found[2:8]] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
    ]
    item = found[-1]["response"]["output"][0]
    assert item == {
        "id": item["id"],
        "type": "reasoning",
        "status": "completed",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": seal("hm"),
    }


def test_calls_are_items_with_their_arguments() -> None:
    body = {"input": "hi", "stream": True, "tools": [NOW, LATER]}
    with serving(calls(("now", '{"a":1}'), ("later", "{}"), text="so:")) as running:
        found = streamed(running.post(PATH, body))
    text, *called = found[-1]["response"]["output"]
    assert text["content"][0]["text"] == "so:"
    assert called == [
        {
            "id": each["id"],
            "type": "function_call",
            "status": "completed",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        }
        for each, call_id, name, arguments in (
            (called[0], "c0", "now", '{"a":1}'),
            (called[1], "c1", "later", "{}"),
        )
    ]
    deltas = [e for e in found if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(e["delta"] for e in deltas if e["output_index"] == 1) == '{"a":1}'
    assert found[-1]["response"]["status"] == "completed"


def test_a_custom_tool_gets_a_text_and_a_namespace_its_function() -> None:
    tools = [
        {"type": "custom", "name": "patch", "description": "d"},
        {"type": "namespace", "name": "files", "tools": [NOW]},
    ]
    reply = calls(("patch", '{"input":"*** x"}'), ("files__now", "{}"))
    runtime = Scripted(scripts={NAME: [reply, says("a")]})
    with gateway(runtime, ONE) as running:
        found = running.post(PATH, {"input": "hi", "tools": tools}).json
        custom, inner = found["output"]
        output = {"call_id": "c0", "output": "ok"}
        again = [
            {"type": "custom_tool_call_output", **output},
            {"type": "function_call_output", "call_id": "c1", "output": "12"},
        ]
        more = {"input": again, "tools": tools, "previous_response_id": found["id"]}
        assert running.post(PATH, more).status == 200
        first, second = runtime.last.answers.requests
    assert (custom["type"], custom["name"], custom["input"]) == (
        "custom_tool_call",
        "patch",
        "*** x",
    )
    assert (inner["type"], inner["namespace"], inner["name"]) == ("function_call", "files", "now")
    assert [each["function"]["name"] for each in first.body["tools"]] == ["patch", "files__now"]
    assert first.body["tools"][0]["function"]["parameters"]["required"] == ["input"]
    assert second.body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "c0",
                    "type": "function",
                    "function": {"name": "patch", "arguments": '{"input": "*** x"}'},
                },
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "files__now", "arguments": "{}"},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "c0", "content": "ok"},
        {"role": "tool", "tool_call_id": "c1", "content": "12"},
    ]


def test_an_answer_that_was_cut_is_incomplete() -> None:
    body = {"input": "hi", "max_output_tokens": 2}
    with serving(says("Hel", finish="length"), says("Hel", finish="length")) as running:
        whole = running.post(PATH, body).json
        events = streamed(running.post(PATH, {**body, "stream": True}))
    for found in (whole, events[-1]["response"]):
        assert found["status"] == "incomplete"
        assert found["incomplete_details"] == {"reason": "max_output_tokens"}
        assert found["output"][0]["status"] == "incomplete"
    assert events[-1]["type"] == "response.incomplete"


def test_probabilities_are_those_of_the_runtime() -> None:
    token = {"id": 3, "token": "a", "bytes": [97], "logprob": -0.5}
    chunk = {
        "choices": [
            {
                "index": 0,
                "delta": {"content": "a"},
                "logprobs": {"content": [{**token, "top_logprobs": [token]}]},
            }
        ]
    }
    reply = Reply((event(chunk), *ending()))
    runtime = Scripted(scripts={NAME: [reply]})
    body = {"input": "hi", "include": ["message.output_text.logprobs"], "top_logprobs": 1}
    with gateway(runtime, ONE) as running:
        found = running.post(PATH, body).json
        (request,) = runtime.last.answers.requests
    assert (request.body["logprobs"], request.body["top_logprobs"]) == (True, 1)
    plain = {"token": "a", "bytes": [97], "logprob": -0.5}
    assert found["output"][0]["content"][0]["logprobs"] == [{**plain, "top_logprobs": [plain]}]


def test_an_error_within_the_runtimes_stream_is_one_of_the_client() -> None:
    reply = fails_midway("Hel", message="it is broken")
    with serving(reply, reply) as running:
        answer = running.post(PATH, {"input": "hi"})
        events = streamed(running.post(PATH, {"input": "hi", "stream": True}))
    assert (answer.status, answer.error) == (500, "it is broken")
    assert [each["type"] for each in events[-2:]] == ["response.failed", "error"]
    assert events[-2]["response"]["error"]["message"] == "it is broken"


def test_a_stream_that_ends_early_is_an_error() -> None:
    with serving(Reply(says("Hel").pieces[:2])) as running:
        answer = running.post(PATH, {"input": "hi"})
    assert (answer.status, answer.json["error"]["code"]) == (502, "runtime_failed")


def test_tokens_are_counted_without_an_answer_and_in_the_metrics() -> None:
    counted = Reply((b'{"input_tokens": 31}',), kind="application/json")
    runtime = Scripted(scripts={NAME: [counted, says("a", usage=(20, 10))]})
    with gateway(runtime, ONE) as running:
        answer = running.post(f"{PATH}/input_tokens", {"input": "hi", "instructions": "i"})
        assert answer.json == {"input_tokens": 31}
        assert running.post(PATH, {"input": "hi"}).status == 200
        first = runtime.last.answers.requests[0]
        text = running.get("/metrics").body.decode()
    assert first.path == "/v1/chat/completions/input_tokens"
    assert first.body["messages"] == [{"role": "system", "content": "i"}, USER]
    assert f'modelrunner_prompt_tokens_total{{model="{NAME}"}} 20\n' in text
    assert f'modelrunner_completion_tokens_total{{model="{NAME}"}} 10\n' in text


# What is kept.


def test_a_conversation_goes_on_without_its_instructions() -> None:
    runtime = Scripted(scripts={NAME: [says("one"), says("two"), says("three")]})
    with gateway(runtime, ONE) as running:
        first = running.post(PATH, {"input": "a", "instructions": "i"}).json
        second = running.post(PATH, {"input": "b", "previous_response_id": first["id"]}).json
        again = {"previous_response_id": second["id"], "input": [{"role": "user", "content": "c"}]}
        third = running.post(PATH, {**again, "instructions": "other"}).json
        asked = runtime.last.answers.requests[-1].body
        listed = running.get(f"{PATH}/{third['id']}/input_items?order=asc").json
    assert third["previous_response_id"] == second["id"]
    assert asked["messages"] == [
        {"role": "system", "content": "other"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "c"},
    ]
    assert [each["content"][0]["text"] for each in listed["data"]] == ["a", "one", "b", "two", "c"]
    assert listed["data"][1] == first["output"][0]


def test_an_item_can_be_named_instead_of_sent() -> None:
    runtime = Scripted(scripts={NAME: [calls(("now", "{}")), says("a"), says("b")]})
    with gateway(runtime, ONE) as running:
        first = running.post(PATH, {"input": "hi", "tools": [NOW]}).json
        (call,) = first["output"]
        output = {"type": "function_call_output", "call_id": "c0", "output": "12"}
        for reference in ({"type": "item_reference", "id": call["id"]}, {"id": call["id"]}):
            given = [USER, reference, output]
            assert running.post(PATH, {"input": given}).status == 200
        more = {"previous_response_id": first["id"], "input": given[1:]}
        assert running.post(PATH, more).status == 200
        *_, second, third, fourth = runtime.last.answers.requests
    assert second.body["messages"] == third.body["messages"] == fourth.body["messages"]
    assert second.body["messages"][1]["tool_calls"][0]["function"]["name"] == "now"


def test_what_is_not_stored_is_not_there() -> None:
    with serving() as running:
        name = running.post(PATH, {"input": "hi", "store": False}).json["id"]
        answers = [
            running.get(f"{PATH}/{name}"),
            running.get(f"{PATH}/{name}/input_items"),
            running.ask("DELETE", f"{PATH}/{name}"),
            running.post(f"{PATH}/{name}/cancel", {}),
        ]
    for answer in answers:
        assert answer.status == 404
        assert answer.json["error"] == {
            "message": f"response not found: {name}; responses are kept in memory, the newest "
            "ones, unless `store` is false",
            "type": "not_found_error",
            "param": None,
            "code": "not_found",
        }


def test_a_response_is_deleted_and_not_canceled() -> None:
    with serving() as running:
        found = running.post("/engines/v1/responses", {"input": "hi"}).json
        path = f"{PATH}/{found['id']}"
        assert running.get(path).json == found
        canceled = running.post(f"{path}/cancel", {})
        deleted = running.ask("DELETE", path)
        assert running.get(path).status == 404
    assert (canceled.status, canceled.error) == (
        400,
        (
            f"{found['id']} cannot be canceled: only responses with `background` can, which is not "
            "supported"
        ),
    )
    assert deleted.json == {"id": found["id"], "object": "response", "deleted": True}


def test_the_input_is_listed_in_pages() -> None:
    given = [{"role": "user", "content": str(number), "id": f"msg_{number}"} for number in range(5)]
    with serving(says("a")) as running:
        name = running.post(PATH, {"input": given}).json["id"]

        def page(query: str) -> tuple[list[str], bool]:
            found = running.get(f"{PATH}/{name}/input_items{query}").json
            names = [each["id"] for each in found["data"]]
            ends = (names[0], names[-1]) if names else (None, None)
            assert (found["object"], found["first_id"], found["last_id"]) == ("list", *ends)
            return [each.removeprefix("msg_") for each in names], found["has_more"]

        assert page("") == (["4", "3", "2", "1", "0"], False)
        assert page("?order=asc&limit=2") == (["0", "1"], True)
        assert page("?order=asc&limit=2&after=msg_1") == (["2", "3"], True)
        assert page("?limit=2&after=msg_1") == (["0"], False)
        assert page("?after=msg_0") == ([], False)
        for query, status in (("limit=0", 400), ("limit=101", 400), ("order=up", 400)):
            assert running.get(f"{PATH}/{name}/input_items?{query}").status == status
        assert running.get(f"{PATH}/{name}/input_items?after=msg_9").status == 404


def test_one_client_cannot_read_what_is_anothers() -> None:
    kept = KeptResponses()
    item = KeptItem("msg_1", b"{}")
    kept.add("me", KeptResponse("resp_1", b"{}", (item,), ()))
    assert kept.find("me", "resp_1") is not None
    assert kept.find("you", "resp_1") is None
    assert kept.find_item("you", "msg_1") is None
    assert not kept.remove("you", "resp_1")


def test_a_response_belongs_to_the_key_of_its_request() -> None:
    keys = ApiKeys((ApiKey("a"), ApiKey("b")))
    with gateway(Scripted(scripts={NAME: [says("x")]}), ONE, api_key=keys) as running:
        name = running.post(PATH, {"input": "hi"}, X_Api_Key="a").json["id"]
        path = f"{PATH}/{name}"
        assert running.get(path, Authorization="Bearer b").status == 404
        assert running.ask("DELETE", path, X_Api_Key="b").status == 404
        more = {"input": "hi", "previous_response_id": name}
        assert running.post(PATH, more, X_Api_Key="b").status == 400
        assert running.get(path, Authorization="Bearer a").status == 200


def test_without_keys_a_response_is_everybodys() -> None:
    with serving(says("x")) as running:
        name = running.post(PATH, {"input": "hi"}, X_Api_Key="a").json["id"]
        assert running.get(f"{PATH}/{name}", X_Api_Key="b").status == 200


def test_the_oldest_responses_make_room() -> None:
    kept = KeptResponses(most=2, most_bytes=100)
    shared = KeptItem("msg_0", b"x" * 30)
    for number in range(3):
        kept.add("me", KeptResponse(f"r{number}", b"{}", (shared,), ()))
    # what several have is there once
    assert kept.size == 34
    assert kept.find("me", "r0") is None
    assert kept.find_item("me", "msg_0") is shared
    kept.add("me", KeptResponse("large", b"{}", (KeptItem("msg_1", b"x" * 90),), ()))
    assert [kept.find("me", name) is None for name in ("r1", "r2", "large")] == [True, True, False]
    assert kept.find_item("me", "msg_0") is None
    assert kept.size == 92
    kept.add("me", KeptResponse("larger", b"x" * 101, (), ()))
    assert (kept.find("me", "larger"), kept.size) == (None, 0)
