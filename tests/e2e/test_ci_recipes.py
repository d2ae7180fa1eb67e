"""The recipes for CI systems, taken from where people copy them, do what they say."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, CommandLine
from tests.support.artifacts import Artifact
from tests.support.docker_daemon import DockerDaemon
from tests.support.python_image import PYTHON, import_python_image, tree
from tests.support.registry import Registry

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
HOOK = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())[0]
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
CHAT = "team/chat"


def recipe(title: str) -> str:
    """The snippet under a heading of docs/ci.md."""
    text = (ROOT / "docs" / "ci.md").read_text()
    _, _, rest = text.partition(f"### {title}\n")
    return rest.partition("```")[2].partition("\n")[2].partition("```")[0]


@pytest.fixture
def project(tmp_path: Path, registry: Registry, tiny: Artifact, cli: CommandLine, monkeypatch):
    """A folder with an intent and its lock."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    registry.add(tiny, CHAT, ["1"])
    (folder / "modelrunner.toml").write_text(f'[models.chat]\nref = "{registry.host}/{CHAT}:1"\n')
    assert cli("lock").returncode == 0
    return folder


def go_stale(project: Path) -> None:
    intent = project / "modelrunner.toml"
    intent.write_text(intent.read_text() + 'other = "ai/other:1"\n'.replace("other", "x", 1))
    intent.write_text(intent.read_text().replace('x = "ai', '[models.x]\nref = "ai'))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout as a wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "-q", "wheel", "--no-deps", "-w", str(folder), str(ROOT)],
        check=True,
    )
    return next(folder.glob("*.whl"))


class Runner:
    """A runner of GitHub's, as far as the steps of this action can tell."""

    def __init__(self, folder: Path, environ: Mapping[str, str], inputs: Mapping[str, str]) -> None:
        self.folder = folder
        self.inputs = {
            name: inputs.get(name, about["default"]) for name, about in ACTION["inputs"].items()
        }
        self.steps: dict[str, dict[str, str]] = {}
        self.environ = {**environ, "RUNNER_TEMP": str(folder), "GITHUB_ACTIONS": "true"}
        self.said = self.summary = ""

    def run(self, *names: str) -> int:
        """Runs those steps in order; the first exit code that is not 0."""
        steps = {step["name"]: step for step in ACTION["runs"]["steps"]}
        return next(filter(None, (self._shell(steps[name]) for name in names)), 0)

    def outputs(self) -> dict[str, str]:
        """What the job that uses the action sees."""
        return {name: self.value(about["value"]) for name, about in ACTION["outputs"].items()}

    def value(self, text: str) -> str:
        """A text with its expressions filled in; a name that nobody gave is an error."""
        return EXPRESSION.sub(lambda found: self._look_up(found[1]), text)

    def _look_up(self, name: str) -> str:
        match name.split("."):
            case ["inputs", key]:
                return self.inputs[key]
            case ["github", "action_path"]:
                return str(ROOT)
            case ["env", key]:
                return self.environ[key]
            case ["steps", step, "outputs", key]:
                return self.steps[step][key]
            case _:
                raise KeyError(name)

    def _shell(self, step: Mapping[str, Any]) -> int:
        assert step["shell"] == "bash"
        files = {
            name: self.folder / name
            for name in ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
        }
        for file in files.values():
            file.write_text("")
        own = {name: self.value(value) for name, value in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.value(step.get("working-directory", ".")),
            env={**self.environ, **own, **{name: str(file) for name, file in files.items()}},
            capture_output=True,
            text=True,
            check=False,
        )
        self.said += done.stdout + done.stderr
        self.environ |= _pairs(files["GITHUB_ENV"])
        for folder in files["GITHUB_PATH"].read_text().split():
            self.environ["PATH"] = f"{folder}{os.pathsep}{self.environ['PATH']}"
        if "id" in step:
            self.steps[step["id"]] = _pairs(files["GITHUB_OUTPUT"])
        self.summary = files["GITHUB_STEP_SUMMARY"].read_text()
        return done.returncode


def _pairs(file: Path) -> dict[str, str]:
    """`name=value` lines; and `name<<END`, lines, END."""
    pairs, lines = dict[str, str](), iter(file.read_text().splitlines())
    for line in lines:
        name, heredoc, end = line.partition("<<")
        if heredoc and "=" not in name:
            value = []
            for inner in lines:
                if inner == end:
                    break
                value.append(inner)
            pairs[name] = "\n".join(value)
        else:
            name, _, pairs[name] = line.partition("=")
    return pairs


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the action's first step has put the program, once for all runs."""
    folder = tmp_path_factory.mktemp("runner")
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    runner = Runner(folder, environ, {"install": str(wheel)})
    assert runner.run("Install modelrunner") == 0, runner.said
    assert runner.environ["MODELRUNNER_HOME"] == str(folder / "modelrunner")
    assert runner.environ["PATH"].startswith(str(folder / "modelrunner-venv" / "bin"))
    return folder


