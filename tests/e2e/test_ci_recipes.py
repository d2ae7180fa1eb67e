"""The recipes of `docs/ci.md`, the action and the hook: each is run as it stands there."""

import io
import json
import os
import re
import shlex
import shutil
import socket
import string
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from modelrunner import __version__
from modelrunner.lockfile.intent import parse_intent
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.store.store import Store
from tests.conftest import ROOT, CommandLine
from tests.support.artifacts import OCI_MANIFEST, Artifact
from tests.support.docker_daemon import DockerDaemon
from tests.support.fixtures import script
from tests.support.github_actions import Cache, Job, StepFailedError, unknown_names
from tests.support.python_image import import_empty, import_python
from tests.support.registry import Registry
from tests.support.snippets import snippets

ACTION = (ROOT / "action.yml").read_text()
HOOK = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())[0]
SNIPPETS = snippets(ROOT / "docs" / "ci.md")
BIN = Path(sys.executable).parent
CREATED = datetime(2025, 10, 2, 9, tzinfo=UTC)
REAL_NAME = "granite-4.0-h-micro-Q4_K_M.gguf"
MODEL = f"models/chat/{REAL_NAME}"
STABLE = "models/chat/model.gguf"
OUTDATED = {"missing": "modelrunner.lock: file not found", "stale": "chat is locked as"}


def snippet(heading: str, index: int = 0) -> str:
    return [found.text for found in SNIPPETS if found.heading == heading][index]


def filled(text: str) -> str:
    """A recipe with this checkout's wheel for the archive of a repository that nobody is."""
    assert text.count(SOURCE) == 1
    return text.replace(SOURCE, "modelrunner")


SOURCE = "modelrunner @ https://github.com/OWNER/modelrunner/archive/TAG.tar.gz"
INTENT = snippet("Locked models")
(MANAGER,) = json.loads(snippet("Renovate"))["customManagers"]
POD = yaml.safe_load(snippet("Kubernetes"))["spec"]
(INIT,) = POD["initContainers"]
VOLUMES = {volume["name"]: volume for volume in POD["volumes"]}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The fixtures' Granite, made by `package`: like most it brings a file name of its own."""
    folder = tmp_path_factory.mktemp("granite")
    (weights,) = script("models").write_model("granitehybrid", folder)
    assert weights.name == REAL_NAME
    (folder / "LICENSE").write_text("free\n")
    store = Store(folder / "store")
    ingredients = Ingredients(weights, [folder / "LICENSE"])
    model = package(
        store, ingredients, Reference.parse("ai/granite"), family="docker", created=CREATED
    )
    manifest = model.manifest
    blobs = {str(blob.digest): store.blobs.read(blob) for blob in manifest.blobs}
    return Artifact(manifest.raw, OCI_MANIFEST, blobs)


@pytest.fixture(scope="module")
def hub(artifact: Artifact) -> Iterator[Registry]:
    """What stands in for Docker Hub."""
    with Registry() as registry:
        registry.add(artifact, "ai/granite-4.0-micro", ["3B-Q4_K_M"])
        registry.add(artifact, "ai/smollm2", ["latest"])
        yield registry


@pytest.fixture(scope="module")
def environ(hub: Registry, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What a machine of a CI has set: this Python, the way to packages, the stand-in's address."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "LANG"))}
    return {
        **kept,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path_factory.mktemp("user")),
        "MODELRUNNER_MIRRORS": f"docker.io={hub.url}",
    }


