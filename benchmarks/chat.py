"""What a chat costs beside the runtime alone: the whole command, first token, speed, memory.

    python benchmarks/chat.py MODEL.gguf [--rounds 5]

Each round does everything once, one after the other, so that a busy moment of the machine hits
all; the median of each counts. The chat is the real one, on a terminal of its own with Markdown
drawn; the runtime alone is the same server, asked the same by a client of a few lines.
"""

import argparse
import json
import os
import pty
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from modelrunner.oci.reference import Reference
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.runtime.backends.xllamacpp import XLlamaCpp
from modelrunner.runtime.base import LaunchSpec
from modelrunner.store.store import Store

NAME = "bench/chat:1"
TOKENS = 128
ANSWER = 16
PROMPT = "A {}! Tell me a long story about it, with all that happened"
MEMORY_MIB = 80

BARE = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_predict = sys.argv[1], 8192, int(sys.argv[2])
params.n_parallel = 1
params.warmup = True
params.cpuparams.n_threads = int(sys.argv[3])
server = xllamacpp.Server(params)
messages = [{"role": "user", "content": "hi"}]
body = {"messages": messages, "max_tokens": int(sys.argv[2]), "temperature": 0}
print(server.handle_chat_completions(body)["choices"][0]["message"]["content"])
"""

CHAT = """
import sys
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation
from modelrunner.cli.chat.loop import chat
from modelrunner.cli.chat.session import Session
options = SamplingOptions(temperature=0.0, max_tokens=int(sys.argv[2]))
client = ChatClient(sys.argv[1], None, "m")
session = Session(client, Conversation(), "m", 8192, options, verbose=True)
chat(session, out=sys.stdout, err=sys.stderr, colour=True)
"""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        name, moment = Reference.parse(NAME), datetime(2025, 10, 2, tzinfo=UTC)
        package(
            Store(home / "store"), Ingredients(given.model), name, family="docker", created=moment
        )
        environ = {
            **os.environ,
            "MODELRUNNER_HOME": str(home),
            "MODELRUNNER_RUNTIME": "xllamacpp",
            "TERM": "xterm-256color",
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        found: dict[str, list[float]] = {}
        for round_number in range(given.rounds + 1):
            for name, value in one_round(given.model, environ):
                if round_number:  # the first one warms up
                    found.setdefault(name, []).append(value)
    report({name: statistics.median(values) for name, values in found.items()})


def one_round(model: Path, environ: dict[str, str]) -> Iterator[tuple[str, float]]:
    """Everything once."""
    bare = [sys.executable, "-c", BARE, str(model), str(ANSWER), str(len(os.sched_getaffinity(0)))]
    yield "bare", wall(bare, environ)
    words = ["run", NAME, "hi", "--max-tokens", str(ANSWER)]
    yield "run", wall([sys.executable, "-m", "modelrunner", *words], environ)
    yield from side_by_side(model, environ)
    options = ["--max-tokens", str(TOKENS), "--temperature", "0"]
    with chatting([sys.executable, "-m", "modelrunner", "run", NAME, *options], environ) as chat:
        chat.ask("Show a table and some Python code")
        chat.read_until("> Send a message")
        yield "memory", resident_mib(chat.pid)


def side_by_side(model: Path, environ: dict[str, str]) -> Iterator[tuple[str, float]]:
    """One server, asked by a chat on a terminal and by a client alone."""
    threads = len(os.sched_getaffinity(0))
    spec = LaunchSpec(model=model, name="m", context=8192, threads=threads, api_key="")
    with XLlamaCpp(environ).start(spec, Path(environ["MODELRUNNER_HOME"]) / "log") as server:
        server.wait_until_ready(60)
        directly(server.base_url, "warm up")
        command = [sys.executable, "-c", CHAT, server.base_url, str(TOKENS)]
        with chatting(command, environ) as chat:
            chat.ask(PROMPT.format("fox"))
            told = chat.read_until(r"context \d+ of \d+ tokens")
        figures = re.findall(r"first token after ([\d.]+) s.*answer \d+ tokens at ([\d.]+)/s", told)
        yield "chat first token", float(figures[0][0])
        yield "chat speed", float(figures[0][1])
        first, speed = directly(server.base_url, PROMPT.format("cat"))
        yield "runtime first token", first
        yield "runtime speed", speed


def wall(command: list[str], environ: dict[str, str]) -> float:
    """Seconds that a command takes."""
    begun = time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run(command, env=environ, stdin=quiet, stdout=quiet, stderr=quiet, check=True)
    return time.perf_counter() - begun


class Terminal:
    """The person's side of a terminal."""

    def __init__(self, master: int, pid: int) -> None:
        self._master = master
        self.pid = pid

    def ask(self, text: str) -> None:
        """Type a line."""
        os.write(self._master, f"{text}\r".encode())

    def read_until(self, pattern: str) -> str:
        """What is shown until this is seen, without control sequences and line ends."""
        seen, end = "", time.monotonic() + 120
        while not re.search(pattern, seen):
            ready, _, _ = select.select([self._master], [], [], end - time.monotonic())
            if not ready:
                raise SystemExit(f"{pattern} never came: {seen[-500:]}")
            seen += os.read(self._master, 65536).decode(errors="replace")
            seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen).replace("\r\n", "")
        return seen


@contextmanager
def chatting(command: list[str], environ: dict[str, str]) -> Iterator[Terminal]:
    """A chat on a terminal that waits for its first message."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        command, env=environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    terminal = Terminal(master, child.pid)
    try:
        terminal.read_until("Send a message")
        time.sleep(1)  # a person needs longer to type
        yield terminal
        terminal.ask("/bye")
        child.wait(20)
    finally:
        child.kill()
        child.wait()
        os.close(master)


def directly(url: str, prompt: str) -> tuple[float, float]:
    """Seconds to the first event and tokens a second, with the standard library alone."""
    body = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port)
    begun, first, speed = time.monotonic(), 0.0, 0.0
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    for line in connection.getresponse():
        if b'"content":"' in line and not first:
            first = time.monotonic() - begun
        if b'"timings"' in line:
            speed = json.loads(line.removeprefix(b"data: "))["timings"]["predicted_per_second"]
    connection.close()
    return first, speed


def resident_mib(pid: int) -> float:
    """Memory of a process that nobody else has, or that it shares: all of it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def report(found: dict[str, float]) -> None:
    """The table, against the targets."""
    first = found["runtime first token"]
    speed = found["chat speed"] / found["runtime speed"]
    rows = [
        ("run, wall", found["run"], found["bare"], "s", 1.3, found["run"] / found["bare"] <= 1.3),
        (
            "first token",
            found["chat first token"],
            first,
            "s",
            "1.1x + 20 ms",
            found["chat first token"] <= 1.1 * first + 0.02,
        ),
        ("speed", found["chat speed"], found["runtime speed"], "/s", 0.97, speed >= 0.97),
        (
            "memory, highest",
            found["memory"],
            MEMORY_MIB,
            "MiB",
            MEMORY_MIB,
            found["memory"] <= MEMORY_MIB,
        ),
    ]
    print(f"{'figure':<16}  {'ours':>10}  {'alone':>10}  {'ratio':>6}  target")
    for name, ours, alone, unit, target, met in rows:
        print(
            f"{name:<16}  {ours:>8.2f} {unit:<3}  {alone:>8.2f} {unit:<3}  {ours / alone:>5.2f}x"
            f"  {target} {'met' if met else 'missed'}"
        )


if __name__ == "__main__":
    main()
