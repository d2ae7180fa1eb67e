"""Chats, prompts and texts of Ollama's API, over runtimes that say what a test wants."""

import json
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from modelrunner.runtime.capabilities.facts import Capabilities, TemplateFacts, Thinking
from modelrunner.serve.apis.ollama.inference import history
from modelrunner.serve.bodies.fields import InvalidBodyError
from modelrunner.serve.models import Facts, Served
from tests.support.openai_server import (
    Reply,
    breaks_off,
    calls,
    context_exceeded,
    event,
    fails_midway,
    refuses,
    says,
    waits,
)
from tests.support.serving import Answer, Running, Scripted, gateway, model
from tests.support.waiting import wait_until

NAME = "ai/one:latest"
HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


def with_template(template: TemplateFacts, **more: object) -> Served:
    return replace(
        model("ai/one"), facts=Facts(capabilities=Capabilities(template=template)), **more
    )


PLAIN = with_template(TemplateFacts(tools=True))
SIMPLE = with_template(TemplateFacts())
THINKS = with_template(
    TemplateFacts(thinking=Thinking(switch="enable_thinking", on=True, off=False))
)
LEVELS = with_template(
    TemplateFacts(thinking=Thinking(effort="reasoning_effort", levels=("low", "medium", "high")))
)
BY_WORDS = with_template(
    TemplateFacts(thinking=Thinking(message=True, on="/think", off="/no_think"))
)


def scripted(*replies: Reply) -> Scripted:
    return Scripted(scripts={NAME: list(replies)})


def lines(answer: Answer) -> list[dict[str, Any]]:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.body.splitlines()]


def chat(running: Running, **more: object) -> Answer:
    return running.post("/api/chat", {"model": "one", "messages": HI, **more})


def sent(runtime: Scripted) -> dict[str, Any]:
    """The body of the last request that a runtime got."""
    return runtime.last.answers.requests[-1].body


def asked(path: str, body: dict[str, Any], served: Served = PLAIN) -> dict[str, Any]:
    """What a runtime is asked for a request."""
    runtime = scripted(says("ok"))
    with gateway(runtime, served) as running:
        answer = running.post(path, {"model": "one", **body})
        assert answer.status == 200, answer.body
        return sent(runtime)


def refused(path: str, body: dict[str, Any], served: Served = PLAIN) -> tuple[int, str]:
    with gateway(Scripted(), served) as running:
        answer = running.post(path, {"model": "one", **body})
        assert list(answer.json) == ["error"]
        return answer.status, answer.json["error"]


# Answers.


def test_a_chat_is_a_line_for_each_piece_and_a_last_one() -> None:
    with gateway(scripted(says("Hel", "lo", usage=(20, 10))), PLAIN) as running:
        *pieces, last = lines(chat(running))
    assert [(piece["message"], piece["done"]) for piece in pieces] == [
        ({"role": "assistant", "content": "Hel"}, False),
        ({"role": "assistant", "content": "lo"}, False),
    ]
    assert {piece["model"] for piece in (*pieces, last)} == {"one"}
    assert all(piece["created_at"].endswith("Z") for piece in pieces)
    assert last["message"] == {"role": "assistant", "content": ""}
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert (last["prompt_eval_count"], last["eval_count"]) == (20, 10)
    # as the runtime measures them, in nanoseconds
    assert (last["prompt_eval_duration"], last["eval_duration"]) == (100_000_000, 200_000_000)
    assert last["total_duration"] >= last["load_duration"] > 0


def test_without_a_stream_it_is_one_object() -> None:
    with gateway(scripted(says("Hel", "lo")), PLAIN) as running:
        answer = chat(running, stream=False)
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.json["message"] == {"role": "assistant", "content": "Hello"}
    assert answer.json["done"] is True


def test_an_answer_that_was_cut_says_so() -> None:
    with gateway(scripted(says("a", finish="length")), PLAIN) as running:
        assert chat(running, stream=False).json["done_reason"] == "length"


def test_durations_are_measured_where_a_runtime_does_not_say_them() -> None:
    with gateway(scripted(says("a", timings=False)), PLAIN) as running:
        last = chat(running, stream=False).json
    assert last["total_duration"] >= last["prompt_eval_duration"] >= 0
    assert last["eval_duration"] >= 0


