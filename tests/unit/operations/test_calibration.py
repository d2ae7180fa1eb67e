"""What runtimes reported of models that ran, and what estimates make of it."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.cards.catalog import Catalog
from modelrunner.errors import NotInStoreError
from modelrunner.memory.devices import Device
from modelrunner.oci.reference import Reference
from modelrunner.operations.calibration import (
    MAX_OBSERVATIONS,
    Observation,
    Observations,
    corrected,
    reported_bytes,
)
from modelrunner.operations.estimate import Estimator
from modelrunner.operations.report import Report, Wish
from modelrunner.registry.source import Source
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.stores import put

MIB = 1024 * 1024
HOST = Device("here", "host", 64 * MIB, 64 * MIB, "cpu")
LOG = """\
0.00.463.099 I load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
0.00.467.557 I llama_context:        CPU  output buffer size =     0.25 MiB
0.00.467.634 I llama_kv_cache:        CPU KV buffer size =    45.00 MiB
0.00.492.853 I llama_kv_cache: size =   45.00 MiB (  2048 cells,  30 layers,  1/1 seqs)
0.00.495.957 I sched_reserve:        CPU compute buffer size =    16.65 MiB
"""


def nowhere(reference: Reference) -> Source:
    raise NotInStoreError(f"{reference.short} is not here")


@pytest.fixture
def estimator(store: Store, tmp_path: Path) -> Estimator:
    file = tmp_path / "observations.json"
    return Estimator(store, nowhere, Catalog.load, lambda: (HOST,), file)


@pytest.fixture
def report(estimator: Estimator, tmp_path: Path) -> Report:
    return estimator.of_file(tiny_gguf(tmp_path / "tiny.gguf"), Wish(context=512))


def seen(report: Report, more: int = 0, context: int = 512, runtime: str = "one") -> Observation:
    total = report.estimate.total
    return Observation("sha256:ab", runtime, context, total, total + more)


def test_each_buffer_of_a_log_counts_once() -> None:
    assert reported_bytes(LOG) == 154 * MIB
    states = "I llama_memory_recurrent:  CPU RS buffer size =  1.00 MiB\n"
    assert reported_bytes(LOG + states) == 155 * MIB


@pytest.mark.parametrize("missing", ["model buffer", "compute buffer"])
def test_a_log_that_does_not_say_all_says_nothing(missing: str) -> None:
    assert reported_bytes("\n".join(x for x in LOG.splitlines() if missing not in x)) is None
    assert reported_bytes("") is None


def test_at_the_same_context_the_estimate_is_what_was_reported(report: Report) -> None:
    found = corrected(report, "sha256:ab", [seen(report, more=2 * MIB)])
    assert found.estimate.total == report.estimate.total + 2 * MIB
    assert found.estimate.low <= found.estimate.total <= (found.estimate.high or 0)
    assert found.estimate.kv_cache == report.estimate.kv_cache
    (note,) = found.estimate.notes
    assert note.startswith("when it ran, one reported ")
    assert note.endswith(" at a context of 512: compute is corrected by that")


def test_for_another_context_it_is_told_and_changes_nothing(report: Report) -> None:
    half = report.estimate.total // 2
    found = corrected(report, "sha256:ab", [seen(report, more=half, context=1024)])
    assert found.estimate.total == report.estimate.total
    assert found.estimate.notes[0].endswith(
        " at a context of 1024: +50.0% of what was computed for that"
    )


def test_the_latest_report_counts(report: Report) -> None:
    known = [seen(report, more=MIB), seen(report, more=2 * MIB, runtime="two")]
    assert corrected(report, "sha256:ab", known).estimate.total == (report.estimate.total + 2 * MIB)


def test_other_models_and_other_uses_are_left_alone(report: Report) -> None:
    known = [seen(report, more=MIB)]
    assert corrected(report, "sha256:cd", known) is report
    quantized = replace(report, load=replace(report.load, kv_type="q8_0"))
    assert corrected(quantized, "sha256:ab", known) is quantized


def test_what_no_longer_fits_is_said_not_to(report: Report) -> None:
    found = corrected(report, "sha256:ab", [seen(report, more=64 * MIB)])
    assert (report.fit.verdict, found.fit.verdict) == ("fits", "no")


def test_a_stored_model_is_estimated_with_what_is_known_of_it(
    estimator: Estimator, store: Store, tmp_path: Path
) -> None:
    artifact = docker_artifact(tiny_gguf(tmp_path / "tiny.gguf").read_bytes())
    model = put(store, artifact, "ai/mine:1")
    before = estimator.of_model("ai/mine:1", Wish(context=512))
    total = before.estimate.total
    assert estimator.observations is not None
    Observations(estimator.observations).add(
        Observation(str(model.digest), "one", 512, total, total + MIB)
    )
    after = estimator.of_model("ai/mine:1", Wish(context=512))
    assert after.estimate.total == total + MIB
    header = estimator.of_model("ai/mine:1", Wish(context=512, source="header"))
    assert header.estimate == before.estimate


def test_one_of_a_kind_is_kept_and_not_too_many(tmp_path: Path) -> None:
    kept = Observations(tmp_path / "state" / "observations.json")
    assert kept.load() == ()
    one = Observation("sha256:ab", "one", 512, 100, 101)
    kept.add(one)
    kept.add(replace(one, observed=102))
    assert kept.load() == (replace(one, observed=102),)
    for context in range(1, MAX_OBSERVATIONS + 10):
        kept.add(replace(one, context=context))
    found = kept.load()
    assert (len(found), found[-1].context) == (MAX_OBSERVATIONS, MAX_OBSERVATIONS + 9)


def test_two_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    kept = Observations(tmp_path / "observations.json")
    many = [Observation("sha256:ab", "one", context, 1, 1) for context in range(1, 41)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(kept.add, many))
    assert {entry.context for entry in kept.load()} == set(range(1, 41))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "{}",
        "[1, null]",
        '[{"model": "sha256:ab"}]',
        json.dumps([{"model": 1, "runtime": "x", "context": 1, "predicted": 1, "observed": 1}]),
        json.dumps([{"model": "a", "runtime": "x", "context": 0, "predicted": 1, "observed": -1}]),
    ],
)
def test_a_file_that_is_not_understood_counts_as_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "observations.json"
    path.write_text(content)
    assert Observations(path).load() == ()
