"""`export`: what each program makes of its file, and that nothing in a model's name can harm it."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelrunner.store.index import Entry
from tests.conftest import CommandLine
from tests.support import exports
from tests.support.artifacts import Artifact, docker_artifact, safetensors_artifact
from tests.support.gguf import Typed, tiny_gguf, tiny_projector
from tests.support.hugging_face import Repository, hugging_face
from tests.support.modules import folder_of
from tests.support.registry import Registry
from tests.support.schemas import is_of_kubernetes, kubernetes_refuses
from tests.support.stores import put

KINDS = ("compose", "k8s", "kserve", "quadlet", "llama-preset", "systemd")
HERE = ("llama-preset", "systemd")
MIB = 1 << 20
HOSTILE = "a \"b\" 'c' $HOME $$x $(id) ${X} %h 100% : - {x} &y *z !t | > @at `d`.gguf"
VECTORS = {"llama.pooling_type": Typed("uint32", 1)}


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return tiny_gguf(tmp_path / "tiny.gguf").read_bytes()


COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCE = f"modelrunner @ git+https://git.example.com/team/modelrunner@{COMMIT}"
CONTAINERS = ["compose", "k8s", "kserve", "quadlet"]


def installed(cli: CommandLine, folder: Path, direct_url: Mapping[str, object]) -> CommandLine:
    """The command line, installed from somewhere: as PEP 610 notes it."""
    info = folder / "site" / "modelrunner-0.1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: modelrunner\nVersion: 0.1.0\n")
    (info / "direct_url.json").write_text(json.dumps(direct_url))
    return replace(cli, environ={**cli.environ, "PYTHONPATH": str(info.parent)})


@pytest.fixture
def cli(cli: CommandLine, tmp_path: Path) -> CommandLine:
    """The command line, installed from a repository."""
    address = {"url": "https://me:secret@git.example.com/team/modelrunner"}
    return installed(cli, tmp_path, {**address, "vcs_info": {"vcs": "git", "commit_id": COMMIT}})


@pytest.fixture
def here(cli: CommandLine, tiny: Artifact) -> CommandLine:
    """The command line with a model in its store."""
    put(cli.store, tiny, "ai/tiny:1")
    return cli


@pytest.fixture
def hostile(cli: CommandLine, weights: bytes) -> CommandLine:
    """The same, whose file has a name that every format could stumble over."""
    put(cli.store, docker_artifact(weights, filenames=[HOSTILE]), "ai/tiny:1")
    return cli


def export(cli: CommandLine, kind: str, *arguments: str) -> dict[str, Any]:
    return exports.exported(cli, kind, "ai/tiny:1", *arguments)


def text_of(cli: CommandLine, kind: str, *arguments: str) -> str:
    return exports.only_text(export(cli, kind, *arguments))


def in_folder(files: Mapping[str, str], folder: Path) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def limit_of(total: int) -> int:
    """A tenth more, and 640 MiB, in whole MiB: as `docs/deploy.md` says."""
    return -(-(total + -(-total // 10) + 640 * MIB) // MIB) * MIB


class TestEveryKind:
    @pytest.mark.parametrize("kind", KINDS)
    def test_content_is_pinned_and_memory_is_what_estimate_says(
        self, here: CommandLine, tiny: Artifact, kind: str
    ) -> None:
        found = export(here, kind, "--context", "1024", "--kv-type", "bf16")
        asked = ("--context", "1024", "--kv-type", "bf16", "--json")
        estimate = json.loads(here("estimate", "ai/tiny:1", *asked).stdout)
        files = found.pop("files")
        assert found == {
            "kind": kind,
            "reference": f"ai/tiny:1@{tiny.digest}",
            "digest": tiny.digest,
            "context": 1024,
            "memory_bytes": estimate["bytes"]["total"],
            "limit_bytes": limit_of(estimate["bytes"]["total"]),
        }
        text = "".join(files.values())
        assert tiny.digest in text
        assert f"({found['memory_bytes']} bytes)" in text
        assert f"a context of {found['context']}" in text
        assert "bf16" in text

    @pytest.mark.parametrize("kind", KINDS)
    def test_same_model_makes_the_same_bytes_and_stdout_is_the_file(
        self, here: CommandLine, tmp_path: Path, kind: str
    ) -> None:
        first, second = (here("export", kind, "ai/tiny:1").stdout for _ in range(2))
        assert first == second
        files = export(here, kind)["files"]
        done = here("export", kind, "ai/tiny:1", "--output", str(tmp_path))
        assert (done.returncode, done.stdout) == (0, "")
        for name, text in files.items():
            assert text in first
            assert (tmp_path / name).read_text() == text

    @pytest.mark.parametrize("kind", KINDS)
    def test_other_machines_are_named_and_warned_of(self, here: CommandLine, kind: str) -> None:
        done = here("export", kind, "ai/tiny:1", "--rpc", "10.0.0.2:50052,gpu-2:50052")
        assert done.returncode == 0
        assert "10.0.0.2:50052,gpu-2:50052" in done.stdout
        assert "fragile and insecure" in done.stdout
        assert "fragile and insecure" in done.stderr
        assert "rpc" not in here("export", kind, "ai/tiny:1").stdout.lower()

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in HERE])
    def test_a_model_that_is_not_here_is_not_pulled(
        self, cli: CommandLine, registry: Registry, tiny: Artifact, kind: str
    ) -> None:
        registry.add(tiny, "team/tiny", ["1"])
        name = registry.reference("team/tiny:1")
        found = json.loads(cli("export", kind, name, "--json").stdout)
        assert found["reference"] == f"{name}@{tiny.digest}"
        pinned = json.loads(cli("export", kind, f"{name}@{tiny.digest}", "--json").stdout)
        assert pinned["files"] == found["files"]
        assert json.loads(cli("list", "--json").stdout) == []

    @pytest.mark.parametrize("kind", HERE)
    def test_a_path_needs_files_that_are_here(
        self, cli: CommandLine, registry: Registry, tiny: Artifact, kind: str
    ) -> None:
        registry.add(tiny, "team/tiny", ["1"])
        name = registry.reference("team/tiny:1")
        done = cli("export", kind, name)
        assert (done.returncode, done.stdout) == (3, "")
        assert f"hint: `modelrunner pull {name}`\n" in done.stderr


def test_a_model_of_the_hugging_face_hub_is_pulled_by_what_is_exported(
    cli: CommandLine, weights: bytes
) -> None:
    with hugging_face() as hub:
        hub.repositories["Org/Tiny-GGUF"] = Repository({"Tiny-Q4_K_M.gguf": weights})
        name = "hf.co/Org/Tiny-GGUF:Q4_K_M"
        found = json.loads(cli("export", "k8s", name, "--json", HF_ENDPOINT=hub.url).stdout)
        assert found["reference"] == f"{name}@{found['digest']}"
        done = cli("pull", found["reference"], "--json", HF_ENDPOINT=hub.url)
        assert json.loads(done.stdout)["digest"] == found["digest"]
        here = json.loads(cli("export", "k8s", found["reference"], "--json").stdout)
        assert here["files"] == found["files"]


def test_an_embedding_model_is_served_as_one(cli: CommandLine, tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "e.gguf", metadata=VECTORS)
    put(cli.store, docker_artifact(path.read_bytes()), "ai/tiny:1")
    found = export(cli, "k8s")
    deployment, _ = yaml.safe_load_all(found["files"]["kubernetes.yaml"])
    line = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--embeddings" in line
    context = line[line.index("--ctx-size") + 1]
    assert line[line.index("--ubatch-size") + 1] == context
    asked = ("--context", context, "--micro-batch", context, "--json")
    estimate = json.loads(cli("estimate", "ai/tiny:1", *asked).stdout)
    assert found["memory_bytes"] == estimate["bytes"]["total"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            (("compose", "ai/none:1", "--offline"), 9, "is not in the local store"),
            (("nomad", "ai/tiny:1"), 2, "nomad"),
            (("compose", "ai/tiny:1", "--name", "A b"), 2, "invalid service name"),
            (("compose", "ai/tiny:1", "--name", "a\nb"), 2, "invalid service name"),
            (("compose", "ai/tiny:1", "--image", "x\nUSER root"), 2, "invalid image name"),
            (("compose", "ai/tiny:1", "--puller", "-x"), 2, "invalid image name"),
            (("compose", "ai/tiny:1", "--kv-type", "q9"), 2, "invalid KV cache type"),
            (("compose", "ai/tiny:1", "--rpc", "x"), 2, "--rpc must be HOST:PORT"),
            (("compose", "ai/tiny:1", "--port", "0"), 2, "port"),
            (("systemd", "ai/tiny:1", "--program", "llama-server"), 2, "is not an absolute path"),
            (("compose", "ai/tiny:1", "-o", "none/x.yaml"), 2, "directory not found"),
        ],
    )
    def test_nonsense_is_refused(
        self, here: CommandLine, arguments: tuple[str, ...], code: int, said: str
    ) -> None:
        done = here("export", *arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr

    def test_a_model_without_a_name_cannot_be_pulled_elsewhere(
        self, here: CommandLine, tiny: Artifact
    ) -> None:
        with here.store.changing() as entries:
            # as another tool leaves it
            bare = [replace(entry.descriptor, annotations={}) for entry in entries]
            entries[:] = [Entry(None, descriptor) for descriptor in bare]
        done = here("export", "compose", tiny.digest)
        assert (done.returncode, done.stdout) == (2, "")
        assert "has no name" in done.stderr
        here.store.forget(here.store.resolve(tiny.digest).digest)
        assert here("export", "compose", tiny.digest).returncode == 3

    def test_what_llama_cpp_cannot_run_is_not_handed_over(
        self, cli: CommandLine, registry: Registry
    ) -> None:
        registry.add(safetensors_artifact(), "team/other", ["1"])
        done = cli("export", "k8s", registry.reference("team/other:1"))
        assert (done.returncode, done.stdout) == (10, "")

    def test_several_units_go_into_a_folder(self, here: CommandLine, tmp_path: Path) -> None:
        file = tmp_path / "x.container"
        file.write_text("mine")
        done = here("export", "quadlet", "ai/tiny:1", "-o", str(file))
        assert (done.returncode, file.read_text()) == (2, "mine")
        assert "hint: name a directory\n" in done.stderr


class TestSource:
    """Containers install this program from where this copy came from, or not at all."""

    @pytest.mark.parametrize("kind", CONTAINERS)
    @pytest.mark.parametrize(
        ("direct_url", "origin"),
        [
            ({"url": "file:///src/my%20clone", "dir_info": {"editable": True}}, "/src/my clone"),
            ({"url": "file:///w/modelrunner.whl", "archive_info": {}}, "/w/modelrunner.whl"),
            ({}, "a package index"),
        ],
    )
    def test_what_no_container_can_install_needs_an_image(
        self,
        here: CommandLine,
        tmp_path: Path,
        kind: str,
        direct_url: Mapping[str, object],
        origin: str,
    ) -> None:
        local = installed(here, tmp_path / "local", direct_url)
        done = local("export", kind, "ai/tiny:1")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"error: a container cannot install this copy of modelrunner: it came from {origin}\n"
            "hint: name an image that contains modelrunner with --puller IMAGE;"
            " docs/deploy.md shows how to build one\n"
        )
        assert local("export", kind, "ai/tiny:1", "--puller", "mr:1").returncode == 0

    @pytest.mark.parametrize("kind", CONTAINERS)
    def test_a_repository_is_named_with_its_commit_and_without_credentials(
        self, here: CommandLine, kind: str
    ) -> None:
        text = "".join(export(here, kind)["files"].values())
        assert SOURCE in text
        assert "docker.io/library/python:3.12" in text
        assert "secret" not in text

    def test_an_archive_needs_no_git(self, here: CommandLine, tmp_path: Path) -> None:
        address = "https://example.com/modelrunner-0.1.0.tar.gz"
        found = installed(here, tmp_path / "x", {"url": address, "archive_info": {}})
        text = text_of(found, "k8s")
        assert 'image: "docker.io/library/python:3.12-slim"' in text
        assert f"modelrunner @ {address}" in text

    @pytest.mark.parametrize("kind", ["llama-preset", "systemd"])
    def test_what_runs_on_this_machine_pulls_nothing(
        self, here: CommandLine, tmp_path: Path, kind: str
    ) -> None:
        local = installed(here, tmp_path / "local", {})
        assert local("export", kind, "ai/tiny:1").returncode == 0


class TestCompose:
    def test_compose_reads_it_and_no_service_has_rights(
        self, hostile: CommandLine, tmp_path: Path
    ) -> None:
        found = export(hostile, "compose", "--port", "8123")
        folder = in_folder(found["files"], tmp_path / "out")
        config = exports.compose_config(folder / "compose.yaml")
        model, server = config["services"]["model"], config["services"]["server"]
        volume = config["services"]["volume"]
        assert (volume["entrypoint"], volume["network_mode"]) == (
            ["chown", "65534:65534", "/models"],
            "none",
        )
        assert (volume["cap_drop"], volume["cap_add"]) == (["ALL"], ["CHOWN"])
        for service in (model, server):
            assert (service["user"], service["read_only"]) == ("65534:65534", True)
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert not service.get("privileged")
        # Compose shows a literal `$` as it takes one
        line = [word.replace("$$", "$") for word in server["command"]]
        assert line[line.index("--model") + 1] == f"/models/{HOSTILE}"
        assert model["image"] == "docker.io/library/python:3.12"
        assert [word.replace("$$", "$") for word in model["entrypoint"]][3:] == [
            found["reference"],
            SOURCE,
        ]
        assert server["depends_on"]["model"]["condition"] == "service_completed_successfully"
        assert int(server["mem_limit"]) == found["limit_bytes"]
        assert server["memswap_limit"] in {server["mem_limit"], str(found["limit_bytes"])}
        (volume,) = server["volumes"]
        assert (volume["target"], volume["read_only"]) == ("/models", True)
        (port,) = server["ports"]
        assert (port["host_ip"], port["published"], port["target"]) == ("127.0.0.1", "8123", 8080)

    def test_an_image_of_ones_own_pulls_and_serves(self, here: CommandLine, tmp_path: Path) -> None:
        images = ("--puller", "registry.example.com/mr:1", "--image", "registry.example.com/ll:2")
        found = export(here, "compose", *images)
        folder = in_folder(found["files"], tmp_path / "out")
        services = exports.compose_config(folder / "compose.yaml")["services"]
        model = services["model"]
        assert model["image"] == services["volume"]["image"] == "registry.example.com/mr:1"
        assert model["entrypoint"] == [
            *("modelrunner", "pull", found["reference"], "--output", "/models"),
        ]
        # nothing is built: whatever builder there is will do
        assert not any("build" in service for service in services.values())
        assert services["server"]["image"] == "registry.example.com/ll:2"


def is_hardened(pod: Mapping[str, Any], limit: int) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65534
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (server,) = pod["containers"]
    for container in (*pod["initContainers"], server):
        assert container["securityContext"] == {
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    assert server["resources"]["limits"] == {"memory": f"{limit // MIB}Mi"}
    mounts = {mount["name"]: mount.get("readOnly", False) for mount in server["volumeMounts"]}
    assert mounts == {"models": True, "tmp": False}


class TestKubernetes:
    def test_the_schemas_take_it_and_the_pod_has_no_rights(self, hostile: CommandLine) -> None:
        found = export(hostile, "k8s")
        deployment, service = yaml.safe_load_all(found["files"]["kubernetes.yaml"])
        for each in (deployment, service):
            is_of_kubernetes(each)
        pod = deployment["spec"]["template"]["spec"]
        is_hardened(pod, found["limit_bytes"])
        line = exports.in_container(pod["containers"][0]["args"])
        assert line[line.index("--model") + 1] == f"/models/{HOSTILE}"
        assert pod["initContainers"][0]["command"][-2:] == [found["reference"], SOURCE]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"] == labels
        assert service["spec"]["ports"][0]["targetPort"] == pod["containers"][0]["ports"][0]["name"]

    def test_the_schemas_are_strict(self, here: CommandLine) -> None:
        deployment, _ = yaml.safe_load_all(text_of(here, "k8s"))
        deployment["spec"]["template"]["spec"]["containers"][0]["readOnly"] = True
        assert kubernetes_refuses(deployment)

    def test_the_command_of_the_init_container_is_one_that_a_shell_runs(
        self, here: CommandLine, tmp_path: Path
    ) -> None:
        deployment, _ = yaml.safe_load_all(text_of(here, "k8s"))
        command = deployment["spec"]["template"]["spec"]["initContainers"][0]["command"]
        line = exports.in_container(command)
        for name in ("pip", "python"):
            program = tmp_path / name
            program.write_text('#!/bin/sh\nprintf "%s|" "${0##*/}" "$@" "$PYTHONPATH"; echo\n')
            program.chmod(0o755)
        said = subprocess.run(
            line, env={"PATH": f"{tmp_path}:/bin:/usr/bin"}, capture_output=True, check=True
        )
        install, pull = said.stdout.decode().splitlines()
        assert install == (f"pip|install|--quiet|--no-cache-dir|--target|/tmp/lib|{SOURCE}||")
        assert pull == f"python|-m|modelrunner|pull|{line[-2]}|--output|/models|/tmp/lib|"


class TestImageVolumes:
    @pytest.fixture
    def pushed(self, here: CommandLine) -> Iterator[str]:
        """An image of the model at a registry."""
        with Registry() as registry:
            name = registry.reference("team/tiny:image")
            done = here("push", "ai/tiny:1", "--as", "image", "--to", name)
            assert done.returncode == 0, done.stderr
            yield name

    @pytest.mark.parametrize("kind", ["k8s", "kserve"])
    def test_the_pod_mounts_the_image_and_pulls_nothing(
        self, here: CommandLine, pushed: str, kind: str
    ) -> None:
        found = export(here, kind, "--image-volume", pushed)
        whole, *_ = yaml.safe_load_all(exports.only_text(found))
        if kind == "k8s":
            is_of_kubernetes(whole)
            pod = whole["spec"]["template"]["spec"]
        else:
            pod = {k: v for k, v in whole["spec"]["predictor"].items() if k != "minReplicas"}
            about = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
            is_of_kubernetes(about)
        assert "initContainers" not in pod
        index = json.loads(
            here("push", "ai/tiny:1", "--as", "image", "--to", pushed, "--json").stdout
        )
        assert pod["volumes"] == [
            {
                "name": "models",
                "image": {
                    "reference": f"{pushed.removesuffix(':image')}@{index['digest']}",
                    "pullPolicy": "IfNotPresent",
                },
            },
            {"name": "tmp", "emptyDir": {}},
        ]
        (server,) = pod["containers"]
        assert server["volumeMounts"][0] == {
            "name": "models",
            "mountPath": "/mnt/model",
            "readOnly": True,
        }
        line = exports.in_container(server["args"])
        assert line[line.index("--model") + 1] == "/mnt/model/models/model.gguf"

    def test_an_artifact_is_not_mounted(self, here: CommandLine, tiny: Artifact) -> None:
        with Registry() as registry:
            registry.add(tiny, "team/tiny", ["1"])
            name = registry.reference("team/tiny:1")
            done = here("export", "k8s", "ai/tiny:1", "--image-volume", name)
        assert done.returncode == 2
        assert f"{name} is a model artifact, not a container image" in done.stderr

    def test_an_image_of_another_model_is_refused(
        self, here: CommandLine, pushed: str, weights: bytes
    ) -> None:
        put(here.store, docker_artifact(weights, filenames=["other.gguf"]), "ai/other:1")
        done = here("export", "k8s", "ai/other:1", "--image-volume", pushed)
        assert done.returncode == 2
        assert f"{pushed} does not have other.gguf of ai/other:1" in done.stderr

    @pytest.mark.parametrize(
        "arguments", [["compose"], ["systemd"], ["k8s", "--serve"], ["k8s", "--puller", "x"]]
    )
    def test_what_mounts_no_image_refuses_one(
        self, here: CommandLine, arguments: list[str]
    ) -> None:
        kind, *options = arguments
        done = here("export", kind, "ai/tiny:1", "--image-volume", "localhost:1/x:1", *options)
        assert done.returncode == 2


class TestKServe:
    def test_the_pod_is_one_of_kubernetes_and_has_no_rights(self, hostile: CommandLine) -> None:
        found = export(hostile, "kserve")
        (text,) = found["files"].values()
        predictor = yaml.safe_load(text)["spec"]["predictor"]
        pod = {name: value for name, value in predictor.items() if name != "minReplicas"}
        is_hardened(pod, found["limit_bytes"])
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}
        is_of_kubernetes(whole)
        line = exports.in_container(pod["containers"][0]["args"])
        assert line[line.index("--model") + 1] == f"/models/{HOSTILE}"

    @pytest.mark.skipif(exports.KSERVE is None, reason="needs the package kserve, not its needs")
    def test_its_fields_are_those_of_kserve(self, here: CommandLine) -> None:
        service = yaml.safe_load(text_of(here, "kserve"))
        assert service["apiVersion"] == "serving.kserve.io/v1beta1"
        assert set(service) <= exports.kserve_fields("v1beta1_inference_service")
        assert set(service["spec"]) <= exports.kserve_fields("v1beta1_inference_service_spec")
        predictor = service["spec"]["predictor"]
        assert set(predictor) <= exports.kserve_fields("v1beta1_predictor_spec")
        assert predictor["containers"][0]["name"] == "kserve-container"


@pytest.mark.skipif(exports.QUADLET is None, reason="needs the generator of Podman 4.4 or newer")
@pytest.mark.real
class TestQuadlet:
    def test_podmans_generator_makes_services_of_it(
        self, hostile: CommandLine, tmp_path: Path
    ) -> None:
        found = export(hostile, "quadlet", "--port", "8123")
        folder = in_folder(found["files"], tmp_path / "units")
        services = exports.generated(folder)
        assert sorted(services) == [
            "tiny-1-model.service",
            "tiny-1-volume.service",
            "tiny-1.service",
        ]
        (start,) = exports.values(services["tiny-1.service"], "ExecStart")
        line = exports.words(start)
        assert line[line.index("--model") + 1] == f"/models/{HOSTILE}"
        assert f"--memory={found['limit_bytes'] // MIB}m" in line
        assert "127.0.0.1:8123:8080" in line
        assert "tiny-1:/models:ro,z" in line
        (fetch,) = exports.values(services["tiny-1-model.service"], "ExecStart")
        assert found["reference"] in exports.words(fetch)
        assert exports.words(fetch)[-1].startswith("modelrunner @ git+https://")
        for each in (line, exports.words(fetch)):
            assert each[each.index("--user") + 1] == "65534:65534"
            assert each[each.index("--cap-drop") + 1] == "all"
            assert {"--read-only", "--security-opt=no-new-privileges"} <= set(each)

    @pytest.mark.skipif(exports.VERIFY is None, reason="needs systemd-analyze")
    def test_systemd_takes_the_services(self, hostile: CommandLine, tmp_path: Path) -> None:
        folder = in_folder(export(hostile, "quadlet")["files"], tmp_path / "units")
        made = tmp_path / "made"
        made.mkdir()
        for name, text in exports.generated(folder).items():
            # Podman itself need not be here
            (made / name).write_text(text.replace("/usr/bin/podman", "/bin/true"))
        exports.verify(made / "tiny-1.service")


@pytest.mark.real
class TestSystemd:
    @pytest.mark.skipif(exports.VERIFY is None, reason="needs systemd-analyze")
    def test_systemd_takes_it(self, hostile: CommandLine, tmp_path: Path) -> None:
        files = export(hostile, "systemd", "--program", "/bin/true")["files"]
        exports.verify(in_folder(files, tmp_path / "units") / "tiny-1.service")

    @pytest.mark.skipif(exports.VERIFY is None, reason="needs systemd-analyze")
    def test_systemd_finds_little_that_it_could_do(self, here: CommandLine, tmp_path: Path) -> None:
        files = export(here, "systemd", "--program", "/bin/true")["files"]
        unit = in_folder(files, tmp_path / "units") / "tiny-1.service"
        # of ten, where ten is everything
        judged = [str(exports.VERIFY), "security", "--offline=yes", "--threshold=20", str(unit)]
        done = subprocess.run(judged, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def test_the_model_is_all_it_sees_and_read_only(
        self, hostile: CommandLine, tiny: Artifact
    ) -> None:
        found = export(hostile, "systemd", "--program", "/opt/llama server", "--name", "chat")
        text = found["files"]["chat.service"]
        (start,) = exports.values(text, "ExecStart")
        line = exports.words(start)
        assert line[0] == "/opt/llama server"
        assert line[line.index("--model") + 1] == f"/mnt/model/{HOSTILE}"
        assert line[line.index("--host") + 1] == "127.0.0.1"
        folder = hostile.store.resolve("ai/tiny:1").view()
        assert exports.values(text, "BindReadOnlyPaths") == [f"{folder}:/mnt/model"]
        assert found["digest"].removeprefix("sha256:") == folder.name
        assert exports.values(text, "MemoryMax") == [f"{found['limit_bytes'] // MIB}M"]
        assert exports.values(text, "CapabilityBoundingSet") == [""]
        for key in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp"):
            assert exports.values(text, key) == ["yes"]
        assert exports.values(text, "ProtectSystem") == ["strict"]

    def test_it_reaches_only_those_that_compute_for_it(self, here: CommandLine) -> None:
        def allowed(*arguments: str) -> list[str]:
            return exports.values(text_of(here, "systemd", *arguments), "IPAddressAllow")

        assert allowed() == ["localhost"]
        assert allowed("--rpc", "10.0.0.2:1,127.0.0.1:2") == ["localhost 10.0.0.2"]
        # a name is nothing that systemd could let through
        assert allowed("--rpc", "gpu-1:1") == []

    def test_a_folder_that_a_unit_cannot_mount_is_refused(
        self, here: CommandLine, tmp_path: Path
    ) -> None:
        home = tmp_path / "a b"
        here.home.rename(home)
        done = here("export", "systemd", "ai/tiny:1", MODELRUNNER_HOME=str(home))
        assert (done.returncode, done.stdout) == (2, "")
        assert "MODELRUNNER_HOME=" in done.stderr


class TestPreset:
    def test_llama_cpp_reads_the_section(self, here: CommandLine) -> None:
        text = text_of(here, "llama-preset", "--context", "1024", "--rpc", "a:1")
        ((name, section),) = exports.preset(text).items()
        assert name == "tiny-1"
        assert section["alias"] == "ai/tiny:1"
        assert section["model"] == str(here.store.resolve("ai/tiny:1").weights())
        assert (section["ctx-size"], section["jinja"], section["rpc"]) == ("1024", "true", "a:1")

    def test_llama_cpp_knows_the_keys(
        self, cli: CommandLine, weights: bytes, tmp_path: Path
    ) -> None:
        package = folder_of("xllamacpp", "llama.cpp's options are read from it")
        projector = tiny_projector(tmp_path / "mmproj.gguf").read_bytes()
        model = docker_artifact(weights, template=b"{{ x }}", mmproj=projector)
        put(cli.store, model, "ai/tiny:1")
        ((_, section),) = exports.preset(text_of(cli, "llama-preset", "--rpc", "a:1")).items()
        assert {"mmproj", "chat-template-file", "cache-ram"} <= set(section)
        (library,) = package.glob("*.so")
        code = library.read_bytes()
        assert [key for key in section if f"--{key}\0".encode() not in code] == []

    @pytest.mark.parametrize("name", ["a;b.gguf", "a#b.gguf"])
    def test_a_path_that_would_be_cut_is_refused(
        self, cli: CommandLine, weights: bytes, name: str
    ) -> None:
        put(cli.store, docker_artifact(weights, filenames=[name]), "ai/tiny:1")
        done = cli("export", "llama-preset", "ai/tiny:1")
        assert (done.returncode, done.stdout) == (2, "")
        assert "begin a comment" in done.stderr


@pytest.mark.parametrize("where", ["here", "in a registry"])
@pytest.mark.parametrize(("width", "used"), [(32, True), (96, False)])
def test_a_projector_that_does_not_fit_the_model_is_left_out(
    cli: CommandLine,
    registry: Registry,
    weights: bytes,
    tmp_path: Path,
    where: str,
    width: int,
    used: bool,
) -> None:
    projector = tiny_projector(tmp_path / "p.gguf", width=width).read_bytes()
    artifact = docker_artifact(weights, mmproj=projector)
    name = registry.reference("team/seer:1")
    if where == "here":
        put(cli.store, artifact, name)
    else:
        registry.add(artifact, "team/seer", ["1"])
    done = cli("export", "compose", name)
    assert done.returncode == 0, done.stderr
    assert ("--mmproj" in done.stdout) == used
    problem = "its output has 96 dimensions, the model needs 32"
    assert (problem in done.stderr) == (not used)
