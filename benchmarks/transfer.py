"""How fast, how frugal and how dependable `modelrunner pull` is, beside curl, skopeo and others.

    python benchmarks/transfer.py [--size 1GiB] [--rounds 5] [--only plain,tls,...] [--json]

Servers are Debian's `docker-registry`, the same behind nginx with TLS, and one that gives each
connection 20 MB/s and 30 ms, as content delivery networks do. All are on loopback, and everything
lies in memory (`/dev/shm`), four times the size at most. The sides take turns, so that whatever
else the machine does hits all of them. A figure whose tool is not installed is left out and says
so. Exit status 1 where a target is missed.
"""

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.servers import (  # noqa: E402
    OTHER_TAG,
    Address,
    MissingToolError,
    Model,
    behind_tls,
    docker_registry,
    limited,
    push,
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
from modelrunner.transfer.pieces import piece_size  # noqa: E402

MIB, GIB = 1024**2, 1024**3
KILLS = 20
TAG, SMALL_TAG = "full", "quarter"
# loopback is spoken to in plain http; a name that is not asked brings the mirror's https
MIRRORED = "bench.invalid"
OURS = "modelrunner"

_ORAS = """
import sys
from oras.provider import Registry
host, digest, out = sys.argv[1:]
Registry(hostname=host, insecure=True).download_blob(f"{host}/bench/model:full", digest, out)
"""
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

    def compare(self, figure: str, ours: list[Cost], theirs: list[Cost], target: float) -> None:
        """A row: our time against theirs."""
        mine, other = median_s(ours), median_s(theirs)
        ratio = mine / other
        self.rows.append(
            Row(figure, f"{mine:.2f} s", f"{other:.2f} s", ratio, f"≤ {target:g} x",
                ratio <= target)
        )  # fmt: skip

    def missing(self, figure: str, target: str, reason: Exception) -> None:
        """A row that says why there is no figure."""
        self.rows.append(Row(figure, "-", str(reason), None, target, None))


def pull(
    bench: Bench, reference: str, *options: str, keep: bool = False, **environ: str
) -> Command:
    """Our side."""

    def check() -> None:
        if not any((bench.home / "store").rglob("*")):
            raise CommandFailedError(f"nothing came into {bench.home}")

    return Command(
        OURS,
        [sys.executable, "-m", "modelrunner", "pull", "--json", "--progress", "none", *options,
         reference],
        {"MODELRUNNER_HOME": str(bench.home), "MODELRUNNER_MIRRORS": "", "NO_PROXY": "*",
         **environ},
        (lambda: None) if keep else bench.clear,
        check,
    )  # fmt: skip


def other(bench: Bench, name: str, size: int, words: Sequence[str]) -> Command:
    """Another side; the file or folder `out` is where it puts what it gets."""

    def check() -> None:
        there = max((path.stat().st_size for path in bench.out.rglob("*")), default=0)
        if there != size:
            raise CommandFailedError(f"{name} brought {there} of {size} bytes")

    return Command(name, words, {"NO_PROXY": "*"}, bench.clear, check)


def curl(bench: Bench, address: Address, model: Model) -> Command:
    """curl, which verifies nothing."""
    trust = [] if address.certificate is None else ["--cacert", str(address.certificate)]
    words = [tool("curl"), "-sS", *trust, "-o", str(bench.out / "blob"), address.base + model.path]
    return other(bench, "curl", model.size, words)


def skopeo(bench: Bench, address: Address, model: Model) -> Command:
    """skopeo, which verifies."""
    words = [tool("skopeo"), "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false",
             f"docker://{model.on(address.host)}", f"dir:{bench.out}"]  # fmt: skip
    return other(bench, "skopeo", model.size, words)


def oras_py(bench: Bench, address: Address, model: Model) -> Command:
    """oras-py, which verifies nothing."""
    words = [sys.executable, "-c", _ORAS, address.host, model.digest, str(bench.out / "blob")]
    return other(bench, "oras-py", model.size, words)


def single_stream(bench: Bench, address: Address, model: Model) -> Command:
    """One stream with a hash, as `hf download` does for small and old repositories."""
    words = [sys.executable, "-c", _SINGLE, address.base + model.path, model.digest,
             str(bench.out / "blob")]  # fmt: skip
    return other(bench, "single stream", model.size, words)


def aria2c(bench: Bench, address: Address, model: Model) -> Command:
    """aria2c with 16 connections, which verifies nothing."""
    words = [tool("aria2c"), "-q", "-x16", "-s16", "-k1M", "--file-allocation=none", "--no-conf",
             "-d", str(bench.out), "-o", "blob", address.base + model.path]  # fmt: skip
    return other(bench, "aria2c", model.size, words)


def plain(bench: Bench, registry: Address, model: Model) -> None:
    """Plain HTTP against curl, skopeo, oras-py and a single stream; processor time."""
    makers: list[tuple[str, float, Callable[[Bench, Address, Model], Command]]] = [
        ("curl, unverified", 1.0, curl),
        ("`skopeo copy`", 0.3, skopeo),
        ("oras-py, unverified", 0.3, oras_py),
        ("a single stream with a hash", 0.3, single_stream),
    ]
    commands = [pull(bench, model.on(registry.host))]
    for name, target, make in makers:
        try:
            commands.append(make(bench, registry, model))
        except MissingToolError as exc:
            bench.missing(f"plain HTTP, against {name}", f"≤ {target:g} x", exc)
    costs = bench.sides(commands)
    present = {command.name for command in commands}
    for name, target, make in makers:
        key = {curl: "curl", skopeo: "skopeo", oras_py: "oras-py"}.get(make, "single stream")
        if key in present:
            bench.compare(f"plain HTTP, against {name}", costs[OURS], costs[key], target)
    mine = median_cpu_s(costs[OURS]) * GIB / model.size
    theirs = median_cpu_s(costs["curl"]) * GIB / model.size if "curl" in present else None
    bench.rows.append(
        Row("processor time, plain HTTP", f"{mine:.2f} s/GiB",
            "-" if theirs is None else f"curl {theirs:.2f} s/GiB",
            None if theirs is None else mine / theirs, "≤ 1.5 s/GiB", mine <= 1.5)
    )  # fmt: skip


def tls(bench: Bench, registry: Address, model: Model) -> None:
    """TLS against curl."""
    figure = "TLS, against curl, unverified"
    try:
        with behind_tls(bench.folder, registry) as address:
            mirror = f"{MIRRORED}={address.base}"
            trust = str(address.certificate)
            mine = pull(bench, model.on(MIRRORED), MODELRUNNER_MIRRORS=mirror, SSL_CERT_FILE=trust)
            costs = bench.sides([mine, curl(bench, address, model)])
    except MissingToolError as exc:
        bench.missing(figure, "≤ 1 x", exc)
        return
    bench.compare(figure, costs[OURS], costs["curl"], 1.0)


def connections(bench: Bench, model: Model) -> None:
    """Connections of 20 MB/s each against aria2c."""
    figure = "limited connections, against `aria2c -x16 -s16`, unverified"
    with limited(bench.folder, model) as address:
        try:
            commands = [pull(bench, model.on(address.host)), aria2c(bench, address, model)]
        except MissingToolError as exc:
            bench.missing(figure, "≤ 1.05 x", exc)
            return
        costs = bench.sides(commands)
    bench.compare(figure, costs[OURS], costs["aria2c"], 1.05)


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
    worst, allowed, count = 0, 1, 0
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
            used = max(1, address.counted().connections)
            bench.note([measure(again, bench.log)])
            extra = address.counted().sent - model.size
            count += 1
            if extra * allowed > worst * used * piece_size(model.size):
                worst, allowed = extra, used * piece_size(model.size)
            if bench.late():
                break
    bench.clear()
    bench.rows.append(
        Row(f"fetched again after kill -9, worst of {count}", f"{worst / MIB:.1f} MiB",
            f"connections x piece {allowed / MIB:.0f} MiB", worst / allowed, "≤ 1 x",
            worst <= allowed)
    )  # fmt: skip


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


FIGURES = ("plain", "tls", "connections", "crawl", "kills", "there")


def run(bench: Bench, wanted: Sequence[str]) -> None:
    """All figures that are wanted."""
    with docker_registry(bench.folder) as registry:
        model = push(registry, bench.folder, bench.size, TAG)
        small = push(registry, bench.folder, max(MIB, bench.size // 4), SMALL_TAG)
        steps: dict[str, Callable[[], None]] = {
            "plain": lambda: plain(bench, registry, model),
            "tls": lambda: tls(bench, registry, model),
            "connections": lambda: connections(bench, model),
            "crawl": lambda: crawl(bench, model),
            "kills": lambda: kills(bench, small),
            "there": lambda: there(bench, small),
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
        reached = {True: "yes", False: "no", None: "not measured"}[row.reached]
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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=_size, default=GIB, help="of the blob (default 1GiB)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken")
    parser.add_argument("--only", type=_figures, default=list(FIGURES), metavar="FIGURE,...")
    parser.add_argument("--limit", type=float, default=450, help="seconds for all figures")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args()
    memory = Path("/dev/shm")
    where = memory if memory.is_dir() else Path(tempfile.gettempdir())
    if shutil.disk_usage(where).free < 5 * arguments.size:
        print(f"{where} has no room for 5 times the blob; try --size 256MiB", file=sys.stderr)
        return 2
    try:
        with _folder(where) as folder:
            deadline = time.monotonic() + arguments.limit
            bench = Bench(folder, arguments.rounds, arguments.size, deadline)
            run(bench, arguments.only)
    except MissingToolError as exc:
        print(f"nothing can be measured: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps([asdict(row) for row in bench.rows], indent=2))
    else:
        print(table(bench.rows))
    return 1 if any(row.reached is False for row in bench.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
