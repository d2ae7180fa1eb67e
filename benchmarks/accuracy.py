"""How far estimates are from what llama.cpp plans: the table in docs/memory.md.

    python benchmarks/accuracy.py [MODELS.json TRUTH.json] [--worst N] [--write docs/memory.md]
    python benchmarks/accuracy.py MODELS.json TRUTH.json --ask [--python PYTHON]

MODELS.json describes models (see model_headers.py), TRUTH.json has llama.cpp's plan for each in
rows: `{"model", "context", "kv_type", "ubatch", "sequences", "total", ...}`. With `--ask` the
truth is made first, by llama-cpp-python in PYTHON. Exit status 1 where a target is missed.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.model_headers import header, write  # noqa: E402
from modelrunner.errors import RuntimeFailedError  # noqa: E402
from modelrunner.gguf.header import Header, Value  # noqa: E402
from modelrunner.memory.card_estimate import (  # noqa: E402
    CARD_CONTEXT,
    card_figures,
    estimate_from_card,
)
from modelrunner.memory.estimate import estimate  # noqa: E402
from modelrunner.memory.fit import fit  # noqa: E402
from modelrunner.memory.measured import measure  # noqa: E402
from modelrunner.memory.model.hyperparameters import Hyperparameters  # noqa: E402
from modelrunner.memory.model.shape import ModelShape  # noqa: E402
from modelrunner.memory.plan.load import Load  # noqa: E402

DATA = ROOT / "tests" / "data" / "memory"
SETS = (
    (DATA / "models.json", DATA / "truth.json"),
    (DATA / "more_models.json", DATA / "more_truth.json"),
)
"""Published models whose tensors follow from their numbers, and of every other kind."""
BEGIN, END = "<!-- accuracy -->", "<!-- /accuracy -->"
GIB = 1024**3
UNKNOWN = "zz-unknown"
UNTOLD = ("dream", "llada", "llada-moe", "rnd1", "llama-embed")
"""Of these, only the name tells whether there is a cache: as their headers are made here."""
EXACT = 0.005
"""Percent that are printed as 0.00."""
SEED = "granite-4.0-h-micro"
SEED_PRINTED = {"VRAM": 2.32, "Size": 1.81}


@dataclass(frozen=True)
class Case:
    """One row of the truth, with the model that it is about."""

    name: str
    header: Header
    shape: ModelShape
    unnamed: ModelShape
    load: Load
    truth: int

    @property
    def architecture(self) -> str:
        """As the header names it."""
        return str(self.header.metadata["general.architecture"])

    @property
    def is_plain(self) -> bool:
        """Whether it is the use that most people have: f16, one conversation, no options."""
        usual = Load(self.load.context)
        return (self.load.kv_type, self.load.parallel, self.load.micro_batch) == (
            usual.kv_type, usual.parallel, usual.micro_batch,
        )  # fmt: skip


def by_header(case: Case) -> int:
    """The estimate from a GGUF header."""
    return _allocated(case.shape, case.load)


def by_tensors(case: Case) -> int:
    """The estimate from a header that has a name which no rule is for."""
    return _allocated(case.unnamed, case.load)


def unnamed(made: Header) -> ModelShape:
    """The shape of a model whose architecture has a name which no rule is for."""
    name = str(made.metadata["general.architecture"])
    values: dict[str, Value] = {"general.architecture": UNKNOWN}
    for key, value in made.metadata.items():
        own = key.startswith(f"{name}.")
        values.setdefault(key.replace(name, UNKNOWN, 1) if own else key, value)
    return ModelShape.from_header(made._replace(metadata=values))


def by_config(case: Case) -> int:
    """The estimate from hyperparameters and the size of the file: no tensor is looked at."""
    return _allocated(config_shape(case.header), case.load)


def config_shape(made: Header) -> ModelShape:
    """What a Docker model's configuration tells of a file."""
    hyper = Hyperparameters.from_metadata(made.metadata)
    return ModelShape.from_values(hyper, weights=made.file_size or 0)


def _allocated(shape: ModelShape, load: Load) -> int:
    found = estimate(shape, load)
    return found.total - (found.output or 0)  # the breakdown in the truth leaves logits out


