"""How fast `copy` is between two registries: beside `skopeo copy`, `crane copy` and `oras cp`.

    make peers
    python benchmarks/copying.py [--rounds 5] [--size 1GiB] [--layers 1] [--folder /dev/shm]

Both registries are Debian's `docker-registry` on loopback. Each round runs every side once, so that
a busy moment of the machine slows all of them alike; the medians count. The second registry is
emptied before each run. A side whose tool is not there is left out.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import state
from benchmarks.peers import built, versions
from benchmarks.servers import (
    MANIFEST_TYPE,
    Address,
    MissingToolError,
    Model,
    docker_registry,
    push,
    storage,
    tool,
)
from benchmarks.startup import program
from benchmarks.timing import Command, CommandFailedError, Cost, alternate, median_cpu_s, median_s
from modelrunner.units import format_size, parse_size

AIMS = {"skopeo": 0.5, "crane": 1.0, "oras": 1.0}
MOST_MEMORY = 100 * 1024 * 1024
OURS = "modelrunner"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"))
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None, help="where the registries are")
    arguments = parser.parse_args()
    print(state())
    print(versions())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        for part in ("one", "two"):
            (folder / part).mkdir()
        with docker_registry(folder / "one") as one, docker_registry(folder / "two") as two:
            model = push(one, folder / "one", arguments.size, "bench", arguments.layers)
            print(table(folder, (one, two), model, arguments.rounds))


def table(folder: Path, registries: tuple[Address, Address], model: Model, rounds: int) -> str:
    """What a copy takes, beside others."""
    one, two = registries

    def empty() -> None:
        shutil.rmtree(storage(folder / "two"), ignore_errors=True)

    def check() -> None:
        request = Request(
            f"{two.base}/v2/copies/model/manifests/1", headers={"Accept": MANIFEST_TYPE}
        )
        with urlopen(request, timeout=30) as answer:
            if answer.read() != model.manifest:
                raise CommandFailedError("the manifest is another one")

    source, target = model.on(one.host), f"{two.host}/copies/model:1"
    home = {"PYTHONDONTWRITEBYTECODE": "", "MODELRUNNER_HOME": str(folder / "home")}
    words = [*program(), "copy", "--quiet", "--referrers", "none", source, target]
    sides = [Command(OURS, words, {**home, "MODELRUNNER_MIRRORS": ""}, empty, check)]
    for name, make in SIDES.items():
        try:
            sides.append(Command(name, make(source, target), {"NO_PROXY": "*"}, empty, check))
        except MissingToolError as exc:
            print(f"{name} is left out: {exc}")
    costs = alternate(sides, rounds, folder / "log", lambda: False)
    rows = [_row(side.name, costs) for side in sides if side.name != OURS]
    peak = max(cost.peak_bytes for cost in costs[OURS])
    met = "met" if peak <= MOST_MEMORY else "missed"
    layers = f"{len(model.layers)} layers" if len(model.layers) > 1 else "one layer"
    return "\n".join(
        [
            f"a model of {format_size(model.size)} in {layers}, from one registry to another",
            *rows,
            f"memory: {format_size(peak)}, aim {format_size(MOST_MEMORY)}, {met}",
        ]
    )


def skopeo(source: str, target: str) -> Sequence[str]:
    """`skopeo copy`, plain http allowed at both ends."""
    options = ("--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false")
    return [tool("skopeo"), "copy", "-q", *options, f"docker://{source}", f"docker://{target}"]


def crane(source: str, target: str) -> Sequence[str]:
    """`crane copy`."""
    return [built("crane"), "copy", "--insecure", source, target]


def oras(source: str, target: str) -> Sequence[str]:
    """`oras cp`."""
    plain = ("--from-plain-http", "--to-plain-http", "--no-tty")
    return [built("oras"), "cp", *plain, source, target]


SIDES: dict[str, Callable[[str, str], Sequence[str]]] = {
    "skopeo": skopeo,
    "crane": crane,
    "oras": oras,
}


def _row(theirs: str, costs: dict[str, list[Cost]]) -> str:
    mine, other = costs[OURS], costs[theirs]
    ratio = median_s(mine) / median_s(other)
    met = "met" if ratio <= AIMS[theirs] else "missed"
    return (
        f"copy: {median_s(mine):.2f} s, {median_cpu_s(mine):.2f} s of processor; {theirs}"
        f" {median_s(other):.2f} s, {median_cpu_s(other):.2f} s: {ratio:.2f},"
        f" aim {AIMS[theirs]:g}, {met}"
    )


if __name__ == "__main__":
    main()
