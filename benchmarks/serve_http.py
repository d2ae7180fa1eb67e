"""Which HTTP client `serve` should ask runtimes with: its own over h11, or a library's.

    pip install httpx httpcore
    python benchmarks/serve_http.py [--clients 200] [--rounds 5] [--with own,httpx,httpcore]

For each of them a gateway runs in a process of its own, all before the same runtime, which answers
at once. 200 clients ask at the same time: each for several small answers, one after the other, and
then for a stream. They take turns, round after round; told are medians. Beside the times, which on
a busy machine are those of the others too, is the gateway's own processor time. At last the runtime
sends an answer in chunks of a byte, and the longest step of the gateway's loop is told: for as
long, nobody else is served.

Aim: a library takes the place of our own where it is at most 3 % slower in each of them.
"""

import argparse
import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.serve_stalls import measured_steps, remote  # noqa: E402 - scripts beside this one

ASKED = 5
TOKENS = 50
TINY_CHUNKS = 40_000
SLOWER = 1.03
_CONNECT_S = 60.0
"""Longer than `serve` waits: a busy machine shall not end the measurement."""

_PATH = "/v1/chat/completions"


# The clients.


def with_httpx(name: str) -> Any:  # noqa: ANN401
    """`asked` of `modelrunner.serve.upstream`, by httpx; connections are not kept there either."""
    import importlib

    from modelrunner.serve.bodies.parsing import pieces
    from modelrunner.serve.upstream import BrokenOffError, Reply

    httpx = importlib.import_module(name)
    timeout = httpx.Timeout(None, connect=_CONNECT_S)
    transport = httpx.AsyncHTTPTransport(
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0)
    )
    client = httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)

    @asynccontextmanager
    async def asked(url, body, headers, *, api_key):  # noqa: ANN001, ANN202
        async def content() -> AsyncIterator[bytes]:
            for piece in pieces(body):
                yield bytes(piece)

        sent = [*headers, *_own_headers(body, api_key)]
        try:
            request = client.build_request("POST", url, content=content(), headers=sent)
            response = await client.send(request, stream=True)
            try:
                raw = [(key.lower(), value) for key, value in response.headers.raw]
                yield Reply(response.status_code, raw, response.aiter_raw())
            finally:
                await response.aclose()
        except httpx.TransportError as exc:
            raise BrokenOffError(str(exc)) from exc

    return asked


def with_httpcore(name: str) -> Any:  # noqa: ANN401
    """The same by a connection of httpcore: what httpx does without its pool and its models."""
    import importlib

    from modelrunner.serve.bodies.parsing import pieces
    from modelrunner.serve.upstream import BrokenOffError, Reply

    httpcore = importlib.import_module(name)
    errors = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.RemoteProtocolError)

    @asynccontextmanager
    async def asked(url, body, headers, *, api_key):  # noqa: ANN001, ANN202
        async def content() -> AsyncIterator[bytes]:
            for piece in pieces(body):
                yield bytes(piece)

        parts = urlsplit(url)
        origin = httpcore.Origin(
            parts.scheme.encode(), (parts.hostname or "").encode(), parts.port or 80
        )
        sent = [(b"host", parts.netloc.encode()), *headers, *_own_headers(body, api_key)]
        connection = httpcore.AsyncHTTPConnection(origin)
        try:
            request = httpcore.Request(
                "POST",
                url,
                headers=sent,
                content=content(),
                extensions={"timeout": {"connect": _CONNECT_S}},
            )
            response = await connection.handle_async_request(request)
            raw = [(key.lower(), value) for key, value in response.headers]
            yield Reply(response.status, raw, response.aiter_stream())
        except errors as exc:
            raise BrokenOffError(str(exc)) from exc
        finally:
            await connection.aclose()

    return asked


def _own_headers(body: bytes, api_key: str) -> list[tuple[bytes, bytes]]:
    found = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    return [*found, (b"authorization", f"Bearer {api_key}".encode())] if api_key else found


CLIENTS = {
    "own": None,
    "httpx": with_httpx,
    "httpx2": with_httpx,
    "httpcore": with_httpcore,
    "httpcore2": with_httpcore,
}


# The processes.


def runtime(address: Any) -> None:  # noqa: ANN401
    """Answers small, in a stream, or in chunks of a byte, as the number of tokens asks for."""
    small = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    word = {"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}]}
    event = b"data: %b\n\n" % json.dumps(word).encode()

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in lines.split(b"\r\n") if line.startswith(b"content-length"))
        body = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
        tokens = body.get("max_tokens", 0)
        if tokens == TINY_CHUNKS:
            tiny = b"1\r\n \r\n" * tokens
            writer.write(head % b"application/json" + tiny + b"0\r\n\r\n")
        elif tokens:
            writer.write(head % b"text/event-stream")
            for _token in range(tokens):
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await writer.drain()
                # a token at a time, as a model writes them
                await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(small)
        await writer.drain()
        writer.close()

    async def served() -> None:
        server = await asyncio.start_server(answered, "127.0.0.1", 0, backlog=1024)
        address.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(served())


