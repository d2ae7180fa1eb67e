"""How fast, frugal and dependable pulls, pushes and packages are, beside the tools of others.

    make peers
    python benchmarks/transfer.py [--size 1GiB] [--rounds 5] [--only plain,...] [--loaded] [--json]

Servers are Debian's `docker-registry`, the same behind nginx with TLS, and one that gives each
connection 20 MB/s and 30 ms, as content delivery networks do. All are on loopback, and everything
lies in memory (`/dev/shm`), four times the size at most. The sides take turns, so that whatever
else the machine does hits all of them. `--loaded` has two processes compute beside it. A figure
whose tool is not there is left out and says so; `make peers` builds those that few distributions
have. Exit status 1 where a target is missed.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cutting import cutting  # noqa: E402 - scripts beside this one
from benchmarks.machine import busy, state  # noqa: E402
from benchmarks.peers import (  # noqa: E402
    AGAIN,
    PULLS,
    PUSHES,
    Task,
    Words,
    curl_pull,
    docker_model_runner,
    layout_of,
    versions,
)
from benchmarks.servers import (  # noqa: E402
    OTHER_TAG,
    Address,
    Limited,
    MissingToolError,
    Model,
    behind_tls,
    docker_registry,
    limited,
    push,
    storage,
    tool,
)
from benchmarks.timing import (  # noqa: E402
    Command,
    CommandFailedError,
    Cost,
    alternate,
    measure,
    median_cpu_s,
    median_s,
    start,
)
from tests.support.gguf import tiny_gguf  # noqa: E402

MIB, GIB = 1024**2, 1024**3
KILLS = 20
TWICE = 16 * MIB
"""Bytes that a kill may cost."""

TAG, SHARDS_TAG, SMALL_TAG = "full", "shards", "quarter"
_OF_ONE_BLOB = {"plain", "tls", "connections", "crawl"}
"""Figures that need one blob, and room for what one side makes of it."""

MANY = {
    "200 layers of 5 MiB": (200, 5 * MIB),
    "2,000 layers of 50 kB": (2000, 50_000),
}
"""Models of many small layers: how many, and of how many bytes."""
OURS = "modelrunner"
BASE = "python -c pass"

_SINGLE = """
import hashlib, sys
import requests
url, digest, out = sys.argv[1:]
found = hashlib.sha256()
with requests.get(url, stream=True, timeout=30) as response, open(out, "wb") as file:
    response.raise_for_status()
    for chunk in response.iter_content(10 * 1024 * 1024):
        file.write(chunk)
        found.update(chunk)
assert "sha256:" + found.hexdigest() == digest
"""


@dataclass(frozen=True)
class Row:
    """One figure; `reached` is None where it could not be measured."""

    figure: str
    ours: str
    theirs: str
    ratio: float | None
    target: str
    reached: bool | None


@dataclass
class Bench:
    """What all figures share."""

    folder: Path
    rounds: int
    size: int
    deadline: float
    loaded: bool = False
    rows: list[Row] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def home(self) -> Path:
        """The store that our side pulls into."""
        return self.folder / "home"

    @property
    def out(self) -> Path:
        """Where the other sides put what they get."""
        return self.folder / "out"

    @property
    def log(self) -> Path:
        """The output of the command that ran last."""
        return self.folder / "command.log"

    def late(self) -> bool:
        """Whether the time for all figures is used up."""
        return time.monotonic() > self.deadline

    def clear(self) -> None:
        """Forgets what was pulled."""
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()

    def sides(self, commands: Sequence[Command]) -> dict[str, list[Cost]]:
        """Runs the sides in turn."""
        found = alternate(commands, self.rounds, self.log, self.late)
        self.note(found[OURS])
        return found

    def note(self, costs: Sequence[Cost]) -> None:
        """Takes our side's memory down."""
        self.peak_bytes = max(self.peak_bytes, *(cost.peak_bytes for cost in costs))

    def compare(
        self, figure: str, ours: list[Cost], theirs: list[Cost], target: float | None
    ) -> None:
        """A row: our time against theirs."""
        mine, other = median_s(ours), median_s(theirs)
        ratio = mine / other
        self.rows.append(
            Row(figure, f"{mine:.2f} s", f"{other:.2f} s", ratio, _aim(target),
                None if target is None else ratio <= target)
        )  # fmt: skip

    def missing(self, figure: str, target: float | None, reason: Exception) -> None:
        """A row that says why there is no figure."""
        self.rows.append(Row(figure, "-", str(reason), None, _aim(target), None))

    def versus(
        self,
        figure: str,
        ours: Command,
        sides: dict[str, tuple[float | None, Callable[[], Command]]],
    ) -> dict[str, list[Cost]]:
        """Rows: our side against each of the others that are there, all in turn; what each took.

        Args:
            figure: What is measured.
            ours: Our side.
            sides: What the others are called in the rows: the target, and how the side is made.
        """
        commands: dict[str, Command] = {}
        for name, (target, make) in sides.items():
            try:
                commands[name] = make()
            except MissingToolError as exc:
                self.missing(f"{figure}, against {name}", target, exc)
        costs = self.sides([ours, *commands.values()])
        for name, command in commands.items():
            self.compare(
                f"{figure}, against {name}", costs[OURS], costs[command.name], sides[name][0]
            )
        return costs


