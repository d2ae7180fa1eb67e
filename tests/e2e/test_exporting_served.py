"""`export --serve`: the program with its models, a key as a secret, health and metrics."""

import json
import os
import plistlib
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CommandLine
from tests.e2e.test_exporting import COMMIT, MIB, in_folder, installed, limit_of
from tests.support import exports
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.schemas import is_of_kubernetes
from tests.support.stores import put
from tests.support.waiting import wait_until

KINDS = ("compose", "k8s", "kubernetes", "systemd", "launchd")
IMAGE = "registry.example.com/modelrunner:1"
SOURCE = f"modelrunner[embedded,serve] @ git+https://git.example.com/team/modelrunner@{COMMIT}"

LAUNCHD: dict[str, type] = {
    "Label": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "Umask": int,
    "StandardOutPath": str,
    "StandardErrorPath": str,
}
"""Keys of launchd.plist(5) and their types, those that are written."""


@pytest.fixture
def second(tmp_path: Path) -> Artifact:
    weights = tiny_gguf(tmp_path / "second.gguf").read_bytes()
    return docker_artifact(weights + b"\0" * 32, filenames=["second $HOME.gguf"])


@pytest.fixture
def here(cli: CommandLine, tmp_path: Path, tiny: Artifact, second: Artifact) -> CommandLine:
    """The command line, installed from a repository, with two models in its store."""
    put(cli.store, tiny, "ai/tiny:1")
    put(cli.store, second, "ai/second:2")
    address = {"url": "https://me:secret@git.example.com/team/modelrunner"}
    return installed(cli, tmp_path, {**address, "vcs_info": {"vcs": "git", "commit_id": COMMIT}})


def export(cli: CommandLine, kind: str, *arguments: str) -> dict[str, Any]:
    return exports.exported(cli, kind, "--serve", "ai/tiny:1", "ai/second:2", *arguments)


def text_of(cli: CommandLine, kind: str, *arguments: str) -> str:
    return exports.only_text(export(cli, kind, *arguments))


def served(tiny: Artifact, second: Artifact, *rest: str) -> list[str]:
    return ["serve", f"ai/tiny:1@{tiny.digest}", f"ai/second:2@{second.digest}", *rest]


