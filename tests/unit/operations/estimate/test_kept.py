"""What the next estimate of a model in a registry does not ask for again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.cards.catalog import Catalog
from modelrunner.errors import HeaderTooLongError
from modelrunner.memory.devices.devices import Device
from modelrunner.operations.estimate.estimate import Estimator
from modelrunner.operations.estimate.report import EstimateRequest
from modelrunner.operations.model import headers
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.pulling import Pulling
from tests.support.registry import Registry

MIB = 1024 * 1024
HOST = Device("here", "host", 64 * MIB, 64 * MIB, "cpu")


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as running:
        yield running


@pytest.fixture
def estimator(store: Store, tmp_path: Path) -> Estimator:
    places = Pulling(store).places
    return Estimator(
        store, places.source_for, Catalog.load, lambda: (HOST,), cache=tmp_path / "headers"
    )


@pytest.fixture
def name(registry: Registry, tmp_path: Path) -> str:
    content = tiny_gguf(tmp_path / "model.gguf", layers=4).read_bytes()
    registry.add(docker_artifact(content), "team/one", ["latest"])
    return registry.reference("team/one")


def asked(registry: Registry) -> list[tuple[str, str]]:
    found = [(each.kind, each.method) for each in registry.requests if each.kind != "ping"]
    registry.requests.clear()
    return found


def test_the_second_estimate_of_a_remote_model_asks_for_its_digest_alone(
    estimator: Estimator, registry: Registry, name: str
) -> None:
    first = estimator.of_model(name, EstimateRequest())
    assert len(asked(registry)) == 4
    assert estimator.of_model(name, EstimateRequest()) == first
    assert asked(registry) == [("manifest", "HEAD")]


def test_another_model_under_the_tag_is_read(
    estimator: Estimator, registry: Registry, name: str, tmp_path: Path
) -> None:
    first = estimator.of_model(name, EstimateRequest(context=256))
    content = tiny_gguf(tmp_path / "other.gguf", layers=8).read_bytes()
    registry.add(docker_artifact(content), "team/one", ["latest"])
    second = estimator.of_model(name, EstimateRequest(context=256))
    assert first.estimate.kv_cache is not None
    assert second.estimate.kv_cache == 2 * first.estimate.kv_cache


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"too_long": 1}', b"\xff"])
def test_what_is_damaged_is_read_again(
    estimator: Estimator, registry: Registry, name: str, tmp_path: Path, damage: bytes
) -> None:
    first = estimator.of_model(name, EstimateRequest())
    for path in (tmp_path / "headers").iterdir():
        path.write_bytes(damage)
    assert estimator.of_model(name, EstimateRequest()) == first


def test_nothing_is_kept_where_nobody_says_where(
    estimator: Estimator, registry: Registry, name: str
) -> None:
    forgetful = replace(estimator, cache=None)
    forgetful.of_model(name, EstimateRequest())
    first = asked(registry)
    forgetful.of_model(name, EstimateRequest())
    assert asked(registry) == first


class TestHeaderThatIsTooLong:
    """The config and the card know the model, too."""

    @pytest.fixture(autouse=True)
    def limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(headers, "REMOTE_LIMIT", 512)

    def test_the_config_answers(self, estimator: Estimator, registry: Registry, tmp_path: Path):
        content = tiny_gguf(tmp_path / "model.gguf", layers=4).read_bytes()
        values = {
            "general.architecture": "llama",
            "llama.block_count": "4",
            "llama.embedding_length": "64",
            "llama.attention.head_count": "4",
            "llama.context_length": "2048",
            "llama.feed_forward_length": "128",
            "llama.vocab_size": "32",
        }
        registry.add(docker_artifact(content, config={"gguf": values}), "team/one", ["latest"])
        name = registry.reference("team/one")
        report = estimator.of_model(name, EstimateRequest(context=256))
        assert report.estimate.source == "config"
        # 256 cells, 4 layers, keys and values of 64 numbers each
        assert report.estimate.kv_cache == 256 * 4 * 2 * 64 * 2
        assert report.estimate.notes[-1] == "the header exceeds 512 B and was not read"

    def test_its_length_is_remembered(
        self, estimator: Estimator, registry: Registry, name: str
    ) -> None:
        first = estimator.of_model(name, EstimateRequest(context=256))
        assert first.estimate.weights is not None
        asked(registry)
        assert estimator.of_model(name, EstimateRequest(context=256)) == first
        assert asked(registry) == [("manifest", "HEAD")]

    def test_who_asks_for_the_header_alone_is_told(self, estimator: Estimator, name: str) -> None:
        with pytest.raises(HeaderTooLongError):
            estimator.of_model(name, EstimateRequest(source="header"))