def _aim(target: float | None) -> str:
    return "-" if target is None else f"≤ {target:g} x"


def ours(
    bench: Bench, *words: str, before: Callable[[], None] = lambda: None, **environ: str
) -> Command:
    """A command of ours."""
    return Command(
        OURS,
        [sys.executable, "-m", "modelrunner", *words],
        {"MODELRUNNER_HOME": str(bench.home), "MODELRUNNER_MIRRORS": "", "NO_PROXY": "*",
         # as users have it: to compile anew takes longer than most commands
         "PYTHONDONTWRITEBYTECODE": "", **environ},
        before,
        lambda: None,
    )  # fmt: skip


def pull(
    bench: Bench, reference: str, *options: str, keep: bool = False, **environ: str
) -> Command:
    """Our side of a pull."""

    def check() -> None:
        if not any((bench.home / "store").rglob("*")):
            raise CommandFailedError(f"nothing came into {bench.home}")

    before = (lambda: None) if keep else bench.clear
    words = ["pull", "--json", "--progress", "none", *options, reference]
    return replace(ours(bench, *words, before=before, **environ), check=check)


def other(bench: Bench, name: str, words: Words, task: Task, *, keep: bool = False) -> Command:
    """Another side of a pull; the folder `out` is where it puts what it gets."""
    wanted = Counter(layer.size for layer in task.model.layers)

    def check() -> None:
        there = Counter(path.stat().st_size for path in bench.out.rglob("*") if path.is_file())
        if not wanted <= there:
            raise CommandFailedError(f"{name} brought {dict(there)} of {dict(wanted)}")

    before = (lambda: None) if keep else bench.clear
    return Command(name, words(task), {"NO_PROXY": "*", **task.trust}, before, check)


def single_stream(task: Task) -> list[str]:
    """One stream with a hash, as `hf download` does for small and old repositories."""
    model = task.model
    return [sys.executable, "-c", _SINGLE, task.registry.base + model.path, model.digest,
            str(task.out / "blob")]  # fmt: skip


def aria2c(task: Task) -> list[str]:
    """aria2c with 16 connections, which verifies nothing."""
    return [tool("aria2c"), "-q", "-x16", "-s16", "-k1M", "--file-allocation=none", "--no-conf",
            "-d", str(task.out), "-o", "blob", task.registry.base + task.model.path]  # fmt: skip


Sides = dict[str, tuple[float | None, Callable[[], Command]]]
"""The others in the rows: the target, and how the side is made."""


def pulls(bench: Bench, task: Task, targets: dict[str, float | None]) -> Sides:
    """curl, which verifies nothing, and those that verify."""
    sides: dict[str, Words] = {"curl, unverified": curl_pull, **PULLS}

    def side(name: str, words: Words) -> tuple[float | None, Callable[[], Command]]:
        return targets.get(name), lambda: other(bench, name, words, task)

    return {name: side(name, words) for name, words in sides.items()}


def plain(bench: Bench, registry: Address, model: Model) -> None:
    """Plain HTTP against all there are; processor time."""
    task = Task(registry, model, bench.out)
    fast = 1.0 if bench.loaded else 0.8
    targets: dict[str, float | None] = {
        "curl, unverified": 1.2, "crane": fast, "`oras cp`": fast, "regctl": fast, "modctl": fast,
        "skopeo": 0.3,
    }  # fmt: skip
    sides = pulls(bench, task, targets)
    name = "a single stream with a hash"
    sides[name] = (None, lambda: other(bench, name, single_stream, task))
    costs = bench.versus("plain HTTP", pull(bench, model.on(registry.host)), sides)
    processor(bench, "plain HTTP", costs, model, 1.45)