@pytest.fixture
def runner(installed: Path, tmp_path: Path, cli: CommandLine) -> Callable[..., Runner]:
    """A runner whose program is installed; it has a store of its own."""

    def made(**inputs: str) -> Runner:
        folder = tmp_path / "runner"
        if not folder.exists():
            folder.mkdir()
            (folder / "modelrunner-venv").symlink_to(installed / "modelrunner-venv")
        environ = {**cli.environ, "PATH": os.environ["PATH"]}
        environ["MODELRUNNER_HOME"] = str(folder / "home")
        return Runner(folder, environ, inputs)

    return made


def pulled(one: Runner) -> int:
    """Runs everything behind the installation that is run by a shell."""
    first, *rest = [step["name"] for step in ACTION["runs"]["steps"] if "run" in step]
    assert first == "Install modelrunner"
    return one.run(*rest)


@pytest.mark.slow
def test_the_action_pulls_and_tells_what_it_has(
    project: Path, runner: Callable[..., Runner], tiny: Artifact
) -> None:
    one = runner(output="models")
    assert pulled(one) == 0, one.said
    outputs = one.outputs()
    assert outputs["digest"] == tiny.digest
    assert outputs["cache-hit"] == "false"
    # the step that reads it may run in another folder
    assert Path(outputs["path"]).is_absolute()
    assert Path(outputs["path"]).read_bytes()[:4] == b"GGUF"
    assert re.fullmatch(r"modelrunner-\S+", outputs["cache-key"])
    assert list((project / "models").rglob("SHA256SUMS"))
    assert CHAT in one.summary
    # the next job has the store from the cache
    again = runner(output="models")
    assert pulled(again) == 0, again.said
    assert again.outputs() == {**outputs, "cache-hit": "true"}


@pytest.mark.slow
def test_the_actions_caching_steps_name_what_there_is(
    project: Path, runner: Callable[..., Runner]
) -> None:
    one = runner()
    assert pulled(one) == 0, one.said
    restore, save = [step for step in ACTION["runs"]["steps"] if "uses" in step]
    assert restore["with"] == save["with"]
    assert Path(one.value(save["with"]["path"])).is_dir()
    assert one.value(save["with"]["key"]) == one.outputs()["cache-key"]
    assert "steps.restore.outputs.cache-hit" in save["if"]
    assert {step["id"] for step in ACTION["runs"]["steps"] if "id" in step} >= {"restore"}


@pytest.mark.slow
def test_the_action_fails_with_an_annotation_where_the_lock_is_stale(
    project: Path, runner: Callable[..., Runner]
) -> None:
    go_stale(project)
    one = runner()
    assert pulled(one) == 9
    assert "::error file=modelrunner.toml,line=3,title=lock_outdated::x is not locked" in one.said


@pytest.mark.slow
def test_the_action_fails_with_an_annotation_where_there_is_no_lock(
    project: Path, runner: Callable[..., Runner]
) -> None:
    (project / "modelrunner.lock").unlink()
    one = runner()
    assert pulled(one) == 9
    assert "::error " in one.said
    assert "modelrunner.lock" in one.said


def test_the_hook_says_no_to_a_stale_lock(project: Path, cli: CommandLine) -> None:
    entry = shlex.split(HOOK["entry"])
    assert entry[0] == "modelrunner"
    assert not HOOK["pass_filenames"]
    for name in ("modelrunner.toml", "modelrunner.lock"):
        assert re.search(HOOK["files"], name)
    assert cli(*entry[1:]).returncode == 0
    go_stale(project)
    done = cli(*entry[1:])
    assert done.returncode == 9
    assert "x" in done.stderr


def test_the_snippet_for_pre_commit_names_the_hook() -> None:
    (repository,) = yaml.safe_load(recipe("pre-commit"))["repos"]
    assert [hook["id"] for hook in repository["hooks"]] == [HOOK["id"]]


def test_the_snippet_for_github_uses_what_the_action_has() -> None:
    steps = yaml.safe_load(recipe("GitHub Actions"))["jobs"]["test"]["steps"]
    (using,) = [step for step in steps if "/modelrunner@" in step.get("uses", "")]
    assert set(using["with"]) <= set(ACTION["inputs"])
    told = re.findall(r"steps\.model\.outputs\.([\w-]+)", json.dumps(steps))
    assert told
    assert set(told) <= set(ACTION["outputs"])


