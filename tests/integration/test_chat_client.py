"""The chat client against a real HTTP server on loopback that behaves and misbehaves."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from modelrunner.chat.answer import Delta, Done, Timings, Usage
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Message
from modelrunner.errors import (
    ContextExceededError,
    ExitStatus,
    RuntimeFailedError,
    UnauthorizedError,
)
from tests.support.openai_server import (
    OpenAIServer,
    Reply,
    breaks_off,
    chopped,
    context_exceeded,
    delta,
    ending,
    event,
    fails_midway,
    refuses,
    says,
    waits,
)

HI = (Message("user", "hi"),)
END = Done("stop", Usage(20, 10), Timings(20, 100.0, 10, 200.0))


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


def ask(server: OpenAIServer, options: SamplingOptions | None = None) -> list[Delta | Done]:
    """The answer; words that follow each other are one piece, however the line has cut them."""
    client = ChatClient(server.url, "k", "smollm2")
    found: list[Delta | Done] = []
    for piece in client.stream(HI, options or SamplingOptions()):
        last = found[-1] if found else None
        match last, piece:
            case Delta(before, ""), Delta(text, ""):
                found[-1] = Delta(before + text, "")
            case _:
                found.append(piece)
    return found


def test_an_answer_comes_with_its_thoughts_and_then_its_end(server: OpenAIServer) -> None:
    server.next(says("Hel", "lo", thinks=("Hm",)))
    assert ask(server) == [Delta("", "Hm"), Delta("Hello", ""), END]


def test_a_request_says_what_was_said_and_only_the_options_that_are_set(
    server: OpenAIServer,
) -> None:
    client = ChatClient(server.url, "k", "smollm2")
    options = SamplingOptions(temperature=0.0, seed=7, max_tokens=5, stop=("\n",))
    messages = [Message("system", "be brief"), Message("assistant", "so", stopped=True)]
    list(client.stream(messages, options))
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k"
    assert request.body == {
        "model": "smollm2",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "assistant", "content": "so"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "seed": 7,
        "max_tokens": 5,
        "stop": ["\n"],
    }


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ([Message("system", "be brief")], {"role": "system", "content": "be brief\n/no_think"}),
        ([], {"role": "system", "content": "/no_think"}),
    ],
)
def test_a_request_says_how_much_to_think_by_fields_and_by_words_in_the_system_prompt(
    server: OpenAIServer, said: list[Message], sent: dict[str, str]
) -> None:
    fields = {"chat_template_kwargs": {"enable_thinking": False}}
    options = SamplingOptions(thinking=fields, system_words="/no_think")
    client = ChatClient(server.url, None, "m")
    list(client.stream([*said, Message("user", "hi")], options))
    body = server.requests[0].body
    assert body["messages"] == [sent, {"role": "user", "content": "hi"}]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_text_to_continue_is_not_asked_to_think(server: OpenAIServer) -> None:
    options = SamplingOptions(thinking={"chat_template_kwargs": {}}, system_words="/no_think")
    client = ChatClient(server.url, None, "m", completes=True)
    server.next(says("a"))
    list(client.stream(HI, options))
    assert "chat_template_kwargs" not in server.requests[0].body
    assert "/no_think" not in server.requests[0].body["prompt"]


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
def test_the_base_url_may_end_in_v1(server: OpenAIServer, path: str) -> None:
    list(ChatClient(server.url + path, None, "m").stream(HI, SamplingOptions()))
    assert server.requests[0].path == "/v1/chat/completions"
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_chunks_may_end_within_a_character(server: OpenAIServer, size: int) -> None:
    server.next(chopped(says("naïve ", "日本 😀"), size))
    assert ask(server) == [Delta("naïve 日本 😀", ""), END]


def test_a_line_of_a_mebibyte_is_no_trouble(server: OpenAIServer) -> None:
    text = "x" * 1024 * 1024
    server.next(says(text))
    assert ask(server) == [Delta(text, ""), END]


def test_an_answer_without_timings_and_usage_is_an_answer(server: OpenAIServer) -> None:
    server.next(Reply((delta(content="Hi"), b"data: [DONE]\n\n")))
    assert ask(server) == [Delta("Hi", ""), Done("stop")]


def test_an_answer_that_told_its_reason_needs_no_done(server: OpenAIServer) -> None:
    server.next(Reply((delta(content="Hi"), *ending("length")[:1])))
    assert ask(server) == [Delta("Hi", ""), Done("length")]


def test_reasoning_has_two_names(server: OpenAIServer) -> None:
    server.next(Reply((delta(reasoning="Hm"), delta(content="Hi"), *ending())))
    assert ask(server) == [Delta("", "Hm"), Delta("Hi", ""), END]


def test_half_a_surrogate_pair_is_replaced(server: OpenAIServer) -> None:
    lone = b'data: {"choices": [{"delta": {"content": "a\\ud83d"}}]}\n\n'
    server.next(Reply((lone, *ending())))
    assert ask(server) == [Delta("a?", ""), END]


def test_half_a_surrogate_pair_from_the_keyboard_does_not_reach_the_server(
    server: OpenAIServer,
) -> None:
    client = ChatClient(server.url, None, "m")
    list(client.stream([Message("user", "a\udcff")], SamplingOptions()))
    assert server.requests[0].body["messages"] == [{"role": "user", "content": "a?"}]


def test_closing_the_answer_closes_the_connection(server: OpenAIServer) -> None:
    server.next(waits("Once upon"))
    answer = ChatClient(server.url, None, "m").stream(HI, SamplingOptions())
    assert next(answer) == Delta("Once upon", "")
    assert not server.gone.is_set()
    answer.close()
    assert server.gone.wait(60)


def test_a_server_that_breaks_off_is_an_error_after_what_it_said(server: OpenAIServer) -> None:
    server.next(breaks_off("I was"))
    answer = ChatClient(server.url, None, "m").stream(HI, SamplingOptions())
    assert next(answer) == Delta("I was", "")
    with pytest.raises(RuntimeFailedError) as caught:
        next(answer)
    assert caught.value.message == (f"connection to {server.url} lost in the middle of the answer")
    assert caught.value.exit_code == ExitStatus.RUNTIME


def test_a_stream_that_ends_well_without_an_end_of_the_answer_broke_off(
    server: OpenAIServer,
) -> None:
    server.next(Reply((delta(content="I was"),)))
    with pytest.raises(RuntimeFailedError, match="connection to"):
        ask(server)


@pytest.mark.parametrize("field_name", ["data", "error"])
def test_an_error_event_is_an_error(server: OpenAIServer, field_name: str) -> None:
    server.next(fails_midway("I was", message="out of\nmemory \x1b[31m", field_name=field_name))
    with pytest.raises(RuntimeFailedError) as caught:
        ask(server)
    assert caught.value.message == f"{server.url} failed: out of memory"


@pytest.mark.parametrize("junk", [b"data: Hello\n\n", b"data: [1]\n\n", b"data: " + b"[" * 9999])
def test_an_event_that_is_no_part_of_an_answer_is_an_error(
    server: OpenAIServer, junk: bytes
) -> None:
    server.next(Reply((junk + b"\n\n", *ending())))
    with pytest.raises(RuntimeFailedError, match="invalid event"):
        ask(server)


@pytest.mark.parametrize(
    "odd",
    [
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": None}}], "usage": None, "timings": 1, "error": None},
        {"usage": {"prompt_tokens": "many"}},
    ],
)
def test_parts_of_a_chunk_that_are_not_there_are_left_out(
    server: OpenAIServer, odd: dict[str, object]
) -> None:
    server.next(Reply((event(odd), *ending())))
    assert ask(server) == [END]


def test_a_prompt_longer_than_the_context_says_both_lengths(server: OpenAIServer) -> None:
    server.next(context_exceeded(1031, 512))
    with pytest.raises(ContextExceededError) as caught:
        ask(server)
    assert caught.value.to_dict() == {
        "code": "context_exceeded",
        "message": "the prompt has 1031 tokens, the context is 512",
        "hint": "shorten the prompt, or start the model with a larger context",
        "retryable": False,
        "prompt_tokens": 1031,
        "context": 512,
    }
    assert caught.value.exit_code == ExitStatus.CAPACITY


@pytest.mark.parametrize(
    "error",
    [
        {"message": "too long", "code": "context_length_exceeded"},
        {"message": "This model's maximum context length is 512 tokens", "type": "BadRequest"},
    ],
)
def test_other_servers_say_it_in_other_words(
    server: OpenAIServer, error: dict[str, object]
) -> None:
    server.next(refuses(400, **error))
    with pytest.raises(ContextExceededError) as caught:
        ask(server)
    assert caught.value.message == f"the prompt is longer than the context: {error['message']}"


def test_a_wrong_key_is_an_access_error() -> None:
    with OpenAIServer(api_key="other") as server, pytest.raises(UnauthorizedError) as caught:
        ask(server)
    assert caught.value.message == f"{server.url} rejected the API key"
    assert caught.value.exit_code == ExitStatus.ACCESS


def test_a_refusal_carries_the_words_of_the_server_made_safe(server: OpenAIServer) -> None:
    server.next(refuses(500, message="no image\x1b]0;owned\x07 input\r\n"))
    with pytest.raises(RuntimeFailedError) as caught:
        ask(server)
    assert caught.value.message == (f"{server.url} returned HTTP 500: no image input")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": null}'])
def test_a_refusal_without_words_carries_its_status(server: OpenAIServer, body: bytes) -> None:
    server.next(Reply((body,) if body else (), status=503, kind="text/html"))
    with pytest.raises(RuntimeFailedError) as caught:
        ask(server)
    assert caught.value.message == f"{server.url} returned HTTP 503"


def test_an_answer_that_is_no_stream_is_refused(server: OpenAIServer) -> None:
    server.next(Reply((b"{}",), kind="application/json"))
    with pytest.raises(RuntimeFailedError) as caught:
        ask(server)
    assert caught.value.message == (f"expected a stream from {server.url}, got application/json")


def test_nobody_listening_is_a_runtime_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = ChatClient(f"http://127.0.0.1:{port}", None, "m")
    with pytest.raises(RuntimeFailedError) as caught:
        list(client.stream(HI, SamplingOptions()))
    assert caught.value.message == f"no response from http://127.0.0.1:{port}"


def test_a_server_may_think_longer_than_it_may_take_to_connect(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelrunner.chat.client._CONNECT_TIMEOUT", 0.1)
    server.next(says(pause=0.15))
    assert ask(server) == [END]


def test_proxies_of_the_environment_are_not_asked(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(server)[-1] == END


def test_the_api_key_does_not_show() -> None:
    assert "secret" not in repr(ChatClient("http://127.0.0.1:1", "secret", "m"))


def test_a_server_that_falls_silent_is_given_up_only_where_it_was_to_give_signs(
    server: OpenAIServer,
) -> None:
    server.next(waits("I was"))
    client = ChatClient(server.url, None, "m", patience_s=0.3)
    pieces = client.stream(HI, SamplingOptions())
    assert next(pieces) == Delta("I was", "")
    with pytest.raises(RuntimeFailedError, match=r"for 0\.3 s"):
        next(pieces)
    assert server.requests[0].body["return_progress"] is True
    server.next(replace(says("late"), pause=0.5))
    assert ask(server)[0] == Delta("late", "")
    assert "return_progress" not in server.requests[1].body


def test_signs_of_reading_are_no_part_of_the_answer(server: OpenAIServer) -> None:
    sign = event(
        {
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}],
            "prompt_progress": {"total": 3031, "cache": 0, "processed": 512, "time_ms": 1165},
        }
    )
    server.next(Reply((sign, sign, *says("yes").pieces)))
    assert ask(server) == [Delta("yes", ""), END]


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\ndata: x\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"9" * 5000 + b"\r\ndata: x\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\ndata: x\r\n",
        b"Content-Length: " + b"9" * 40 + b"\r\n\r\ndata: x\n\n",
        b"Content-Length: " + b"9" * 5000 + b"\r\n\r\ndata: x\n\n",
        b"Content-Length: 30\r\n\r\ndata: " + b"[" * 24,
        b"\r\n\r\ndata: " + b"[" * 100_000 + b"\n\n",
        b'\r\n\r\ndata: {"usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}\n\n",
    ],
    ids=range(8),
)
def test_answer_of_impossible_lengths_ends_in_words(head: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + head

    class Nonsense(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while line := self.rfile.readline().strip().lower():
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            self.rfile.read(length)
            self.wfile.write(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Nonsense) as listener:
        thread = threading.Thread(target=listener.handle_request)
        thread.start()
        client = ChatClient(f"http://127.0.0.1:{listener.server_address[1]}/v1", "k", "m")
        with pytest.raises(RuntimeFailedError):
            list(client.stream(HI, SamplingOptions()))
        thread.join()