def shards(bench: Bench, registry: Address, model: Model) -> None:
    """Three layers over plain HTTP."""
    task = Task(registry, model, bench.out)
    fast = 1.0 if bench.loaded else 0.8
    targets: dict[str, float | None] = {"crane": fast, "`oras cp`": fast, "regctl": fast}
    sides = pulls(bench, task, targets)
    bench.versus("three layers, plain HTTP", pull(bench, model.on(registry.host)), sides)


def many(bench: Bench, registry: Address) -> None:
    """Models of many small layers over plain HTTP."""
    for number, (figure, (count, size)) in enumerate(MANY.items()):
        model = push(registry, bench.folder, count * size, f"many{number}", count, even=True)
        task = Task(registry, model, bench.out)
        targets: dict[str, float | None] = {"`oras cp`": 0.7, "crane": 0.7}
        sides = {
            name: side for name, side in pulls(bench, task, targets).items() if name in targets
        }
        bench.versus(figure, pull(bench, model.on(registry.host)), sides)


def cuts(bench: Bench, registry: Address, model: Model) -> None:
    """A proxy that breaks every answer off, against the same one when it does not."""
    for where, figure in {"half": "at its half", str(MIB): "after 1 MiB"}.items():
        with (
            cutting(bench.folder, registry, "never") as whole,
            cutting(bench.folder, registry, where) as broken,
        ):
            without = replace(pull(bench, model.on(whole.host)), name="without")
            costs = bench.sides([pull(bench, model.on(broken.host)), without])
        bench.compare(f"each answer cut {figure}, against none", costs[OURS], costs["without"], 1.5)


def tls(bench: Bench, registry: Address, model: Model) -> None:
    """TLS, with a certificate authority of its own."""
    targets: dict[str, float | None] = {
        "curl, unverified": 1.1, "crane": 0.9, "`oras cp`": 0.9, "regctl": 0.9,
    }  # fmt: skip
    try:
        with behind_tls(bench.folder, registry) as address:
            task = Task(address, model, bench.out)
            mine = pull(bench, model.on(address.host), SSL_CERT_FILE=str(address.certificate))
            costs = bench.versus("TLS", mine, pulls(bench, task, targets))
    except MissingToolError as exc:
        bench.missing("TLS", None, exc)
        return
    processor(bench, "TLS", costs, model, 2.1)


def processor(
    bench: Bench, figure: str, costs: dict[str, list[Cost]], model: Model, target: float
) -> None:
    """A row: our processor time, beside that of the first of the fast ones that is there."""
    mine = median_cpu_s(costs[OURS]) * GIB / model.size
    beside = next(
        (name for name in ("crane", "`oras cp`", "curl, unverified") if name in costs), ""
    )
    theirs = median_cpu_s(costs[beside]) * GIB / model.size if beside else None
    bench.rows.append(
        Row(f"processor time, {figure}", f"{mine:.2f} s/GiB",
            "-" if theirs is None else f"{beside} {theirs:.2f} s/GiB",
            None if theirs is None else mine / theirs, f"≤ {target:g} s/GiB", mine <= target)
    )  # fmt: skip


def again(bench: Bench, registry: Address, model: Model) -> None:
    """A pull by tag of what is there, from a registry without latency; and by digest."""
    bench.clear()
    rows: dict[str, list[Cost]] = {}
    mine = pull(bench, model.on(registry.host), keep=True)
    pinned = replace(pull(bench, model.pinned_on(registry.host), keep=True), name="by digest")
    interpreter = Command(BASE, [sys.executable, "-c", "pass"], {}, lambda: None, lambda: None)
    commands = [mine, pinned, interpreter]
    for name, words in AGAIN.items():
        task = Task(registry, model, bench.out / re.sub("[^a-z]", "", name))
        try:
            commands.append(other(bench, name, words, task, keep=True))
        except MissingToolError as exc:
            bench.missing(f"pull again, against {name}", None, exc)
    for number in range(1 + bench.rounds):
        for command in commands:
            cost = measure(command, bench.log)
            if number:
                rows.setdefault(command.name, []).append(cost)
    bench.compare("pull again by digest, against bare Python", rows["by digest"], rows[BASE], 5.0)
    for name in AGAIN:
        if name in rows:
            bench.compare(f"pull again by tag, against {name}", rows[OURS], rows[name], None)
    bench.clear()


