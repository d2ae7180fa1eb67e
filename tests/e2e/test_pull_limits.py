"""What a user may limit: time, rate, connections; and client certificates in the configuration."""

import json
import re
import socket
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry

MIB = 1024 * 1024


@pytest.fixture
def large(registry: Registry, tmp_path: Path) -> str:
    """A model of some pieces: a header, and then whatever is in it."""
    header = tiny_gguf(tmp_path / "large.gguf").read_bytes()
    artifact = docker_artifact(header + bytes(range(256)) * (24 * MIB // 256))
    registry.add(artifact, "team/large", tags=["1"])
    return f"{registry.host}/team/large:1"


def test_time_that_is_over_ends_the_pull_and_keeps_what_came(
    cli: CommandLine, registry: Registry, large: str
) -> None:
    registry.slow(2_000_000)
    ended = cli("pull", large, "--timeout", "3", "--connections", "4", "--json")
    assert ended.returncode == 5
    assert json.loads(ended.stderr)["error"]["code"] == "deadline"
    registry.calm()

    done = json.loads(cli("pull", large, "--json").stdout)

    assert done["resumed_bytes"] >= MIB
    # the config had come before, whole
    came = done["downloaded_bytes"] + done["resumed_bytes"]
    assert 0 < done["size_bytes"] - came < 1000


def test_time_is_over_where_the_registry_is_silent(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = cli(
            "pull",
            f"127.0.0.1:{silent.getsockname()[1]}/team/model:1",
            *("--timeout", "2", "--json"),
        )

    assert json.loads(done.stderr)["error"]["code"] == "deadline"
    assert done.returncode == 5


def test_connections_are_as_many_as_asked_for(
    cli: CommandLine, registry: Registry, large: str
) -> None:
    registry.slow(8_000_000)

    assert cli("pull", large, "--connections", "3").returncode == 0

    assert registry.connections("blob") <= 4  # the config came over one of its own


def test_rate_holds_over_all_connections(cli: CommandLine, large: str) -> None:
    done = json.loads(cli("pull", large, "--limit-rate", "8M", "--json").stdout)

    assert done["duration_s"] >= 0.95 * 24 / 8


@pytest.mark.parametrize("rate", ["fast", "0", "-1"])
def test_rate_that_is_none_is_a_usage_error(cli: CommandLine, rate: str) -> None:
    done = cli("pull", "ai/smollm2", f"--limit-rate={rate}")

    assert done.returncode == 2
    assert done.stderr.startswith("error: --limit-rate")


def test_bundle_that_is_missing_is_told(cli: CommandLine) -> None:
    done = cli("pull", "ghcr.io/team/model", "--ca-file", "/nowhere/ca.pem")

    assert done.returncode == 2
    assert "/nowhere/ca.pem" in done.stderr


def test_a_timeout_tells_what_went_wrong_until_then_and_that_nothing_came(
    cli: CommandLine, registry: Registry, large: str
) -> None:
    registry.answer(503, times=None, on="manifest")

    # a fresh process, whose waits are those of users
    done = cli("pull", large, "--timeout", "1.5", PYTHONUNBUFFERED="1")

    *retries, error, hint = done.stderr.splitlines()
    assert error.startswith("error: timed out after 1.5 s (--timeout): ")
    assert "returned HTTP 503" in error
    assert hint == "hint: try again later, or allow more time"
    assert retries
    assert all("returned HTTP 503" in line for line in retries)
    assert done.returncode == 5


def test_a_manifest_that_is_asked_for_again_is_reported(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", tags=["1"])
    registry.answer(503, times=2, on="manifest")
    name = registry.reference("team/tiny:1")
    done = cli("pull", name)
    told = [line for line in done.stderr.splitlines() if line.startswith("retrying in ")]
    assert re.fullmatch(
        rf"retrying in [\d.]+ s \(try 2 of 5\): {name}: {registry.host} returned HTTP 503", told[0]
    )
    assert done.returncode == 0


def test_a_manifest_that_is_asked_for_again_is_an_event(
    cli: CommandLine, registry: Registry, large: str
) -> None:
    # a HEAD that fails is followed by a GET at once
    registry.answer(503, times=2, on="manifest")
    done = cli("pull", large, "--progress", "json")
    first = json.loads(done.stderr.splitlines()[0])
    assert (first["event"], first["digest"], first["attempt"]) == ("retrying", None, 1)
    assert "returned HTTP 503" in first["reason"]
