"""How long the commands take that people wait for most: against the bare interpreter.

    python benchmarks/startup.py [--rounds 30]

Processor time, of the command and the kernel for it. Each round runs every command once, the
interpreter among them, so that a busy moment of the machine slows all of them alike; the median of
each counts. The store has twenty models; the one that is estimated has a header as large as that of
a real one with 135 million parameters. Figures of an editable install are higher: what finds its
modules takes time of its own.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from modelrunner.oci.reference import Reference
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.store.store import Store
from tests.support.gguf import tiny_gguf

TARGET = 4.0
TARGETS = {"pull by digest": 5.0, "estimate": 12.0}
MODELS = 20
ESTIMATED = "bench/model-0:1"
NAMED = "bench/model-1:1"
LAYERS, TOKENS = 30, 49152
BASE = "python -I -c pass"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        fill(home)
        digest = Store(home / "store").resolve(NAMED).digest
        timed = commands() | {"pull by digest": [*program(), "pull", f"{NAMED}@{digest}"]}
        medians = measure(timed, rounds, {**os.environ, "MODELRUNNER_HOME": str(home)})
    print(f"{'command':<24}  {'median':>8}  {'ratio':>6}  target")
    for name, seconds in medians.items():
        ratio = seconds / medians[BASE]
        target = TARGETS.get(name, TARGET)
        said = "" if name == BASE else f"{target:g}x {'met' if ratio <= target else 'missed'}"
        print(f"{name:<24}  {seconds * 1000:>5.0f} ms  {ratio:>5.1f}x  {said}".rstrip())


def fill(home: Path, models: int = MODELS) -> None:
    """Different models, packaged as users do it."""
    from datetime import UTC, datetime

    store, moment = Store(home / "store"), datetime(2025, 10, 2, tzinfo=UTC)
    for seed in range(models):
        path = home / f"model-{seed}.gguf"
        file = tiny_gguf(path, seed=seed) if seed else with_large_header(path)
        name = Reference.parse(f"bench/model-{seed}:1")
        package(store, Ingredients(file), name, family="docker", created=moment)


def with_large_header(path: Path) -> Path:
    """A model with tiny weights, as many layers as a small real one, and as many words."""
    words = [f"word{number}" for number in range(TOKENS)]
    vocabulary = {
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.merges": [f"{word[:4]} {word[4:]}" for word in words],
        "tokenizer.ggml.token_type": [1] * TOKENS,
    }
    return tiny_gguf(path, layers=LAYERS, metadata=vocabulary)


def program() -> list[str]:
    """Ourselves as a user starts us."""
    script = Path(sys.executable).with_name("modelrunner")
    return [str(script)] if script.exists() else [sys.executable, "-m", "modelrunner"]


def commands() -> dict[str, list[str]]:
    """What is run, by the name in the table: the console script, as a user starts it."""
    ours = program()
    return {
        BASE: [sys.executable, "-I", "-c", "pass"],
        "--version": [*ours, "--version"],
        "--help": [*ours, "--help"],
        "list": [*ours, "list"],
        "list -q": [*ours, "list", "-q"],
        "path": [*ours, "path", NAMED],
        "Tab behind modelrunner": completing("modelrunner l"),
        "Tab behind rm": completing("modelrunner rm bench/"),
        "Tab behind pull": completing("modelrunner pull ai/"),
        "estimate": [*ours, "estimate", ESTIMATED],
    }


def completing(line: str) -> list[str]:
    """What the script of a shell runs at a Tab behind this line."""
    asked = {
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
        "_MODELRUNNER_COMPLETE": "complete_bash",
    }
    # set by the shell itself: `env` would be a process more
    return [*(f"{name}={value}" for name, value in asked.items()), *program()]


def measure(timed: dict[str, list[str]], rounds: int, environ: dict[str, str]) -> dict[str, float]:
    """The median of each command over alternating rounds, in seconds of processor time.

    Words before a command that have an equals sign are variables of its environment.
    """
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds + 1):
        for name, words in timed.items():
            command = list(words)
            more = {}
            while "=" in command[0]:
                key, _, value = command.pop(0).partition("=")
                more[key] = value
            quiet, begun = subprocess.DEVNULL, spent()
            subprocess.run(command, env=environ | more, stdout=quiet, stderr=quiet, check=True)
            taken[name].append(spent() - begun)
    # the first round compiles and warms up
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def spent() -> float:
    """Seconds of processor time that all commands so far have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