def pushes(bench: Bench, registry: Address, models: dict[str, Model]) -> None:
    """Pushes to an empty registry, of one layer and of three; and of what is there."""
    folder = bench.folder / "target"
    folder.mkdir()
    with docker_registry(folder) as target:
        for figure, model in models.items():
            _push(bench, figure, registry, target, storage(folder), model)


def _push(
    bench: Bench, figure: str, registry: Address, target: Address, kept: Path, model: Model
) -> None:
    bench.clear()
    measure(pull(bench, model.on(registry.host)), bench.log)
    measure(ours(bench, "tag", model.on(registry.host), model.on(target.host)), bench.log)
    layout = layout_of(model, bench.out / "layout")

    def empty() -> None:
        shutil.rmtree(kept, ignore_errors=True)

    def check() -> None:
        stored = sum(path.stat().st_size for path in kept.rglob("data"))
        if stored < model.size:
            raise CommandFailedError(f"{stored} of {model.size} bytes came to the registry")

    words = ["push", "--json", model.on(target.host)]
    mine = replace(ours(bench, *words, before=empty), check=check)
    task = Task(target, model, bench.out, layout)
    costs: dict[str, list[Cost]] = {}

    def side(name: str, words: Words) -> Command:
        return Command(name, words(task), {"NO_PROXY": "*"}, empty, check)

    sides: Sides = {name: (None, partial(side, name, words)) for name, words in PUSHES.items()}
    costs = bench.versus(figure, mine, sides)
    fast = {name: costs[name] for name in ("crane", "`oras cp`", "regctl") if name in costs}
    if fast:
        best = min(fast, key=lambda name: median_s(fast[name]))
        bench.compare(f"{figure}, against the best of them ({best})", costs[OURS], fast[best], 0.9)
    processor(bench, figure, costs, model, 0.8)
    measure(mine, bench.log)
    there = [replace(mine, before=lambda: None)]
    there += [
        replace(make(), before=lambda: None) for name, (_, make) in sides.items() if name in costs
    ]
    costs = bench.sides(there)
    for name in sides:
        if name in costs:
            again = f"{figure}, all there, against {name}"
            bench.compare(again, costs[OURS], costs[name], None)
    bench.clear()


