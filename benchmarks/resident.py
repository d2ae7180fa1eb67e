"""What runs really take of memory, beside what is planned for them: small models on a CPU.

    python benchmarks/resident.py MODEL.gguf [--write docs/memory.md]

MODEL is one whose weights are not repacked for a CPU, such as the SmolLM2 that
`registry-fixtures/smollm2.py` gets; models with recurrent states, with sliding windows and with
weights that are repacked are made of random weights. Each kind of run starts xllamacpp as `run`
does and fills the whole context or cache; then the resident memory of its process is read, with
what is mapped of the file. Exit status 1 where it is further from the plan than 5 % and 60 MiB,
which an interpreter with its libraries takes.
"""

import argparse
import http.client
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "registry-fixtures")]

from benchmarks.made_models import write_model  # noqa: E402 - scripts beside this one
from modelrunner.memory.estimate import estimate  # noqa: E402
from modelrunner.memory.model.shape import ModelShape  # noqa: E402
from modelrunner.operations.launch.beside import draft_estimate  # noqa: E402
from modelrunner.operations.launch.request import LaunchRequest  # noqa: E402
from modelrunner.operations.model.headers import of_file  # noqa: E402
from modelrunner.runtime.child.server import Server  # noqa: E402
from modelrunner.runtime.select import select  # noqa: E402

MIB = 1024 * 1024
KEY = "k" * 43
BEGIN, END = "<!-- resident -->", "<!-- /resident -->"
PROGRAM = 60 * MIB
SHARE = 0.05
READY_S = 120.0
WORDS = ("river", "stone", "cloud", "lamp", "glass")


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        label: What the table calls it.
        made: Which model of random weights it is of; None for the one that is given.
        settings: As `run --set` takes them.
        prompts: How many prompts it gets, one after the other.
        words: How many words each has.
        grows: Whether each goes on where the one before ended; otherwise all are unlike.
        draft: Whether the model is its own draft model.
        repacked: Whether the weights are held twice: repacked, and as pages of the mapped file,
            which the system takes back when memory is short.
    """

    label: str
    settings: dict[str, int | str | bool] = field(default_factory=dict)
    made: str | None = None
    prompts: int = 1
    words: int = 600
    grows: bool = False
    draft: bool = False
    repacked: bool = False


KINDS = (
    Kind("context 8192", {"context": 8192, "cache-ram": 0}),
    Kind("q8_0 cache", {"context": 8192, "kv-type": "q8_0", "cache-ram": 0}),
    Kind("micro batch 2048", {"context": 8192, "micro-batch": 2048, "cache-ram": 0}, words=2100),
    Kind("4 conversations", {"context": 8192, "parallel": 4, "cache-ram": 0}),
    Kind("prompts kept (32 MiB)", {"context": 4096, "cache-ram": 32}, prompts=5, words=700),
    Kind("draft model", {"context": 4096, "cache-ram": 0}, draft=True),
    Kind("hybrid, 4 states kept", {"context": 8192, "cache-ram": 0, "checkpoints": 4},
         made="hybrid", prompts=9, words=100, grows=True),
    Kind("windows, 4 states kept", {"context": 8192, "cache-ram": 0, "checkpoints": 4},
         made="windowed", prompts=9, words=100, grows=True),
    Kind("repacked weights", {"context": 8192, "cache-ram": 0}, made="packed", words=100,
         repacked=True),
)  # fmt: skip


def planned(kind: Kind, model: Path) -> tuple[int, LaunchRequest]:
    """Return the bytes of the plan, and the request."""
    request = LaunchRequest.of(kind.settings, draft_model=model if kind.draft else None)
    shape: ModelShape = of_file(model).shape
    load = request.load(request.context or 1)
    needed = estimate(shape, load).total
    if kind.draft:
        needed += draft_estimate(shape, load).total
    return needed, request


def measured(kind: Kind, model: Path, request: LaunchRequest, folder: Path) -> tuple[int, int]:
    """Return the resident bytes of a runtime that has done its work, and those of mapped files."""
    spec = request.spec(model, "m", request.context or 1, api_key=KEY)
    runtime = select("xllamacpp", environ=os.environ, image="")
    server = runtime.start(spec, folder / "log")
    try:
        server.wait_until_ready(READY_S)
        for messages in conversations(kind):
            ask(server, messages)
        return resident(server.pid or 0)
    finally:
        server.stop()


def conversations(kind: Kind) -> Iterator[Sequence[dict[str, str]]]:
    """What a model gets: texts that have nothing in common from the first word on, or one chat."""
    earlier: list[dict[str, str]] = []
    for number in range(kind.prompts):
        text = " ".join([WORDS[number % len(WORDS)] + str(number), *(["the"] * kind.words)])
        messages = [*earlier, {"role": "user", "content": text}]
        yield messages
        if kind.grows:
            earlier = [*messages, {"role": "assistant", "content": "yes"}]


def ask(server: Server, messages: Sequence[dict[str, str]]) -> None:
    """Let a model read a conversation."""
    url = urlsplit(server.base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=600)
    body = {"messages": messages, "max_tokens": 4}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise SystemExit(f"{answer.status}: {answer.read().decode()[:200]}")
    answer.read()
    connection.close()


def resident(pid: int) -> tuple[int, int]:
    """Resident bytes of the largest of a process and its children, and those of mapped files."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    sizes = {
        words[0]: int(words[1]) * 1024
        for words in lines
        if words[0].startswith(("VmRSS", "RssFile"))
    }
    own = sizes["VmRSS:"], sizes["RssFile:"]
    return max([own, *(resident(int(child)) for child in children)])


def main() -> int:
    """Show the table; 1 where a run is too far from its plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    options = parser.parse_args()
    lines = ["| run | plan | resident | of it mapped | difference |", "|---|---|---|---|---|"]
    good = True
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            model = options.model if kind.made is None else write_model(kind.made, Path(folder))
            needed, request = planned(kind, model)
            found, mapped = measured(kind, model, request, Path(folder))
            more = found - needed - (model.stat().st_size if kind.repacked else 0)
        good = good and abs(more) <= SHARE * needed + PROGRAM
        sizes = " | ".join(f"{size / MIB:.0f} MiB" for size in (needed, found, mapped))
        lines.append(f"| {kind.label} | {sizes} | {more / MIB:+.0f} MiB |")
        print(lines[-1], flush=True)
    if options.write:
        before, _, rest = options.write.read_text().partition(BEGIN)
        text = "\n".join(lines)
        options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
