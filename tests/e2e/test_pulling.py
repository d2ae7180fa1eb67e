"""Pulling, as a user types it: what is printed, what a script gets, and how it fails."""

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.e2e.conftest import without_time
from tests.support.artifacts import (
    Artifact,
    docker_artifact,
    helm_like_artifact,
    image_artifact,
)
from tests.support.gguf import tiny_gguf
from tests.support.mounts import small_disk
from tests.support.registry import Registry
from tests.support.waiting import partial_bytes, wait_until


@pytest.fixture
def name(registry: Registry, tiny: Artifact) -> str:
    registry.add(tiny, "team/tiny", ["1", "1-Q4_0", "latest"])
    return registry.reference("team/tiny:1")


@pytest.fixture
def large(registry: Registry, tmp_path: Path) -> tuple[str, Artifact]:
    """A model of 24 MB: enough to be in the middle of it, and to keep a part."""
    weights = tiny_gguf(tmp_path / "large.gguf").read_bytes() + os.urandom(24 * 1024 * 1024)
    artifact = docker_artifact(weights)
    registry.add(artifact, "team/large", ["1"])
    return registry.reference("team/large:1"), artifact


def test_a_pull_says_what_comes_and_what_came(cli: CommandLine, name: str) -> None:
    done = cli("pull", name)
    assert (done.returncode, without_time(done.stdout), without_time(done.stderr)) == (
        0,
        "HOST/team/tiny:1: pulled e331c9015a6f, 11.12 KiB from HOST in TIME\n",
        "pulling HOST/team/tiny:1: 11.12 KiB\nHOST/team/tiny:1 sets context=2048\n",
    )


def test_a_second_pull_moves_no_blob(cli: CommandLine, registry: Registry, name: str) -> None:
    cli("pull", name)
    registry.requests.clear()
    done = cli("pull", name)
    assert (done.returncode, without_time(done.stdout), done.stderr) == (
        0,
        "HOST/team/tiny:1: up to date (e331c9015a6f, 11.12 KiB)\n",
        "",
    )
    assert registry.count("GET", "blobs") == 0


def test_a_pull_as_json_has_the_keys_of_the_contract(
    cli: CommandLine, name: str, tiny: Artifact
) -> None:
    done = cli("pull", name, "--json")
    found = json.loads(done.stdout)
    path = found.pop("path")
    assert found.pop("duration_s") >= 0
    assert found.pop("source") == name.partition("/")[0]
    assert (found, done.stderr) == (
        {
            "reference": name,
            "digest": tiny.digest,
            "status": "pulled",
            "size_bytes": tiny.size,
            "downloaded_bytes": tiny.size,
            "resumed_bytes": 0,
            "packaged": {"context": 2048},
        },
        "",
    )
    assert Path(path).read_bytes() == tiny.layers[0]


def test_several_pulls_as_json_are_an_array(cli: CommandLine, name: str) -> None:
    found = json.loads(cli("--json", "pull", name, f"{name[:-2]}:latest").stdout)
    assert [(entry["reference"], entry["status"]) for entry in found] == [
        (name, "pulled"),
        (f"{name[:-2]}:latest", "up-to-date"),
    ]


def test_a_quiet_pull_prints_the_path_only(cli: CommandLine, name: str) -> None:
    done = cli("pull", "-q", name)
    assert done.stderr == ""
    assert Path(done.stdout.rstrip("\n")).name == "model.gguf"


def test_progress_as_json_is_an_object_a_line_on_stderr(
    cli: CommandLine, name: str, tiny: Artifact
) -> None:
    done = cli("pull", name, "--progress", "json", "-q")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    for event in events:
        assert {"event", "digest", "size_bytes", "done_bytes"} <= set(event)
    # what comes at once may have no "advanced": there are at most ten of them a second
    assert {event["event"] for event in events} - {"advanced"} == {
        *("planned", "started", "verified", "finished")
    }
    verified = {event["digest"] for event in events if event["event"] == "verified"}
    assert verified == {*tiny.blobs}
    assert events[-1]["event"] == "finished"
    assert (events[-1]["digest"], events[-1]["size_bytes"]) == (tiny.digest, tiny.size)


def test_progress_as_json_is_no_flood(
    cli: CommandLine, registry: Registry, large: tuple[str, Artifact]
) -> None:
    registry.slow(24 * 1024 * 1024)
    done = cli("pull", large[0], "--progress", "json")
    advanced = [line for line in done.stderr.splitlines() if '"advanced"' in line]
    assert 2 <= len(advanced) < len(large[1].layers[0]) / (64 * 1024)


def test_progress_none_is_silent(cli: CommandLine, name: str) -> None:
    assert cli("pull", name, "--progress", "none").stderr == ""


@pytest.mark.parametrize("mode", ["auto", "bar", "plain"])
def test_a_pipe_gets_no_bars(cli: CommandLine, name: str, mode: str) -> None:
    done = cli("pull", name, "--progress", mode)
    assert "\r" not in done.stderr + done.stdout
    assert "\x1b" not in done.stderr + done.stdout