def packages(bench: Bench, size: int) -> None:
    """A package of one file, against Docker Model Runner's, and against `cp`."""
    bench.clear()
    file = bench.folder / "model.gguf"
    tiny_gguf(file)
    block = random.Random(1).randbytes(MIB)
    with file.open("ab") as out:
        for _ in range(size // MIB):
            out.write(block)
    mine = ours(bench, "package", str(file), "bench/model:1", "--json", before=bench.clear)
    copy = Command("`cp`", [tool("cp"), str(file), str(bench.out / "copy")], {}, bench.clear,
                   lambda: None)  # fmt: skip
    figure, name, target = "package", "`docker model package`", 0.8
    try:
        with docker_model_runner(bench.folder) as (program, environ):
            models = Path(environ["MODELS_PATH"])

            def remove() -> None:
                bench.clear()
                subprocess.run([*program, "rm", "-f", "bench/model:1"], check=False,
                               env={**os.environ, **environ}, capture_output=True)  # fmt: skip

            def check() -> None:
                if sum(path.stat().st_size for path in models.rglob("*")) < size:
                    raise CommandFailedError(f"nothing came into {models}")

            words = [*program, "package", "--gguf", str(file), "bench/model:1"]
            theirs = Command(name, words, environ, remove, check)
            bench.versus(
                figure, mine, {name: (target, lambda: theirs), "`cp`": (None, lambda: copy)}
            )
    except MissingToolError as exc:
        bench.missing(f"{figure}, against {name}", target, exc)
        bench.versus(figure, mine, {"`cp`": (None, lambda: copy)})
    bench.clear()
    file.unlink()


def connections(bench: Bench, model: Model) -> None:
    """Connections of 20 MB/s each against aria2c."""
    with limited(bench.folder, model) as address:
        task, name = Task(address, model, bench.out), "`aria2c -x16 -s16`, unverified"
        sides: Sides = {name: (1.05, lambda: other(bench, name, aria2c, task))}
        bench.versus("limited connections", pull(bench, model.on(address.host)), sides)


def crawl(bench: Bench, model: Model) -> None:
    """One of eight connections crawls."""
    fixed = ["--connections", "8"] if "--connections" in _help() else []
    of = "8" if fixed else "all"
    with limited(bench.folder, model) as address:

        def crawling() -> None:
            bench.clear()
            address.forget(crawl=3)

        def usual() -> None:
            bench.clear()
            address.forget()

        base = pull(bench, model.on(address.host), *fixed)
        slow = Command(OURS, base.words, base.environ, crawling, base.check)
        quick = Command("without", base.words, base.environ, usual, base.check)
        costs = bench.sides([slow, quick])
    bench.compare(
        f"one of {of} connections crawls at 50 KB/s, against none", costs[OURS], costs["without"],
        1.2,
    )  # fmt: skip


def kills(bench: Bench, model: Model) -> None:
    """What is fetched again after kill -9 at random points."""
    chance = random.Random(1)
    worst, count = 0, 0
    with limited(bench.folder, model) as address:
        again = pull(bench, model.on(address.host), keep=True)
        bench.clear()
        whole = measure(again, bench.log).seconds
        for _kill in range(KILLS):
            bench.clear()
            address.forget()
            process = start(again, bench.log)
            try:
                process.wait(chance.uniform(0.2 * whole, whole))
            except subprocess.TimeoutExpired:
                pass
            finally:
                process.kill()
                process.wait()
            bench.note([measure(again, bench.log)])
            worst = max(worst, address.counted().sent - model.size)
            count += 1
            if bench.late():
                break
        bench.rows.append(
            Row(f"fetched again after kill -9, worst of {count}", f"{worst / MIB:.1f} MiB", "-",
                None, f"≤ {TWICE // MIB} MiB", worst <= TWICE)
        )  # fmt: skip
        bench.clear()
        mine = _fetched_again(bench, address, again, model)
        for name, words in {**AGAIN, "`curl -C -`, unverified": _curl_continued}.items():
            bench.clear()
            figure = "fetched again after kill -9 at half"
            try:
                side = other(bench, name, words, Task(address, model, bench.out), keep=True)
            except MissingToolError as exc:
                bench.missing(f"{figure}, against {name}", None, exc)
                continue
            theirs = _fetched_again(bench, address, side, model)
            bench.rows.append(
                Row(f"{figure}, against {name}", _mib(mine), _mib(theirs), None, "-", None)
            )  # fmt: skip
    bench.clear()


def _mib(count: int | None) -> str:
    return "cannot resume" if count is None else f"{count / MIB:.1f} MiB"


def _fetched_again(bench: Bench, address: Limited, command: Command, model: Model) -> int | None:
    """Bytes that are fetched twice after a kill at half; None where the command cannot resume."""
    address.forget()
    process = start(command, bench.log)
    while process.poll() is None and address.counted().sent < model.size // 2:
        time.sleep(0.02)
    process.kill()
    process.wait()
    try:
        measure(command, bench.log)
    except CommandFailedError:
        return None
    return address.counted().sent - model.size


def _curl_continued(task: Task) -> list[str]:
    return [tool("curl"), "-sS", "-C", "-", "-o", str(task.out / "blob"),
            task.registry.base + task.model.path]  # fmt: skip


def there(bench: Bench, model: Model) -> None:
    """A model that is there already."""
    with limited(bench.folder, model) as address:
        bench.clear()
        tagged = model.on(address.host)
        measure(pull(bench, tagged, keep=True), bench.log)
        head = "1 HEAD"
        cases = [
            ("the same tag", tagged, head, 0.35),
            ("another tag", tagged.rpartition(":")[0] + f":{OTHER_TAG}", head, 0.35),
            ("by digest", model.pinned_on(address.host), "no request", None),
        ]
        for name, reference, wanted, limit_s in cases:
            costs, heard = [], set()
            for _round in range(bench.rounds):
                address.forget()
                costs.append(measure(pull(bench, reference, keep=True), bench.log))
                heard.add(_requests(address.counted().requests))
            took = median_s(costs)
            target = wanted if limit_s is None else f"{wanted}, < {limit_s:g} s"
            bench.rows.append(
                Row(f"model that is there, {name}", f"{', '.join(sorted(heard))}, {took:.2f} s",
                    "-", None, target, heard == {wanted} and (limit_s is None or took < limit_s))
            )  # fmt: skip
    bench.clear()


def _requests(requests: Sequence[str]) -> str:
    methods = [request.split()[0] for request in requests]
    kinds = sorted(set(methods))
    return " + ".join(f"{methods.count(kind)} {kind}" for kind in kinds) or "no request"


def _help() -> str:
    words = [sys.executable, "-m", "modelrunner", "pull", "--help"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


FIGURES = (
    "plain", "shards", "many", "tls", "connections", "crawl", "cuts", "kills", "there", "again",
    "push", "package",
)  # fmt: skip


def run(bench: Bench, wanted: Sequence[str]) -> None:
    """All figures that are wanted."""
    with docker_registry(bench.folder) as registry:

        @cache
        def model() -> Model:
            return push(registry, bench.folder, bench.size, TAG)

        @cache
        def split() -> Model:
            return push(registry, bench.folder, bench.size, SHARDS_TAG, layers=3)

        @cache
        def small() -> Model:
            return push(registry, bench.folder, max(MIB, bench.size // 4), SMALL_TAG)

        steps: dict[str, Callable[[], None]] = {
            "plain": lambda: plain(bench, registry, model()),
            "shards": lambda: shards(bench, registry, split()),
            "many": lambda: many(bench, registry),
            "tls": lambda: tls(bench, registry, model()),
            "connections": lambda: connections(bench, model()),
            "crawl": lambda: crawl(bench, model()),
            "cuts": lambda: cuts(bench, registry, small()),
            "kills": lambda: kills(bench, small()),
            "there": lambda: there(bench, small()),
            "again": lambda: again(bench, registry, small()),
            "push": lambda: pushes(
                bench, registry, {"push": model(), "push of three layers": split()}
            ),
            "package": lambda: packages(bench, bench.size),
        }
        for name in wanted:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            steps[name]()
    if bench.peak_bytes:
        peak = bench.peak_bytes / MIB
        row = Row("peak memory", f"{peak:.0f} MiB", "-", None, "≤ 150 MiB", peak <= 150)
        bench.rows.append(row)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| figure | ours | theirs | ratio | target | reached |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        unjudged = "not measured" if row.ours == "-" else "-"
        reached = {True: "yes", False: "no", None: unjudged}[row.reached]
        lines.append(
            f"| {row.figure} | {row.ours} | {row.theirs} | {ratio} | {row.target} | {reached} |"
        )
    return "\n".join(lines)


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)(MiB|GiB)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 256MiB or 1GiB")
    return int(found[1]) * (MIB if found[2] == "MiB" else GIB)


def _figures(text: str) -> list[str]:
    names = text.split(",")
    unknown = set(names) - set(FIGURES)
    if unknown:
        raise argparse.ArgumentTypeError(f"figures are {', '.join(FIGURES)}")
    return names


@contextmanager
def _folder(where: Path) -> Iterator[Path]:
    """A folder in memory, gone at the end, however the end comes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="modelrunner-bench-", dir=where) as folder:
        yield Path(folder)


def main() -> int:
    """Prints the table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=_size, default=GIB, help="of the blob (default 1GiB)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken")
    parser.add_argument("--only", type=_figures, default=list(FIGURES), metavar="FIGURE,...")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for all figures")
    parser.add_argument("--loaded", action="store_true", help="have two processes compute beside")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() else Path(tempfile.gettempdir())
    times = 2.25 if _OF_ONE_BLOB.issuperset(arguments.only) else 6
    if shutil.disk_usage(where).free < times * arguments.size:
        print(f"{where} has no room for {times:g} times the blob; try --size 256MiB",
              file=sys.stderr)  # fmt: skip
        return 2
    lines = [state(), versions()]
    try:
        with _folder(where) as folder, busy(2 if arguments.loaded else 0):
            deadline = time.monotonic() + arguments.limit
            bench = Bench(
                folder, arguments.rounds, arguments.size, deadline, loaded=arguments.loaded
            )
            run(bench, arguments.only)
    except MissingToolError as exc:
        print(f"nothing can be measured: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if arguments.loaded:
        lines.append("two processes that compute without end beside it")
    lines.append(f"load at the end {os.getloadavg()[0]:.1f}")
    if arguments.json:
        rows = [asdict(row) for row in bench.rows]
        print(json.dumps({"machine": lines, "rows": rows}, indent=2))
    else:
        print("\n".join(lines), table(bench.rows), sep="\n\n")
    return 1 if any(row.reached is False for row in bench.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
