"""How long the warm commands of a CI job take: against the bare interpreter.

    python benchmarks/locked.py [--rounds 30]

A lock of ten tiny models, all of them here. No registry runs: whatever asked for one would fail.
Rounds and medians are those of `startup.py`.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.startup import BASE, measure, program
from modelrunner.lockfile.lock import Lock, LockedModel
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.store.store import Store
from tests.support.gguf import tiny_gguf

TARGET = 12.0
TARGET_MS = 200
MODELS = 10


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(home)
        os.chdir(home)
        ours = program()
        timed = {
            BASE: [sys.executable, "-I", "-c", "pass"],
            "lock --check": [*ours, "lock", "--check"],
            "cache-key": [*ours, "cache-key"],
            "pull --locked": [*ours, "pull", "--locked"],
            "pull --frozen -q": [*ours, "pull", "--frozen", "-q"],
            "verify": [*ours, "verify"],
        }
        medians = measure(timed, rounds, {**os.environ, "MODELRUNNER_HOME": str(home)})
    print(f"{'command':<18}  {'median':>8}  {'ratio':>6}  target")
    for name, seconds in medians.items():
        ratio = seconds / medians[BASE]
        met = ratio <= TARGET and seconds * 1000 <= TARGET_MS
        said = "" if name == BASE else f"{TARGET:g}x, {TARGET_MS} ms {'met' if met else 'missed'}"
        print(f"{name:<18}  {seconds * 1000:>5.0f} ms  {ratio:>5.1f}x  {said}".rstrip())


def fill(home: Path) -> None:
    """Ten different models, and the two files that want and pin them."""
    from datetime import UTC, datetime

    store, moment = Store(home / "store"), datetime(2025, 10, 2, tzinfo=UTC)
    locked = []
    for seed in range(MODELS):
        file = tiny_gguf(home / f"model-{seed}.gguf", seed=seed)
        # a registry that nobody answers for
        name = Reference.parse(f"127.0.0.1:9/bench/model-{seed}:1")
        package(store, Ingredients(file), name, family="docker", created=moment)
        model = store.resolve(str(name))
        model.view()
        locked.append(LockedModel.of(f"model-{seed}", name, model.artifact, None))
    lines = [f'{model.name} = "{model.reference}"' for model in locked]
    (home / "modelrunner.toml").write_text("\n".join(["[models]", *lines, ""]))
    (home / "modelrunner.lock").write_text(Lock(tuple(locked)).emit())


if __name__ == "__main__":
    main()
