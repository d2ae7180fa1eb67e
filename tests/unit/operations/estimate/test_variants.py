"""Every model of a repository, and the one to take; from a real registry on loopback."""

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.cards.catalog import Catalog
from modelrunner.errors import ManifestNotFoundError, NotInStoreError
from modelrunner.memory.devices.devices import Device
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate import variants as module
from modelrunner.operations.estimate.estimate import Estimator
from modelrunner.operations.estimate.report import EstimateRequest
from modelrunner.operations.estimate.variants import names_repository, variants
from modelrunner.registry.source import Source
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact, safetensors_artifact
from tests.support.gguf import tiny_gguf
from tests.support.pulling import Pulling
from tests.support.registry import Registry
from tests.support.stores import put

MIB = 1024 * 1024
HOST = Device("here", "host", 64 * MIB, 64 * MIB, "cpu")


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as running:
        yield running


@pytest.fixture
def estimator(store: Store) -> Estimator:
    places = Pulling(store).places
    return Estimator(store, places.source_for, Catalog.load, lambda: (HOST,))


@pytest.fixture
def offline(store: Store) -> Estimator:
    def nowhere(reference: Reference) -> Source:
        raise NotInStoreError(f"{reference.short} is not here")

    return Estimator(store, nowhere, Catalog.load, lambda: (HOST,))


def model(folder: Path, layers: int, **keys: object) -> bytes:
    return tiny_gguf(folder / "model.gguf", layers=layers, metadata=keys).read_bytes()


@pytest.fixture
def name(registry: Registry, tmp_path: Path) -> str:
    """A repository of three models, one of them under three names."""
    for tag, layers in (("small", 1), ("middle", 4), ("large", 40)):
        registry.add(docker_artifact(model(tmp_path, layers)), "team/many", [tag])
    registry.add(docker_artifact(model(tmp_path, 4)), "team/many", ["middle-Q4_0", "latest"])
    return registry.reference("team/many")


def test_a_manifest_is_looked_at_once_with_all_its_tags(
    estimator: Estimator, registry: Registry, name: str
) -> None:
    found = variants(estimator, name, EstimateRequest())
    assert [(entry.reference.tag, set(entry.tags)) for entry in found.candidates] == [
        ("large", {"large"}),
        ("middle-Q4_0", {"middle", "middle-Q4_0", "latest"}),
        ("small", {"small"}),
    ]
    fetched = [entry for entry in registry.requests if entry.kind == "manifest"]
    assert sum(entry.method == "GET" for entry in fetched) == 3
    assert {entry.report.estimate.source for entry in found.candidates if entry.report} == {
        "header"
    }
    assert all(entry.report.facts.quantization for entry in found.candidates if entry.report)


def test_all_are_compared_at_one_context_and_no_longer_than_trained(
    estimator: Estimator, name: str
) -> None:
    found = variants(estimator, name, EstimateRequest())
    assert {entry.report.load.context for entry in found.candidates if entry.report} == {2048}
    asked = variants(estimator, name, EstimateRequest(context=512))
    assert {entry.report.load.context for entry in asked.candidates if entry.report} == {512}


@pytest.mark.parametrize(
    ("budget", "tag", "verdict"),
    [
        (64 * MIB, "large", "fits"),
        (4 * MIB, "middle-Q4_0", "fits"),
        (9 * 1024, "small", "no"),
    ],
)
def test_the_best_is_the_largest_that_fits_else_the_smallest(
    estimator: Estimator, name: str, budget: int, tag: str, verdict: str
) -> None:
    best = variants(estimator, name, EstimateRequest(budget=budget)).best()
    assert best is not None
    assert (best.reference.tag, best.verdict) == (tag, verdict)


def test_more_parameters_are_better_than_more_bytes(
    estimator: Estimator, registry: Registry, tmp_path: Path
) -> None:
    many = model(tmp_path, 8)
    few_but_heavy = model(tmp_path, 1) + bytes(MIB)
    registry.add(docker_artifact(many), "team/two", ["many"])
    registry.add(docker_artifact(few_but_heavy), "team/two", ["heavy"])
    best = variants(estimator, registry.reference("team/two"), EstimateRequest()).best()
    assert best is not None
    assert best.reference.tag == "many"


def test_what_is_here_is_read_from_here(
    estimator: Estimator, registry: Registry, store: Store, name: str, tmp_path: Path
) -> None:
    put(store, docker_artifact(model(tmp_path, 40)), f"{name}:large")
    registry.requests.clear()
    found = variants(estimator, name, EstimateRequest())
    assert len(found.candidates) == 3
    assert sum(r.kind == "manifest" and r.method == "GET" for r in registry.requests) == 2


