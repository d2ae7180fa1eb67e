"""What an artifact says of its model is what commands do, or they say that it is not."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry
from tests.support.stores import put

TRAINED, PACKAGED = 8192, 1024


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return tiny_gguf(tmp_path / "tiny.gguf", context_length=TRAINED).read_bytes()


def packaged(weights: bytes, context: int = PACKAGED):
    return docker_artifact(weights, config={"context_size": context})


# The packaged context.


def test_estimate_and_export_take_the_packaged_context(cli: CommandLine, weights: bytes) -> None:
    put(cli.store, packaged(weights), "ai/small:1")
    found = json.loads(cli("estimate", "ai/small:1", "--json").stdout)
    assert (found["context"], found["context_source"], found["trained_context"]) == (
        PACKAGED,
        "packaged",
        TRAINED,
    )
    assert found["notes"] == ["the artifact sets a context of 1024"]
    exported = json.loads(cli("export", "compose", "ai/small:1", "--json").stdout)
    assert exported["context"] == PACKAGED
    assert exported["memory_bytes"] == found["bytes"]["total"]


def test_a_packaged_context_beyond_the_usual_one_is_exported(
    cli: CommandLine, tmp_path: Path
) -> None:
    long = tiny_gguf(tmp_path / "long.gguf", context_length=131072).read_bytes()
    put(cli.store, packaged(long, 16384), "ai/long:1")
    put(cli.store, packaged(long, 131072), "ai/longer:1")
    exported = [
        json.loads(cli("export", "compose", name, "--json").stdout)["context"]
        for name in ("ai/long:1", "ai/longer:1")
    ]
    assert exported == [16384, 8192]


def test_a_model_in_a_registry_is_estimated_for_its_packaged_context(
    cli: CommandLine, registry: Registry, weights: bytes
) -> None:
    registry.add(packaged(weights), "team/small", ["1"])
    name = registry.reference("team/small:1")
    for source in ("auto", "config"):
        found = json.loads(cli("estimate", name, "--source", source, "--json").stdout)
        assert (found["context"], found["context_source"]) == (PACKAGED, "packaged")
    exported = json.loads(cli("export", "compose", name, "--json").stdout)
    assert exported["context"] == PACKAGED


def test_a_requested_context_beats_the_packaged_one(cli: CommandLine, weights: bytes) -> None:
    put(cli.store, packaged(weights), "ai/small:1")
    found = json.loads(cli("estimate", "ai/small:1", "--context", "2048", "--json").stdout)
    assert (found["context"], found["context_source"], found["notes"]) == (2048, "requested", [])


def test_an_estimate_is_for_the_context_that_will_run(cli: CommandLine, weights: bytes) -> None:
    put(cli.store, packaged(weights), "ai/small:1")
    found = json.loads(cli("estimate", "ai/small:1", "--context", "300", "--json").stdout)
    assert found["context"] == 512
    assert found["notes"] == ["context rounded up to 512: llama.cpp runs multiples of 256"]


@pytest.mark.model
def test_run_takes_the_packaged_context_unless_another_is_configured(
    models: CommandLine, smollm2_gguf: Path
) -> None:
    put(models.store, packaged(smollm2_gguf.read_bytes()), "ai/small:1")
    question = ("run", "ai/small:1", "hi", "--max-tokens", "1")
    done = models(*question)
    assert "; context 1024 of 8192, as packaged, " in done.stderr
    assert json.loads(models(*question, "--json", "-q").stdout)["context"] == PACKAGED
    models("configure", "ai/small:1", "--context", "2048")
    assert json.loads(models(*question, "--json", "-q").stdout)["context"] == 2048
    asked = models(*question, "--context", "300", "--json", "-q")
    assert json.loads(asked.stdout)["context"] == 512