def cases(models: Path, truth: Path) -> Iterator[Case]:
    """Every row of the truth whose model is described."""
    headers = {model["name"]: header(model) for model in json.loads(models.read_text())}
    shapes = {name: ModelShape.from_header(made) for name, made in headers.items()}
    nameless = {name: unnamed(made) for name, made in headers.items()}
    for row in json.loads(truth.read_text()):
        load = Load(row["context"], row["kv_type"], row["sequences"], row["ubatch"])
        name = row["model"]
        yield Case(name, headers[name], shapes[name], nameless[name], load, row["total"])


def main() -> int:
    """Shows the table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="?", type=Path, help="default: all that are in the tree")
    parser.add_argument("truth", nargs="?", type=Path)
    parser.add_argument("--ask", action="store_true", help="make the truth first")
    parser.add_argument("--python", default=sys.executable, help="has llama-cpp-python")
    parser.add_argument("--worst", type=int, default=0, help="show so many of the worst rows")
    parser.add_argument("--write", type=Path, help="put the table between the marks of this page")
    options = parser.parse_args()
    if bool(options.models) != bool(options.truth) or (options.ask and not options.truth):
        parser.error("MODELS.json and TRUTH.json go together")
    if options.ask:
        options.truth.write_text(packed(ask(options.models, options.python)))
    pairs = [(options.models, options.truth)] if options.truth else SETS
    every = [case for models, truth in pairs for case in cases(models, truth)]
    shown = list(findings(every))
    text = "\n".join(finding.text for finding in shown)
    print(text)
    for case in sorted(every, key=lambda case: -off(case, by_header))[: options.worst]:
        print(f"{off(case, by_header):.3f} % {case.name} {case.load}")
    if options.write:
        before, _, rest = options.write.read_text().partition(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    return 0 if all(finding.good for finding in shown) else 1


@dataclass(frozen=True)
class Finding:
    """A line of the answer, and whether it meets its target."""

    text: str
    good: bool = True


def findings(every: list[Case]) -> Iterator[Finding]:
    """The table and the lines below it."""
    plain = [case for case in every if case.is_plain]
    yield Finding("| estimate | rows | mean | 95 % | worst | target |")
    yield Finding("|---|---|---|---|---|---|")
    yield row("`header`, f16, one conversation", plain, by_header, mean=0.2, worst=3)
    yield row("`header`, all rows", every, by_header, mean=0.2, worst=3)
    told = [case for case in every if case.architecture not in UNTOLD]
    yield row("`header`, name unknown", told, by_tensors, mean=0.5, worst=5)
    yield row("`config`, f16, one conversation", plain, by_config, mean=2, worst=8)
    yield row("`config`, all rows", every, by_config, mean=2, worst=8)
    yield Finding("")
    yield ranges_line(every)
    yield unnamed_line(every)
    yield from architecture_lines(every)
    yield from card_lines(plain)
    yield context_line(plain)


def off(case: Case, guess: Callable[[Case], int]) -> float:
    """How far a guess is from the truth, in percent."""
    return 100 * abs(guess(case) - case.truth) / case.truth


def row(
    label: str, some: Iterable[Case], guess: Callable[[Case], int], *, mean: float, worst: float
) -> Finding:
    """One line of the table."""
    errors = sorted(off(case, guess) for case in some)
    average, largest = statistics.mean(errors), errors[-1]
    return Finding(
        f"| {label} | {len(errors)} | {average:.2f} % | {errors[int(0.95 * len(errors))]:.2f} % "
        f"| {largest:.2f} % | mean {mean} %, worst {worst} % |",
        average <= mean and largest <= worst,
    )


def ranges_line(some: list[Case]) -> Finding:
    """How many plans lie in the range of their estimate."""
    inside = sum(_holds(case, case.shape) for case in some)
    return Finding(
        f"- {inside} of {len(some)} plans in the range of their estimate (target 99 %)",
        inside >= 0.99 * len(some),
    )


def unnamed_line(some: list[Case]) -> Finding:
    """The same of unknown names, and what is left out of their row."""
    inside = sum(_holds(case, case.unnamed) for case in some)
    largest = max((off(x, by_tensors) for x in some if x.architecture in UNTOLD), default=0.0)
    return Finding(
        f"- name unknown: {inside} of {len(some)} in the range (target 99 %); left out of the row, "
        f"since whether there is a cache follows from the name alone: {', '.join(UNTOLD)}, worst "
        f"{largest:.0f} %",
        inside >= 0.99 * len(some),
    )


def _holds(case: Case, shape: ModelShape) -> bool:
    found = estimate(shape, case.load)
    return found.low <= case.truth + (found.output or 0) <= (found.high or case.truth)


def architecture_lines(some: list[Case]) -> Iterator[Finding]:
    """The architectures that are compared, and those that are not exact with their worst rows."""
    worst: dict[str, float] = {}
    for case in some:
        name = case.architecture
        worst[name] = max(worst.get(name, 0.0), off(case, by_header))
    inexact = {name: value for name, value in worst.items() if value >= EXACT}
    yield Finding(
        f"- {len(worst) - len(inexact)} of {len(worst)} architectures exact in every row; worst of "
        "the others: " + ", ".join(f"{name} {inexact[name]:.2f} %" for name in sorted(inexact))
    )


def card_lines(some: list[Case]) -> Iterator[Finding]:
    """What a card's row says: whether the truth is in its range, and the seed's own figures."""
    own = [case for case in some if case.load.context == CARD_CONTEXT]
    inside = 0
    for case in own:
        printed = card_figures(case.header)
        found = estimate_from_card(printed.vram_bytes, printed.size_bytes, context=CARD_CONTEXT)
        inside += found.low <= case.truth <= (found.high or 0)
    share = 100 * inside / len(own)
    yield Finding(
        f"- `card`: {inside} of {len(own)} truths at {CARD_CONTEXT} in the range "
        f"({share:.0f} %, target 95 %)",
        share >= 95,
    )
    seeds = [case for case in own if case.name == SEED]
    for case in seeds:
        printed = card_figures(case.header)
        figures = {"VRAM": printed.vram_bytes / GIB, "Size": printed.size_bytes / GIB}
        for name, value in figures.items():
            yield Finding(
                f"- card formula, {SEED}: {name} {value:.3f} GiB, printed {SEED_PRINTED[name]}",
                abs(value / SEED_PRINTED[name] - 1) <= 0.005,
            )


def context_line(some: list[Case]) -> Finding:
    """The largest context that fits into what each row needs: never over, never far below."""
    over, worst = 0, 0.0
    for case in some:
        shape = case.shape
        needed = estimate(shape, case.load).total
        longest = fit(shape, case.load, needed).max_context or 0
        used = estimate(shape, Load(max(longest, 1))).total
        over += used > needed
        worst = max(worst, 100 * (case.load.context - longest) / case.load.context)
    return Finding(
        f"- largest context in {len(some)} budgets: {over} over budget (target 0), "
        f"at most {worst:.1f} % shorter than the best (target 2 %)",
        over == 0 and worst <= 2,
    )


def packed(rows: Iterable[dict[str, Any]]) -> str:
    """A JSON array with a line for each row."""
    return "[\n" + ",\n".join(" " + json.dumps(row) for row in rows) + "\n]\n"


def ask(models: Path, python: str) -> Iterator[dict[str, Any]]:
    """llama.cpp's own plan for every described model, in the uses that are compared."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        for model in json.loads(models.read_text()):
            write(model, path)
            for load in _uses(model["context"]):
                try:
                    plan = measure(path, load, python=python)
                except RuntimeFailedError as exc:  # such as heads that a quantized block splits
                    print(f"{model['name']}: {exc}", file=sys.stderr)
                    continue
                parts = {
                    "weights": plan.weights,
                    "kv_cache": plan.kv_cache,
                    "recurrent": plan.recurrent,
                    "compute": plan.compute,
                    "output": plan.output,
                }
                yield {
                    "model": model["name"],
                    "context": load.context,
                    "kv_type": load.kv_type,
                    "ubatch": load.micro_batch,
                    "sequences": load.parallel,
                    **parts,
                    "total": plan.total - (plan.output or 0),
                }


def _uses(trained: int) -> Iterator[Load]:
    for context in sorted({min(context, trained) for context in (4096, 32768, 131072)}):
        yield Load(context)
    yield Load(min(32768, trained), kv_type="q8_0")
    yield Load(min(8192, trained), micro_batch=256)
    yield Load(min(16384, trained), parallel=4)


if __name__ == "__main__":
    sys.exit(main())
