"""`pull A B C`: one summary, each failure told, the worst exit code; and ended from outside."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.e2e.conftest import without_time
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry
from tests.support.waiting import partial_bytes, wait_until

MIB = 1024 * 1024


@pytest.fixture
def names(registry: Registry, tmp_path: Path) -> list[str]:
    for seed, name in enumerate("ab", 1):
        weights = tiny_gguf(tmp_path / f"{name}.gguf", seed=seed).read_bytes()
        registry.add(docker_artifact(weights), f"team/{name}", ["1"])
    return [registry.reference(f"team/{name}:1") for name in "ab"]


@pytest.fixture
def large(registry: Registry, tmp_path: Path) -> list[str]:
    """Two models of 24 MB."""
    head = tiny_gguf(tmp_path / "large.gguf").read_bytes()
    for name in "xy":
        registry.add(docker_artifact(head + os.urandom(24 * MIB)), f"team/{name}", ["1"])
    return [registry.reference(f"team/{name}:1") for name in "xy"]


def test_several_have_a_line_each_and_one_summary(cli: CommandLine, names: list[str]) -> None:
    done = cli("pull", *names)
    assert (done.returncode, without_time(done.stdout)) == (
        0,
        (
            "HOST/team/a:1: pulled da34fc4d6608, 11.05 KiB from HOST in TIME\n"
            "HOST/team/b:1: pulled ff5bbd3f516d, 11.05 KiB from HOST in TIME\n"
        ),
    )
    assert done.stderr.splitlines()[-1] == "2 models: 2 pulled; 22.09 KiB downloaded"
    again = cli("pull", *names)
    assert again.stderr == "2 models: 2 up to date; 0 B downloaded\n"


def test_the_same_name_twice_is_one_model(cli: CommandLine, names: list[str]) -> None:
    found = json.loads(cli("pull", names[0], names[0], "--json").stdout)
    assert [entry["reference"] for entry in found] == [names[0]]


def test_one_that_fails_does_not_stop_the_others_and_the_worst_code_counts(
    cli: CommandLine, registry: Registry, names: list[str]
) -> None:
    registry.corrupt(registry_weights(registry, "team/b"))
    done = cli("pull", f"{names[0]}-nope", names[0], names[1])
    assert done.returncode == 6
    assert [line.partition(":1: ")[2][:6] for line in done.stdout.splitlines()] == ["pulled"]
    assert done.stderr.count("\nerror: ") + done.stderr.startswith("error: ") == 2
    assert "no such tag" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("3 models: 1 pulled, 2 failed; ")


def test_a_failure_of_several_as_json_has_all_results_in_one_error(
    cli: CommandLine, names: list[str]
) -> None:
    wrong = f"{names[0]}-nope"
    done = cli("pull", wrong, names[1], "--json")
    assert (done.returncode, done.stdout) == (3, "")
    error = json.loads(done.stderr)["error"]
    assert (error["code"], error["failed"]) == ("manifest_not_found", [wrong])
    assert [(entry["reference"], entry["status"]) for entry in error["results"]] == [
        (wrong, "failed"),
        (names[1], "pulled"),
    ]
    assert error["results"][0]["error"]["code"] == "manifest_not_found"
    assert Path(error["results"][1]["path"]).exists()


def test_fail_fast_ends_the_others(cli: CommandLine, registry: Registry, large: list[str]) -> None:
    registry.stall_after(MIB, 600, times=None, on="blob")
    done = cli("pull", large[0], f"{large[1]}-nope", "--fail-fast", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"]) == (3, "manifest_not_found")
    assert [entry["status"] for entry in error["results"]] == ["dropped", "failed"]
    assert cli("list", "--json").stdout == "[]\n"


def test_offline_takes_what_is_here_and_names_what_is_not(
    cli: CommandLine, registry: Registry, names: list[str]
) -> None:
    cli("pull", names[0])
    registry.requests.clear()
    done = cli("pull", *names, "--offline")
    assert (done.returncode, registry.requests) == (9, [])
    assert done.stdout.startswith(f"{names[0]}: up to date")
    assert f"error: {names[1]} is not in the local store" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_several_that_are_ended_stop_and_go_on_later(
    cli: CommandLine,
    registry: Registry,
    large: list[str],
    number: signal.Signals,
    code: int,
) -> None:
    registry.slow(8 * MIB)
    with subprocess.Popen(
        cli.argv("pull", *large),
        env=dict(cli.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as pull:
        partials = cli.home / "store" / "v1" / "ingest"
        wait_until(lambda: partial_bytes(partials) > 15 * MIB)
        pull.send_signal(number)
        out, err = pull.communicate(timeout=60)
    assert (pull.returncode, out) == (code, "")
    said = re.search(r"^interrupted; ([\d.]+) MiB kept", err, re.MULTILINE)
    assert said, err
    assert "Traceback" not in err
    registry.calm()
    again = json.loads(cli("pull", *large, "--json").stdout)
    resumed = sum(entry["resumed_bytes"] for entry in again)
    assert abs(resumed / MIB - float(said[1])) < 0.1


def test_a_pull_that_waits_for_the_registry_ends_without_it(
    cli: CommandLine, registry: Registry, large: list[str]
) -> None:
    registry.answer(429, times=None, headers={"Retry-After": "60"})
    with subprocess.Popen(
        cli.argv("pull", *large), env=dict(cli.environ), stderr=subprocess.PIPE, text=True
    ) as pull:
        wait_until(lambda: len(registry.requests) >= 2)
        pull.send_signal(signal.SIGTERM)
        _, err = pull.communicate(timeout=40)
    assert pull.returncode == 143
    assert "Traceback" not in err


def test_patience_that_is_asked_for_in_the_middle_is_given(
    cli: CommandLine, registry: Registry, large: list[str]
) -> None:
    registry.answer(429, times=1, headers={"Retry-After": "1"}, on="blob", skip=2)
    done = cli("pull", large[0], "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["duration_s"] >= 1


def test_more_patience_than_there_is_ends_with_a_hint_to_log_in(
    cli: CommandLine, registry: Registry, large: list[str]
) -> None:
    registry.answer(429, times=None, headers={"Retry-After": "3600"}, on="blob")
    done = cli("pull", large[0], "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout) == (5, "")
    assert (error["code"], error["retryable"], error["retry_after_s"]) == (
        "rate_limited",
        True,
        3600,
    )
    assert "modelrunner login" in error["hint"]


def registry_weights(registry: Registry, repository: str) -> str:
    manifest = json.loads(registry.manifest_bytes(repository, "1"))
    return str(manifest["layers"][0]["digest"])
