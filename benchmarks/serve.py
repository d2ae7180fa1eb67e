"""What the gateway costs: streams at once through `serve`, and to the runtime's server directly.

    python benchmarks/serve.py [--rounds 5] [--streams 16] [--first 200]

Both sides are the same child with the same model, in turn, round after round; the client is the
same too, and reads bytes without looking at them. Told are tokens a second of all streams together,
the medians of the rounds, and their ratio; then the time to the first piece of single streams, one
after the other, to each side in turn: the medians and the 99th percentiles, and by how much they
differ. The load of the machine is told too: on a busy one the tail is the machine's.
"""

import argparse
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "registry-fixtures")]

from smollm2 import smollm2  # noqa: E402 - scripts beside this one

TOKENS = 64
AIM = 0.95
MEDIAN_AIM_MS, TAIL_AIM_MS = 2.0, 10.0
_LONGEST_S = 300.0


@dataclass(frozen=True)
class Side:
    """One of the two: where it is, and what it wants to see."""

    name: str
    url: str
    key: str

    def request(self, model: str, number: int, tokens: int = TOKENS) -> bytes:
        """One stream's request."""
        body = json.dumps(
            {
                "model": model,
                "prompt": f"{number} Once upon a time",
                "max_tokens": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "cache_prompt": False,
                "stream": True,
            }
        )
        parts = urlsplit(self.url)
        return (
            f"POST {parts.path}/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {self.key}\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n\r\n{body}"
        ).encode()


def first_piece_ms(side: Side, model: str, number: int) -> float:
    """How long the first piece of a stream takes, connecting included."""
    parts = urlsplit(side.url)
    begun = time.monotonic()
    with socket.create_connection((parts.hostname, parts.port)) as client:
        client.sendall(side.request(model, number, tokens=1))
        received, found = b"", 0.0
        while chunk := client.recv(65536):
            received += chunk
            if not found and b"data: " in received:
                found = (time.monotonic() - begun) * 1000
    if not found:
        sys.exit(f"{side.name}: no stream: {received[-500:]!r}")
    return found


def tokens_a_second(side: Side, model: str, numbers: Iterator[int], streams: int) -> float:
    """All streams at once, until the last has ended."""
    parts = urlsplit(side.url)
    begun = time.monotonic()
    received: dict[socket.socket, bytearray] = {}
    with selectors.DefaultSelector() as selector:
        for _ in range(streams):
            client = socket.create_connection((parts.hostname, parts.port))
            client.sendall(side.request(model, next(numbers)))
            received[client] = bytearray()
            selector.register(client, selectors.EVENT_READ)
        while selector.get_map():
            for key, _events in selector.select(_LONGEST_S):
                chunk = key.fileobj.recv(65536)
                received[key.fileobj] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
    seconds = time.monotonic() - begun
    for raw in received.values():
        if raw.count(b"[DONE]") != 1:
            sys.exit(f"{side.name}: a stream is not complete: {bytes(raw[-500:])!r}")
    return streams * TOKENS / seconds


@contextmanager
def both_sides(weights: Path, home: Path, streams: int) -> Iterator[tuple[Side, Side]]:
    """The gateway in a process of its own, and a child like the gateway's beside it."""
    from modelrunner.runtime.backends.xllamacpp import XLlamaCpp
    from modelrunner.runtime.base import LaunchSpec
    from modelrunner.runtime.threads import usable_cores

    environ = {**os.environ, "MODELRUNNER_HOME": str(home), "MODELRUNNER_RUNTIME": "xllamacpp"}
    program = [sys.executable, "-m", "modelrunner"]
    subprocess.run([*program, "package", weights, "bench/model", "-q"], env=environ, check=True)
    options = ["--port", "0", "--parallel", str(streams), "--context", "256", "-q"]
    spec = LaunchSpec(
        model=weights,
        name="bench/model:latest",
        context=256,
        threads=usable_cores(),
        api_key="key",
        parallel=streams,
    )
    with (
        subprocess.Popen(
            [*program, "serve", "bench/model", *options], env=environ, stdout=subprocess.PIPE
        ) as gateway,
        XLlamaCpp(environ).start(spec, home / "direct.log") as direct,
    ):
        try:
            direct.wait_until_ready(_LONGEST_S)
            url = gateway.stdout.readline().decode().strip()
            yield Side("serve", f"{url}/v1", "none"), Side("direct", direct.base_url, "key")
        finally:
            gateway.terminate()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--first", type=int, default=200)
    options = parser.parse_args()
    streams = options.streams
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        kept = ROOT / ".run" / "registry" / "files"
        weights = smollm2(kept if kept.is_dir() else home)
        found: dict[str, list[float]] = {"serve": [], "direct": []}
        numbers = iter(range(10**9))
        firsts: dict[str, list[float]] = {"serve": [], "direct": []}
        with both_sides(weights, home, streams) as sides:
            for turn in range(options.rounds + 1):
                for side in sides if turn % 2 else sides[::-1]:
                    speed = tokens_a_second(side, "bench/model", numbers, streams)
                    # the first loads the model
                    if turn:
                        found[side.name].append(speed)
            for turn in range(options.first):
                for side in sides if turn % 2 else sides[::-1]:
                    firsts[side.name].append(first_piece_ms(side, "bench/model", next(numbers)))
    ours, theirs = statistics.median(found["serve"]), statistics.median(found["direct"])
    ratio = ours / theirs
    reached = "yes" if ratio >= AIM else "no"
    print(f"{streams} streams, {TOKENS} tokens each, {options.rounds} rounds in turn")
    print(f"serve {ours:.1f} tokens/s, directly {theirs:.1f}: {ratio:.3f}, aim {AIM}: {reached}")
    if options.first > 1:
        cuts = {name: statistics.quantiles(times, n=100) for name, times in firsts.items()}
        for name, at, aim in (("median", 49, MEDIAN_AIM_MS), ("p99", 98, TAIL_AIM_MS)):
            through, direct = cuts["serve"][at], cuts["direct"][at]
            more = through - direct
            said = f"{through:.1f} ms, directly {direct:.1f}: {more:+.1f}, aim {aim:.0f}"
            print(f"first piece, {name}: serve {said}: {'yes' if more <= aim else 'no'}")
    print("load of the machine: " + ", ".join(f"{load:.1f}" for load in os.getloadavg()))
    return 0 if ratio >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