def test_thoughts_have_a_field_of_their_own() -> None:
    reply = says("Yes", thinks=("Hm", "m"))
    with gateway(scripted(reply, reply, reply), THINKS) as running:
        *pieces, _last = lines(chat(running))
        assert [piece["message"] for piece in pieces] == [
            {"role": "assistant", "content": "", "thinking": "Hm"},
            {"role": "assistant", "content": "", "thinking": "m"},
            {"role": "assistant", "content": "Yes"},
        ]
        whole = running.post("/api/generate", {"model": "one", "prompt": "hi", "stream": False})
        assert (whole.json["thinking"], whole.json["response"]) == ("Hmm", "Yes")
        # who wants none gets none, whatever the model does
        assert "thinking" not in chat(running, stream=False, think=False).json["message"]


def test_calls_of_functions_have_their_arguments_as_objects() -> None:
    reply = calls(("now", '{"zone": "UTC"}'), ("later", "{}"))
    expected = [
        {"id": "c0", "function": {"index": 0, "name": "now", "arguments": {"zone": "UTC"}}},
        {"id": "c1", "function": {"index": 1, "name": "later", "arguments": {}}},
    ]
    with gateway(scripted(reply, reply), PLAIN) as running:
        first, last = lines(chat(running, tools=[TOOL]))
        assert first["message"]["tool_calls"] == expected
        assert (last["done_reason"], last["done"]) == ("stop", True)
        whole = chat(running, tools=[TOOL], stream=False).json
    assert whole["message"]["tool_calls"] == expected


