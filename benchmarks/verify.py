"""How fast `verify` is: `--deep` against `openssl dgst`, the quick look against the interpreter.

    python benchmarks/verify.py [--rounds 5] [--size 2GiB] [--folder /dev/shm]

Each round runs every command once, so that a busy moment of the machine slows all of them alike;
the medians count. What there is to reach is `openssl dgst -sha256`, one process a blob, as many at
once as there are cores: on a machine that does other things too, that is less than one process
alone times the cores.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.startup import fill, program
from benchmarks.startup import measure as measure_startup
from benchmarks.timing import Command, alternate, median_cpu_s, median_s
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.store.store import Store
from modelrunner.units import format_size, parse_size

SHARE = 0.9
BYTES_PER_S = 1.5e9
TIMES_START = 12.0
MODELS = 10
BASE = "python -c pass"
QUICK = "modelrunner verify"


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=parse_size, default=parse_size("2GiB"))
    parser.add_argument("--folder", type=Path, default=None, help="where the stores are made")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, {format_size(arguments.size)} a store")
    print("blobs  openssl alone  openssl at once  verify --deep  cores busy  of openssl at once")
    for blobs in (1, 2, 4):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            print(deep(Path(folder), blobs, arguments.size, arguments.rounds, cores), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(quick(Path(folder), arguments.rounds * 6))


def deep(home: Path, blobs: int, size: int, rounds: int, cores: int) -> str:
    """One row: a store with so many blobs of this size in all."""
    paths = make(home, blobs, size // blobs)
    log = home / "log"
    environ = {"MODELRUNNER_HOME": str(home)}
    dgst = [_openssl(), "dgst", "-sha256"]
    at_once = ["xargs", "-0", "-a", str(_listed(home, paths)), "-n", "1", "-P", str(cores), *dgst]
    commands = [
        Command("alone", [*dgst, *map(str, paths)], {}, _pass, _pass),
        Command("at once", at_once, {}, _pass, _pass),
        Command("verify", [*program(), "verify", "--deep", "-q"], environ, _pass, _pass),
    ]
    # the first round warms the page cache up
    alternate(commands, 1, log, lambda: False)
    costs = alternate(commands, rounds, log, lambda: False)
    alone, together, ours = (size / median_s(costs[name]) / 1e9 for name in costs)
    share = ours / together
    met = share >= SHARE or ours * 1e9 >= BYTES_PER_S
    busy = median_cpu_s(costs["verify"]) / median_s(costs["verify"])
    return (
        f"{blobs:<5}  {alone:>8.2f} GB/s  {together:>10.2f} GB/s  {ours:>8.2f} GB/s  {busy:>10.2f}"
        f"  {share:>8.2f}  {SHARE:g} or {BYTES_PER_S / 1e9:g} GB/s {'met' if met else 'missed'}"
    )


def _listed(home: Path, paths: list[Path]) -> Path:
    names = home / "names"
    names.write_bytes(b"".join(bytes(path) + b"\0" for path in paths))
    return names


def quick(home: Path, rounds: int) -> str:
    """The line about a store of ten models that is as it was."""
    fill(home, MODELS)
    commands = {BASE: [sys.executable, "-c", "pass"], QUICK: [*program(), "verify"]}
    medians = measure_startup(commands, rounds, {**os.environ, "MODELRUNNER_HOME": str(home)})
    ratio = medians[QUICK] / medians[BASE]
    said = "met" if ratio <= TIMES_START else "missed"
    return (
        f"{QUICK}, {MODELS} models: {medians[QUICK] * 1000:.0f} ms, {ratio:.1f}x {BASE}"
        f" ({medians[BASE] * 1000:.0f} ms)  {TIMES_START:g}x {said}"
    )


def make(home: Path, count: int, size: int) -> list[Path]:
    """One model with so many layers, each of other bytes."""
    store = Store(home / "store")
    with store.arriving():
        layers = [_layer(store, size) for _ in range(count)]
        config = Descriptor(media_types.DOCKER_CONFIG_V01, Digest.of(b"{}"), 2)
        store.blobs.put(config, b"{}")
        store.add(Manifest.build(config, layers), [Reference.parse("bench/deep:1")])
    return [store.blobs.path(layer.digest) for layer in layers]


def _layer(store: Store, size: int) -> Descriptor:
    from hashlib import sha256

    block = os.urandom(1024 * 1024)
    hasher = sha256()
    pieces = [block] * (size // len(block)) + [block[: size % len(block)]]
    for piece in pieces:
        hasher.update(piece)
    descriptor = Descriptor(media_types.DOCKER_GGUF, Digest(hasher.hexdigest()), size)
    with store.blobs.writer(descriptor) as writer:
        if writer is not None:
            for piece in pieces:
                writer.write(piece)
    return descriptor


def _openssl() -> str:
    found = shutil.which("openssl")
    if found is None:
        raise SystemExit("openssl is not on PATH: nothing to compare with")
    return found


def _pass() -> None:
    pass


if __name__ == "__main__":
    main()