@pytest.mark.parametrize("kind", KINDS)
def test_all_models_are_pinned_and_their_memory_is_added(
    here: CommandLine, tiny: Artifact, second: Artifact, kind: str
) -> None:
    found = export(here, kind, "--context", "1024", "--kv-type", "bf16")
    totals = [
        json.loads(
            here("estimate", name, "--context", "1024", "--kv-type", "bf16", "--json").stdout
        )
        for name in ("ai/tiny:1", "ai/second:2")
    ]
    memory = [each["bytes"]["total"] for each in totals]
    text = "".join(found.pop("files").values())
    assert found == {
        "kind": kind,
        "models": [
            {"reference": f"{name}@{each.digest}", "digest": each.digest, "context": 1024, **size}
            for name, each, size in (
                ("ai/tiny:1", tiny, {"memory_bytes": memory[0]}),
                ("ai/second:2", second, {"memory_bytes": memory[1]}),
            )
        ],
        "memory_bytes": sum(-(-total // MIB) * MIB for total in memory),
        "limit_bytes": sum(map(limit_of, memory)) + 256 * MIB,
    }
    assert tiny.digest in text
    assert second.digest in text
    assert "/health" in text
    assert "/metrics" in text
    assert "--context" in text


def test_both_names_of_kubernetes_make_the_same(here: CommandLine) -> None:
    assert text_of(here, "k8s") == text_of(here, "kubernetes")
    single = [here("export", kind, "ai/tiny:1").stdout for kind in ("k8s", "kubernetes")]
    assert single[0] == single[1] != ""


def test_launchd_is_always_of_serve(here: CommandLine) -> None:
    done = here("export", "launchd", "ai/tiny:1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "<string>serve</string>" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compose", "ai/tiny:1", "ai/second:2"), "one model can be exported at a time, got 2"),
        (("kserve", "--serve", "ai/tiny:1"), "`export kserve` cannot be combined with --serve"),
        (("compose", "--serve", "ai/tiny:1", "--puller", "x"), "--puller cannot be combined"),
        (("systemd", "--serve", "ai/tiny:1", "--rpc", "10.0.0.1:1"), "--rpc cannot be combined"),
        (("compose", "ai/tiny:1", "--api-key-file", "k"), "--api-key-file needs --serve"),
        (("k8s", "--serve", "ai/tiny:1", "--api-key-file", "k"), "Kubernetes has a Secret"),
        (("systemd", "--serve", "ai/tiny:1", "--api-key-file", "k"), "is not an absolute path"),
        (("launchd", "ai/tiny:1", "--program", "modelrunner"), "is not an absolute path"),
    ],
)
def test_what_would_do_nothing_is_refused(
    here: CommandLine, arguments: tuple[str, ...], message: str
) -> None:
    done = here("export", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "\nhint: " in done.stderr


def test_what_no_container_can_install_needs_an_image(
    cli: CommandLine, tmp_path: Path, tiny: Artifact
) -> None:
    put(cli.store, tiny, "ai/tiny:1")
    local = installed(cli, tmp_path, {"url": tmp_path.as_uri(), "dir_info": {}})
    done = local("export", "compose", "--serve", "ai/tiny:1")
    assert done.returncode == 2
    assert "with --image IMAGE" in done.stderr
    assert local("export", "compose", "--serve", "ai/tiny:1", "--image", IMAGE).returncode == 0
    assert local("export", "systemd", "--serve", "ai/tiny:1").returncode == 0


class TestCompose:
    def test_compose_reads_it_and_the_key_is_a_secret(
        self, here: CommandLine, tmp_path: Path, tiny: Artifact, second: Artifact
    ) -> None:
        folder = in_folder(export(here, "compose", "--image", IMAGE)["files"], tmp_path / "c")
        found = exports.compose_config(folder / "compose.yaml")
        server, prepare = found["services"]["server"], found["services"]["prepare"]
        assert server["entrypoint"] == [
            "modelrunner",
            *served(tiny, second, "--host", "0.0.0.0", "--port", "12434"),
            *("--api-key-file", "/keys/api-key", "--parallel", "1"),
        ]
        assert set(server["environment"]) == {"HOME", "MODELRUNNER_HOME"}
        assert found["secrets"]["api-key"]["file"] == str(folder / "api-key")
        assert "secrets" not in server
        assert prepare["secrets"][0]["source"] == "api-key"
        assert prepare["network_mode"] == "none"
        for service in (server, prepare):
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
        assert server["user"] == "65534:65534"
        assert "cap_add" not in server
        assert server["ports"][0]["host_ip"] == "127.0.0.1"
        assert "/health" in server["healthcheck"]["test"][-1]
        compile(server["healthcheck"]["test"][-1], "healthcheck", "exec")

    def test_without_an_image_the_same_commit_is_installed_with_what_it_needs(
        self, here: CommandLine, tmp_path: Path, tiny: Artifact, second: Artifact
    ) -> None:
        folder = in_folder(export(here, "compose")["files"], tmp_path / "c")
        server = exports.compose_config(folder / "compose.yaml")["services"]["server"]
        shell, option, script, *words = [word.replace("$$", "$") for word in server["entrypoint"]]
        assert (shell, option) == ("sh", "-ec")
        pretend = 'pip() { echo "pip $*"; }; exec() { echo "exec $*"; }; ' + script
        said = subprocess.run(
            ["bash", "-ec", pretend, *words],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert said[0].endswith(f" --target /tmp/lib {SOURCE}")
        assert said[1].startswith(f"exec python -m modelrunner serve ai/tiny:1@{tiny.digest} ")
        assert "secret" not in " ".join(words)

    def test_the_key_reaches_the_server_alone(self, here: CommandLine, tmp_path: Path) -> None:
        """What the first container does, by a shell of this machine with other paths."""
        folder = in_folder(export(here, "compose")["files"], tmp_path / "c")
        found = exports.compose_config(folder / "compose.yaml")
        script = found["services"]["prepare"]["entrypoint"][-1]
        (tmp_path / "models").mkdir()
        (tmp_path / "keys").mkdir()
        secret = tmp_path / "secret"
        secret.write_text("sesame\n")
        user = f"{os.getuid()}:{os.getgid()}"
        own = (
            script.replace("/run/secrets/api-key", str(secret))
            .replace(" /models", f" {tmp_path}/models")
            .replace("/keys", f"{tmp_path}/keys")
            .replace("65534:65534", user)
            .replace("-o 65534 -g 65534", f"-o {os.getuid()} -g {os.getgid()}")
        )
        subprocess.run(["sh", "-ec", own], check=True)
        made = tmp_path / "keys" / "api-key"
        assert made.read_text() == "sesame\n"
        assert made.stat().st_mode & 0o777 == 0o400


class TestKubernetes:
    def test_the_schemas_take_it_and_the_key_comes_from_a_secret(
        self, here: CommandLine, tiny: Artifact, second: Artifact
    ) -> None:
        text = text_of(here, "k8s", "--image", IMAGE, "--name", "llm")
        deployment, service = yaml.safe_load_all(text)
        for each in (deployment, service):
            is_of_kubernetes(each)
        pod = deployment["spec"]["template"]["spec"]
        (server,) = pod["containers"]
        assert exports.in_container(server["command"]) == [
            "modelrunner",
            *served(tiny, second, "--host", "0.0.0.0", "--port", "12434"),
            *("--api-key-file", "/run/secrets/modelrunner/api-key", "--parallel", "1"),
        ]
        secret = {"secretName": "llm-api-key", "defaultMode": 0o440}
        assert {"name": "api-key", "secret": secret} in pod["volumes"]
        assert "kubectl create secret generic llm-api-key --from-literal=api-key=" in text
        assert not any("KEY" in each["name"] for each in server["env"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert server[probe]["httpGet"] == {"path": "/health", "port": "http"}
        assert server["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["securityContext"]["runAsNonRoot"] is True

    def test_the_monitor_in_its_comments_reads_metrics_with_the_key(
        self, here: CommandLine
    ) -> None:
        text = text_of(here, "k8s", "--name", "llm")
        commented = re.search(r"^# +apiVersion: monitoring(.|\n)*?(?=^[^#])", text, re.MULTILINE)
        assert commented is not None
        monitor = yaml.safe_load(re.sub(r"^# {3}", "", commented[0], flags=re.MULTILINE))
        assert monitor["kind"] == "ServiceMonitor"
        _, service = yaml.safe_load_all(text)
        assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint == {
            "port": service["spec"]["ports"][0]["name"],
            "path": "/metrics",
            "authorization": {
                "type": "Bearer",
                "credentials": {"name": "llm-api-key", "key": "api-key"},
            },
        }


@pytest.mark.skipif(exports.VERIFY is None, reason="needs systemd-analyze")
class TestSystemd:
    def test_systemd_takes_it_and_finds_little_that_it_could_do(
        self, here: CommandLine, tmp_path: Path
    ) -> None:
        files = export(here, "systemd", "--program", "/bin/true")["files"]
        unit = in_folder(files, tmp_path / "units") / "modelrunner.service"
        exports.verify(unit)
        judged = [str(exports.VERIFY), "security", "--offline=yes", "--threshold=20", str(unit)]
        done = subprocess.run(judged, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    def test_the_key_is_a_credential(
        self, here: CommandLine, tiny: Artifact, second: Artifact
    ) -> None:
        unit = text_of(here, "systemd", "--program", "/opt/m r/bin/x", "--name", "llm")
        (line,) = exports.values(unit, "ExecStart")
        # the one variable that systemd is to look up
        assert line.count("$") == 1
        assert exports.words(line.replace("${CREDENTIALS_DIRECTORY}", "/credentials")) == [
            "/opt/m r/bin/x",
            *served(tiny, second, "--port", "8080", "--api-key-file", "/credentials/api-key"),
            *("--parallel", "1"),
        ]
        assert exports.values(unit, "LoadCredential") == ["api-key:/etc/modelrunner/api-key"]
        assert exports.values(unit, "StateDirectory") == ["llm"]
        assert exports.values(unit, "Environment") == [
            "HOME=/var/lib/llm",
            "MODELRUNNER_HOME=/var/lib/llm",
        ]
        assert exports.values(unit, "DynamicUser") == ["yes"]

    @pytest.mark.parametrize("serves", [("--serve",), ()], ids=["serve", "llama-server"])
    def test_a_program_that_the_service_cannot_see_is_warned_of(
        self, here: CommandLine, tmp_path: Path, serves: tuple[str, ...]
    ) -> None:
        program, link = "/home/me/.local/bin/program", tmp_path / "program"
        link.symlink_to(program)
        elsewhere = (
            "in a home directory, which the service cannot see: install it elsewhere, such as in"
            " /opt, and name it with --program"
        )
        for named, said in (
            (program, [f"{program} is {elsewhere}"]),
            (str(link), [f"{link} is a link to {program}, {elsewhere}"]),
            ("/opt/modelrunner/bin/program", []),
        ):
            done = here("export", "systemd", *serves, "ai/tiny:1", "--program", named)
            assert done.returncode == 0
            # the export of one model names it
            lines = [line.replace("ai/tiny:1: ", "") for line in done.stderr.splitlines()]
            assert lines == [f"warning: {each}" for each in said]


class TestLaunchd:
    def test_its_keys_are_those_of_launchd(
        self, here: CommandLine, tiny: Artifact, second: Artifact
    ) -> None:
        (name,) = (files := export(here, "launchd")["files"])
        found = plistlib.loads(files[name].encode())
        assert name == "modelrunner.modelrunner.plist"
        assert set(found) == set(LAUNCHD)
        for key, kind in LAUNCHD.items():
            assert type(found[key]) is kind
        assert found["Label"] == "modelrunner.modelrunner"
        assert found["KeepAlive"] == {"SuccessfulExit": False}
        assert found["ProcessType"] in {"Standard", "Background", "Adaptive", "Interactive"}
        assert found["Umask"] == 0o077
        home = here.home
        assert found["ProgramArguments"] == [
            *(sys.executable, "-m", "modelrunner"),
            *served(tiny, second, "--port", "8080", "--api-key-file", f"{home}/api-key"),
            *("--parallel", "1"),
        ]
        assert found["EnvironmentVariables"]["MODELRUNNER_HOME"] == str(home)

    def test_odd_paths_stay_what_they_are(self, here: CommandLine, tmp_path: Path) -> None:
        home = tmp_path / "a & b --> <c> \"d\" 'e' é"
        moved = replace(here, environ={**here.environ, "MODELRUNNER_HOME": str(home)})
        here.home.rename(home)
        (text,) = export(moved, "launchd")["files"].values()
        found = plistlib.loads(text.encode())
        assert found["EnvironmentVariables"]["MODELRUNNER_HOME"] == str(home)

    def test_what_it_starts_serves_the_models_to_who_has_the_key(
        self, here: CommandLine, tiny: Artifact
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        text = text_of(here, "launchd", "--port", str(port))
        found = plistlib.loads(text.encode())
        key = here.home / "api-key"
        key.write_text("sesame\n")
        key.chmod(0o600)
        url = f"http://127.0.0.1:{port}"
        environ = {**here.environ, "MODELRUNNER_HOME": str(here.home)}
        with subprocess.Popen(
            found["ProgramArguments"],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                wait_until(lambda: answered(f"{url}/health") == 200)
                assert answered(f"{url}/v1/models") == 401
                assert answered(f"{url}/metrics", key="sesame") == 200
                asked = urllib.request.Request(
                    f"{url}/v1/models", headers={"Authorization": "Bearer sesame"}
                )
                with urllib.request.urlopen(asked) as answer:
                    names = [each["id"] for each in json.load(answer)["data"]]
                assert names == ["ai/tiny:1", "ai/second:2"]
            finally:
                process.send_signal(signal.SIGTERM)
        assert process.returncode == 128 + signal.SIGTERM


def answered(url: str, key: str = "") -> int:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError:
        return 0