@pytest.mark.parametrize("options", [("--json",), ("--json", "--progress", "none")])
def test_a_failed_pull_as_json_leaves_stdout_empty(
    cli: CommandLine, name: str, options: tuple[str, ...]
) -> None:
    done = cli("pull", name, f"{name}0", *options)
    assert (done.returncode, done.stdout) == (3, "")
    error = json.loads(done.stderr)["error"]
    assert {key: error[key] for key in ("code", "retryable", "missing", "near")} == {
        "code": "manifest_not_found",
        "retryable": False,
        "missing": "tag",
        "near": ["1", "1-Q4_0", "latest"],
    }


def test_an_unknown_tag_names_the_near_ones(cli: CommandLine, name: str) -> None:
    done = cli("pull", f"{name}-q40")
    assert (done.returncode, done.stdout, without_time(done.stderr)) == (
        3,
        "",
        (
            "error: HOST/team/tiny:1-q40: no such tag on HOST\n"
            "hint: available: `1-Q4_0`, `1`, `latest`\n"
        ),
    )


def test_an_unknown_repository_is_not_found(cli: CommandLine, registry: Registry) -> None:
    done = cli("pull", registry.reference("team/nope"))
    assert (done.returncode, done.stdout) == (3, "")
    assert without_time(done.stderr).startswith(
        "error: HOST/team/nope:latest: no such repository on HOST\n"
    )


def test_a_repository_that_wants_a_login_is_an_access_error(
    cli: CommandLine, registry: Registry, name: str
) -> None:
    registry.demand_basic("user", "password")
    done = cli("pull", name)
    assert done.returncode == 4
    assert "not found, or login required" in done.stderr


def test_a_registry_that_is_down_is_a_transfer_error(cli: CommandLine) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = cli("pull", f"{host}/team/tiny:1", "--json", timeout=280)
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout) == (5, "")
    assert (error["code"], error["retryable"]) == ("registry_unavailable", True)


def test_wrong_bytes_are_an_integrity_error_and_nothing_is_named(
    cli: CommandLine, registry: Registry, name: str, tiny: Artifact
) -> None:
    registry.corrupt(tiny.layer_digests[0])
    done = cli("pull", name, "--json")
    assert (done.returncode, done.stdout) == (6, "")
    assert json.loads(done.stderr)["error"]["code"] == "digest_mismatch"
    assert cli("list", "--json").stdout == "[]\n"
    registry.calm()
    assert cli("pull", name).returncode == 0


def test_offline_knows_what_is_here_and_asks_nobody(
    cli: CommandLine, registry: Registry, name: str
) -> None:
    cli("pull", name)
    registry.requests.clear()
    here = cli("--offline", "pull", name)
    assert (here.returncode, without_time(here.stdout)) == (
        0,
        "HOST/team/tiny:1: up to date (e331c9015a6f, 11.12 KiB)\n",
    )
    missing = cli("pull", "--offline", f"{name}-Q4_0")
    assert (missing.returncode, missing.stdout, without_time(missing.stderr)) == (
        9,
        "",
        (
            "error: HOST/team/tiny:1-Q4_0 is not in the local store, and --offline is "
            "set\nhint: did you mean `HOST/team/tiny:1`? If not, run the command once without "
            "--offline\n"
        ),
    )
    assert registry.requests == []


