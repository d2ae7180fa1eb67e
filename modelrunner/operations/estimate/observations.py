"""What runtimes reported of models that ran, against what was computed: estimates learn from it.

A llama.cpp that logs what it allocates has one line for each buffer:

    load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
    llama_kv_cache:        CPU KV buffer size =    45.00 MiB
    sched_reserve:        CPU compute buffer size =    16.64 MiB

A file that is mapped can be dropped from memory again, and a CPU that repacks weights reads them
once from there: the mapped and the repacked bytes of the same weights count once.

    load_tensors:   CPU_Mapped model buffer size =   234.10 MiB
    load_tensors:   CPU_REPACK model buffer size =   216.00 MiB

A report counts for the circumstances that it was made in, and for its context; for another context
it is reported and changes nothing.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from modelrunner.disk.files import disk_errors, write_lightly
from modelrunner.disk.inside import read_inside
from modelrunner.disk.lock import held
from modelrunner.frozen import asdict, frozen, replace
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.fit import Fit
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.operations.estimate.report import Report
from modelrunner.units import format_size
from modelrunner.wire import parse_json

MAX_OBSERVATIONS = 128
"""How many are kept, the latest ones."""

_BUFFER = r"(\S+) +(model|KV|RS|compute|output) buffer size\s*=\s*(\d+(?:\.\d+)?) MiB"
_REPACKED = ("REPACK", "AARCH64", "AMX", "KLEIDIAI")
"""Names of the buffers with weights repacked for a CPU."""

_NECESSARY = {"model", "compute"}
_MIB = 1024 * 1024
_MAX_FILE = 1024 * 1024


@frozen
class Circumstances:
    """What else the memory of a model and a context depends on.

    Attributes:
        devices: The backend of each device that there is.
        gpu_layers: As asked for; None for as many as fit.
        cache_type_k: The type of the cache's keys.
        cache_type_v: The type of its values.
        flash_attention: As asked for; `auto` leaves it to the runtime.
        parallel: Conversations at the same time.
        micro_batch: Tokens that are computed at once.
    """

    devices: str
    gpu_layers: int | None = None
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: str = "auto"
    parallel: int = 1
    micro_batch: int = 512


@frozen
class Observation:
    """One model that ran.

    Attributes:
        model: Its weights, see `weights_key`.
        runtime: What served it.
        build: Which version of that.
        context: Tokens.
        circumstances: How it was served, and where.
        predicted: Bytes that were computed.
        observed: Bytes that the runtime needs by what it reported.
        mapped: How many of these lie in the mapped file, and can be dropped from memory.
    """

    model: str
    runtime: str
    build: str
    context: int
    circumstances: Circumstances
    predicted: int
    observed: int
    mapped: int = 0


@frozen
class Reported:
    """What a runtime's log says that it allocated.

    Attributes:
        anonymous: Bytes that are nowhere else.
        mapped: Bytes of weights that are used as they lie in the mapped file.
    """

    anonymous: int
    mapped: int

    @property
    def needed(self) -> int:
        """Bytes that a run reads again and again."""
        return self.anonymous + self.mapped


@frozen
class Observations:
    """A file of them; one that cannot be understood counts as empty."""

    path: Path

    def load(self) -> tuple[Observation, ...]:
        """All of them, the oldest first."""
        try:
            value = parse_json(read_inside(self.path, _MAX_FILE))
        except (OSError, ValueError):
            return ()
        rows = value if isinstance(value, list) else []
        return tuple(found for row in rows if (found := _parsed(row)) is not None)

    def add(self, new: Observation) -> None:
        """Keeps one, instead of an earlier one of the same model, runtime, context and so on.

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


@frozen
class Experience:
    """The observations that count today.

    Attributes:
        observations: All that are kept.
        preferred: The runtime that would serve now; None where none is here.
        build_of: The build that a runtime has now; None where it is not here.
    """

    observations: Observations
    preferred: Callable[[], str | None]
    build_of: Callable[[str], str | None]

    def of(self, model: str, circumstances: Circumstances) -> Sequence[Observation]:
        """Those of a model in circumstances like these: the one that says most comes last."""
        alike = [
            entry
            for entry in self.observations.load()
            if entry.model == model and entry.circumstances == circumstances
        ]
        builds = {name: self.build_of(name) for name in {entry.runtime for entry in alike}}
        current = [entry for entry in alike if entry.build == builds[entry.runtime]]
        first = self.preferred() if current else None
        return sorted(current, key=lambda entry: entry.runtime == first)


def weights_key(artifact: ModelArtifact) -> str:
    """What weights are known by, with their adapter, under whatever names and config."""
    loaded = [*artifact.weights, *filter(None, [artifact.adapter])]
    digests = [str(layer.descriptor.digest) for layer in loaded]
    if len(digests) == 1:
        return digests[0]
    return f"sha256:{sha256(' '.join(digests).encode()).hexdigest()}"


