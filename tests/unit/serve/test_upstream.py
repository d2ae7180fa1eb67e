"""Requests to a runtime's server, and answers that are read as a whole."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from modelrunner.serve.upstream import BrokenOffError, Reply, asked
from tests.support.openai_server import OpenAIServer
from tests.support.openai_server import Reply as Script

MEBIBYTE = 1024 * 1024


async def pieces(*found: bytes) -> AsyncIterator[bytes]:
    for piece in found:
        yield piece


def test_an_answer_in_pieces_is_one_object() -> None:
    reply = Reply(200, (), pieces(b'{"a":', b" 1}"))
    assert asyncio.run(reply.value()) == {"a": 1}


@pytest.mark.parametrize("body", [b"", b"[1]", b"oops", b'{"a": 1'])
def test_an_answer_that_is_not_an_object_has_broken_off(body: bytes) -> None:
    with pytest.raises(BrokenOffError):
        asyncio.run(Reply(200, (), pieces(body)).value())


def test_a_whole_answer_has_a_limit() -> None:
    reply = Reply(200, (), pieces(b'{"a": "', *[b"x" * MEBIBYTE] * 16, b'"}'))
    with pytest.raises(BrokenOffError, match="too large"):
        asyncio.run(reply.value())


@pytest.mark.parametrize("size", [0, 1, 3 * MEBIBYTE])
def test_a_request_arrives_whole_whatever_its_size(size: int) -> None:
    body = b'{"text": "%b"}' % (b"x" * size)

    async def ask(url: str) -> object:
        async with asked(url, body, (), api_key="key") as reply:
            return await reply.value()

    with OpenAIServer(api_key="key") as server:
        server.next(Script((b'{"ok": true}',), kind="application/json"))
        assert asyncio.run(ask(f"{server.url}/v1/x")) == {"ok": True}
    (request,) = server.requests
    assert (request.path, request.raw) == ("/v1/x", body)
