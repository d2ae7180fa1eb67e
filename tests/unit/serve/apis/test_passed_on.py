"""What runtimes have beside chats: handed on, refused in words, or put into another form."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from modelrunner.runtime.capabilities.facts import Capabilities, TemplateFacts, Thinking
from modelrunner.serve.bodies.parsing import INLINE
from modelrunner.serve.models import Facts
from tests.support.openai_server import Reply, event, refuses
from tests.support.serving import Answer, Scripted, gateway, model

ONE = model("ai/one")
NAME = "ai/one:latest"
LISTENS = replace(ONE, spec=replace(ONE.spec, mmproj=ONE.spec.model))
VECTORS = model("ai/vectors", kind="embedding")
DONE = Reply((b'{"tokens": [1]}',), kind="application/json")
PREFIXES = ["", "/v1", "/engines/v1", "/engines/llama.cpp/v1"]
EFFORT = Thinking(effort="reasoning_effort", levels=("low", "medium", "high"))
SWITCH = Thinking(switch="enable_thinking", on=True, off=False)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["tokenize", "detokenize", "apply-template", "infill"])
def test_llama_cpps_own_addresses_pass_with_and_without_a_version(prefix: str, name: str) -> None:
    runtime = Scripted(scripts={NAME: [DONE]})
    body = {"model": "one", "content": "hi", "messages": []}
    with gateway(runtime, ONE, VECTORS) as running:
        answer = running.post(f"{prefix}/{name}", body)
        (request,) = runtime.last.answers.requests
    assert (answer.status, answer.json) == (200, {"tokens": [1]})
    assert (request.path, request.body) == (f"/{name}", body)


def test_a_text_is_tokenized_by_every_kind_of_model_and_filled_in_by_those_that_write() -> None:
    runtime = Scripted(scripts={"ai/vectors:latest": [DONE]})
    with gateway(runtime, ONE, VECTORS) as running:
        assert running.post("/tokenize", {"model": "vectors", "content": "a"}).status == 200
        answer = running.post("/infill", {"model": "vectors", "input_prefix": "a"})
        missing = running.post("/tokenize", {"content": "a"})
    assert (answer.status, missing.status) == (400, 400)
    assert answer.error == "ai/vectors:latest is an embedding model: use /v1/embeddings"
    assert missing.error.startswith("the field `model` is missing")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_properties_are_those_of_the_model_that_the_address_names(prefix: str) -> None:
    with gateway(Scripted(), ONE, VECTORS) as running:
        found = running.get(f"{prefix}/props?model=one")
        missing = running.get(f"{prefix}/props")
        unknown = running.get(f"{prefix}/props?model=two")
        assert running.pool.runtime.started == [NAME]
    assert (found.status, found.json["object"]) == (200, "list")
    assert (missing.status, unknown.status) == (400, 404)


def test_the_properties_name_the_model_in_place_of_its_file() -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        running.chat("one")
        runtime.last.answers.chat_template = "{{ x }}"
        answer = running.get("/props")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"chat_template": "{{ x }}", "model_path": NAME}


def test_what_a_runtime_does_not_have_is_said_in_words() -> None:
    runtime = Scripted(scripts={NAME: [refuses(404, message="File Not Found")]})
    with gateway(runtime, ONE) as running:
        answer = running.post("/v1/tokenize", {"content": "a"})
    assert (answer.status, answer.headers["x-should-retry"]) == (501, "false")
    assert answer.json["error"] == {
        "message": "the runtime scripted does not support /tokenize",
        "type": "server_error",
        "param": None,
        "code": "unsupported",
    }


# Audio.


def form(*parts: tuple[str, bytes], kind: str = "multipart/form-data; boundary=xyz") -> Any:
    body = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (name.encode(), value)
        for name, value in parts
    )
    return (body + b"--xyz--\r\n", kind)


def transcribed(body: bytes, kind: str, one: Any = LISTENS) -> tuple[Answer, list[Any]]:
    runtime = Scripted(scripts={NAME: [Reply((b'{"text": "hi"}',), kind="application/json")]})
    with gateway(runtime, one, VECTORS) as running:
        answer = running.ask("POST", "/v1/audio/transcriptions", body, Content_Type=kind)
        return answer, runtime.last.answers.requests if runtime.starts else []


@pytest.mark.parametrize("size", [10, INLINE + 1])
@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=xyz", 'Multipart/Form-Data; Boundary="xyz"']
)
def test_a_recording_passes_as_it_is(size: int, kind: str) -> None:
    body, _ = form(("file", b"\r\n--xy" * size), ("model", b"one"), ("language", b"en"))
    answer, (request,) = transcribed(body, kind)
    assert (answer.status, answer.json) == (200, {"text": "hi"})
    assert (request.path, request.raw) == ("/v1/audio/transcriptions", body)
    assert request.headers["content-type"] == kind


def test_a_recording_for_a_model_that_cannot_listen_is_refused() -> None:
    answer, requests = transcribed(*form(("model", b"one"), ("file", b"x")), one=ONE)
    assert (answer.status, requests) == (400, [])
    assert answer.error.startswith(f"{NAME} does not accept audio: it has no projector")


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (form(("model", b"one")), "the form has no field `file`"),
        ((b"", "multipart/form-data; boundary=xyz"), "the form has no field `file`"),
        ((b"x", "multipart/form-data"), "the form has no boundary"),
        (
            (b"{}", "application/json"),
            "expected a form (multipart/form-data) with the field `file`",
        ),
    ],
)
def test_what_is_not_a_form_with_a_recording_is_refused(sent: Any, message: str) -> None:
    answer, _ = transcribed(*sent)
    assert (answer.status, answer.error, answer.json["error"]["code"]) == (
        400,
        message,
        "invalid_form",
    )


# Probabilities of completions.


def token(text: str, *others: str) -> dict[str, Any]:
    found = {"id": 1, "token": text, "bytes": [1], "logprob": -0.5}
    return {**found, "top_logprobs": [{**found, "token": each} for each in (text, *others)]}


def completed(body: Mapping[str, Any], reply: Reply) -> tuple[Answer, Any]:
    runtime = Scripted(scripts={NAME: [reply]})
    with gateway(runtime, ONE) as running:
        answer = running.post("/v1/completions", body)
        (request,) = runtime.last.answers.requests
    return answer, request.body


@pytest.mark.parametrize(
    ("wanted", "sent", "top"),
    [
        (2, 2, [{" a": -0.5, "b": -0.5}, {"c": -0.5}]),
        (1, 1, [{" a": -0.5}, {"c": -0.5}]),
        (0, 1, None),
        (True, 1, None),
    ],
)
def test_probabilities_have_the_form_of_completions(wanted: object, sent: int, top: object) -> None:
    choice = {"text": " ac", "index": 0, "logprobs": {"content": [token(" a", "b"), token("c")]}}
    whole = Reply((json.dumps({"choices": [choice]}).encode(),), kind="application/json")
    answer, asked = completed({"prompt": "x", "logprobs": wanted}, whole)
    assert asked == {"prompt": "x", "logprobs": sent}
    assert answer.json["choices"][0]["logprobs"] == {
        "tokens": [" a", "c"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": top,
        "text_offset": [0, 2],
    }


def test_a_stream_of_them_too() -> None:
    pieces = [
        event({"choices": [{"text": text, "index": 0, "logprobs": {"content": [token(text)]}}]})
        for text in (" a", "c")
    ]
    last = event({"choices": [{"text": "", "index": 0, "logprobs": None}]})
    stream = Reply((*pieces, last, b"data: [DONE]\n\n"))
    answer, _ = completed({"prompt": "x", "logprobs": 1, "stream": True}, stream)
    *events, done, _ = answer.body.split(b"\n\n")
    assert done == b"data: [DONE]"
    found = [json.loads(each.removeprefix(b"data: "))["choices"][0]["logprobs"] for each in events]
    assert [each and each["text_offset"] for each in found] == [[0], [2], None]


def test_completions_without_them_are_the_runtimes_to_the_byte() -> None:
    whole = Reply((b'{"choices": [ {"logprobs": null} ]}',), kind="application/json")
    answer, asked = completed({"prompt": "x"}, whole)
    assert (answer.body, asked) == (whole.pieces[0], {"prompt": "x"})


def test_more_probabilities_than_there_are_is_refused() -> None:
    with gateway(Scripted(), ONE) as running:
        answer = running.post("/v1/completions", {"prompt": "x", "logprobs": 21})
    assert (answer.status, answer.error) == (400, "`logprobs` is not between 0 and 20")


# Effort.


@pytest.mark.parametrize(
    ("thinking", "effort", "added"),
    [
        (EFFORT, "low", {"chat_template_kwargs": {"reasoning_effort": "low"}}),
        (EFFORT, "max", {"chat_template_kwargs": {"reasoning_effort": "high"}}),
        (SWITCH, "none", {"chat_template_kwargs": {"enable_thinking": False}}),
        (
            SWITCH,
            "minimal",
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_budget_tokens": 1024},
        ),
        (SWITCH, "strange", {}),
        (None, "low", {}),
    ],
)
def test_effort_is_said_in_the_words_of_the_template(
    thinking: Thinking | None, effort: str, added: Mapping[str, Any]
) -> None:
    template = TemplateFacts(thinking=thinking)
    known = replace(ONE, facts=Facts(capabilities=Capabilities(template=template)))
    own = {"chat_template_kwargs": {"enable_thinking": True}}
    hi = [{"role": "user", "content": "hi"}]
    runtime = Scripted()
    with gateway(runtime, known) as running:
        body = {"messages": hi, "reasoning_effort": effort}
        running.post("/v1/chat/completions", body)
        running.post("/v1/chat/completions", body | own)
        if effort != "strange":
            running.post("/v1/responses", {"input": "hi", "reasoning": {"effort": effort}})
        first, second, *response = runtime.last.answers.requests
    assert first.body == body | added
    assert second.body == body | own
    for request in response:
        assert {key: request.body[key] for key in added} == added