@pytest.fixture
def path_with_program(installed: Path, tmp_path: Path) -> str:
    """PATH on which `pip` and `modelrunner` are those of a venv with our wheel in it."""
    return f"{installed / 'modelrunner-venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.slow
def test_the_job_for_gitlab_runs(project: Path, cli: CommandLine, path_with_program: str) -> None:
    job = yaml.safe_load(recipe("GitLab CI"))["model"]
    home = job["variables"]["MODELRUNNER_HOME"].replace("$CI_PROJECT_DIR", str(project))
    # with the wheel there, pip finds it installed
    for line in job["script"]:
        done = subprocess.run(
            ["bash", "-ec", line],
            env={**cli.environ, "PATH": path_with_program, "MODELRUNNER_HOME": home},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert all((project / path).is_dir() for path in job["cache"]["paths"])
    assert job["cache"]["key"]["files"] == ["modelrunner.lock"]
    assert list((project / job["artifacts"]["paths"][0]).rglob("*.gguf"))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('ref = "ai/granite-4.0-micro:3B-Q4_K_M"', ("ai/granite-4.0-micro", "3B-Q4_K_M")),
        ('ref="host.example:5000/a/b:1.2"', ("host.example:5000/a/b", "1.2")),
        ('ref = "ai/smollm2"', None),
        (f'ref = "ai/smollm2@sha256:{"0" * 64}"', None),
    ],
)
def test_the_pattern_for_renovate_finds_tags(line: str, found: tuple[str, str] | None) -> None:
    (manager,) = json.loads(recipe("Renovate"))["customManagers"]
    (pattern,) = manager["matchStrings"]
    match = re.search(pattern.replace("(?<", "(?P<"), line)
    assert (match and (match["depName"], match["currentValue"])) == found
    (files,) = manager["managerFilePatterns"]
    assert re.search(files.strip("/"), "sub/modelrunner.toml")
    assert not re.search(files.strip("/"), "sub/modelrunner.tomlx")


@pytest.mark.slow
def test_the_init_container_runs_and_may_do_nothing_else(
    project: Path, cli: CommandLine, path_with_program: str, tmp_path: Path
) -> None:
    pod = yaml.safe_load(recipe("Kubernetes"))["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (init,) = pod["initContainers"]
    assert init["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in init["volumeMounts"]} == volumes
    places = {"/models": str(tmp_path / "volume"), "/lock": str(project)}

    def here(path: str) -> str:
        for place, folder in places.items():
            if path.startswith(place):
                return folder + path.removeprefix(place)
        return path

    environ = {entry["name"]: here(entry["value"]) for entry in init["env"]}
    before = sorted(path.name for path in project.iterdir())
    for _ in range(2):
        program, *arguments = init["command"]
        done = subprocess.run(
            [shutil.which(program, path=path_with_program) or "", *map(here, arguments)],
            cwd=here(init["workingDir"]),
            env={**cli.environ, **environ, "HOME": "/nonexistent"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert list(Path(here("/models/files")).rglob("*.gguf"))
    assert sorted(path.name for path in project.iterdir()) == before


@pytest.mark.slow
@pytest.mark.docker
def test_the_dockerfile_makes_an_image_with_the_models(
    project: Path, installed: Path, docker_daemon: DockerDaemon, tmp_path: Path, tiny: Artifact
) -> None:
    (packages,) = (installed / "modelrunner-venv").glob("lib/python*/site-packages")
    there = Path("/app/packages")
    import_python_image(
        docker_daemon.host,
        tmp_path,
        "python:3.12-slim",
        {there / file.relative_to(packages): file for file in tree(packages)},
        settings=[f"ENV PYTHONPATH={there}", "ENV PATH=/bin"],
        scripts={
            "/bin/pip": f"#!{PYTHON}\nfrom pip._internal.cli.main import main\nmain()\n",
            "/bin/modelrunner": f"#!{PYTHON}\nfrom modelrunner.__main__ import main\nmain()\n",
        },
        programs=["sh", "rm"],
    )
    (project / "Dockerfile").write_text(recipe("Dockerfile"))
    docker = ["docker", "-H", docker_daemon.host]
    # on the host's network, for the registry is on its loopback
    build = [*docker, "build", "--network", "host", "--tag", "models:1", str(project)]
    done = subprocess.run(
        build,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    look = "import glob; print(*glob.glob('/models/**/*', recursive=True)); open('/tmp/home')"
    seen = subprocess.run(
        [*docker, "run", "--rm", "--network", "none", "models:1", str(PYTHON), "-c", look],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ".gguf" in seen.stdout
    assert "SHA256SUMS" in seen.stdout
    assert "No such file" in seen.stderr