def backends(available: Iterable[Device]) -> str:
    """The kinds of devices, as `Circumstances` have them."""
    return " ".join(sorted(device.backend for device in available))


def reported_bytes(log: str, weights: int | None = None) -> Reported | None:
    """What a runtime's log says that it allocated; None where it does not say all of it.

    Args:
        log: What it has logged.
        weights: Bytes of the weights, where known: mapped ranges may overlap.
    """
    found = re.findall(_BUFFER, log)
    if not {kind for _, kind, _ in found} >= _NECESSARY:
        return None
    mapped = repacked = other = 0.0
    for buffer, kind, text in found:
        # bounded: by the pattern
        size = float(text) * _MIB
        if kind == "model" and buffer.endswith("_Mapped"):
            mapped += size
        elif kind == "model" and any(word in buffer for word in _REPACKED):
            repacked += size
        else:
            other += size
    if weights is not None:
        mapped = min(mapped, weights)
    return Reported(round(other + repacked), round(max(mapped - repacked, 0)))


def corrected(report: Report, artifact: ModelArtifact, experience: Experience) -> Report:
    """The report with what is known of the model from earlier runs."""
    if not report.estimate.is_complete or report.projector is not None:
        return report
    own = experience.of(weights_key(artifact), _circumstances(report))
    same = [entry for entry in own if entry.context == report.context]
    latest = (same or own)[-1:]
    if not latest:
        return report
    seen = latest[0]
    lying = f", {format_size(seen.mapped)} of it in the mapped file" if seen.mapped else ""
    measured = (
        f"measured in an earlier run: {format_size(seen.observed)} at context {seen.context} with"
        f" {seen.runtime}{lying}"
    )
    if not same:
        share = f"{(seen.observed - seen.predicted) / max(seen.predicted, 1):+.1%}"
        return _with_note(report, f"{measured}, {share} against the estimate for that context")
    found = report.estimate
    # what is kept of earlier prompts is in no log
    more = seen.observed - (found.total - found.kept)
    shifted = replace(found, compute=max((found.compute or 0) + more, 0))
    shifted = replace(
        shifted, low=min(found.low, shifted.total), high=max(found.high or 0, shifted.total)
    )
    fit = judged(report.fit, shifted.total, report.context)
    noted = replace(report, estimate=shifted, fit=fit, seen=True)
    return _with_note(noted, f"{measured}; the compute figure was adjusted")


def judged(found: Fit, needed: int, context: int) -> Fit:
    """Return the verdict where it was measured what a model needs.

    What was computed to fit, or could not be computed, goes by the measurement.
    """
    if found.budget_bytes is None or found.verdict not in ("fits", "maybe", "unknown"):
        return found
    if needed <= found.budget_bytes:
        return replace(found, verdict="fits")
    longest = found.max_context
    return replace(
        found,
        verdict="no",
        # computed with the same error
        max_context=longest if longest is not None and longest < context else None,
    )


def _circumstances(report: Report) -> Circumstances:
    load = report.load
    return Circumstances(
        backends(report.devices),
        load.gpu_layers,
        *load.kv_types,
        "auto" if load.flash_attention else "off",
        load.parallel,
        load.micro_batch,
    )


def _with_note(report: Report, note: str) -> Report:
    return replace(report, estimate=replace(report.estimate, notes=(*report.estimate.notes, note)))


def _key(entry: Observation) -> tuple[object, ...]:
    # of an older build nothing is to be learnt any more
    return entry.model, entry.runtime, entry.context, entry.circumstances


def _parsed(row: object) -> Observation | None:
    """One row; None where it is of another form, an older one for example."""
    if not isinstance(row, dict) or row.keys() != Observation.__annotations__.keys():
        return None
    around = row["circumstances"]
    if not isinstance(around, dict) or around.keys() != Circumstances.__annotations__.keys():
        return None
    layers = around["gpu_layers"]
    texts = [*(row[name] for name in _TEXTS), *(around[name] for name in _TEXTS_AROUND)]
    counts = [*(row[name] for name in _COUNTS), around["parallel"], around["micro_batch"]]
    if not all(isinstance(text, str) for text in texts):
        return None
    if not all(_is_count(count) and count > 0 for count in counts):
        return None
    from_zero = [row["mapped"], *([] if layers is None else [layers])]
    if not all(_is_count(count) and count >= 0 for count in from_zero):
        return None
    return Observation(**{**row, "circumstances": Circumstances(**around)})


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TEXTS = ("model", "runtime", "build")
_TEXTS_AROUND = ("devices", "cache_type_k", "cache_type_v", "flash_attention")
_COUNTS = ("context", "predicted", "observed")
