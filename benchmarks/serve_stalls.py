"""How long one client of `serve` keeps others waiting, whatever it sends.

    python benchmarks/serve_stalls.py [--each 4] [--only NAME]

The gateway runs in a process of its own, before a runtime that answers at once. Another process
asks for its health and for a small chat, one after the other, without a pause. Meanwhile requests
of each kind are sent, `--each` of them at once. Printed are the longest time in which the other
process got no answer, the same from an idle gateway, which on a loaded machine is not short either,
and the processor time of the longest step of the gateway's loop, which does not depend on the load.
"""

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

MOST = 64 * 1024 * 1024
AIM_S = 0.2
_SECONDS = 1.0
_LONGEST_S = 120.0


def chat(content: object) -> bytes:
    """A request with a content."""
    return json.dumps({"model": "one", "messages": [{"role": "user", "content": content}]}).encode()


def repeated(piece: bytes, last: bytes, size: int) -> bytes:
    """A request with as many of a value as its size lets it have."""
    start, end = b'{"model":"one","messages":[', b"%b]}" % last
    return start + piece * ((size - len(start) - len(end)) // len(piece)) + end


BODIES: dict[str, Callable[[], bytes]] = {
    "empty lists, 60 MiB": lambda: repeated(b"[],", b"[]", 60 << 20),
    "empty lists, all that are allowed": lambda: repeated(b"[],", b"[]", 3 * 249_000),
    "objects, all that are allowed": lambda: repeated(b'{"a":1},', b"{}", 8 * 249_000),
    "messages, all that are allowed": lambda: repeated(
        b'{"role":"user","content":"' + b"x" * 200 + b'"},', b"{}", 229 * 249_000
    ),
    "numbers, all that are allowed": lambda: repeated(b"1,", b"1", 2 * 999_000),
    "long numbers": lambda: repeated(b"1" * 60 + b",", b"1", 61 * 999_000),
    "nesting": lambda: b"[" * MOST,
    "one long text": lambda: chat("x" * (MOST - 200)),
    "one long text of four bytes a character": lambda: (
        b'{"model":"one","messages":[{"role":"user","content":"\xf0\x9f\x98\x80%b"}]}'
        % (b"x" * (MOST - 200))
    ),
    "escapes": lambda: chat("\n" * ((MOST - 200) // 2)),
    "a long name": lambda: json.dumps({"model": "a" * (MOST - 20)}).encode(),
    "images": lambda: chat(
        [
            {
                "type": "image_url",
                "image_url": {
                    "url": "data:image/png;base64,"
                    + base64.b64encode(os.urandom(11 << 20)).decode()
                },
            }
            for _ in range(4)
        ]
    ),
    "a MiB of lists": lambda: repeated(b"[],", b"[]", 700_000),
    "16 KiB of lists": lambda: repeated(b"[],", b"[]", 16_000),
}


def head(path: str, length: str, more: bytes = b"") -> bytes:
    """The head of a request."""
    return (
        (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"{length}\r\nConnection: close\r\n"
        ).encode()
        + more
        + b"\r\n"
    )


def requests() -> Iterator[tuple[str, bytes]]:
    """Names and bytes of everything that is sent."""
    chats = "/v1/chat/completions"
    for name, make in BODIES.items():
        body = make()
        yield name, head(chats, f"Content-Length: {len(body)}") + body
    small = b"1\r\n \r\n" * 30_000 + b"0\r\n\r\n"
    yield "chunks of a byte", head(chats, "Transfer-Encoding: chunked") + small
    blank = b" " * 61_000
    large = b"%x\r\n%s\r\n" % (len(blank), blank)
    mixed = (large + b"1\r\n \r\n" * 700) * 40 + b"0\r\n\r\n"
    yield "chunks of a byte between large ones", head(chats, "Transfer-Encoding: chunked") + mixed
    yield "15,000 headers", head(chats, "Content-Length: 0", b"a:\r\n" * 15_000)
    path = "/messages/batches/" * 3500 + "%0Ax"
    yield "an address of 63 KiB", head(path, "Content-Length: 0")
    names = json.dumps({"models": [f"ai/{number}" for number in range(7000)]}).encode()
    yield "names to unload", head("/engines/unload", f"Content-Length: {len(names)}") + names


def send(port: int, raw: bytes) -> None:
    """One request; its answer is read and dropped."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_LONGEST_S) as client:
            # read beside: a server that answers early is not left with a full buffer
            reader = threading.Thread(target=_drain, args=(client,), daemon=True)
            reader.start()
            client.sendall(raw)
            reader.join(_LONGEST_S)
    except OSError:
        pass


def _drain(client: socket.socket) -> None:
    try:
        while client.recv(1 << 16):
            pass
    except OSError:
        pass


def watch(port: int, orders: Any) -> None:  # noqa: ANN401 - a connection of multiprocessing
    """In a process of its own: asks without a pause, and sends the longest wait when asked to."""
    body = chat("hi")
    asked = [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        head("/v1/chat/completions", f"Content-Length: {len(body)}") + body,
    ]
    longest = 0.0
    while True:
        for raw in asked:
            begun = time.monotonic()
            with socket.create_connection(("127.0.0.1", port), timeout=_LONGEST_S) as client:
                client.sendall(raw)
                answer = b""
                while piece := client.recv(1 << 16):
                    answer += piece
            if not answer.startswith(b"HTTP/1.1 200"):
                sys.exit(f"others got: {answer[:300]!r}")
            longest = max(longest, time.monotonic() - begun)
        if orders.poll(0.002):
            if not orders.recv():
                return
            orders.send(longest)
            longest = 0.0


def runtime(address: Any) -> None:  # noqa: ANN401
    """In a process of its own: reads a request, answers, and closes."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = await reader.readuntil(b"\r\n\r\n")
        left = next(
            int(line[15:]) for line in lines.split(b"\r\n") if line.startswith(b"content-length:")
        )
        while left and (piece := await reader.read(min(left, 1 << 20))):
            left -= len(piece)
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def served() -> None:
        server = await asyncio.start_server(answered, "127.0.0.1", 0)
        address.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(served())


def remote(port: int) -> Any:  # noqa: ANN401
    """The runtime in the other process; nothing to start."""
    from modelrunner.runtime.base import Progress, Server, unheard

    class Remote(Server):
        """The other process."""

        name, api_key, context, pid, log, running = "remote", "", 8, None, None, False
        base_url = f"http://127.0.0.1:{port}/v1"

        def wait_until_ready(self, deadline_s: float, on_progress: Progress = unheard) -> None:
            pass

        def alive(self) -> bool:
            return True

        def stop(self) -> None:
            pass

    return Remote()


def gateway(address: Any, port: int) -> None:  # noqa: ANN401
    """In a process of its own: a gateway before that runtime."""
    from tests.support.serving import Scripted, model
    from tests.support.serving import gateway as served

    scripted = Scripted()
    scripted.start = lambda _spec, _log: remote(port)
    steps = measured_steps()
    with served(scripted, model("ai/one")) as running:
        address.send(urlsplit(running.url).port)
        while address.recv():
            address.send(max(steps))
            steps[:] = [0.0]


def measured_steps() -> list[float]:
    """A list in which the processor time of the longest step of a loop is, from now on."""
    longest = [0.0]
    run = asyncio.Handle._run  # noqa: SLF001 - asyncio's own measure is by the clock

    def timed(handle: asyncio.Handle) -> None:
        begun = time.thread_time()
        run(handle)
        longest[0] = max(longest[0], time.thread_time() - begun)

    asyncio.Handle._run = timed  # type: ignore[method-assign]  # noqa: SLF001
    return longest


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=4, help="requests at once")
    parser.add_argument("--only", default="", help="kinds whose name has this")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    model = context.Process(target=runtime, args=(there,), daemon=True)
    model.start()
    server = context.Process(target=gateway, args=(there, here.recv()))
    server.start()
    port = here.recv()
    orders, watcher_end = context.Pipe()
    watcher = context.Process(target=watch, args=(port, watcher_end))
    watcher.start()

    def longest() -> float:
        orders.send("longest")
        return float(orders.recv())

    def longest_step() -> float:
        here.send("longest")
        return float(here.recv())

    worst = worst_step = 0.0
    idle: list[float] = []
    longest()
    for name, raw in requests():
        if options.only not in name:
            continue
        time.sleep(_SECONDS)
        idle.append(longest())
        longest_step()
        threads = [threading.Thread(target=send, args=(port, raw)) for _ in range(options.each)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait, step = longest(), longest_step()
        worst, worst_step = max(worst, wait), max(worst_step, step)
        shown = f"{wait:7.3f} s  (idle {idle[-1]:.3f} s)  step {step:.3f} s"
        print(f"{shown}  {options.each} x {name}", flush=True)
    orders.send(None)
    watcher.join()
    here.send(None)
    server.join()
    met = worst <= AIM_S
    usual = statistics.median(idle)
    print(f"longest {worst:.3f} s, idle {usual:.3f} s, step {worst_step:.3f} s; aim {AIM_S}: {met}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
