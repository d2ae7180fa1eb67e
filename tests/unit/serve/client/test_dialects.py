"""Errors in the shape of the API that was asked, as its own clients read them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.openai_server import Reply, breaks_off, event, refuses
from tests.support.serving import Answer, Running, Scripted, gateway, model

ONE = model("ai/one")
NAME = "ai/one:latest"
DIED = f"the runtime of {NAME} exited during the answer; the next request starts it again"
CHAT = {"model": NAME, "messages": [{"role": "user", "content": "hi"}]}
ASKED = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": NAME, "prompt": "hi"},
    "/v1/responses": {"model": NAME, "input": "hi"},
    "/v1/messages": {**CHAT, "max_tokens": 8},
    "/v1/messages/count_tokens": CHAT,
    "/v1/embeddings": {"model": NAME, "input": "hi"},
}


@contextmanager
def dying(*pieces: bytes) -> Iterator[Running]:
    """A gateway whose runtime ends after these pieces of a stream."""
    runtime = Scripted(mortals=1, scripts={NAME: [Reply(pieces, end="cut")]})
    with gateway(runtime, ONE) as running:
        yield running


def events(raw: bytes) -> list[tuple[str | None, Any]]:
    found = []
    for block in raw.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if lines:
            found.append((lines.get("event"), lines["data"]))
    return found


# A stream that breaks off.


def test_a_chat_ends_with_an_error_as_data() -> None:
    with dying(*breaks_off("I was").pieces) as running:
        answer = running.post("/v1/chat/completions", {**CHAT, "stream": True})
    name, data = events(answer.body)[-1]
    assert (answer.status, name) == (200, None)
    assert json.loads(data) == {
        "error": {"message": DIED, "type": "server_error", "param": None, "code": "runtime_failed"}
    }


@pytest.mark.parametrize("path", ["/v1/messages", "/engines/v1/messages"])
def test_anthropics_messages_end_with_an_error_event(path: str) -> None:
    with dying(*breaks_off("I was").pieces) as running:
        answer = running.post(path, {**ASKED["/v1/messages"], "stream": True}, X_Request_Id="mine")
    name, data = events(answer.body)[-1]
    assert (answer.status, name) == (200, "error")
    assert json.loads(data) == {
        "type": "error",
        "error": {"type": "api_error", "message": DIED},
        "request_id": "mine",
    }


def test_a_response_fails_with_its_id_and_the_next_numbers() -> None:
    with dying(*breaks_off("I was").pieces) as running:
        answer = running.post("/v1/responses", {**ASKED["/v1/responses"], "stream": True})
    (_, created), *_, (_, delta), (failed, data), (error, last) = events(answer.body)
    number = json.loads(delta)["sequence_number"]
    assert (failed, error) == ("response.failed", "error")
    assert json.loads(data) == {
        "type": "response.failed",
        "sequence_number": number + 1,
        "response": {
            "id": json.loads(created)["response"]["id"],
            "object": "response",
            "status": "failed",
            "error": {"code": "server_error", "message": DIED},
            "output": [],
        },
    }
    told = json.loads(last)
    assert (told["type"], told["code"], told["message"]) == ("error", "runtime_failed", DIED)
    assert (told["sequence_number"], told["error"]["message"]) == (number + 2, DIED)


@pytest.mark.real
def test_anthropics_own_client_raises_when_the_runtime_dies() -> None:
    anthropic = pytest.importorskip("anthropic")
    with (
        dying(*breaks_off("I was").pieces) as running,
        anthropic.Anthropic(base_url=running.url, api_key="none", max_retries=0) as client,
    ):
        stream = client.messages.create(**ASKED["/v1/messages"], stream=True)
        seen = []
        with pytest.raises(anthropic.APIStatusError, match="exited during the answer"):
            seen.extend(stream)
        assert [each.type for each in seen][:2] == ["message_start", "content_block_start"]


@pytest.mark.real
@pytest.mark.parametrize("api", ["chat", "completions", "responses"])
def test_openais_own_client_raises_when_the_runtime_dies(api: str) -> None:
    openai = pytest.importorskip("openai")
    pieces = {
        "chat": breaks_off("I was").pieces,
        "completions": (event({"choices": [{"index": 0, "text": "I was"}]}),),
        "responses": breaks_off("I was").pieces,
    }
    with (
        dying(*pieces[api]) as running,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client,
    ):
        ask = {
            "chat": lambda: client.chat.completions.create(**CHAT, stream=True),
            "completions": lambda: client.completions.create(model=NAME, prompt="a", stream=True),
            "responses": lambda: client.responses.create(model=NAME, input="a", stream=True),
        }[api]
        with pytest.raises(openai.APIError, match="exited during the answer"):
            list(ask())


# Errors of the gateway.


def wrong_key(running: Running, path: str) -> Answer:
    return running.post(path, ASKED[path], Authorization="Bearer wrong")


def unknown_model(running: Running, path: str) -> Answer:
    return running.post(path, {**ASKED[path], "model": "ai/four"}, Authorization="Bearer secret")


def foreign_page(running: Running, path: str) -> Answer:
    return running.post(path, ASKED[path], Origin="https://evil.example")


def not_json(running: Running, path: str) -> Answer:
    return running.ask("POST", path, b"{", Authorization="Bearer secret")


KINDS = {
    wrong_key: (401, "authentication_error"),
    foreign_page: (403, "permission_error"),
    unknown_model: (404, "not_found_error"),
    not_json: (400, "invalid_request_error"),
}


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("cause", KINDS)
def test_every_error_has_the_shape_of_its_api(path: str, cause: Any) -> None:
    status, kind = KINDS[cause]
    with gateway(Scripted(), ONE, api_key="secret") as running:
        answer = cause(running, path)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    request_id = answer.headers["x-request-id"]
    if "/messages" in path:
        error = {"type": kind, "message": answer.error}
        assert answer.json == {"type": "error", "error": error, "request_id": request_id}
        assert answer.headers["request-id"] == request_id
    else:
        assert answer.json["error"].keys() == {"message", "type", "param", "code"}
        assert answer.json["error"]["type"] == kind


def test_an_address_that_anthropics_client_asks_in_vain_is_not_found_in_its_words() -> None:
    with gateway(Scripted(), ONE) as running:
        for path in ("/v1/messages/batches", "/anthropic/v1/nothing"):
            assert running.get(path).json["type"] == "error"
        answer = running.get("/v1/nothing", Anthropic_Version="2023-06-01")
        assert answer.json["error"]["type"] == "not_found_error"
        assert running.get("/v1/nothing").json["error"]["code"] == "not_found"


# Errors of the runtime.


def llama_says(message: str, code: int = 500, kind: str = "server_error") -> Reply:
    raw = json.dumps({"error": {"code": code, "message": message, "type": kind}}).encode()
    return Reply((raw,), status=code, kind="application/json")


@pytest.mark.parametrize(
    "message",
    [
        'Failed to parse tools: Missing tool type: {"x":1}',
        "'messages' is required",
        "Conversation roles must alternate user/assistant/user/assistant",
        "failed to decode image",
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_what_the_runtime_cannot_read_is_the_requests_fault_and_not_asked_again(
    path: str, message: str
) -> None:
    with gateway(Scripted(scripts={NAME: [llama_says(message)]}), ONE) as running:
        answer = running.post(path, ASKED[path])
    assert (answer.status, answer.error) == (400, message)
    assert answer.json["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("message", ["Compute error.", "failed to decode the batch: KV cache full"])
def test_a_passing_trouble_of_the_runtime_stays_a_500(message: str) -> None:
    reply = llama_says(message)
    with gateway(Scripted(scripts={NAME: [reply, reply]}), ONE) as running:
        openai = running.post("/v1/chat/completions", CHAT)
        anthropic = running.post("/v1/messages", ASKED["/v1/messages"])
    assert (openai.status, openai.body) == (500, reply.pieces[0])
    assert (anthropic.status, anthropic.json["error"]) == (
        500,
        {"type": "api_error", "message": message},
    )


def test_an_unreachable_image_is_the_requests_fault() -> None:
    reply = llama_says("cannot make GET request: Could not establish connection")
    with gateway(Scripted(scripts={NAME: [reply]}), ONE) as running:
        answer = running.post("/v1/chat/completions", CHAT)
    assert (answer.status, answer.json["error"]["code"]) == (400, "unreachable_url")


def test_an_input_longer_than_an_embedding_model_takes_names_both_lengths() -> None:
    vectors = model("ai/vectors", kind="embedding")
    message = (
        "input (3602 tokens) is too large to process. increase the physical batch size"
        " (current batch size: 512)"
    )
    with gateway(
        Scripted(scripts={"ai/vectors:latest": [llama_says(message)]}), vectors
    ) as running:
        answer = running.post("/v1/embeddings", {"input": "much"})
    assert (answer.status, answer.json["error"]["code"]) == (400, "context_length_exceeded")
    assert answer.error == "the input has 3602 tokens, the limit of ai/vectors:latest is 8"


def test_a_refusal_of_the_runtime_passes_to_openais_clients_as_it_is() -> None:
    reply = refuses(400, message="too long", n_ctx=512)
    with gateway(Scripted(scripts={NAME: [reply, reply]}), ONE) as running:
        openai = running.post("/v1/chat/completions", CHAT)
        anthropic = running.post("/v1/messages", ASKED["/v1/messages"])
    assert (openai.status, openai.body) == (400, reply.pieces[0])
    assert (anthropic.status, anthropic.json["error"]) == (
        400,
        {"type": "invalid_request_error", "message": "too long"},
    )


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CONTENTS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": [IMAGE]}]},
    "/v1/messages": {
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}],
            }
        ]
    },
    "/v1/responses": {
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}]
    },
}


@pytest.mark.parametrize("path", CONTENTS)
def test_an_image_to_a_model_without_a_projector_is_refused_before_anything_is_loaded(
    path: str,
) -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        answer = running.post(path, CONTENTS[path])
    assert (answer.status, runtime.started) == (400, [])
    assert answer.error == (
        "ai/one:latest does not accept images: it has no projector (mmproj);"
        " use a model with one, or add it with `modelrunner package --mmproj`"
    )


def test_sound_for_a_model_whose_projector_is_for_images_says_so() -> None:
    seeing = replace(ONE, spec=replace(ONE.spec, mmproj=Path("/m.mmproj")))
    reply = llama_says("audio input is not supported - hint: if this is unexpected")
    with gateway(Scripted(scripts={NAME: [reply]}), seeing) as running:
        answer = running.post("/v1/chat/completions", CHAT)
    assert answer.status == 400
    assert answer.error == (
        "ai/one:latest does not accept audio: its projector (mmproj) is not for audio; use a "
        "model with one that is"
    )


def test_text_that_speaks_of_images_is_text() -> None:
    with gateway(Scripted(), ONE) as running:
        assert running.chat("one", '{"type": "image_url"}').status == 200