@pytest.fixture(scope="module")
def locked(environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the documented `modelrunner.toml` and its lock."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "modelrunner.toml").write_text(INTENT)
    home = str(tmp_path_factory.mktemp("home"))
    done = bash("modelrunner lock", folder, {**environ, "MODELRUNNER_HOME": home})
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(locked: Path, hub: Registry, tmp_path: Path) -> Path:
    """A checkout of one's own."""
    hub.requests.clear()
    return Path(shutil.copytree(locked, tmp_path / "project"))


@pytest.fixture(params=OUTDATED)
def outdated(request: pytest.FixtureRequest, project: Path) -> str:
    """What is said about the lock, which the project lacks or which is not what it wants."""
    if request.param == "missing":
        (project / "modelrunner.lock").unlink()
    else:
        (project / "modelrunner.toml").write_text(INTENT.replace("3B-Q4_K_M", "3B-Q8_0"))
    return OUTDATED[request.param]


def bash(
    script: str, folder: Path, environ: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Runs a script that ends at its first failure, as every CI does."""
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_snippet_is_run_below() -> None:
    assert [(found.heading, found.language) for found in SNIPPETS] == [
        ("JSON", "json"),
        ("JSON", "json"),
        ("Settings", "toml"),
        ("Locked models", "toml"),
        ("Locked models", "console"),
        ("A locked runtime", "toml"),
        ("A locked runtime", "console"),
        ("GitHub Actions", "yaml"),
        ("GitLab CI", "yaml"),
        ("pre-commit", "yaml"),
        ("Renovate", "json"),
        ("Dockerfile", "dockerfile"),
        ("Kubernetes", "yaml"),
        ("Private registries", "yaml"),
        ("Private registries", "yaml"),
        ("Private registries", "dockerfile"),
        ("Private registries", "yaml"),
        ("A mirror for one job", "console"),
    ]


def test_the_runtime_of_the_page_is_one() -> None:
    runtime = parse_intent(snippet("A locked runtime").encode()).runtime
    assert runtime is not None
    assert runtime.reference.short == "ghcr.io/ggml-org/llama.cpp:server-vulkan-b11434"


@dataclass(frozen=True)
class Machine:
    """What runs the action, again and again: its jobs share what is installed, and a cache."""

    temp: Path
    cache: Cache
    environ: Mapping[str, str]
    first: Job
    outputs: Mapping[str, str]

    def job(self, workspace: Path) -> Job:
        """A job without anything that another one pulled."""
        shutil.rmtree(self.temp / "modelrunner", ignore_errors=True)
        return new_job(workspace, self.temp, self.cache, self.environ)


def new_job(workspace: Path, temp: Path, cache: Cache, environ: Mapping[str, str]) -> Job:
    uses = {
        "actions/cache/restore@v4": cache.restore,
        "actions/cache/save@v4": cache.save,
        "actions/checkout@v4": lambda _: {},
    }
    return Job(workspace, temp, dict(environ), uses)


@pytest.fixture(scope="module")
def machine(
    locked: Path, environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Machine:
    """A machine that has run the action once, which installed itself."""
    temp = tmp_path_factory.mktemp("runner")
    cache = Cache(tmp_path_factory.mktemp("cache"))
    workspace = Path(shutil.copytree(locked, tmp_path_factory.mktemp("checkout") / "project"))
    job = new_job(workspace, temp, cache, environ)
    outputs = job.run_action(yaml.safe_load(ACTION), ROOT, {})
    return Machine(temp, cache, environ, job, outputs)


@pytest.fixture
def wheel(wheels: Path) -> str:
    """An `install` that is quick where this version is installed already."""
    return str(next(wheels.glob("modelrunner-*.whl")))


# its machine takes long to install
@pytest.mark.slow
@pytest.mark.xdist_group("action")
class TestGitHub:
    def test_outputs_are_those_of_the_model(
        self, machine: Machine, artifact: Artifact, environ: Mapping[str, str]
    ) -> None:
        workspace = machine.first.workspace
        assert machine.outputs == {
            "path": str(workspace / MODEL),
            "digest": artifact.digest,
            "paths": json.dumps([str(workspace / MODEL)]),
            "digests": json.dumps([artifact.digest]),
            "bytes": str(sum(map(len, artifact.blobs.values()))),
            "cache-key": bash("modelrunner cache-key", workspace, environ).stdout.strip(),
            "cache-hit": "false",
            "runtime": "",
        }
        assert (workspace / MODEL).read_bytes() == artifact.layers[0]
        assert "| ai/granite-4.0-micro:3B-Q4_K_M |" in machine.first.summary
        assert [kept.name for kept in machine.cache.folder.iterdir()] == [
            machine.outputs["cache-key"]
        ]

    def test_what_was_installed_is_this_version_and_behind_it_on_path(
        self, machine: Machine, project: Path
    ) -> None:
        done = bash("command -v modelrunner; modelrunner --version", project, machine.first.environ)
        where, version = done.stdout.splitlines()
        assert where == str(machine.temp / "modelrunner-venv" / "bin" / "modelrunner")
        assert __version__ in version

    def test_with_the_store_of_the_cache_nothing_is_asked_for(
        self, machine: Machine, wheel: str, project: Path, hub: Registry
    ) -> None:
        outputs = machine.job(project).run_action(yaml.safe_load(ACTION), ROOT, {"install": wheel})
        assert outputs == {
            **machine.outputs,
            "path": str(project / MODEL),
            "paths": json.dumps([str(project / MODEL)]),
            "bytes": "0",
            "cache-hit": "true",
            "runtime": "",
        }
        assert hub.requests == []

    def test_without_the_cache_all_is_fetched(
        self, machine: Machine, wheel: str, project: Path, hub: Registry
    ) -> None:
        job = machine.job(project.parent)
        job.uses = {}
        inputs = {
            "install": wheel,
            "cache": "false",
            "working-directory": "project",
            "output": "here",
        }
        outputs = job.run_action(yaml.safe_load(ACTION), ROOT, inputs)
        assert outputs["cache-hit"] == "false"
        assert outputs["path"] == str(project / "here" / "chat" / REAL_NAME)
        assert Path(outputs["path"]).exists()
        assert hub.requests != []

    def test_an_outdated_lock_is_annotated_before_anything_is_fetched(
        self, machine: Machine, wheel: str, project: Path, outdated: str, hub: Registry
    ) -> None:
        job = machine.job(project.parent)
        inputs = {"install": wheel, "working-directory": "project"}
        with pytest.raises(StepFailedError) as caught:
            job.run_action(yaml.safe_load(ACTION), ROOT, inputs)
        assert caught.value.code == 9
        annotation = r"^::error file=project/modelrunner\.lock,(line=\d+,)?title=lock_outdated::"
        assert re.search(annotation + outdated, caught.value.log, re.MULTILINE)
        assert hub.requests == []

    def test_an_annotation_names_the_file_from_the_root_of_the_repository(
        self, machine: Machine, wheel: str, project: Path, outdated: str
    ) -> None:
        with pytest.raises(StepFailedError, match=r"::error file=modelrunner\.lock,"):
            machine.job(project).run_action(yaml.safe_load(ACTION), ROOT, {"install": wheel})

    def test_its_expressions_name_what_there_is(self, machine: Machine) -> None:
        assert unknown_names(yaml.safe_load(ACTION), machine.first) == []

    @pytest.mark.parametrize(
        ("right", "wrong"),
        [
            ("${{ inputs.install }}", "inputs.instal"),
            ("${{ github.action_path }}", "github.action-path"),
            ("${{ env.MODELRUNNER_HOME }}", "env.MODELRUNNER_HOUSE"),
            ("${{ steps.key.outputs.cache-key }}", "steps.keys.outputs.cache-key"),
            ("${{ steps.pull.outputs.digest }}", "steps.pull.outputs.sha"),
            ("if: inputs.cache", "inputs.caches"),
            ("steps.restore.outputs.cache-hit", "steps.restore.outputs.hit"),
        ],
    )
    def test_a_wrong_name_in_an_expression_is_found(
        self, machine: Machine, right: str, wrong: str
    ) -> None:
        before, name, after = re.split(r"([a-z]+\.[\w.-]+)", right, maxsplit=1)
        broken = ACTION.replace(right, f"{before}{wrong}{after}")
        assert name in ACTION
        assert set(unknown_names(yaml.safe_load(broken), machine.first)) == {wrong}

    def test_a_step_cannot_name_a_later_one(self, machine: Machine) -> None:
        broken = ACTION.replace("${{ inputs.output }}", "${{ steps.pull.outputs.path }}")
        assert unknown_names(yaml.safe_load(broken), machine.first) == ["steps.pull.outputs.path"]

    def test_the_documented_workflow_runs(
        self, machine: Machine, wheel: str, project: Path
    ) -> None:
        job = machine.job(project)

        def action(given: Mapping[str, str]) -> Mapping[str, str]:
            assert set(given) <= set(yaml.safe_load(ACTION)["inputs"])
            return job.run_action(yaml.safe_load(ACTION), ROOT, {"install": wheel, **given})

        job.uses = {**job.uses, "OWNER/modelrunner@TAG": action}
        job.run(yaml.safe_load(snippet("GitHub Actions"))["jobs"]["test"]["steps"])
        assert (project / MODEL).exists()


def test_the_inputs_and_outputs_of_the_action_are_documented() -> None:
    section = (ROOT / "docs" / "ci.md").read_text().partition("### GitHub Actions")[2]
    rows = re.findall(r"^\| `([\w-]+)` \|", section.partition("### ")[0], re.MULTILINE)
    action = yaml.safe_load(ACTION)
    assert rows == [*action["inputs"], *action["outputs"]]


class TestHook:
    """What pre-commit runs."""

    def test_a_good_lock_passes(self, project: Path, environ: Mapping[str, str]) -> None:
        done = bash(HOOK["entry"], project, environ)
        assert (done.returncode, done.stdout) == (0, "")

    def test_an_outdated_lock_fails(
        self, project: Path, outdated: str, environ: Mapping[str, str]
    ) -> None:
        done = bash(HOOK["entry"], project, environ)
        assert done.returncode == 9
        assert outdated in done.stderr

    def test_it_runs_for_the_two_files(self) -> None:
        names = ["modelrunner.toml", "modelrunner.lock", "sub/directory/modelrunner.lock"]
        others = ["other.toml", "modelrunner_toml", "not-modelrunner.toml"]
        assert [name for name in names + others if re.search(HOOK["files"], name)] == names

    def test_the_documented_configuration_names_it(self) -> None:
        (source,) = yaml.safe_load(snippet("pre-commit"))["repos"]
        assert source["rev"] == "TAG"
        assert source["hooks"] == [{"id": HOOK["id"]}]


@pytest.mark.slow
def test_gitlab_runs_its_script_and_then_needs_only_its_cache(
    project: Path,
    locked: Path,
    hub: Registry,
    environ: Mapping[str, str],
    wheels: Path,
    tmp_path: Path,
) -> None:
    job = yaml.safe_load(snippet("GitLab CI"))["model"]
    # pip finds this checkout, and nothing on the network
    packages = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)

    def run(folder: Path) -> "subprocess.CompletedProcess[str]":
        given = {"CI_PROJECT_DIR": str(folder)}
        for name, value in job["variables"].items():
            given[name] = string.Template(value).substitute(given)
        path = f"{tmp_path / 'venv' / 'bin'}:{environ['PATH']}"
        script = filled("\n".join(job["script"]))
        return bash(script, folder, {**environ, **packages, **given, "PATH": path})

    done = run(project)
    assert (done.returncode, (project / MODEL).exists()) == (0, True), done.stderr
    assert (tmp_path / "venv" / "bin" / "modelrunner").exists()
    hub.requests.clear()
    (cached,) = job["cache"]["paths"]
    again = Path(shutil.copytree(locked, tmp_path / "again"))
    shutil.copytree(project / cached, again / cached, symlinks=True)
    assert run(again).returncode == 0
    assert (again / MODEL).read_bytes() == (project / MODEL).read_bytes()
    assert hub.requests == []
    assert all((again / name).exists() for name in job["cache"]["key"]["files"])
    (again / "modelrunner.lock").unlink()
    assert run(again).returncode == 9


class TestRenovate:
    def found(self, text: str) -> list[Mapping[str, str]]:
        (pattern,) = MANAGER["matchStrings"]
        # JavaScript's named groups, as Python writes them
        matches = re.finditer(re.sub(r"\(\?<(?=\w)", "(?P<", pattern), text)
        return [match.groupdict() for match in matches]

    def test_it_finds_the_documented_model(self) -> None:
        assert MANAGER["customType"] == "regex"
        assert MANAGER["datasourceTemplate"] == "docker"
        expected = {"depName": "ai/granite-4.0-micro", "currentValue": "3B-Q4_K_M"}
        assert self.found(INTENT) == [expected]

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ('a = { ref = "hub.test:5000/team/a:1.2" }', [("hub.test:5000/team/a", "1.2")]),
            ('models.a.reference="team/a:1"', [("team/a", "1")]),
            ('ref = "hub.test:5000/team/a"', []),
            (f'ref = "team/a:1@sha256:{"0" * 64}"', []),
            ('pref = "team/a:1"', []),
        ],
    )
    def test_it_knows_tags_from_ports_and_leaves_digests_alone(
        self, line: str, expected: list[tuple[str, str]]
    ) -> None:
        found = self.found(f"[models]\n{line}\n")
        assert [(each["depName"], each["currentValue"]) for each in found] == expected

    def test_it_looks_into_every_modelrunner_toml(self) -> None:
        (pattern,) = MANAGER["managerFilePatterns"]
        names = ["modelrunner.toml", "apps/chat/modelrunner.toml", "my-modelrunner.toml", "x.toml"]
        assert [name for name in names if re.search(pattern.strip("/"), name)] == names[:2]

    def test_its_update_has_the_lock_fail_until_it_is_made_again(
        self, project: Path, hub: Registry, artifact: Artifact, environ: Mapping[str, str]
    ) -> None:
        (found,) = self.found(INTENT)
        hub.add(artifact, found["depName"], ["3B-Q8_0"])
        intent = project / "modelrunner.toml"
        intent.write_text(INTENT.replace(f":{found['currentValue']}", ":3B-Q8_0"))
        home = {**environ, "MODELRUNNER_HOME": str(project / ".home")}
        assert bash("modelrunner pull --locked", project, home).returncode == 9
        assert bash("modelrunner lock", project, home).returncode == 0
        assert bash("modelrunner pull --locked", project, home).returncode == 0


class TestKubernetes:
    def test_the_init_container_may_do_nothing_but_write_to_its_volume(self) -> None:
        assert INIT["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        writable = [mount for mount in INIT["volumeMounts"] if not mount.get("readOnly")]
        (mount,) = writable
        assert VOLUMES[mount["name"]] == {"name": mount["name"], "emptyDir": {}}
        (home,) = INIT["env"]
        assert home["name"] == "MODELRUNNER_HOME"
        assert home["value"].startswith(f"{mount['mountPath']}/")

    def test_its_command_brings_what_the_container_reads(
        self, locked: Path, environ: Mapping[str, str], artifact: Artifact, tmp_path: Path
    ) -> None:
        mounts = {
            mount["mountPath"]: made(tmp_path / mount["name"], VOLUMES[mount["name"]], locked)
            for mount in INIT["volumeMounts"]
        }

        def here(path: str) -> str:
            for mount, folder in mounts.items():
                path = re.sub(rf"^{mount}(?=/|$)", str(folder), path)
            return path

        given = {entry["name"]: here(entry["value"]) for entry in INIT["env"]}
        command = shlex.join(map(here, INIT["command"]))
        folder = Path(here(INIT["workingDir"]))
        # the second time, as after a restart of the container
        for said in ("pulled", "up to date"):
            done = bash(command, folder, {**environ, **given})
            assert (done.returncode, said in done.stdout) == (0, True), done.stderr
        (container,) = POD["containers"]
        weights = Path(here(container["args"][1]))
        assert weights.read_bytes() == artifact.layers[0]
        assert [mount["name"] for mount in container["volumeMounts"]] == ["models"]
        assert sorted(path.name for path in folder.iterdir()) == [
            "..data",
            "modelrunner.lock",
            "modelrunner.toml",
        ]


class TestPrivateRegistries:
    """The recipes of "Private registries", against a registry that asks for a login."""

    USER, PASSWORD = "bot", "s3cret word"
    HOST = "registry.example.com"

    @pytest.fixture
    def private(self, artifact: Artifact) -> Iterator[Registry]:
        with Registry() as registry:
            registry.add(artifact, "team/chat", ["1"])
            registry.demand_basic(self.USER, self.PASSWORD)
            yield registry

    @pytest.fixture
    def given(self, environ: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
        (tmp_path / "user").mkdir(exist_ok=True)
        return {
            "PATH": environ["PATH"],
            "HOME": str(tmp_path / "user"),
            "MODELRUNNER_HOME": str(tmp_path / "home"),
            "REGISTRY_USER": self.USER,
            "REGISTRY_PASSWORD": self.PASSWORD,
        }

    @pytest.fixture
    def secret(self, private: Registry, given: Mapping[str, str], tmp_path: Path) -> Path:
        """What a secret with a login holds: `docker login`'s file."""
        done = bash(
            f'printf %s "$REGISTRY_PASSWORD" | modelrunner login {private.host}'
            ' --username "$REGISTRY_USER" --password-stdin',
            tmp_path,
            {**given, "DOCKER_CONFIG": str(tmp_path / "secret")},
        )
        assert done.returncode == 0, done.stderr
        return tmp_path / "secret" / "config.json"

    @pytest.fixture
    def checkout(self, private: Registry, secret: Path, given: Mapping[str, str]) -> Path:
        """A project that wants a private model, locked by somebody who has a login."""
        folder = secret.parents[1] / "checkout"
        folder.mkdir()
        login = {
            **given,
            "DOCKER_CONFIG": str(secret.parent),
            "MODELRUNNER_HOME": str(folder / "h"),
        }
        done = bash(f"modelrunner lock --init {private.host}/team/chat:1", folder, login)
        assert done.returncode == 0, done.stderr
        shutil.rmtree(folder / "h", ignore_errors=True)
        return folder

    def pulled(self, checkout: Path, given: Mapping[str, str], command: str) -> bool:
        """Whether a command pulls; without the login the lock agrees, and the pull does not."""
        assert bash("modelrunner lock --check", checkout, given).returncode == 0
        return bash(command, checkout, given).returncode == 0

    def test_without_a_login_nothing_is_pulled(
        self, checkout: Path, given: Mapping[str, str]
    ) -> None:
        assert bash("modelrunner pull --locked", checkout, given).returncode == 4

    @pytest.mark.parametrize("which", [0, 1])
    def test_a_job_logs_in_and_pulls(
        self, checkout: Path, given: Mapping[str, str], private: Registry, which: int
    ) -> None:
        text = [found.text for found in SNIPPETS if found.heading == "Private registries"][
            which
        ].replace(self.HOST, private.host)
        value = yaml.safe_load(text)
        if which == 0:
            (step,) = value
            script = step["run"]
            assert set(step["env"]) == {"REGISTRY_USER", "REGISTRY_PASSWORD"}
        else:
            script = value["before_script"][1]
            assert SOURCE in value["before_script"][0]
        assert self.pulled(checkout, given, f"{script}\nmodelrunner pull --locked")

    def test_a_build_reads_the_login_from_its_secret(
        self, checkout: Path, given: Mapping[str, str], secret: Path, tmp_path: Path
    ) -> None:
        line = snippet("Private registries", 2).replace("\\\n", " ")
        found = re.fullmatch(
            r"RUN --mount=type=secret,id=login,target=(?P<target>\S+)\s+(?P<run>.*)\n", line
        )
        assert found is not None
        mounted = tmp_path / "run"
        mounted.mkdir()
        shutil.copy(secret, mounted / Path(found["target"]).name)
        where = str(Path(found["target"]).parent)
        command = found["run"].replace(where, str(mounted)).replace(" /models", " models")
        assert self.pulled(checkout, given, command)
        assert (checkout / "models" / "chat" / "model.gguf").exists()
        # the same secret, read by the file's name that Docker looks for
        assert Path(found["target"]).name == "config.json"

    def test_a_pod_reads_the_login_from_its_volume(
        self, checkout: Path, given: Mapping[str, str], secret: Path, tmp_path: Path
    ) -> None:
        spec = yaml.safe_load(snippet("Private registries", 3))["spec"]
        (container,), (volume,) = spec["initContainers"], spec["volumes"]
        (mount,) = container["volumeMounts"]
        assert mount["name"] == volume["name"]
        mounted = tmp_path / "run"
        mounted.mkdir()
        for item in volume["secret"]["items"]:
            assert item["key"] == ".dockerconfigjson"
            shutil.copy(secret, mounted / item["path"])
        variables = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert variables == {"DOCKER_CONFIG": mount["mountPath"], "HF_TOKEN": None}
        login = {**given, "DOCKER_CONFIG": str(mounted)}
        assert self.pulled(checkout, login, shlex.join(INIT["command"][:3]))


def made(folder: Path, volume: Mapping[str, object], locked: Path) -> Path:
    """A volume as Kubernetes makes it: a ConfigMap's files are links to links."""
    folder.mkdir()
    if "configMap" in volume:
        shutil.copytree(locked, folder / "..data").chmod(0o755)
        for name in ("modelrunner.toml", "modelrunner.lock"):
            (folder / name).symlink_to(Path("..data", name))
    return folder


class TestOutput:
    """The other snippets: what the program writes and reads."""

    def test_errors_look_as_documented(self, cli: CommandLine, hub: Registry) -> None:
        done = cli("pull", hub.reference("ai/smollm2:none"), "--json")
        error, documented = json.loads(done.stderr)["error"], json.loads(snippet("JSON"))["error"]
        assert set(documented) <= set(error)
        assert (error["code"], error["retryable"]) == (documented["code"], documented["retryable"])

    def test_progress_looks_as_documented(self, cli: CommandLine, hub: Registry) -> None:
        done = cli("pull", hub.reference("ai/smollm2"), "--progress", "json")
        events = [json.loads(line) for line in done.stderr.splitlines()]
        documented = json.loads(snippet("JSON", 1))
        advanced = [event for event in events if event["event"] == documented["event"]]
        assert {frozenset(event) for event in advanced} == {frozenset(documented)}

    def test_the_settings_are_read(self, cli: CommandLine) -> None:
        text = snippet("Settings")
        cli.home.mkdir()
        (cli.home / "config.toml").write_text(text)
        done = cli("config")
        assert (done.returncode, done.stderr) == (0, "")
        for key, value in tomllib.loads(text).items():
            if not isinstance(value, dict):
                text = json.dumps(value).strip('"')
                assert re.search(rf"\b{key}\b.*\b{text}\b.*config\.toml", done.stdout)

    def test_a_job_pulls_from_another_store(
        self, environ: Mapping[str, str], project: Path, tmp_path: Path
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        lines = snippet("A mirror for one job").replace("5001", str(port)).splitlines()
        share, pull = (line.removeprefix("$ ") for line in lines)
        home = {**environ, "MODELRUNNER_HOME": str(tmp_path / "home")}
        assert bash("modelrunner pull ai/smollm2", project, home).returncode == 0
        other = {**home, "OTHER": str(tmp_path / "other")}
        script = f"{share}\ntrap 'kill %1; wait' EXIT\nMODELRUNNER_HOME=$OTHER {pull}"
        done = bash(script, project, other)
        assert f"from http://127.0.0.1:{port}" in done.stdout, done.stderr


@dataclass(frozen=True)
class Docker:
    """`docker` for a daemon that knows the images which the Dockerfile starts from."""

    host: str

    def __call__(self, *arguments: object) -> str:
        done = subprocess.run(
            ["docker", *map(str, arguments)],
            env={**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def build(self, folder: Path, name: str, *options: str) -> None:
        """Builds the documented Dockerfile, which reaches the stand-in for Docker Hub."""
        (folder / "Dockerfile").write_text(filled(snippet("Dockerfile")))
        self("build", "--network", "host", "--tag", name, *options, folder)

    def layers(self, name: str, archive: Path) -> list[Mapping[str, bytes]]:
        """The files of each layer of an image."""
        self("save", "--output", archive, name)
        with tarfile.open(archive) as image:
            (manifest,) = json.loads(content(image, "manifest.json"))
            return [files_of(content(image, layer)) for layer in manifest["Layers"]]


def files_of(layer: bytes) -> Mapping[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        return {entry.name: content(files, entry.name) for entry in files if not entry.isdir()}


def content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


@pytest.fixture(scope="module")
def docker(
    docker_daemon: DockerDaemon,
    wheels: Path,
    environ: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Docker:
    """Knows what the Dockerfile starts from; nothing is downloaded for it."""
    folder = tmp_path_factory.mktemp("images")
    python, llama = re.findall(r"^FROM (\S+)", snippet("Dockerfile"), re.MULTILINE)
    mirrors = {"MODELRUNNER_MIRRORS": environ["MODELRUNNER_MIRRORS"]}
    import_python(docker_daemon.host, python, folder, wheels, mirrors)
    import_empty(docker_daemon.host, llama, folder)
    return Docker(docker_daemon.host)


@pytest.mark.docker
@pytest.mark.slow
class TestImages:
    def test_the_model_is_a_layer_of_its_own_and_made_once(
        self, docker: Docker, project: Path, artifact: Artifact, hub: Registry, tmp_path: Path
    ) -> None:
        docker.build(project, "chat:1")
        layers = docker.layers("chat:1", tmp_path / "chat.tar")
        assert [sorted(files) for files in layers] == [
            ["mark"],
            ["models/chat/LICENSE", "models/chat/SHA256SUMS", MODEL, STABLE],
        ]
        assert layers[1][MODEL] == layers[1][STABLE] == artifact.layers[0]
        (image,) = json.loads(docker("inspect", "chat:1"))
        assert image["Config"]["Cmd"] == ["-m", f"/{STABLE}"]
        hub.requests.clear()
        (project / "more.py").write_text("print()\n")
        docker.build(project, "chat:2")
        assert json.loads(docker("inspect", "chat:2"))[0]["RootFS"] == image["RootFS"]
        assert hub.requests == []

    def test_an_outdated_lock_ends_the_build(
        self, docker: Docker, project: Path, outdated: str
    ) -> None:
        lacks = "stat modelrunner.lock: file does not exist"
        with pytest.raises(AssertionError, match=f"(?s){outdated}.*code: 9|{lacks}"):
            docker.build(project, "chat:outdated")

    def test_the_init_container_runs_as_nobody_and_writes_only_to_its_volume(
        self, docker: Docker, project: Path, artifact: Artifact, tmp_path: Path
    ) -> None:
        docker.build(project, "chat:model", "--target", "model")
        volumes = {name: made(tmp_path / name, volume, project) for name, volume in VOLUMES.items()}
        volumes["models"].chmod(0o777)
        mounts = [
            f"--volume={volumes[mount['name']]}:{mount['mountPath']}"
            + (":ro" if mount.get("readOnly") else "")
            for mount in INIT["volumeMounts"]
        ]
        limits = INIT["securityContext"]
        said = docker(
            *("run", "--rm", "--network", "host", "--read-only", *mounts),
            *("--user", limits["runAsUser"], "--security-opt", "no-new-privileges"),
            *(f"--cap-drop={name}" for name in limits["capabilities"]["drop"]),
            *(f"--env={entry['name']}={entry['value']}" for entry in INIT["env"]),
            *("--workdir", INIT["workingDir"], "chat:model", *INIT["command"]),
        )
        assert "pulled" in said
        weights = volumes["models"] / "chat" / "model.gguf"
        assert weights.read_bytes() == artifact.layers[0]
        assert weights.stat().st_uid == limits["runAsUser"]
