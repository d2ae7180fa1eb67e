"""Models as other tools push them: `oras`, `modctl`, `crane`; and what `oras` pulls of ours."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.store.store import Store, StoredModel
from tests.support.artifacts import ollama_artifact
from tests.support.docker_registry import (
    DockerRegistry,
    docker_registry,
    needs_docker_registry,
    push_artifact,
)
from tests.support.gguf import tiny_gguf
from tests.support.pulling import Pulling
from tests.support.safetensors import TINY, config_json, safetensors_file

pytestmark = [pytest.mark.registry, needs_docker_registry]

PEERS = Path(os.environ.get("MODELRUNNER_PEERS") or Path.home() / ".cache/modelrunner-peers")
Tool = Callable[..., None]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A model in safetensors as a directory, and one in GGUF."""
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "config.json").write_bytes(config_json())
    (folder / "model.safetensors").write_bytes(safetensors_file(TINY))
    (folder / "tokenizer/tokenizer.json").write_text('{"a": 1}')
    tiny_gguf(folder / "tiny.gguf", seed=1)
    return folder


@pytest.fixture
def tool(files: Path, tmp_path: Path) -> Tool:
    """Runs a peer in the model's directory; skips where it is not there."""

    def run(name: str, *arguments: str) -> None:
        built = PEERS / name
        program = str(built) if built.is_file() else shutil.which(name)
        if program is None:
            pytest.skip(f"needs {name}: `make peers` builds it")
        environ = {**os.environ, "HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [program, *arguments],
            cwd=files,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


def pulled(store: Store, name: str) -> tuple[StoredModel, ModelArtifact]:
    model = Pulling(store).pull(name).model
    return model, model.artifact


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("given", ["tiny.gguf", "tiny.gguf:application/octet-stream"])
def test_a_gguf_that_oras_pushed_is_a_model_that_runs(
    store: Store, registry: DockerRegistry, files: Path, tool: Tool, given: str
) -> None:
    name = registry.reference("a/gguf:1")
    tool("oras", "push", "--plain-http", name, given)
    model, artifact = pulled(store, name)
    assert (artifact.family, artifact.format, artifact.is_runnable) == ("files", "gguf", True)
    assert model.weights().name == "tiny.gguf"
    assert model.weights().read_bytes() == (files / "tiny.gguf").read_bytes()


def test_a_directory_of_safetensors_goes_from_oras_to_us_and_back(
    store: Store, registry: DockerRegistry, files: Path, tool: Tool, tmp_path: Path
) -> None:
    (files / "tiny.gguf").unlink()
    name, back = registry.reference("a/st:1"), registry.reference("b/st:2")
    tool("oras", "push", "--plain-http", name, "config.json", "model.safetensors", "tokenizer")
    model, artifact = pulled(store, name)
    assert (artifact.format, artifact.is_runnable) == ("safetensors", False)
    assert contents(model.weights()) == contents(files)
    Pulling(store).push(model, back)
    tool("oras", "pull", "--plain-http", back, "--output", str(tmp_path / "back"))
    assert contents(tmp_path / "back") == contents(files)


@pytest.mark.parametrize("way", ["--raw", "--raw=false"])
def test_what_modctl_builds_is_delivered(
    store: Store, registry: DockerRegistry, files: Path, tool: Tool, tmp_path: Path, way: str
) -> None:
    (files / "Modelfile").write_text(
        "NAME tiny\nARCH transformer\nFAMILY llama\nFORMAT safetensors\nPARAMSIZE 1b\n"
        "PRECISION bf16\nCONFIG config.json\nMODEL model.safetensors\n"
    )
    name, place = (
        registry.reference("a/m:1"),
        ("--plain-http", "--storage-dir", str(tmp_path / "mc")),
    )
    tool("modctl", "build", *place, way, "-t", name, "-f", "Modelfile", ".")
    tool("modctl", "push", *place, name)
    model, artifact = pulled(store, name)
    assert (artifact.family, artifact.format) == ("modelpack", "safetensors")
    assert contents(model.weights()) == {
        name: (files / name).read_bytes() for name in ("config.json", "model.safetensors")
    }
    config = model.config
    assert (config.format, config.parameters, config.quantization) == ("safetensors", "1b", "bf16")


def test_ollamas_manifest_in_any_registry_is_a_model(
    store: Store, registry: DockerRegistry, files: Path, tool: Tool
) -> None:
    made = ollama_artifact((files / "tiny.gguf").read_bytes(), params={"num_ctx": 512})
    name = registry.reference("copied/tiny:1b")
    push_artifact(registry, made, "library/tiny", ["1b"])
    tool("crane", "copy", "--insecure", registry.reference("library/tiny:1b"), name)
    model, artifact = pulled(store, name)
    assert (artifact.family, artifact.format) == ("ollama", "gguf")
    assert (str(model.digest), model.config.context_size) == (made.digest, 512)
