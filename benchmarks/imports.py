"""How fast `import` is: a linked file against `openssl dgst -sha256` of the same file.

    python benchmarks/imports.py [--rounds 5] [--size 2GiB] [--folder /dev/shm]

Each round runs every command once, so that a busy moment of the machine slows all of them alike;
the medians count. What an import costs beside hashing is that of a tiny model, less `version`,
which does nothing; hashing is what the large one takes longer than the tiny one.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.startup import program
from benchmarks.timing import Command, alternate, median_s
from modelrunner.units import format_size, parse_size
from tests.support.gguf import tiny_gguf

OVERHEAD_S = 0.05
BYTES_PER_S = 1.5e9
BLOCK = 1024 * 1024


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=parse_size, default=parse_size("2GiB"))
    parser.add_argument("--folder", type=Path, default=None, help="where the files are made")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print(table(Path(folder), arguments.size, arguments.rounds))


def table(folder: Path, size: int, rounds: int) -> str:
    """Both figures, and what they are of."""
    tiny, large = folder / "tiny.gguf", folder / "large.gguf"
    tiny_gguf(tiny)
    make(large, size)
    openssl = shutil.which("openssl")
    if openssl is None:
        raise SystemExit("openssl is not on PATH: nothing to compare with")
    home = folder / "home"
    environ = {"MODELRUNNER_HOME": str(home)}

    def forget() -> None:
        shutil.rmtree(home, ignore_errors=True)

    words = [*program(), "import", "--link", "-q"]
    commands = [
        Command("version", [*program(), "version"], environ, forget, _pass),
        Command("tiny", [*words, str(tiny)], environ, forget, _pass),
        Command("large", [*words, str(large)], environ, forget, _pass),
        Command("openssl", [openssl, "dgst", "-sha256", str(large)], {}, _pass, _pass),
    ]
    log = folder / "log"
    # the first round warms the page cache up
    alternate(commands, 1, log, lambda: False)
    costs = alternate(commands, rounds, log, lambda: False)
    seconds = {name: median_s(cost) for name, cost in costs.items()}
    beside = seconds["tiny"] - seconds["version"]
    rate = size / (seconds["large"] - seconds["tiny"])
    against = size / seconds["openssl"]
    met = [_said(beside <= OVERHEAD_S), _said(rate >= BYTES_PER_S)]
    return (
        f"a model of {format_size(size)}, linked: {seconds['large']:.2f} s in all\n"
        f"beside hashing: {beside * 1000:.0f} ms  aim {OVERHEAD_S * 1000:.0f} ms {met[0]}\n"
        f"hashing: {rate / 1e9:.2f} GB/s, {rate / against:.2f} of openssl"
        f" ({against / 1e9:.2f} GB/s)  aim {BYTES_PER_S / 1e9:g} GB/s {met[1]}"
    )


def make(path: Path, size: int) -> None:
    """A model with so many bytes behind it."""
    tiny_gguf(path)
    block = os.urandom(BLOCK)
    with path.open("ab") as file:
        for _ in range(size // BLOCK):
            file.write(block)


def _said(met: bool) -> str:  # noqa: FBT001 - a word for a yes or a no
    return "met" if met else "missed"


def _pass() -> None:
    pass


if __name__ == "__main__":
    main()
