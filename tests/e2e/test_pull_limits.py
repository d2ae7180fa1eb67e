"""What a user may limit: time, rate, connections; and client certificates in the configuration."""

import json
import socket

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import docker_artifact
from tests.support.registry import Registry

MIB = 1024 * 1024


@pytest.fixture
def large(registry: Registry) -> str:
    """A model of some pieces, whatever is in it."""
    artifact = docker_artifact(bytes(range(256)) * (24 * MIB // 256))
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
