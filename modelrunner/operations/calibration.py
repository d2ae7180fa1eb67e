"""What runtimes reported of models that ran, against what was computed: estimates learn from it.

A llama.cpp that is told to log what it allocates says so once for each buffer:

    load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
    llama_kv_cache:        CPU KV buffer size =    45.00 MiB
    sched_reserve:        CPU compute buffer size =    16.64 MiB

A report counts for the context that it was made at; for another one it is told and changes nothing.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from modelrunner.memory.fit import Fit
from modelrunner.operations.report import Report
from modelrunner.store.files import disk_errors, write_lightly
from modelrunner.store.lock import held
from modelrunner.units import format_size

FILE_NAME = "observations.json"
"""Where they are kept, beside histories and logs."""

MAX_OBSERVATIONS = 128
"""How many are kept, the latest ones."""

_BUFFER = re.compile(r"(model|KV|RS|compute|output) buffer size\s*=\s*(\d+(?:\.\d+)?) MiB")
_NECESSARY = {"model", "compute"}
_MIB = 1024 * 1024
_MAX_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Observation:
    """One model that ran.

    Attributes:
        model: Its digest.
        runtime: What served it.
        context: Tokens.
        predicted: Bytes that were computed.
        observed: Bytes that the runtime reported.
    """

    model: str
    runtime: str
    context: int
    predicted: int
    observed: int


@dataclass(frozen=True, slots=True)
class Observations:
    """A file of them; one that cannot be understood counts as empty."""

    path: Path

    def load(self) -> tuple[Observation, ...]:
        """All of them, the oldest first."""
        try:
            with self.path.open("rb") as file:
                value = json.loads(file.read(_MAX_FILE))
        except (OSError, ValueError):
            return ()
        rows = value if isinstance(value, list) else []
        return tuple(found for row in rows if (found := _parsed(row)) is not None)

    def add(self, new: Observation) -> None:
        """Keeps one, instead of an earlier one of the same model, runtime and context.

        Raises:
            DiskFullError, StoreAccessError: It cannot be written.
        """
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with held(self.path.with_suffix(".lock")):
            kept = [old for old in self.load() if _key(old) != _key(new)]
            rows = [asdict(entry) for entry in [*kept, new][-MAX_OBSERVATIONS:]]
            with disk_errors(self.path):
                write_lightly(self.path, json.dumps(rows, indent=1).encode())


def reported_bytes(log: str) -> int | None:
    """What a runtime's log says that it allocated; None where it does not say all of it."""
    found = _BUFFER.findall(log)
    if not {kind for kind, _ in found} >= _NECESSARY:
        return None
    return round(sum(float(size) for _, size in found) * _MIB)


def corrected(report: Report, model: str, known: Sequence[Observation]) -> Report:
    """The report with what is known of the model from earlier runs."""
    own = [entry for entry in known if entry.model == model]
    same = [entry for entry in own if entry.context == report.load.context]
    latest = (same or own)[-1:]
    if not latest or not report.estimate.is_complete or _is_unusual(report):
        return report
    seen = latest[0]
    told = f"{seen.runtime} reported {format_size(seen.observed)} at a context of {seen.context}"
    more = seen.observed - seen.predicted
    if not same:
        share = f"{more / max(seen.predicted, 1):+.1%}"
        note = f"when it ran, {told}: {share} of what was computed for that"
        return _with_note(report, note)
    found = report.estimate
    shifted = replace(found, compute=max((found.compute or 0) + more, 0))
    shifted = replace(
        shifted, low=min(found.low, shifted.total), high=max(found.high or 0, shifted.total)
    )
    noted = replace(report, estimate=shifted, fit=_judged(report.fit, shifted.total))
    return _with_note(noted, f"when it ran, {told}: compute is corrected by that")


def _is_unusual(report: Report) -> bool:
    """Whether the use is not one that `run` has."""
    load = report.load
    return load.kv_type != "f16" or load.sequences > 1 or load.gpu_layers is not None


def _judged(fit: Fit, total: int) -> Fit:
    over = fit.budget_bytes is not None and total > fit.budget_bytes
    return replace(fit, verdict="no") if over and fit.verdict == "fits" else fit


def _with_note(report: Report, note: str) -> Report:
    return replace(report, estimate=replace(report.estimate, notes=(*report.estimate.notes, note)))


def _key(entry: Observation) -> tuple[str, str, int]:
    return entry.model, entry.runtime, entry.context


def _parsed(row: object) -> Observation | None:
    if not isinstance(row, dict) or row.keys() != set(Observation.__dataclass_fields__):
        return None
    texts, counts = (row["model"], row["runtime"]), [row[name] for name in _COUNTS]
    if not all(isinstance(text, str) for text in texts):
        return None
    if not all(isinstance(count, int) and count > 0 for count in counts):
        return None
    return Observation(**row)


_COUNTS = ("context", "predicted", "observed")