def gateway(orders: Any, port: int, how: str) -> None:  # noqa: ANN401
    """A gateway before that runtime; on each order, what it has used by now."""
    from modelrunner.serve import relay, upstream
    from tests.support.serving import Scripted, model
    from tests.support.serving import gateway as served

    upstream._CONNECT_S = _CONNECT_S  # noqa: SLF001 - the same for all
    make = CLIENTS[how]
    if make is not None:
        relay.asked = make(how)
    scripted = Scripted()
    scripted.start = lambda _spec, _log: remote(port)
    steps = measured_steps()
    with served(scripted, model("ai/one")) as running:
        orders.send(urlsplit(running.url).port)
        while orders.recv():
            used = resource.getrusage(resource.RUSAGE_SELF)
            orders.send((used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, max(steps)))
            steps[:] = [0.0]


class Gateway:
    """One of those processes, as the clients see it."""

    def __init__(self, context: Any, port: int, how: str) -> None:  # noqa: ANN401
        self.how = how
        self._orders, there = context.Pipe()
        self._process = context.Process(target=gateway, args=(there, port, how))
        self._process.start()
        self.port = self._orders.recv()

    def used(self) -> tuple[float, float, float]:
        """Processor seconds and MiB by now, and the longest step since the last time."""
        self._orders.send("used")
        return self._orders.recv()

    def end(self) -> None:
        """End it."""
        self._orders.send(None)
        self._process.join()


# What is measured.


async def ask(port: int, tokens: int, waits: list[float]) -> None:
    """One request, read to its end; how long its first byte took."""
    body = json.dumps(
        {
            "model": "one",
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": tokens,
            "stream": 0 < tokens < TINY_CHUNKS,
        }
    ).encode()
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n" % (_PATH.encode(), len(body)) + body
    )
    answer = await reader.read(65536)
    waits.append(time.perf_counter() - begun)
    count = answer.count(b"data: ")
    status = answer[:12]
    while piece := await reader.read(65536):
        count += piece.count(b"data: ")
    writer.close()
    if status != b"HTTP/1.1 200" or (tokens < TINY_CHUNKS and count < tokens):
        sys.exit(f"not answered: {status!r}, {count} of {tokens} tokens")


async def many(port: int, clients: int, each: int, tokens: int) -> list[float]:
    """All clients at once; the waits for the first byte, the shortest first."""
    waits: list[float] = []

    async def one() -> None:
        for _time in range(each):
            await ask(port, tokens, waits)

    await asyncio.gather(*(one() for _client in range(clients)))
    return sorted(waits)


def measure(gate: Gateway, clients: int) -> dict[str, float]:
    """One round."""
    found: dict[str, float] = {}
    before = gate.used()[0]
    begun = time.perf_counter()
    waits = asyncio.run(many(gate.port, clients, ASKED, 0))
    seconds = time.perf_counter() - begun
    between = gate.used()[0]
    count = clients * ASKED
    found["ms a request"] = seconds * 1000 / count
    found["ms of CPU a request"] = (between - before) * 1000 / count
    found["ms to the answer, median"] = statistics.median(waits) * 1000
    found["ms to the answer, 99 %"] = waits[int(len(waits) * 0.99)] * 1000
    begun = time.perf_counter()
    waits = asyncio.run(many(gate.port, clients, 1, TOKENS))
    seconds = time.perf_counter() - begun
    after, memory, _step = gate.used()
    found["µs a token"] = seconds * 1e6 / clients / TOKENS
    found["µs of CPU a token"] = (after - between) * 1e6 / clients / TOKENS
    found["ms to the first token, median"] = statistics.median(waits) * 1000
    found["MiB of memory"] = memory
    asyncio.run(many(gate.port, 1, 1, TINY_CHUNKS))
    found["ms of the longest step"] = gate.used()[2] * 1000
    return found


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--with", dest="names", default="own,httpx,httpcore")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    model = context.Process(target=runtime, args=(there,), daemon=True)
    model.start()
    port = here.recv()
    gates = [Gateway(context, port, name) for name in options.names.split(",")]
    rounds: dict[str, list[dict[str, float]]] = {gate.how: [] for gate in gates}
    try:
        for turn in range(options.rounds + 1):
            for gate in gates if turn % 2 else gates[::-1]:
                found = measure(gate, options.clients)
                # the first one warms up
                if turn:
                    rounds[gate.how].append(found)
    finally:
        for gate in gates:
            gate.end()
    return told(rounds, options.clients)


def told(rounds: dict[str, list[dict[str, float]]], clients: int) -> int:
    """Print the table."""
    medians = {
        how: {key: statistics.median(each[key] for each in found) for key in found[0]}
        for how, found in rounds.items()
    }
    first, *others = medians
    print(f"{clients} clients, {len(rounds[first])} rounds in turn")
    print(f"{'':<30}" + "".join(f"{how:>18}" for how in medians))
    for key, own in medians[first].items():
        row = [f"{own:>18.2f}"]
        row += [f"{medians[how][key]:>10.2f} ({medians[how][key] / own:.2f})" for how in others]
        print(f"{key:<30}" + "".join(f"{text:>18}" for text in row))
    for how in others:
        slower = [key for key, own in medians[first].items() if medians[how][key] > own * SLOWER]
        print(f"{how}: " + (f"slower in {', '.join(slower)}" if slower else "no slower"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
