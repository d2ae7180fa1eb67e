"""What one request may take of the gateway's loop, in which all others wait: bytes and steps."""

import asyncio
import json
import os
import signal

import pytest

from modelrunner.oci.reference import Reference
from modelrunner.serve import models as served_models
from modelrunner.serve.bodies import fields as fields_module
from modelrunner.serve.bodies import parsing
from modelrunner.serve.bodies.fields import InvalidBodyError, read
from modelrunner.serve.bodies.parsing import INLINE, Parser, ParserFailedError
from modelrunner.serve.client.connections import Connection
from modelrunner.serve.client.dialects import ANTHROPIC, OPENAI, RESPONSES, dialect_of
from modelrunner.serve.relay import _whole_events
from tests.support.openai_server import Reply
from tests.support.serving import Scripted, gateway, model
from tests.unit.serve.client.test_connections import POST, connected, everything

ONE = model("ai/one")
DONE = Reply((b"{}",), kind="application/json")
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}


def chat(content: object, **more: object) -> bytes:
    return json.dumps(
        {"model": "one", "messages": [{"role": "user", "content": content}], **more}
    ).encode()


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the bodies that are parsed in this process."""
    found: list[int] = []
    parse = fields_module.parse_json

    def noted(text: str) -> object:
        found.append(len(text))
        return parse(text)

    monkeypatch.setattr(fields_module, "parse_json", noted)
    return found


def test_the_loop_parses_small_bodies_only(sizes: list[int]) -> None:
    bodies = [chat("x" * size) for size in (1, 10_000, 40_000, 3_000_000)]
    with gateway(Scripted(scripts={"ai/one:latest": [DONE] * 4}), ONE) as running:
        answers = [running.ask("POST", "/v1/chat/completions", body) for body in bodies]
    assert [answer.status for answer in answers] == [200] * 4
    small = [len(body) for body in bodies if len(body) <= INLINE]
    # and once more what comes before their messages
    assert [size for size in sizes if size in small] == small
    assert max(sizes) == max(small)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (chat("x" * 40_000, n=9), 400, "`n` is 9, but ai/one:latest answers 1 request at a time"),
        (chat([IMAGE]), 400, "ai/one:latest does not accept images"),
        (b'{"model":"two","x":"%b"}' % (b"x" * 40_000), 404, "model not found: two"),
        (b'{"model":"%b"}' % (b"x" * 2_000_000), 404, "model not found: xxx"),
        (b'{"model":%b1}' % (b" " * 40_000), 400, "the field `model` is not a string"),
        (b"[" * 40_000, 400, "invalid request: JSON nested too deeply"),
        (b"{%b" % (b" " * 40_000), 400, "the request is not JSON: expected JSON at line 1"),
    ],
    ids=["n", "image", "unknown", "long", "number", "deep", "cut"],
)
def test_a_large_body_is_understood_like_a_small_one(
    sizes: list[int], body: bytes, status: int, message: str
) -> None:
    with gateway(Scripted(), ONE) as running:
        answer = running.ask("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.error[: len(message)]) == (status, message)
    assert sizes == []


def child_of(parser: Parser) -> int:
    process = parser._children[0]._process
    assert process is not None
    return process.pid


def test_a_child_that_has_died_is_started_again_and_none_is_left() -> None:
    large = bytearray(chat("x" * 40_000))
    parser = Parser()

    async def work() -> tuple[object, int]:
        await parser.run(read, large)
        first = child_of(parser)
        os.kill(first, signal.SIGKILL)
        found = await parser.run(read, large)
        last = child_of(parser)
        assert first != last
        await parser.close()
        return found, last

    found, last = asyncio.run(work())
    assert found == read(large)
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


def test_a_body_that_ends_its_reader_twice_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "_COMMAND", ("/bin/false",))

    async def work() -> None:
        with pytest.raises(ParserFailedError):
            await Parser().run(read, bytearray(INLINE + 1))

    asyncio.run(work())
    with gateway(Scripted(), ONE) as running:
        answer = running.ask("POST", "/v1/chat/completions", chat("x" * 40_000))
        assert answer.status == 500
        assert answer.error == "the request could not be read: the log of the server has more"
        assert running.get("/health").status == 200


def test_a_client_that_leaves_takes_its_body_out_of_the_child() -> None:
    parser = Parser()

    async def work() -> object:
        left = asyncio.create_task(parser.run(read, bytearray(b"[" + b" " * 900_000)))
        while parser._children[0]._process is None:
            await asyncio.sleep(0)
        left.cancel()
        try:
            return await parser.run(read, bytearray(chat("x" * 40_000)))
        finally:
            await parser.close()

    assert asyncio.run(work()) == read(chat("x" * 40_000))


@pytest.mark.parametrize(
    ("raw", "code"),
    [(b"[],", "request_too_large"), (b"1,", "request_too_large"), (b"\xff", "invalid_json")],
)
def test_a_child_says_what_is_wrong(raw: bytes, code: str) -> None:
    parser = Parser()

    async def work() -> str:
        try:
            await parser.run(read, bytearray(b'{"a":[%b1]}' % (raw * 1_000_001)))
        except InvalidBodyError as exc:
            return exc.code
        finally:
            await parser.close()
        return ""

    assert asyncio.run(work()) == code


def test_small_chunks_are_parsed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []
    take = Connection.data_received

    def noted(self: Connection, data: bytes) -> None:
        pieces.append(len(data))
        take(self, data)

    rests: list[int] = []
    rest = Connection._rest

    def noted_rest(self: Connection) -> None:
        rests.append(len(pieces))
        rest(self)

    monkeypatch.setattr(Connection, "data_received", noted)
    monkeypatch.setattr(Connection, "_rest", noted_rest)
    body = chat("hi")
    chunks = b"1\r\n \r\n" * 5000 + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with (
        gateway(Scripted(scripts={"ai/one:latest": [DONE]}), ONE) as running,
        connected(running) as client,
    ):
        client.sendall(POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)
        assert everything(client).startswith(b"HTTP/1.1 200")
    long = [size for size in pieces if size > 512]
    assert len(long) <= 1
    assert max(pieces) <= 4096
    # after each but that of the first answer, and the last, which may end in a long chunk
    assert len(rests) >= len(pieces) - 3 > 40


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_headers_of_many_lines_are_refused_before_they_are_parsed(cut: int) -> None:
    many = POST + b"".join(b"a%d:\r\n" % number for number in range(300)) + b"\r\n"
    with gateway(Scripted(), ONE) as running, connected(running) as client:
        client.sendall(many[: len(many) - cut])
        client.sendall(many[len(many) - cut :])
        answer = everything(client)
    assert answer.startswith(b"HTTP/1.1 431")
    assert b"the headers have more than 256 lines" in answer


def test_lines_of_a_body_are_not_headers() -> None:
    body = chat("hi").replace(b" ", b"\n" * 1000)
    head = POST + b"Content-Length: %d\r\n" % len(body)
    for cut in (0, 1, 2):
        with (
            gateway(Scripted(scripts={"ai/one:latest": [DONE]}), ONE) as running,
            connected(running) as client,
        ):
            raw = head + b"Connection: close\r\n\r\n" + body
            client.sendall(raw[: len(head) + 21 - cut])
            client.sendall(raw[len(head) + 21 - cut :])
            assert everything(client).startswith(b"HTTP/1.1 200")


def test_a_name_is_parsed_once_for_all_models(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [model(f"ai/m{number}") for number in range(50)]
    parsed: list[str] = []
    parse = Reference.parse

    def noted(text: str) -> Reference:
        parsed.append(text)
        return parse(text)

    monkeypatch.setattr(served_models.Reference, "parse", staticmethod(noted))
    assert served_models.find(models, "m49") is models[49]
    assert served_models.find(models, "nobody") is None
    assert served_models.find(models, "a" * 1025) is None
    assert parsed == ["m49", "nobody"]


def test_names_of_many_models_are_counted_in_an_error() -> None:
    with gateway(Scripted(), *(model(f"ai/m{number}") for number in range(30))) as running:
        error = running.chat("nobody").error
    assert error.startswith("model not found: nobody; this server has ai/m0:latest, ai/m1:latest,")
    assert error.endswith("ai/m19:latest and 10 more")


def test_too_many_names_to_unload_are_refused() -> None:
    with gateway(Scripted(), ONE) as running:
        answer = running.post("/engines/unload", {"models": ["one"] * 257})
        message = b"the request has more than 256 names: use `all`\n"
        assert (answer.status, answer.body) == (400, message)
        assert running.post("/engines/unload", {"models": ["one"] * 256}).status == 200


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/messages", ANTHROPIC),
        ("/v1/messages/count_tokens", ANTHROPIC),
        ("/v1/messages/batches", ANTHROPIC),
        ("/v1/messages/batches/id/results", ANTHROPIC),
        ("/messages/batches/" * 3500 + "\nx", ANTHROPIC),
        ("/v1/messages/other", OPENAI),
        ("/v1/responses", RESPONSES),
        ("/v1/chat/completions", OPENAI),
    ],
)
def test_an_address_has_its_dialect(path: str, dialect: object) -> None:
    assert dialect_of({"path": path, "headers": []}) is dialect


def test_events_are_whole_wherever_a_piece_ends() -> None:
    stream = b"data: a\r\n\r\ndata: b\n\ndata: c\n\n\r\ndata: d"

    async def found(pieces: list[bytes]) -> list[bytes]:
        async def body():
            for piece in pieces:
                yield piece

        return [event async for event in _whole_events(body())]

    single = [stream[place : place + 1] for place in range(len(stream))]
    assert asyncio.run(found(single)) == [
        b"data: a\r\n\r\n",
        b"data: b\n\n",
        b"data: c\n\n",
        b"\r\ndata: d",
    ]
    assert asyncio.run(found([stream])) == [stream[:-9], stream[-9:]]
