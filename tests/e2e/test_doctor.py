"""`doctor`: what a support engineer would ask, each answer with a command where it is not well."""

import base64
import json
import os
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from modelrunner.oci.digest import Digest
from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.gguf import tiny_gguf
from tests.support.hugging_face import Repository, hugging_face
from tests.support.registry import Registry, TokenServer
from tests.support.registry_tls import can_make_certificates

Findings = dict[str, list[dict[str, Any]]]


# an empty directory: without a lock
pytestmark = pytest.mark.usefixtures("project")


def examined(cli: CommandLine, *arguments: str, **environ: str) -> tuple[int, Findings]:
    """The exit code, and the findings by their check."""
    done = cli("doctor", "--json", *arguments, **environ)
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["exit_code"] == done.returncode
    assert told["ok"] == (done.returncode == 0)
    found: Findings = {}
    for entry in told["findings"]:
        assert set(entry) == {"check", "status", "message", "fix"}
        # what is not well ends in a command, what is well needs none
        assert (entry["status"] == "ok") == (entry["fix"] is None), entry
        found.setdefault(entry["check"], []).append(entry)
    return done.returncode, found


def answers(registry: Registry, status: int, **headers: str) -> None:
    """Lets the registry answer everything so."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    registry.answer(status, times=None, headers=named)


def limit(remaining: int) -> dict[str, str]:
    return {
        "ratelimit_limit": "100;w=21600",
        "ratelimit_remaining": f"{remaining};w=21600",
    }


def test_a_machine_without_anything_wrong_is_told_so_and_stays_as_it_is(
    cli: CommandLine, registry: Registry
) -> None:
    code, found = examined(cli, "--registry", registry.host)
    assert code == 0
    checks = ["version", "libraries", "home", "store", "space", "runtime", "system"]
    checks += ["device", "proxy", "certificates", "login", "registry", "clock"]
    assert list(found) == checks
    assert found["registry"][0]["message"] == f"{registry.host} answers"
    assert not cli.home.exists()


def test_registries_are_asked_with_head_requests_only(cli: CommandLine, registry: Registry) -> None:
    examined(cli, "--registry", registry.host)
    assert [(request.method, request.kind) for request in registry.requests] == [("HEAD", "ping")]


def test_people_read_aligned_lines_and_what_to_run(cli: CommandLine) -> None:
    done = cli("doctor", "--registry", f"127.0.0.1:{silent_port()}")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok    version       modelrunner ")
    at = next(index for index, line in enumerate(lines) if line.startswith("fail"))
    assert lines[at].startswith("fail  registry      cannot reach 127.0.0.1:")
    assert lines[at + 1].strip().startswith("run: curl -sSI http://127.0.0.1:")
    assert "\x1b" not in done.stdout


def test_a_dead_network_ends_with_the_code_of_transfers(cli: CommandLine) -> None:
    code, found = examined(cli, "--registry", f"127.0.0.1:{silent_port()}")
    assert code == 5
    (told,) = found["registry"]
    assert told["status"] == "fail"
    assert "cannot reach" in told["message"]


def test_a_registry_that_is_silent_is_not_waited_for_for_ever(
    cli: CommandLine, registry: Registry
) -> None:
    registry.latency(600)
    code, _found = examined(cli, "--registry", registry.host)
    assert code == 5


def test_offline_asks_nobody_and_says_so(cli: CommandLine, registry: Registry) -> None:
    code, found = examined(cli, "--offline", "--registry", registry.host)
    assert code == 0
    said = f"skipped, because --offline is set: {registry.host}"
    assert found["registry"] == [
        {"check": "registry", "status": "ok", "message": said, "fix": None}
    ]
    assert not registry.requests


def test_a_mirror_that_answers_makes_a_silent_registry_a_warning(
    cli: CommandLine, registry: Registry
) -> None:
    dead = f"127.0.0.1:{silent_port()}"
    mirrors = f"{dead}={registry.url}"
    code, found = examined(cli, "--registry", dead, MODELRUNNER_MIRRORS=mirrors)
    assert code == 0
    assert [entry["status"] for entry in found["registry"]] == ["ok", "warn"]


def test_docker_hub_and_the_registries_of_the_lock_and_the_configuration_are_asked(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    Path("modelrunner.toml").write_text(f'models.a = "{registry.host}/team/tiny:1"\n')
    assert cli("lock").returncode == 0
    with Registry() as hub:
        _code, found = examined(cli, MODELRUNNER_MIRRORS=f"docker.io={hub.url}")
        # by the way that Docker documents, at the manifest that is there for it
        (asked,) = hub.requests
        assert (asked.method, asked.repository) == ("HEAD", "ratelimitpreview/test")
    said = [entry["message"] for entry in found["registry"]]
    assert said[0] == f"{hub.url} answers"
    assert said[1].startswith("cannot reach docker.io: ")
    assert said[2] == f"{registry.host} answers"


@pytest.mark.parametrize(
    ("left", "status", "code"), [(76, "ok", 0), (9, "warn", 0), (0, "fail", 5)]
)
def test_how_many_pulls_are_left_is_told_before_none_is(
    cli: CommandLine, registry: Registry, left: int, status: str, code: int
) -> None:
    answers(registry, 200, **limit(left))
    ended, found = examined(cli, "--registry", registry.host)
    assert ended == code
    (told,) = found["limit"]
    assert told["status"] == status
    assert told["message"] == f"{left} of 100 pulls left in 6h 00m at {registry.host}"
    assert told["fix"] == (None if status == "ok" else f"modelrunner login {registry.host}")


def test_a_rate_limit_that_is_reached_is_no_mystery(cli: CommandLine, registry: Registry) -> None:
    answers(registry, 429)
    code, found = examined(cli, "--registry", registry.host)
    assert code == 5
    assert found["registry"][0]["fix"] == f"modelrunner login {registry.host}"


def test_a_web_page_is_taken_for_what_it_is(cli: CommandLine, registry: Registry) -> None:
    registry.html()
    code, found = examined(cli, "--registry", registry.host)
    assert code == 5
    assert "web page" in found["registry"][0]["message"]


@pytest.mark.parametrize(("minutes", "status", "code"), [(-10, "warn", 0), (600, "fail", 5)])
def test_a_wrong_clock_is_seen(
    cli: CommandLine, registry: Registry, minutes: int, status: str, code: int
) -> None:
    theirs = datetime.now(UTC) + timedelta(minutes=minutes)
    answers(registry, 200, Date=format_datetime(theirs, usegmt=True))
    ended, found = examined(cli, "--registry", registry.host)
    assert ended == code
    (told,) = found["clock"]
    assert told["status"] == status
    assert ("behind" if minutes > 0 else "ahead of") in told["message"]


def test_a_model_is_asked_for_with_a_token(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    with TokenServer() as tokens:
        registry.demand_token(realm=tokens)
        code, found = examined(cli, registry.reference("team/tiny:1"))
    assert code == 0, found
    said = found["registry"][0]["message"]
    assert said == f"{registry.host} answers, has {registry.host}/team/tiny:1"
    assert registry.count("GET") == 0


def test_a_model_that_is_not_there_ends_with_not_found(
    cli: CommandLine, registry: Registry
) -> None:
    code, found = examined(cli, registry.reference("team/none:1"))
    assert code == 3
    assert found["registry"][0]["fix"] == f"modelrunner tags {registry.host}/team/none"


def test_a_refused_login_ends_with_access_and_is_never_shown(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    registry.demand_token(users={"me": "right"})
    (tmp_path / "docker").mkdir()
    auth = base64.b64encode(b"me:secret-and-wrong").decode()
    login = {"auths": {registry.host: {"auth": auth}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(login))
    environ = {"DOCKER_CONFIG": str(tmp_path / "docker")}
    code, found = examined(cli, "--registry", registry.host, **environ)
    assert code == 4
    assert found["login"][0]["message"] == f"stored for {registry.host}"
    assert found["registry"][0]["fix"] == f"modelrunner login {registry.host}"
    assert auth not in json.dumps(found)
    assert "secret" not in json.dumps(found)


def test_a_broken_file_of_logins_is_named(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    code, found = examined(cli, "--offline", DOCKER_CONFIG=str(tmp_path))
    assert code == 2
    assert str(tmp_path / "config.json") in found["login"][0]["message"]


def test_a_proxy_is_told_without_its_password(cli: CommandLine) -> None:
    environ = {"HTTPS_PROXY": "http://me:secret@proxy.example.com:3128", "no_proxy": ".local"}
    _code, found = examined(cli, "--offline", **environ)
    (told,) = found["proxy"]
    assert told["message"] == "HTTPS_PROXY=http://proxy.example.com:3128, NO_PROXY=.local"


def test_a_proxy_that_is_no_address_fails(cli: CommandLine) -> None:
    code, found = examined(cli, "--offline", HTTPS_PROXY="gopher://proxy")
    assert code == 2
    assert found["proxy"][0]["fix"] == "export HTTPS_PROXY=http://HOST:PORT"


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_certificates_that_cannot_be_read_fail(
    cli: CommandLine, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "company.pem"
    if content is not None:
        file.write_bytes(content)
    code, found = examined(cli, "--offline", SSL_CERT_FILE=str(file))
    assert code == 2
    assert str(file) in found["certificates"][0]["message"]


@pytest.mark.skipif(not can_make_certificates(), reason="needs openssl on PATH")
@pytest.mark.parametrize(("days", "status"), [("365", "ok"), ("3", "warn")])
def test_certificates_tell_when_they_run_out(
    cli: CommandLine, tmp_path: Path, days: str, status: str
) -> None:
    file = tmp_path / "ca.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=us"]
    key = ["-keyout", str(tmp_path / "key.pem"), "-out", str(file), "-days", days]
    subprocess.run([*make, *key], check=True, capture_output=True)
    _code, found = examined(cli, "--offline", SSL_CERT_FILE=str(file))
    assert found["certificates"][0]["status"] == status


def test_a_damaged_model_is_named_with_the_pull_that_repairs_it(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    name = registry.reference("team/tiny:1")
    assert cli("pull", name).returncode == 0
    assert examined(cli, "--offline")[0] == 0
    digest = next(iter(tiny.blobs))
    cli.store.layout.blob(Digest.parse(digest)).unlink()
    code, found = examined(cli, "--offline")
    assert code == 6
    assert found["store"][0]["fix"] == f"modelrunner pull {name}"
    assert cli("pull", name).returncode == 0
    assert examined(cli, "--offline")[0] == 0


def test_a_restored_store_is_to_be_verified(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    assert cli("pull", registry.reference("team/tiny:1")).returncode == 0
    for path in cli.store.layout.blobs.iterdir():
        os.utime(path, (1, 1))
    code, found = examined(cli, "--offline")
    assert code == 0
    assert found["store"][0]["fix"] == "modelrunner verify"
    assert cli("verify").returncode == 0
    assert examined(cli, "--offline")[1]["store"][0]["status"] == "ok"


def test_an_index_that_is_none_fails(cli: CommandLine, registry: Registry, tiny: Artifact) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    assert cli("pull", registry.reference("team/tiny:1")).returncode == 0
    cli.store.layout.index.write_text("{")
    code, found = examined(cli, "--offline")
    assert code == 6
    assert found["store"][0]["status"] == "fail"


def test_a_folder_that_is_no_store_fails(cli: CommandLine) -> None:
    (cli.home / "store" / "v1").mkdir(parents=True)
    (cli.home / "store" / "v1" / "novel.txt").write_text("call me")
    code, found = examined(cli, "--offline")
    assert code == 2
    assert "is not a modelrunner store" in found["store"][0]["message"]


def test_stopped_downloads_are_pruned(cli: CommandLine, registry: Registry, tiny: Artifact) -> None:
    registry.add(tiny, "team/tiny", ["1"])
    assert cli("pull", registry.reference("team/tiny:1")).returncode == 0
    partial = cli.store.layout.ingest / f"{'a' * 64}.partial"
    partial.write_bytes(b"half")
    os.utime(partial, (1, 1))
    before = sorted(cli.home.rglob("*"))
    _code, found = examined(cli, "--offline")
    assert found["leftovers"][0] == {
        "check": "leftovers",
        "status": "warn",
        "message": "1 incomplete download",
        "fix": "modelrunner prune",
    }
    assert found["links"][0]["status"] == "ok"
    assert sorted(cli.home.rglob("*")) == before
    assert cli("prune").returncode == 0
    assert examined(cli, "--offline")[1]["leftovers"][0]["status"] == "ok"


def test_a_runtime_that_is_configured_and_none_fails(cli: CommandLine) -> None:
    code, found = examined(cli, "--offline", MODELRUNNER_RUNTIME="llama-server", PATH="/nowhere")
    assert code == 8
    assert found["runtime"][0]["fix"] == "modelrunner runtimes"


def test_a_lock_that_cannot_be_read_is_a_finding_like_any(cli: CommandLine) -> None:
    Path("modelrunner.lock").write_text("<<<<<<< ours\n")
    code, found = examined(cli, "--offline")
    assert code == 9
    assert found["lock"][0]["fix"] == "modelrunner lock --check"


def silent_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("config", "environ", "message"),
    [
        ("context = [", {}, "FILE: invalid TOML at "),
        ("contxt = 1", {}, "FILE: unknown setting 'contxt'; did you mean `context`?"),
        ("", {"MODELRUNNER_MIRRORS": "docker.io="}, "MODELRUNNER_MIRRORS: "),
    ],
)
def test_a_configuration_that_is_not_understood_is_a_finding_and_the_rest_goes_on(
    cli: CommandLine, config: str, environ: dict[str, str], message: str
) -> None:
    cli.home.mkdir()
    file = cli.home / "config.toml"
    file.write_text(config)
    done = cli("doctor", "--offline", "--json", **environ)
    found = {entry["check"]: entry for entry in json.loads(done.stdout)["findings"]}
    assert found["config"]["status"] == "fail"
    assert found["config"]["message"].replace(str(file), "FILE").startswith(message)
    assert found["config"]["fix"] == (
        "unset MODELRUNNER_MIRRORS" if environ else f"${{EDITOR:-vi}} {file}"
    )
    assert {"version", "home", "runtime", "device"} <= set(found)
    assert done.returncode == 2


def test_the_hugging_face_hub_is_asked_as_a_pull_asks_it(cli: CommandLine, tmp_path: Path) -> None:
    with hugging_face() as hub:
        content = tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
        hub.repositories["Org/Tiny-GGUF"] = Repository({"Tiny-Q4_K_M.gguf": content})
        label = hub.url

        def asked(*arguments: str) -> tuple[int, list[tuple[str, str]]]:
            code, found = examined(cli, *arguments, HF_ENDPOINT=hub.url)
            return code, [(entry["status"], entry["message"]) for entry in found["registry"]]

        assert asked("--registry", "huggingface.co") == (0, [("ok", f"{label} answers")])
        model = "hf.co/Org/Tiny-GGUF:Q4_K_M"
        assert asked(model) == (0, [("ok", f"{label} answers, has {model}")])
        code, ((status, message),) = asked("hf.co/Org/Other-GGUF")
        assert (code, status) == (4, "fail")
        assert "hf.co/Org/Other-GGUF" in message
        code, ((status, message),) = asked("hf.co/Org/Tiny-GGUF:Q8_0")
        assert (code, status) == (3, "fail")
        assert "Q8_0" in message
    code, found = examined(cli, "--registry", "huggingface.co", HF_ENDPOINT=hub.url)
    assert (code, found["registry"][0]["status"]) == (5, "fail")
