"""What runtimes reported of models that ran, and what estimates make of it."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from modelrunner.cards.catalog import Catalog
from modelrunner.errors import NotInStoreError
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.fit import Fit
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate.estimate import Estimator
from modelrunner.operations.estimate.observations import (
    MAX_OBSERVATIONS,
    Circumstances,
    Experience,
    Observation,
    Observations,
    Reported,
    backends,
    corrected,
    judged,
    reported_bytes,
    weights_key,
)
from modelrunner.operations.estimate.report import EstimateRequest, Report
from modelrunner.registry.source import Source
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.stores import put

MIB = 1024 * 1024
HOST = Device("here", "host", 64 * MIB, 64 * MIB, "cpu")
USUAL = Circumstances("cpu")
ONE = Observation("sha256:ab", "one", "1.0", 512, USUAL, 100, 101)
LOG = """\
0.00.463.099 I load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
0.00.467.557 I llama_context:        CPU  output buffer size =     0.25 MiB
0.00.467.634 I llama_kv_cache:        CPU KV buffer size =    45.00 MiB
0.00.492.853 I llama_kv_cache: size =   45.00 MiB (  2048 cells,  30 layers,  1/1 seqs)
0.00.495.957 I sched_reserve:        CPU compute buffer size =    16.65 MiB
"""


def nowhere(reference: Reference) -> Source:
    raise NotInStoreError(f"{reference.short} is not here")


class Place:
    """A store with one model, its plain estimate, and the file of what was seen of it."""

    def __init__(self, store: Store, folder: Path) -> None:
        weights = tiny_gguf(folder / "tiny.gguf")
        self.model = put(store, docker_artifact(weights.read_bytes()), "ai/mine:1")
        self.artifact = self.model.artifact
        self.observations = Observations(folder / "state" / "observations.json")
        self.builds: dict[str, str] = {"one": "1.0", "two": "2.0"}
        experience = Experience(self.observations, lambda: next(iter(self.builds)), self.builds.get)
        self.estimator = Estimator(
            store, nowhere, Catalog.load, lambda: (HOST,), lambda: experience
        )
        self.experience = experience
        self.report = self.estimator.of_file(weights, EstimateRequest(context=512))

    def saw(
        self,
        more: int = 0,
        *,
        context: int = 512,
        runtime: str = "one",
        build: str | None = None,
        around: Circumstances = USUAL,
        mapped: int = 0,
    ) -> None:
        """Keeps that a runtime needed so much more than was computed."""
        total = self.report.estimate.total
        self.observations.add(
            Observation(
                weights_key(self.artifact),
                runtime,
                build or self.builds[runtime],
                context,
                around,
                total,
                total + more,
                mapped,
            )
        )

    def corrected(self, report: Report | None = None) -> Report:
        return corrected(report or self.report, self.artifact, self.experience)


@pytest.fixture
def place(store: Store, tmp_path: Path) -> Place:
    return Place(store, tmp_path)


def test_each_buffer_of_a_log_counts_once() -> None:
    found = reported_bytes(LOG)
    assert found is not None
    assert found.needed == 154 * MIB
    states = "I llama_memory_recurrent:  CPU RS buffer size =  1.00 MiB\n"
    assert reported_bytes(LOG + states) == replace(found, anonymous=found.anonymous + MIB)


RESERVED = "sched_reserve: CPU compute buffer size = 10.00 MiB\n"


@pytest.mark.parametrize(
    ("buffers", "anonymous", "mapped"),
    [
        # used as it lies in the file
        ({"CPU_Mapped": 234}, 10, 234),
        # read once from the file, and used as it is laid out anew: in part, or all of it
        ({"CPU_Mapped": 234, "CPU_REPACK": 216}, 226, 18),
        ({"CPU_Mapped": 234, "CPU_REPACK": 240}, 250, 0),
        ({"CPU_Mapped": 234, "AMX": 100, "CPU_KLEIDIAI": 16}, 126, 118),
        # without mapping, each tensor is in one buffer
        ({"CPU": 20, "CPU_REPACK": 216}, 246, 0),
        # on a GPU, and the rest mapped
        ({"CPU_Mapped": 28, "CUDA0": 200}, 210, 28),
        # ranges of the file that overlap
        ({"CPU_Mapped": 234, "MTL0_Mapped": 230}, 10, 234),
    ],
)
def test_mapped_and_repacked_weights_count_once(
    buffers: Mapping[str, int], anonymous: int, mapped: int
) -> None:
    lines = [f"load_tensors: {x:>12} model buffer size = {y}.00 MiB" for x, y in buffers.items()]
    found = reported_bytes("\n".join([*lines, RESERVED]), 234 * MIB)
    assert found == Reported(anonymous * MIB, mapped * MIB)


def test_a_run_with_repacked_weights_leaves_the_verdict(place: Place) -> None:
    place.saw(mapped=MIB)
    found = place.corrected()
    assert found.estimate.total == place.report.estimate.total
    assert found.fit.verdict == "fits"
    assert ", 1.00 MiB of it in the mapped file; " in found.estimate.notes[-1]


def test_what_is_kept_of_prompts_comes_on_top_of_what_was_logged(place: Place) -> None:
    place.saw(more=MIB)
    keeping = replace(place.report, estimate=replace(place.report.estimate, kept=5 * MIB))
    assert place.corrected(keeping).estimate.total == place.report.estimate.total + 6 * MIB


@pytest.mark.parametrize("missing", ["model buffer", "compute buffer"])
def test_a_log_that_does_not_say_all_says_nothing(missing: str) -> None:
    assert reported_bytes("\n".join(x for x in LOG.splitlines() if missing not in x)) is None
    assert reported_bytes("") is None


def test_at_the_same_context_the_estimate_is_what_was_reported(place: Place) -> None:
    place.saw(more=2 * MIB)
    before, found = place.report, place.corrected()
    assert found.estimate.total == before.estimate.total + 2 * MIB
    assert found.estimate.low <= found.estimate.total <= (found.estimate.high or 0)
    assert found.estimate.kv_cache == before.estimate.kv_cache
    assert found.estimate.source == "header"
    (note,) = found.estimate.notes
    assert note.startswith("measured in an earlier run: ")
    assert note.endswith(" at context 512 with one; the compute figure was adjusted")
    assert " (measured earlier on this machine); context 512" in found.line()


def test_for_another_context_it_is_told_and_changes_nothing(place: Place) -> None:
    place.saw(more=place.report.estimate.total // 2, context=1024)
    found = place.corrected()
    assert found.estimate.total == place.report.estimate.total
    assert found.line() == place.report.line()
    assert found.estimate.notes[0].endswith(
        " at context 1024 with one, +50.0% against the estimate for that context"
    )


def test_the_runtime_that_would_serve_counts_before_a_later_other_one(place: Place) -> None:
    place.saw(more=MIB)
    place.saw(more=2 * MIB, runtime="two")
    assert place.corrected().estimate.total == place.report.estimate.total + MIB


def test_the_latest_report_of_other_runtimes_counts(place: Place) -> None:
    place.builds |= {"two": "2.0", "three": "3.0"}
    place.saw(more=MIB, runtime="two")
    place.saw(more=2 * MIB, runtime="three")
    assert place.corrected().estimate.total == place.report.estimate.total + 2 * MIB


def test_another_build_of_the_runtime_has_seen_nothing(place: Place) -> None:
    place.saw(more=MIB, build="0.9")
    assert place.corrected() is place.report


def test_a_runtime_that_is_gone_counts_no_more(place: Place) -> None:
    place.saw(more=MIB)
    del place.builds["one"]
    assert place.corrected() is place.report


@pytest.mark.parametrize(
    "other",
    [
        {"devices": "cpu cuda"},
        {"gpu_layers": 4},
        {"cache_type_k": "q8_0"},
        {"cache_type_v": "q8_0"},
        {"flash_attention": "off"},
        {"parallel": 2},
        {"micro_batch": 64},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_was_seen_in_other_circumstances_does_not_count(
    place: Place, other: Mapping[str, object]
) -> None:
    place.saw(more=MIB, around=Circumstances(**{**asdict(USUAL), **other}))
    assert place.corrected() is place.report


def test_other_models_and_other_uses_are_left_alone(
    place: Place, store: Store, tmp_path: Path
) -> None:
    place.saw(more=MIB)
    weights = tiny_gguf(tmp_path / "other.gguf", seed=1).read_bytes()
    other = put(store, docker_artifact(weights), "ai/other:1")
    assert corrected(place.report, other.artifact, place.experience) is place.report
    for use in ({"kv_type": "q8_0"}, {"parallel": 2}, {"micro_batch": 64}, {"gpu_layers": 1}):
        used = replace(place.report, load=replace(place.report.load, **use))
        assert place.corrected(used) is used
    seeing = replace(place.report, projector=1)
    assert place.corrected(seeing) is seeing


def test_what_no_longer_fits_is_said_not_to(place: Place) -> None:
    place.saw(more=64 * MIB)
    found = place.corrected()
    assert (place.report.fit.verdict, found.fit.verdict) == ("fits", "no")
    # it was computed with the same error
    assert found.fit.max_context is None


def test_a_shorter_context_than_one_that_does_not_fit_is_still_offered() -> None:
    fit = Fit("fits", 0, 512, 10)
    assert judged(fit, 11, 1024) == replace(fit, verdict="no")
    assert judged(fit, 10, 1024) == fit
    partial = replace(fit, verdict="partial")
    assert judged(partial, 11, 1024) is partial


def test_a_stored_model_is_estimated_with_what_is_known_of_it(place: Place) -> None:
    ask = place.estimator.of_model
    before = ask("ai/mine:1", EstimateRequest(context=512))
    place.saw(more=MIB)
    after = ask("ai/mine:1", EstimateRequest(context=512))
    assert after.estimate.total == before.estimate.total + MIB
    assert (
        ask("ai/mine:1", EstimateRequest(context=512, source="header")).estimate == before.estimate
    )


def test_weights_are_known_under_any_config(place: Place, store: Store, tmp_path: Path) -> None:
    weights = (tmp_path / "tiny.gguf").read_bytes()
    again = put(store, docker_artifact(weights, license=b"free\n"), "ai/again:1")
    assert again.digest != place.model.digest
    assert weights_key(again.artifact) == weights_key(place.artifact)


def test_devices_count_by_their_kind_and_number() -> None:
    card = replace(HOST, kind="gpu", backend="cuda", name="one")
    assert backends([card, HOST]) == backends([HOST, replace(card, name="two")]) == "cpu cuda"
    assert backends([card, card, HOST]) == "cpu cuda cuda"


def test_one_of_a_kind_is_kept_and_not_too_many(tmp_path: Path) -> None:
    kept = Observations(tmp_path / "state" / "observations.json")
    assert kept.load() == ()
    kept.add(ONE)
    # a newer build takes the place of an older one
    kept.add(replace(ONE, build="1.1", observed=102))
    assert kept.load() == (replace(ONE, build="1.1", observed=102),)
    for context in range(1, MAX_OBSERVATIONS + 10):
        kept.add(replace(ONE, context=context))
    found = kept.load()
    assert (len(found), found[-1].context) == (MAX_OBSERVATIONS, MAX_OBSERVATIONS + 9)


def test_two_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    kept = Observations(tmp_path / "observations.json")
    many = [replace(ONE, context=context) for context in range(1, 41)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(kept.add, many))
    assert {entry.context for entry in kept.load()} == set(range(1, 41))


ROW = asdict(ONE)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "{}",
        "[1, null]",
        "[" * 100_000,
        '[{"model": "sha256:ab"}]',
        # as it was written before circumstances were kept
        json.dumps([{"model": "a", "runtime": "x", "context": 1, "predicted": 1, "observed": 1}]),
        json.dumps([ROW | {"model": 1}]),
        json.dumps([ROW | {"context": 0}]),
        json.dumps([ROW | {"observed": True}]),
        json.dumps([ROW | {"mapped": -1}]),
        # as it was written when repacked weights counted twice
        json.dumps([{key: value for key, value in ROW.items() if key != "mapped"}]),
        json.dumps([ROW | {"circumstances": None}]),
        json.dumps([ROW | {"circumstances": ROW["circumstances"] | {"gpu_layers": "all"}}]),
        json.dumps([ROW | {"circumstances": ROW["circumstances"] | {"devices": 1}}]),
    ],
)
def test_a_file_that_is_not_understood_counts_as_empty(tmp_path: Path, content: str) -> None:
    path = tmp_path / "observations.json"
    path.write_text(content)
    assert Observations(path).load() == ()
