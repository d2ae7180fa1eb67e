"""A system library that the runtime needs and that is not installed, as in slim images."""

import json
import re
from pathlib import Path

import pytest

from modelrunner.errors import ExitStatus
from modelrunner.system.packages import advice
from tests.conftest import CommandLine
from tests.support.artifacts import docker_artifact
from tests.support.elf import library_that_needs
from tests.support.registry import Registry

LIBRARY = "libq.so.6"


@pytest.fixture
def lacking(tmp_path: Path) -> dict[str, str]:
    """An environment whose only runtime is an `xllamacpp` that the loader refuses."""
    package = tmp_path / "packages" / "xllamacpp"
    library_that_needs(LIBRARY, package / "xllamacpp.abi3.so")
    (package / "__init__.py").write_text("from . import xllamacpp\n")
    # it may be installed, and whole
    other = library_that_needs(LIBRARY, tmp_path / "packages" / "llama_cpp" / "lib" / "libllama.so")
    (other.parent.parent / "__init__.py").write_text("raise ImportError\n")
    return {
        "PYTHONPATH": str(tmp_path / "packages"),
        "PATH": "/nowhere",
        "DOCKER_HOST": "unix:///nowhere",
        "MODELRUNNER_RUNTIME": "xllamacpp",
    }


@pytest.mark.parametrize("command", [("run",), ("serve", "--port", "0")])
def test_nothing_is_pulled_for_a_runtime_that_cannot_start(
    cli: CommandLine, registry: Registry, lacking: dict[str, str], command: tuple[str, ...]
) -> None:
    registry.add(docker_artifact(b"GGUF"), "ai/m", ["1"])
    verb, *options = command
    words = ["hello"] if verb == "run" else []
    done = cli(verb, registry.reference("ai/m:1"), *words, *options, **lacking)
    assert (done.returncode, done.stdout) == (ExitStatus.RUNTIME, "")
    assert done.stderr == (
        f"error: xllamacpp: system library not found: {LIBRARY}\nhint: {advice([LIBRARY])}\n"
    )
    assert registry.requests == []


def test_doctor_names_the_library(cli: CommandLine, lacking: dict[str, str]) -> None:
    done = cli("doctor", "--offline", "--json", **lacking)
    findings = {entry["check"]: entry for entry in json.loads(done.stdout)["findings"]}
    assert findings["system"] == {
        "check": "system",
        "status": "fail",
        "message": f"xllamacpp: system library not found: {LIBRARY}",
        "fix": "modelrunner runtimes",
    }
    assert done.returncode == ExitStatus.RUNTIME


def test_runtimes_shows_what_an_installed_one_lacks(
    cli: CommandLine, lacking: dict[str, str]
) -> None:
    rows = {row["name"]: row for row in json.loads(cli("runtimes", "--json", **lacking).stdout)}
    row = rows["xllamacpp"]
    assert (row["installed"], row["available"]) == (True, False)
    assert row["why_not"] == f"system library not found: {LIBRARY}"
    assert row["hint"] == advice([LIBRARY])


def test_what_fits_is_pulled_with_a_warning(
    cli: CommandLine, registry: Registry, lacking: dict[str, str]
) -> None:
    registry.add(docker_artifact(b"GGUF"), "ai/m", ["1"])
    environ = {**lacking, "MODELRUNNER_RUNTIME": "auto"}
    done = cli("pull", "--require-fit", registry.reference("ai/m:1"), **environ)
    said, name = done.stderr.splitlines()[0], r"(?:llama-cpp-python|xllamacpp)"
    lacks = re.escape(
        f"cannot run models: system library not found: {LIBRARY}; {advice([LIBRARY])}"
    )
    assert re.fullmatch(f"warning: {name} {lacks}", said)