def test_what_cannot_be_run_is_listed_with_its_problem(
    estimator: Estimator, registry: Registry, name: str
) -> None:
    registry.add(safetensors_artifact(), "team/many", ["vllm"])
    registry.add(docker_artifact(b"GGUF" + struct.pack("<I", 99) + bytes(64)), "team/many", ["bad"])
    found = variants(estimator, name, EstimateRequest())
    problems = {entry.reference.tag: entry.problem for entry in found.candidates if entry.problem}
    assert set(problems) == {"vllm", "bad"}
    assert "safetensors" in (problems["vllm"] or "")
    entry = next(entry for entry in found.candidates if entry.reference.tag == "vllm")
    assert entry.to_dict()["problem"] == problems["vllm"]
    best = found.best()
    assert best is not None
    assert best.reference.tag == "large"


def test_a_cache_type_that_one_model_cannot_have_is_a_problem_of_that_model_alone(
    estimator: Estimator, registry: Registry, name: str, tmp_path: Path
) -> None:
    sizes = {f"llama.attention.{part}_length": 32 for part in ("key", "value")}
    registry.add(docker_artifact(model(tmp_path, 1, **sizes)), "team/many", ["wide"])
    request = EstimateRequest(kv_type="q8_0")
    found = {entry.reference.tag: entry for entry in variants(estimator, name, request).candidates}
    refused = "KV cache type q8_0 packs 32 numbers, which do not divide this model's keys of 8"
    problems = {tag: entry.problem for tag, entry in found.items()}
    assert problems == {"wide": None} | dict.fromkeys(("large", "middle-Q4_0", "small"), refused)
    assert found["wide"].verdict == "fits"
    assert found["small"].verdict == "unknown"


def test_a_cache_type_is_checked_where_only_a_card_knows_the_model(
    offline: Estimator, tmp_path: Path
) -> None:
    card = (Catalog.load().folder / "smollm2.md").read_text()
    text, count = re.subn(r"(\| Head size .*?)64", r"\g<1>40", card)
    assert count == 1
    (tmp_path / "smollm2.md").write_text(text)
    estimator = replace(offline, catalog=lambda: Catalog.load(tmp_path))
    found = variants(estimator, "ai/smollm2", EstimateRequest(kv_type="q8_0")).candidates
    problems = {entry.problem for entry in found}
    assert "KV cache type q8_0 packs 32 numbers, which do not divide this model's keys of 40" in (
        problems
    )
    assert all(entry.report is None for entry in found if entry.problem)


def test_headers_and_tags_are_bounded_and_the_rest_is_told(
    estimator: Estimator,
    registry: Registry,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(module.MAX_HEADERS + 2):
        content = tiny_gguf(tmp_path / "m.gguf", seed=number + 1).read_bytes()
        registry.add(docker_artifact(content), "team/lots", [f"v{number:02}"])
    found = variants(estimator, registry.reference("team/lots"), EstimateRequest())
    unread = [entry for entry in found.candidates if entry.report is None]
    assert [entry.problem for entry in unread] == [
        "not looked at: the repository has more than 12 models"
    ] * 2
    monkeypatch.setattr(module, "MAX_TAGS", 3)
    assert variants(estimator, registry.reference("team/lots"), EstimateRequest()).unseen == 11


def test_a_repository_that_nobody_knows_is_not_found(
    estimator: Estimator, registry: Registry
) -> None:
    with pytest.raises(ManifestNotFoundError):
        variants(estimator, registry.reference("team/none"), EstimateRequest())


def test_without_a_registry_store_and_card_answer(
    offline: Estimator, store: Store, tmp_path: Path
) -> None:
    put(store, docker_artifact(model(tmp_path, 2)), "ai/qwen3:0.6B-Q4_0", "ai/qwen3:mine")
    found = variants(offline, "ai/qwen3", EstimateRequest(budget=12 * 1024 * MIB))
    here = [entry for entry in found.candidates if entry.digest is not None]
    assert [set(entry.tags) for entry in here] == [{"0.6B-Q4_0", "mine"}]
    names = [tag for entry in found.candidates for tag in entry.tags]
    assert len(names) == len(set(names)) > 10
    best = found.best()
    assert best is not None
    assert (best.verdict, best.report is not None) == ("fits", True)


def test_without_anything_it_is_missing(offline: Estimator) -> None:
    with pytest.raises(NotInStoreError):
        variants(offline, "team/none", EstimateRequest())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ai/smollm2", True),
        ("smollm2", True),
        ("localhost:5000/ai/smollm2", True),
        ("ai/smollm2:latest", False),
        ("localhost:5000/ai/smollm2:1", False),
        (f"ai/smollm2@sha256:{'0' * 64}", False),
        ("0123456789ab", False),
    ],
)
def test_a_repository_is_told_from_one_model(text: str, expected: bool) -> None:
    assert names_repository(text) is expected