def test_ollamas_own_client_calls_a_function_and_sends_what_it_returned() -> None:
    ollama = pytest.importorskip("ollama")

    def add(a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: One.
            b: The other.

        Returns:
            Their sum.
        """
        return a + b

    runtime = scripted(calls(("add", '{"a": 1, "b": 2}')), says("It is 3."))
    with (
        gateway(runtime, PLAIN) as running,
        closing(ollama.Client(running.url)) as client,
    ):
        messages: list[Any] = [*HI]
        answer = client.chat("one", messages, tools=[add])
        (call,) = answer.message.tool_calls
        result = add(**call.function.arguments)
        messages += [
            answer.message,
            {"role": "tool", "tool_name": call.function.name, "content": str(result)},
        ]
        assert client.chat("one", messages, tools=[add]).message.content == "It is 3."
        first, second = runtime.last.answers.requests
    assert first.body["tools"][0]["function"]["name"] == "add"
    assert [message["role"] for message in second.body["messages"]] == ["user", "assistant", "tool"]
    made = second.body["messages"][1]["tool_calls"][0]
    assert second.body["messages"][2]["tool_call_id"] == made["id"]
    assert json.loads(made["function"]["arguments"]) == {"a": 1, "b": 2}


def test_ollamas_own_client_hears_of_an_error_in_the_middle_of_a_stream() -> None:
    ollama = pytest.importorskip("ollama")
    with (
        gateway(scripted(breaks_off("Hel")), PLAIN) as running,
        closing(ollama.Client(running.url)) as client,
    ):
        stream = client.chat("one", HI, stream=True)
        assert next(stream).message.content == "Hel"
        with pytest.raises(ollama.ResponseError, match=r"did not complete|exited"):
            list(stream)


def test_arguments_that_are_no_object_stay_a_text() -> None:
    with gateway(scripted(calls(("now", "UTC"))), PLAIN) as running:
        (call,) = chat(running, tools=[TOOL], stream=False).json["message"]["tool_calls"]
    assert call["function"]["arguments"] == {"arguments": "UTC"}


def test_probabilities_come_with_their_pieces() -> None:
    token = {"token": "a", "logprob": -0.5, "bytes": [97]}
    entry = {**token, "id": 7, "top_logprobs": [{**token, "id": 7}]}
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [entry]}}]}
    reply = Reply((event(chunk), *says("").pieces))
    with gateway(scripted(reply), PLAIN) as running:
        first, *_ = lines(chat(running, logprobs=True, top_logprobs=1))
    assert first["logprobs"] == [{**token, "top_logprobs": [token]}]


def test_a_text_in_other_letters_passes_as_it_is() -> None:
    with gateway(scripted(says("Grüße ", "😀")), PLAIN) as running:
        answer = chat(running)
    assert "Grüße".encode() in answer.body
    assert "".join(line["message"]["content"] for line in lines(answer)) == "Grüße 😀"


# What a runtime is asked.


def test_options_have_llama_cpps_names() -> None:
    options = {
        "temperature": 0.5,
        "top_k": 20.0,
        "top_p": 0.9,
        "min_p": 0.1,
        "typical_p": 0.8,
        "seed": 7,
        "stop": "x",
        "num_predict": 12,
        "num_keep": 4,
        "repeat_penalty": 1.1,
        "repeat_last_n": 64,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "mirostat": 2,
        "mirostat_tau": 5,
        "mirostat_eta": 0.1,
        # of the start, or of nobody
        "num_ctx": 8,
        "num_gpu": 1,
        "num_thread": 4,
        "use_mmap": True,
        "tfs_z": 1.0,
        "low_vram": None,
    }
    body = asked("/api/chat", {"messages": HI, "options": options})
    named = {key: value for key, value in body.items() if key not in {"messages", "model"}}
    assert named == {
        "temperature": 0.5,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.1,
        "typical_p": 0.8,
        "seed": 7,
        "stop": ["x"],
        "max_tokens": 12,
        "n_keep": 4,
        "repeat_penalty": 1.1,
        "repeat_last_n": 64,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "mirostat": 2,
        "mirostat_tau": 5,
        "mirostat_eta": 0.1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_negative_number_of_tokens_is_no_limit() -> None:
    assert "max_tokens" not in asked("/api/chat", {"messages": HI, "options": {"num_predict": -1}})


def test_the_form_of_an_answer_is_a_schema_or_any_json() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert asked("/api/chat", {"messages": HI, "format": "json"})["response_format"] == {
        "type": "json_object"
    }
    assert asked("/api/chat", {"messages": HI, "format": schema})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "format", "schema": schema, "strict": True},
    }
    assert "response_format" not in asked("/api/chat", {"messages": HI, "format": ""})
    raw = asked("/api/generate", {"prompt": "x", "raw": True, "format": schema})
    assert raw["json_schema"] == schema


def test_a_conversation_with_tools_is_one_of_openais() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {
            "role": "assistant",
            "thinking": "t",
            "tool_calls": [
                {"function": {"name": "now", "arguments": {"zone": "UTC"}}},
                {"function": {"name": "later", "arguments": {}}},
            ],
        },
        {"role": "tool", "tool_name": "later", "content": "2"},
        {"role": "tool", "content": "1"},
    ]
    body = asked("/api/chat", {"messages": messages, "tools": [TOOL]})
    assert body["tools"] == [TOOL]
    assert body["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "t",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "now", "arguments": '{"zone": "UTC"}'},
                },
                {
                    "id": "call_2",
                    "type": "function",
                    "function": {"name": "later", "arguments": "{}"},
                },
            ],
        },
        {"role": "tool", "content": "2", "tool_call_id": "call_2"},
        {"role": "tool", "content": "1", "tool_call_id": "call_1"},
    ]


def test_images_are_data_of_their_kind() -> None:
    sees = replace(PLAIN, spec=replace(PLAIN.spec, mmproj=PLAIN.spec.model))
    messages = [{"role": "user", "content": "what?", "images": ["iVBORabc", "/9j/abc"]}]
    body = asked("/api/chat", {"messages": messages}, sees)
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORabc"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/abc"}},
    ]
    one = asked("/api/generate", {"prompt": "what?", "images": ["iVBORabc"]}, sees)
    assert one["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png")
    status, error = refused("/api/chat", {"messages": messages})
    assert status == 400
    assert "does not accept images" in error


@pytest.mark.parametrize(
    ("served", "think", "added"),
    [
        (THINKS, True, {"chat_template_kwargs": {"enable_thinking": True}}),
        (THINKS, False, {"chat_template_kwargs": {"enable_thinking": False}}),
        (THINKS, "high", {"chat_template_kwargs": {"enable_thinking": True}}),
        (LEVELS, "low", {"chat_template_kwargs": {"reasoning_effort": "low"}}),
        (THINKS, None, {}),
        (PLAIN, False, {}),
    ],
)
def test_how_much_to_think_is_said_in_the_words_of_the_template(
    served: Served, think: object, added: dict[str, object]
) -> None:
    body = asked("/api/chat", {"messages": HI, "think": think}, served)
    found = {key: body[key] for key in body if key.startswith(("chat_template", "reasoning"))}
    assert found == added


def test_words_that_switch_thoughts_go_into_the_system_prompt() -> None:
    system = {"role": "system", "content": "Be kind."}
    body = asked("/api/chat", {"messages": [system, *HI], "think": False}, BY_WORDS)
    assert body["messages"] == [{"role": "system", "content": "/no_think\nBe kind."}, *HI]
    body = asked("/api/chat", {"messages": HI, "think": True}, BY_WORDS)
    assert body["messages"] == [{"role": "system", "content": "/think"}, *HI]
    has_prompt = replace(BY_WORDS, system="Be short.")
    body = asked("/api/chat", {"messages": HI, "think": False}, has_prompt)
    assert body["messages"] == [{"role": "system", "content": "Be short.\n/no_think"}, *HI]


def test_the_system_prompt_of_a_model_counts_where_a_request_has_none() -> None:
    kind = replace(PLAIN, system="Be kind.")
    body = asked("/api/chat", {"messages": HI}, kind)
    assert body["messages"] == [{"role": "system", "content": "Be kind."}, *HI]
    body = asked("/api/generate", {"prompt": "hi", "system": "Be short."}, kind)
    assert body["messages"] == [{"role": "system", "content": "Be short."}, *HI]


def test_a_raw_prompt_is_continued_as_it_is() -> None:
    runtime = scripted(Reply((event({"choices": [{"text": "lo"}]}), *says("").pieces)))
    with gateway(runtime, replace(PLAIN, system="Be kind.")) as running:
        body = {"model": "one", "prompt": "Hel", "raw": True, "stream": False}
        answer = running.post("/api/generate", body).json
        request = runtime.last.answers.requests[-1]
    assert (answer["response"], request.path) == ("lo", "/v1/completions")
    assert request.body["prompt"] == "Hel"
    assert "context" not in answer


def test_what_comes_between_two_texts_is_llama_cpps_infill() -> None:
    pieces = (
        event({"content": "b", "stop": False}),
        event({"content": "c", "stop": False}),
        event(
            {
                "content": "",
                "stop": True,
                "stop_type": "limit",
                "tokens_evaluated": 5,
                "tokens_predicted": 2,
                "timings": {"prompt_ms": 10, "predicted_ms": 20},
            }
        ),
    )
    runtime = scripted(Reply(pieces))
    with gateway(runtime, PLAIN) as running:
        body = {"model": "one", "prompt": "a", "suffix": "d", "stream": False}
        answer = running.post("/api/generate", {**body, "options": {"num_predict": 2}}).json
        request = runtime.last.answers.requests[-1]
    assert (answer["response"], answer["done_reason"]) == ("bc", "length")
    assert (answer["prompt_eval_count"], answer["eval_count"]) == (5, 2)
    assert (answer["prompt_eval_duration"], answer["eval_duration"]) == (10_000_000, 20_000_000)
    assert request.path == "/infill"
    assert request.body["input_prefix"] == "a"
    assert request.body["input_suffix"] == "d"
    assert request.body["n_predict"] == 2


def test_a_conversation_goes_on_with_the_context_of_its_last_answer() -> None:
    runtime = scripted(says("Paris."), says("Spain: Madrid."), says("So much!"))
    with gateway(runtime, PLAIN) as running:

        def ask(prompt: str, **more: object) -> dict[str, Any]:
            body = {"model": "one", "prompt": prompt, "stream": False, **more}
            found: dict[str, Any] = running.post("/api/generate", body).json
            return found

        first = ask("France?", system="Name capitals.")
        assert all(type(number) is int for number in first["context"])
        second = ask("Spain?", context=first["context"])
        assert sent(runtime)["messages"] == [
            {"role": "system", "content": "Name capitals."},
            {"role": "user", "content": "France?"},
            {"role": "assistant", "content": "Paris."},
            {"role": "user", "content": "Spain?"},
        ]
        long = running.post(
            "/api/generate", {"model": "one", "prompt": "x" * 270_000, "stream": False}
        )
        assert "context" not in long.json
    assert len(second["context"]) > len(first["context"])


def test_a_context_of_another_server_is_refused_and_a_bomb_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = [{"role": "user", "content": "x" * 5_000_000}]
    assert history.encoded(said) is None
    few = history.encoded(HI)
    assert few is not None
    assert history.decoded(few) == HI
    monkeypatch.setattr(history, "_MOST_WRITTEN", 10_000_000)
    bomb = history.encoded(said)
    assert bomb is not None
    assert len(bomb) < 10_000
    for numbers in (
        bomb,
        [1, 2],
        [few[0]],
        [*few[:2], -1],
        few[:-1],
        "x",
        [few[0], 10**9, *few[2:]],
    ):
        with pytest.raises(InvalidBodyError, match="not from this server"):
            history.decoded(numbers)


# What is refused, in Ollama's shape.


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/api/chat", {"messages": "x"}, "`messages` is not a list"),
        ("/api/chat", {"messages": ["x"]}, "a message is not an object"),
        ("/api/chat", {"messages": [{"role": "x"}]}, "invalid role 'x'"),
        ("/api/chat", {"messages": HI, "options": {"temperature": "x"}}, "`temperature`"),
        ("/api/chat", {"messages": HI, "options": {"top_k": 1.5}}, "`top_k`"),
        ("/api/chat", {"messages": HI, "options": {"stop": 5}}, "`stop`"),
        ("/api/chat", {"messages": HI, "format": "xml"}, "`format`"),
        ("/api/chat", {"messages": HI, "think": "much"}, "invalid `think` 'much'"),
        ("/api/chat", {"messages": HI, "think": True}, '"one" does not support thinking'),
        ("/api/chat", {"messages": HI, "keep_alive": "soon"}, "invalid `keep_alive` 'soon'"),
        ("/api/generate", {"prompt": 5}, "`prompt` is not a string"),
        ("/api/generate", {"prompt": "x", "template": "{{ .Prompt }}"}, "`template`"),
        ("/api/generate", {"prompt": "x", "context": [1, 2, 3]}, "`context`"),
        ("/api/embed", {"input": "x"}, '"one" does not support embeddings'),
    ],
)
def test_what_is_wrong_with_a_request_is_said(
    path: str, body: dict[str, Any], message: str
) -> None:
    status, error = refused(path, body)
    assert status == 400
    assert message in error


def test_tools_for_a_model_whose_template_has_none_are_refused() -> None:
    asked_for = {"messages": HI, "tools": [TOOL]}
    expected = (400, '"one" does not support tools')
    assert refused("/api/chat", asked_for, SIMPLE) == expected
    assert "tools" not in asked("/api/chat", {"messages": HI, "tools": []}, SIMPLE)


def test_an_unknown_model_is_one_that_can_be_pulled() -> None:
    with gateway(Scripted(), PLAIN) as running:
        for path in ("/api/chat", "/api/generate", "/api/embed"):
            answer = running.post(path, {"model": "nope", "messages": HI})
            assert (answer.status, answer.json) == (404, {"error": "model 'nope' not found"})
        answer = running.post("/api/chat", {"messages": HI})
        assert (answer.status, answer.json) == (400, {"error": "the field `model` is missing"})
        answer = running.ask("POST", "/api/chat", b"{")
        assert answer.status == 400
        assert "not JSON" in answer.json["error"]
        assert running.get("/api/nope").json == {"error": "not found: /api/nope"}


def test_the_key_is_asked_for_in_ollamas_shape() -> None:
    with gateway(Scripted(), PLAIN, api_key="secret") as running:
        answer = chat(running)
        assert answer.status == 401
        assert answer.json["error"].startswith("the API key is missing or wrong")


def test_an_error_of_the_runtime_is_in_ollamas_shape() -> None:
    with gateway(
        scripted(refuses(400, message="too bad"), context_exceeded(20, 8)), PLAIN
    ) as running:
        assert chat(running).json == {"error": "too bad"}
        answer = chat(running)
    assert answer.status == 400
    assert "exceeds the available context size (8 tokens)" in answer.json["error"]


@pytest.mark.parametrize("reply", [breaks_off("Hel"), fails_midway("Hel", message="broken")])
def test_a_stream_that_breaks_off_ends_with_an_error(reply: Reply) -> None:
    with gateway(scripted(reply, reply), PLAIN) as running:
        first, last = lines(chat(running))
        whole = chat(running, stream=False)
    assert first["message"]["content"] == "Hel"
    assert list(last) == ["error"]
    assert whole.status in {500, 502}
    assert list(whole.json) == ["error"]


def test_a_runtime_that_dies_is_started_again_for_the_same_request() -> None:
    runtime = Scripted(
        scripts={NAME: [Reply((), end="cut")]}, again={NAME: [says("back")]}, mortals=1
    )
    with gateway(runtime, PLAIN) as running:
        assert chat(running, stream=False).json["message"]["content"] == "back"
    assert len(runtime.starts) == 2


def test_a_client_that_goes_away_ends_its_request() -> None:
    runtime = scripted(waits("Hel"))
    with gateway(runtime, PLAIN) as running:
        connection = running.connect()
        connection.request("POST", "/api/chat", json.dumps({"model": "one", "messages": HI}))
        connection.getresponse().readline()
        connection.close()
        assert runtime.last.answers.gone.wait(20)


# Memory.


def test_a_request_without_a_prompt_loads_or_unloads() -> None:
    runtime = scripted()
    with gateway(runtime, PLAIN, keep_alive=300.0) as running:
        for path, field in (("/api/generate", "response"), ("/api/chat", "message")):
            answer = running.post(path, {"model": "one"}).json
            assert (answer["done_reason"], answer["done"]) == ("load", True)
            assert field in answer
            assert running.states() == {NAME: "loaded"}
            gone = running.post(path, {"model": "one", "keep_alive": 0}).json
            assert gone["done_reason"] == "unload"
            assert running.states() == {NAME: "idle"}
        empty = running.post("/api/embed", {"model": "one", "input": []})
        assert empty.status == 400


def test_a_model_that_was_unloaded_twice_stays_in_memory_again() -> None:
    with gateway(scripted(says("a")), PLAIN, keep_alive=300.0) as running:
        for _ in range(2):
            running.post("/api/generate", {"model": "one", "keep_alive": 0})
        assert running.post("/api/generate", {"model": "one"}).json["done_reason"] == "load"
        assert chat(running).status == 200
        assert running.states() == {NAME: "loaded"}


def test_a_request_says_how_long_its_model_stays() -> None:
    runtime = scripted(says("a"), says("b"), says("c"))
    with gateway(runtime, PLAIN) as running:

        def until() -> str | None:
            found: str | None = running.control("GET", "models").json[0]["until"]
            return found

        chat(running)
        assert until() is None
        chat(running, keep_alive="5m")
        assert until() is not None
        chat(running, keep_alive=0)
        wait_until(lambda: running.states() == {NAME: "idle"})
        # the next load stays as the server has it
        running.post("/api/generate", {"model": "one"})
        assert until() is None


def test_a_context_that_is_not_to_be_had_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "modelrunner.serve"):
        asked("/api/chat", {"messages": HI, "options": {"num_ctx": 4096}})
        asked("/api/chat", {"messages": HI, "options": {"num_ctx": 4}})
    notes = [each for each in caplog.messages if "num_ctx" in each]
    assert notes == [
        "ai/one:latest: num_ctx 4096 requested, the context is 8: serve it with --context 4096"
    ]


# Vectors.

VECTORS = {
    "data": [
        {"index": 1, "embedding": [0.0, 5.0]},
        {"index": 0, "embedding": [3.0, 4.0]},
    ],
    "usage": {"prompt_tokens": 6},
}


def test_vectors_come_in_the_order_of_their_texts() -> None:
    reply = Reply((json.dumps(VECTORS).encode(),), kind="application/json")
    runtime = scripted(reply, reply, reply)
    with gateway(runtime, model("ai/one", kind="embedding")) as running:
        both = running.post("/api/embed", {"model": "one", "input": ["a", "b"]}).json
        assert sent(runtime)["input"] == ["a", "b"]
        assert both.pop("total_duration") >= both.pop("load_duration") >= 0
        assert both == {
            "model": "one",
            "embeddings": [[3.0, 4.0], [0.0, 5.0]],
            "prompt_eval_count": 6,
        }
        cut = running.post("/api/embed", {"model": "one", "input": "a", "dimensions": 1}).json
        assert cut["embeddings"] == [[1.0], [0.0]]
        old = running.post("/api/embeddings", {"model": "one", "prompt": "a"}).json
        assert old == {"embedding": [3.0, 4.0]}
        nothing = running.post("/api/embed", {"model": "one", "input": ""}).json
        assert nothing == {"model": "one", "embeddings": []}


def test_a_text_that_is_too_long_is_cut_unless_that_is_not_wanted() -> None:
    vectors = Reply((json.dumps(VECTORS).encode(),), kind="application/json")
    tokens = Reply((json.dumps({"tokens": list(range(20))}).encode(),), kind="application/json")
    runtime = scripted(tokens, vectors, vectors, vectors)
    long, short = "a text of more than eight bytes", "short"
    with gateway(runtime, model("ai/one", kind="embedding")) as running:
        body = {"model": "one", "input": [short, long]}
        assert running.post("/api/embed", body).status == 200
        first, second = runtime.last.answers.requests
        assert (first.path, first.body) == ("/tokenize", {"content": long, "add_special": True})
        assert second.body["input"] == [short, list(range(8))]
        assert running.post("/api/embed", {**body, "truncate": False}).status == 200
        assert sent(runtime)["input"] == [short, long]
        assert running.post("/api/embed", {**body, "input": short}).status == 200
        assert len(runtime.last.answers.requests) == 4


def test_tokens_are_counted_by_the_gateway_too() -> None:
    with gateway(scripted(says("a", usage=(20, 10))), PLAIN) as running:
        chat(running)
        metrics = running.get("/metrics").body.decode()
    assert 'modelrunner_prompt_tokens_total{model="ai/one:latest"} 20' in metrics
    assert 'modelrunner_completion_tokens_total{model="ai/one:latest"} 10' in metrics
    assert 'endpoint="api/chat"' in metrics


@pytest.mark.parametrize("size", [20_000, 1_500_000])
def test_a_large_request_is_read_beside_the_loop(size: int) -> None:
    sees = replace(PLAIN, spec=replace(PLAIN.spec, mmproj=PLAIN.spec.model))
    image = "iVBOR" + "A" * size
    messages = [{"role": "user", "content": "what?", "images": [image]}]
    body = asked("/api/chat", {"messages": messages}, sees)
    assert body["messages"][0]["content"][1]["image_url"]["url"].endswith("A" * 100)
    prompt = "word " * (size // 5)
    body = asked("/api/generate", {"prompt": prompt})
    assert body["messages"] == [{"role": "user", "content": prompt}]
    vectors = Reply((json.dumps(VECTORS).encode(),), kind="application/json")
    runtime = scripted(vectors)
    with gateway(runtime, model("ai/one", kind="embedding")) as running:
        embedded = {"model": "one", "input": [prompt], "truncate": False}
        assert running.post("/api/embed", embedded).json["embeddings"][0] == [3.0, 4.0]


def test_a_model_that_is_in_no_store_is_shown_with_what_is_known() -> None:
    thinks = replace(LEVELS, facts=replace(LEVELS.facts, architecture="llama"), system="Be kind.")
    with gateway(Scripted(), thinks) as running:
        shown = running.post("/api/show", {"model": "one"}).json
        pulled = running.post("/api/pull", {"model": "one"})
    assert shown["model_info"] == {
        "general.architecture": "llama",
        "general.parameter_count": 0,
        "llama.context_length": 8,
    }
    assert shown["system"] == "Be kind."
    assert shown["capabilities"] == ["completion", "thinking"]
    assert shown["thinking"] == {"values": ["low", "medium", "high"], "default": True}
    assert (pulled.status, pulled.json) == (501, {"error": "this server has no local store"})
