"""What runs really take of memory, beside what is planned for them: small models on a CPU.

    python benchmarks/resident.py MODEL.gguf [WINDOWED.gguf] [--write docs/memory.md]

MODEL is one whose weights are not repacked for a CPU, such as the SmolLM2 that
`registry-fixtures/smollm2.py` gets; WINDOWED one with sliding windows, such as Gemma 3 270M. Each
kind of run starts xllamacpp as `run` does and fills the whole context or cache; then the resident
memory of its process is read, with what is mapped of the file. Exit status 1 where it is further
from the plan than 5 % and 60 MiB, which an interpreter with its libraries takes.
"""

import argparse
import http.client
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

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
        windowed: Whether it is of the model with windows.
        settings: As `run --set` takes them.
        prompts: How many unlike prompts it gets, one after the other.
        tokens: About how many tokens each has.
        draft: Whether the model is its own draft model.
    """

    label: str
    settings: dict[str, int | str | bool] = field(default_factory=dict)
    windowed: bool = False
    prompts: int = 1
    tokens: int = 0
    draft: bool = False


KINDS = (
    Kind("context 8192", {"context": 8192, "cache-ram": 0}, tokens=600),
    Kind("q8_0 cache", {"context": 8192, "kv-type": "q8_0", "cache-ram": 0}, tokens=600),
    Kind("micro batch 2048", {"context": 8192, "micro-batch": 2048, "cache-ram": 0}, tokens=2100),
    Kind("4 conversations", {"context": 8192, "parallel": 4, "cache-ram": 0}, tokens=600),
    Kind("prompts kept (32 MiB)", {"context": 4096, "cache-ram": 32}, prompts=5, tokens=700),
    Kind("draft model", {"context": 4096, "cache-ram": 0}, tokens=600, draft=True),
    Kind("windows, states kept", {"context": 8192, "cache-ram": 0, "checkpoints": 2},
         windowed=True, prompts=3, tokens=600),
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


def measured(kind: Kind, model: Path, request: LaunchRequest, folder: Path) -> int:
    """Return the resident bytes of a runtime that has done its work."""
    spec = request.spec(model, "m", request.context or 1, api_key=KEY)
    runtime = select("xllamacpp", environ=os.environ, image="")
    server = runtime.start(spec, folder / "log")
    try:
        server.wait_until_ready(READY_S)
        for text in prompts(kind):
            ask(server, text)
        return resident(server.pid or 0)
    finally:
        server.stop()


def prompts(kind: Kind) -> Iterator[str]:
    """Texts that have nothing in common from the first word on; one is of one word a token."""
    for number in range(kind.prompts):
        yield " ".join([WORDS[number % len(WORDS)] + str(number), *(["the"] * kind.tokens)])


def ask(server: Server, text: str) -> None:
    """Let a model read a text."""
    url = urlsplit(server.base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=600)
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": 4}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise SystemExit(f"{answer.status}: {answer.read().decode()[:200]}")
    answer.read()
    connection.close()


def resident(pid: int) -> int:
    """Resident bytes of the largest of a process and its children, mapped files too."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = 0
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            own = int(line.split()[1]) * 1024
    return max([own, *(resident(int(child)) for child in children)])


def main() -> int:
    """Show the table; 1 where a run is too far from its plan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("windowed", type=Path, nargs="?")
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    options = parser.parse_args()
    lines = ["| run | plan | resident | difference |", "|---|---|---|---|"]
    good = True
    for kind in KINDS:
        model = options.windowed if kind.windowed else options.model
        if model is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            needed, request = planned(kind, model)
            found = measured(kind, model, request, Path(folder))
        good = good and abs(found - needed) <= SHARE * needed + PROGRAM
        sizes = (
            f"{needed / MIB:.0f} MiB | {found / MIB:.0f} MiB | {(found - needed) / MIB:+.0f} MiB"
        )
        lines.append(f"| {kind.label} | {sizes} |")
        print(lines[-1], flush=True)
    if options.write:
        before, _, rest = options.write.read_text().partition(BEGIN)
        text = "\n".join(lines)
        options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