@pytest.mark.parametrize(
    ("artifact", "what", "blobs"),
    # the config of an image may say that there is a model in it
    [(helm_like_artifact(), "Helm chart", 0), (image_artifact(), "container image", 1)],
    ids=["chart", "image"],
)
def test_what_is_not_a_model_is_refused(
    cli: CommandLine, registry: Registry, artifact: Artifact, what: str, blobs: int
) -> None:
    registry.add(artifact, "team/other", ["1"])
    done = cli("pull", registry.reference("team/other:1"), "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["code"]) == (10, "", "unsupported_artifact")
    assert what in error["message"]
    assert registry.count("GET", "blobs") == blobs


@pytest.mark.parametrize("reference", ["ai/smol llm", "ai/x@sha256:12", ""])
def test_what_is_no_reference_is_a_usage_error(cli: CommandLine, reference: str) -> None:
    done = cli("pull", reference)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .+\nhint: .+\n", done.stderr)


def test_a_home_that_is_no_folder_is_a_configuration_error(
    cli: CommandLine, name: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = cli("pull", name, MODELRUNNER_HOME=str(tmp_path / "file"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not a directory" in done.stderr
    assert "hint: set MODELRUNNER_HOME to a directory that you own" in done.stderr


def test_a_full_disk_is_a_capacity_error_before_a_byte_moves(
    cli: CommandLine, registry: Registry, large: tuple[str, Artifact]
) -> None:
    with small_disk(cli.home, "1m"):
        done = cli("pull", large[0], "--json")
        assert (done.returncode, done.stdout) == (7, "")
        assert json.loads(done.stderr)["error"]["code"] == "disk_full"
        assert registry.count("GET", "blobs") == 0


def test_debug_tells_the_requests_and_no_secret(
    cli: CommandLine, registry: Registry, name: str, tmp_path: Path
) -> None:
    registry.demand_token({"user": "secret-password"})
    (tmp_path / "docker").mkdir()
    host = name.partition("/")[0]
    auths = {"auths": {host: {"auth": "dXNlcjpzZWNyZXQtcGFzc3dvcmQ="}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(auths))
    done = cli("pull", name, "--debug", DOCKER_CONFIG=str(tmp_path / "docker"))
    assert done.returncode == 0
    assert re.search(r" ms modelrunner\.registry\.[\w.]+: .*/v2/team/tiny/manifests/1", done.stderr)
    for secret in ("secret-password", "dXNlcjpzZWNyZXQ", "Bearer ey"):
        assert secret not in done.stderr


def test_two_pulls_at_once_bring_one_model(
    cli: CommandLine, registry: Registry, large: tuple[str, Artifact]
) -> None:
    name, artifact = large
    registry.slow(24 * 1024 * 1024)
    environ = dict(cli.environ)
    pulls = [
        subprocess.Popen(
            cli.argv("pull", name, "--json"),
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    ends = [pull.communicate(timeout=120) for pull in pulls]
    assert [pull.returncode for pull in pulls] == [0, 0], ends
    moved = sum(json.loads(out)["downloaded_bytes"] for out, _ in ends)
    assert moved == artifact.size
    assert cli("verify", "--deep").returncode == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_pull_that_is_ended_says_what_is_kept_and_goes_on_from_there(
    cli: CommandLine,
    registry: Registry,
    large: tuple[str, Artifact],
    number: signal.Signals,
    code: int,
) -> None:
    name, artifact = large
    registry.slow(16 * 1024 * 1024)
    with subprocess.Popen(
        cli.argv("pull", name),
        env=dict(cli.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as pull:
        partials = cli.home / "store" / "v1" / "ingest"
        wait_until(lambda: partial_bytes(partials) > 15 * 1024 * 1024)
        pull.send_signal(number)
        out, err = pull.communicate(timeout=20)
    assert (pull.returncode, out) == (code, "")
    said = re.search(r"^interrupted; ([\d.]+) MiB kept\. Run the same command", err, re.MULTILINE)
    assert said, err
    assert "Traceback" not in err
    registry.calm()
    again = json.loads(cli("pull", name, "--json").stdout)
    assert again["resumed_bytes"] > 1024 * 1024
    assert abs(again["resumed_bytes"] / 1024 / 1024 - float(said[1])) < 0.1
    # the config had come whole: it is neither resumed nor fetched
    whole = artifact.size - len(artifact.config)
    assert again["resumed_bytes"] + again["downloaded_bytes"] == whole


def test_ctrl_c_before_anything_came_is_quiet(
    cli: CommandLine, registry: Registry, name: str
) -> None:
    registry.latency(20)
    with subprocess.Popen(
        cli.argv("pull", name),
        env=dict(cli.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as pull:
        wait_until(lambda: registry.requests != [])
        pull.send_signal(signal.SIGINT)
        out, err = pull.communicate(timeout=20)
    assert (pull.returncode, out) == (130, "")
    assert err in {"", "interrupted; 0 B kept. Run the same command to resume.\n"}


def test_messages_that_nobody_can_take_do_not_end_a_pull(
    cli: CommandLine, registry: Registry, name: str
) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            cli.argv("pull", name), env=dict(cli.environ), stderr=full, stdout=full, check=False
        )
        helped = subprocess.run(
            cli.argv("--help"),
            env=dict(cli.environ),
            stderr=subprocess.PIPE,
            stdout=full,
            check=False,
        )
    assert done.returncode in (0, 7)
    assert cli("inspect", name).returncode == 0
    assert (helped.returncode, helped.stderr) == (0, b"")


def test_file_name_that_the_locale_cannot_write_is_told_before_the_download(
    cli: CommandLine, tmp_path: Path
) -> None:
    weights = tiny_gguf(tmp_path / "model.gguf").read_bytes()
    with Registry() as registry:
        registry.add(docker_artifact(weights, filenames=["größe.gguf"]), "team/model", tags=["1"])
        name = registry.reference("team/model:1")
        ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        refused = [
            "error: cannot create the file gr??e.gguf: this locale limits file names to ASCII",
            "hint: use a locale with UTF-8: LC_ALL=C.UTF-8",
        ]
        done = cli("pull", name, **ascii_only)
        assert registry.requests_of(kind="blob", method="GET") == []
        assert (done.returncode, done.stderr.splitlines()[-2:]) == (2, refused)
        # nor can it be used where it was pulled in another one
        assert cli("pull", name).returncode == 0
        for command in (("path", name), ("pull", name), ("run", name, "hi")):
            done = cli(*command, **ascii_only)
            assert (done.returncode, done.stderr.splitlines()[-2:]) == (2, refused), command
        for command in (("list",), ("inspect", name), ("verify", "--deep"), ("rm", name)):
            done = cli(*command, **ascii_only)
            assert (done.returncode, done.stderr) == (0, ""), command
