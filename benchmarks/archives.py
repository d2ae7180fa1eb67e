"""How fast `save` and `load` are: beside `cat`, `tar` and `openssl dgst` of the same bytes.

    python benchmarks/archives.py [--rounds 5] [--size 2GiB] [--folder /dev/shm]

Each round runs every command once, so that a busy moment of the machine slows all of them alike;
the medians count. `save` reads and writes every byte, `load` hashes it too: there is nothing
faster to reach than `cat` into a file for the one, and the slower of `tar -x` and of hashing for
the other.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.imports import make
from benchmarks.machine import state
from benchmarks.startup import program
from benchmarks.timing import Command, Cost, alternate, median_cpu_s, median_s
from modelrunner.units import format_size, parse_size

TIMES = 1.2
NAME = "bench/archive:1"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=parse_size, default=parse_size("2GiB"))
    parser.add_argument("--folder", type=Path, default=None, help="where the files are made")
    arguments = parser.parse_args()
    print(state())
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(table(Path(folder), arguments.size, arguments.rounds))


def table(folder: Path, size: int, rounds: int) -> str:
    """What `save` and `load` take, beside what there is to reach."""
    file, archive = folder / "model.gguf", folder / "model.tar"
    out, unpacked, home, other = (folder / name for name in ("out", "unpacked", "home", "other"))
    make(file, size)
    log = folder / "log"
    environ = {"PYTHONDONTWRITEBYTECODE": "", "MODELRUNNER_HOME": str(home)}
    there = {**environ, "MODELRUNNER_HOME": str(other)}

    def nothing() -> None:
        pass

    def tidy() -> None:
        for path in (out, archive):
            path.unlink(missing_ok=True)

    def empty() -> None:
        shutil.rmtree(other, ignore_errors=True)
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()

    packaged = [*program(), "import", "--link", "-q", "--name", NAME, str(file)]
    saved = [*program(), "save", "-q", NAME, "-o", str(archive)]
    alternate([Command("import", packaged, environ, nothing, nothing)], 1, log, lambda: False)
    costs = alternate(
        [
            Command("save", saved, environ, tidy, nothing),
            Command("cat", ["sh", "-c", f"cat '{file}' > '{out}'"], {}, tidy, nothing),
        ],
        rounds,
        log,
        lambda: False,
    )
    alternate([Command("save", saved, environ, nothing, nothing)], 1, log, lambda: False)
    loaded = [*program(), "load", "-q", str(archive)]
    costs |= alternate(
        [
            Command("load", loaded, there, empty, nothing),
            Command("tar", ["tar", "-xf", str(archive), "-C", str(unpacked)], {}, empty, nothing),
            Command("openssl", [_openssl(), "dgst", "-sha256", str(file)], {}, nothing, nothing),
        ],
        rounds,
        log,
        lambda: False,
    )
    slower = max("tar", "openssl", key=lambda name: median_s(costs[name]))
    rows = [
        _row("save", "cat", costs),
        _row("load", "tar", costs),
        _row("load", "openssl", costs),
    ]
    met = {
        "save": median_s(costs["save"]) <= TIMES * median_s(costs["cat"]),
        "load": median_s(costs["load"]) <= TIMES * median_s(costs[slower]),
    }
    said = [
        f"{name}: aim {TIMES:g} of {beside}, {'met' if met[name] else 'missed'}"
        for name, beside in (("save", "cat"), ("load", slower))
    ]
    return "\n".join([f"a model of {format_size(size)}", *rows, *said])


def _row(ours: str, theirs: str, costs: dict[str, list[Cost]]) -> str:
    mine, other = costs[ours], costs[theirs]
    return (
        f"{ours}: {median_s(mine):.2f} s, {median_cpu_s(mine):.2f} s of processor; {theirs}"
        f" {median_s(other):.2f} s, {median_cpu_s(other):.2f} s:"
        f" {median_s(mine) / median_s(other):.2f}"
    )


def _openssl() -> str:
    found = shutil.which("openssl")
    if found is None:
        raise SystemExit("openssl is not on PATH: nothing to compare with")
    return found


if __name__ == "__main__":
    main()
