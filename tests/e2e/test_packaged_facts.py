"""What an artifact says of its model is what commands do, or they say that it is not."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.gguf.reader import read_header
from modelrunner.units import format_size
from tests.conftest import CommandLine
from tests.support.artifacts import (
    DOCKER_AI,
    Layer,
    docker_artifact,
    modelpack_artifact,
)
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry
from tests.support.stores import put

TRAINED, PACKAGED = 8192, 1024

EXPORT = ("export", "compose", "--puller", "example.com/puller:1")


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return tiny_gguf(tmp_path / "tiny.gguf", context_length=TRAINED).read_bytes()


def packaged(weights: bytes, context: int = PACKAGED):
    return docker_artifact(weights, config={"context_size": context})


# The packaged context.


def test_estimate_and_export_take_the_packaged_context(cli: CommandLine, weights: bytes) -> None:
    put(cli.store, packaged(weights), "ai/small:1")
    found = json.loads(cli("estimate", "ai/small:1", "--json").stdout)
    assert (found["context"], found["context_source"], found["trained_context"]) == (
        PACKAGED,
        "packaged",
        TRAINED,
    )
    assert found["notes"] == ["the artifact sets a context of 1024"]
    exported = json.loads(cli(*EXPORT, "ai/small:1", "--json").stdout)
    assert exported["context"] == PACKAGED
    assert exported["memory_bytes"] == found["bytes"]["total"]


def test_a_packaged_context_beyond_the_usual_one_is_exported(
    cli: CommandLine, tmp_path: Path
) -> None:
    long = tiny_gguf(tmp_path / "long.gguf", context_length=131072).read_bytes()
    put(cli.store, packaged(long, 16384), "ai/long:1")
    put(cli.store, packaged(long, 131072), "ai/longer:1")
    exported = [
        json.loads(cli(*EXPORT, name, "--json").stdout)["context"]
        for name in ("ai/long:1", "ai/longer:1")
    ]
    assert exported == [16384, 8192]


def test_a_model_in_a_registry_is_estimated_for_its_packaged_context(
    cli: CommandLine, registry: Registry, weights: bytes
) -> None:
    registry.add(packaged(weights), "team/small", ["1"])
    name = registry.reference("team/small:1")
    for source in ("auto", "config"):
        found = json.loads(cli("estimate", name, "--source", source, "--json").stdout)
        assert (found["context"], found["context_source"]) == (PACKAGED, "packaged")
    exported = json.loads(cli(*EXPORT, name, "--json").stdout)
    assert exported["context"] == PACKAGED


def test_a_requested_context_beats_the_packaged_one(cli: CommandLine, weights: bytes) -> None:
    put(cli.store, packaged(weights), "ai/small:1")
    found = json.loads(cli("estimate", "ai/small:1", "--context", "2048", "--json").stdout)
    assert (found["context"], found["context_source"], found["notes"]) == (2048, "requested", [])


def test_an_estimate_is_for_the_context_that_will_run(cli: CommandLine, weights: bytes) -> None:
    put(cli.store, packaged(weights), "ai/small:1")
    found = json.loads(cli("estimate", "ai/small:1", "--context", "300", "--json").stdout)
    assert found["context"] == 512
    assert found["notes"] == ["context rounded up to 512: llama.cpp runs multiples of 256"]


@pytest.mark.model
def test_run_takes_the_packaged_context_unless_another_is_configured(
    models: CommandLine, smollm2_gguf: Path
) -> None:
    put(models.store, packaged(smollm2_gguf.read_bytes()), "ai/small:1")
    question = ("run", "ai/small:1", "hi", "--max-tokens", "1")
    done = models(*question)
    assert "; context 1024 of 8192, as packaged, " in done.stderr
    assert json.loads(models(*question, "--json", "-q").stdout)["context"] == PACKAGED
    models("configure", "ai/small:1", "--context", "2048")
    assert json.loads(models(*question, "--json", "-q").stdout)["context"] == 2048
    asked = models(*question, "--context", "300", "--json", "-q")
    assert json.loads(asked.stdout)["context"] == 512


# Adapters.


def adapter_for(weights: Path, folder: Path) -> bytes:
    """A LoRA that changes every answer of a model: large values on one of its matrices."""
    import gguf
    import numpy as np

    header = read_header(weights)
    matrix = next(each for each in header.tensors if each.name == "blk.0.ffn_down.weight")
    wide, high = matrix.shape
    path = folder / "lora.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    writer.add_tensor(f"{matrix.name}.lora_a", np.full((4, wide), 3, np.float32))
    values = np.arange(high * 4, dtype=np.float32).reshape(high, 4) % 7 - 3
    writer.add_tensor(f"{matrix.name}.lora_b", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture
def adapter(tiny_models: Mapping[str, Path | list[Path]], tmp_path: Path) -> bytes:
    llama = tiny_models["llama"]
    assert isinstance(llama, Path)
    return adapter_for(llama, tmp_path)


@pytest.mark.model
def test_an_adapter_in_the_artifact_is_applied(
    models: CommandLine, tiny_models: Mapping[str, Path | list[Path]], adapter: bytes
) -> None:
    weights = tiny_models["llama"].read_bytes()
    put(models.store, docker_artifact(weights), "ai/plain:1")
    put(models.store, docker_artifact(weights, adapter=adapter), "ai/styled:1")
    question = ("hi", "--max-tokens", "8")
    plain, styled = (models("run", f"ai/{name}:1", *question) for name in ("plain", "styled"))
    assert (plain.returncode, styled.returncode) == (0, 0), styled.stderr
    assert plain.stdout.startswith("Hello! I am")
    assert styled.stdout != plain.stdout
    assert "1 adapter applied" in styled.stderr
    assert "adapter" not in plain.stderr
    home = models.home.rename(models.home.with_name("größe"))
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    moved = replace(models, home=home, environ={**models.environ, "MODELRUNNER_HOME": str(home)})
    again = moved("run", "ai/styled:1", *question, **ascii_only)
    assert (again.returncode, again.stdout) == (0, styled.stdout), again.stderr


def test_an_adapter_counts_in_the_estimate_and_is_exported(
    cli: CommandLine, weights: bytes, adapter: bytes
) -> None:
    put(cli.store, docker_artifact(weights), "ai/plain:1")
    put(cli.store, docker_artifact(weights, adapter=adapter), "ai/styled:1")
    plain, styled = (
        json.loads(cli("estimate", f"ai/{name}:1", "--json").stdout) for name in ("plain", "styled")
    )
    assert styled["bytes"]["weights"] == plain["bytes"]["weights"] + len(adapter)
    assert f"weights include an adapter (LoRA) of {format_size(len(adapter))}" in styled["notes"]
    assert "--lora" in cli(*EXPORT, "ai/styled:1").stdout
    assert "--lora" not in cli(*EXPORT, "ai/plain:1").stdout


def test_an_adapter_alone_is_delivered_and_not_run(
    cli: CommandLine, registry: Registry, adapter: bytes, tmp_path: Path
) -> None:
    registry.add(docker_artifact(adapter, filenames=["style.gguf"]), "team/lora", ["1"])
    name = registry.reference("team/lora:1")
    done = cli("run", name, "hi", "--json")
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert (done.returncode, error["message"]) == (10, f"{name} is an adapter, not a model")
    assert cli("pull", name).returncode == 0
    assert Path(cli("path", name).stdout.strip()).read_bytes() == adapter
    assert cli("run", name, "hi").returncode == 10
    (tmp_path / "style.gguf").write_bytes(adapter)
    file = str(tmp_path / "style.gguf")
    for command in (["package", file, "mine"], ["import", file]):
        done = cli(*command)
        assert done.returncode == 10, command
        assert "style.gguf is an adapter, not a model\n" in done.stderr


def test_an_adapter_that_is_in_the_store_as_a_model_is_not_run(
    cli: CommandLine, adapter: bytes
) -> None:
    put(cli.store, docker_artifact(adapter), "ai/lora:1")
    done = cli("run", "ai/lora:1", "hi")
    assert done.returncode == 10
    assert done.stderr.splitlines()[0] == "error: ai/lora:1 is an adapter, not a model"


# What the layers contain.


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"nothing that anybody knows", ""),
        (bytes(100), " but empty or zeros"),
        (b"PK\x03\x04" + bytes(100), " but a zip archive"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"a": 1}' + bytes(100), " but a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", " but a Git LFS pointer"),
    ],
)
@pytest.mark.parametrize("family", ["docker", "modelpack"])
def test_weights_that_are_not_gguf_are_refused_at_pull(
    cli: CommandLine, registry: Registry, content: bytes, what: str, family: str
) -> None:
    made = docker_artifact if family == "docker" else modelpack_artifact
    registry.add(made(content, filenames=["model.gguf"]), "team/bad", ["1"])
    name = registry.reference("team/bad:1")
    for _ in range(2):
        done = cli("pull", name)
        assert done.returncode == 6
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert errors == [f"error: {name}: model.gguf is not a GGUF file{what}"]
        assert cli("list", "-q").stdout == ""


def test_a_projector_that_is_not_gguf_is_refused_at_pull(
    cli: CommandLine, registry: Registry, weights: bytes
) -> None:
    registry.add(docker_artifact(weights, mmproj=b"no projector"), "team/bad", ["1"])
    done = cli("pull", registry.reference("team/bad:1"))
    assert done.returncode == 6
    assert "mmproj-model-f16.gguf is not a GGUF file\n" in done.stderr


@pytest.mark.parametrize("kind", ["mmproj", "gguf.v3.lora"])
def test_a_second_projector_or_adapter_is_refused_before_a_blob_moves(
    cli: CommandLine, registry: Registry, weights: bytes, kind: str
) -> None:
    more = [Layer(f"{DOCKER_AI}.{kind}", f"GGUF{n}".encode(), f"{n}.gguf") for n in (1, 2)]
    registry.add(docker_artifact(weights, more=more), "team/two", ["1"])
    done = cli("pull", registry.reference("team/two:1"))
    assert done.returncode == 10
    role = "projector" if kind == "mmproj" else "adapter"
    assert f"error: ambiguous artifact: it has 2 {role}s: 1.gguf, 2.gguf\n" in done.stderr
    assert registry.count("GET", "blob") == 0


def test_one_file_may_be_license_and_template_at_once(cli: CommandLine, weights: bytes) -> None:
    text = b"{{ messages }}"
    both = [
        Layer(f"{DOCKER_AI}.license", text, "chat.txt"),
        Layer(f"{DOCKER_AI}.chat.template.jinja", text, "chat.txt"),
    ]
    for at, more in enumerate((both, both[::-1])):
        model = put(cli.store, docker_artifact(weights, more=more), f"ai/both:{at}")
        assert model.artifact.template is not None
        assert len(model.artifact.licenses) == 1
        template = model.view() / str(model.artifact.template.path)
        assert template.read_bytes() == text
        assert "--chat-template-file" in cli(*EXPORT, f"ai/both:{at}").stdout


# What people package.


def test_a_context_size_that_modelpack_cannot_carry_is_a_usage_error(
    cli: CommandLine, weights: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(weights)
    done = cli("package", str(file), "mine", "--format", "modelpack", "--context-size", "1024")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        (
            "error: --context-size is not supported by the ModelPack format\nhint: use "
            "--format docker, or leave out --context-size\n"
        ),
    )
    assert cli("list", "-q").stdout == ""


@pytest.mark.parametrize("family", ["docker", "modelpack"])
def test_layers_have_the_title_that_other_tools_write_files_by(
    cli: CommandLine, weights: bytes, tmp_path: Path, family: str
) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(weights)
    done = cli("package", str(file), "mine", "--format", family)
    assert done.returncode == 0, done.stderr
    (layer,) = cli.store.resolve("mine").manifest.layers
    assert layer.annotations["org.opencontainers.image.title"] == "model.gguf"
    assert layer.annotations["org.cncf.model.filepath"] == "model.gguf"


@pytest.mark.parametrize("family", ["docker", "modelpack"])
def test_everything_else_that_is_given_is_carried(
    cli: CommandLine, weights: bytes, tmp_path: Path, family: str
) -> None:
    (tmp_path / "other").mkdir()
    model, template = tmp_path / "weights.bin", tmp_path / "words.txt"
    model.write_bytes(weights)
    template.write_text("{{ messages }}")
    eye = tiny_gguf(tmp_path / "eye.bin", architecture="clip", metadata={"general.type": "mmproj"})
    licenses = [tmp_path / "TERMS", tmp_path / "other" / "TERMS"]
    for at, path in enumerate(licenses):
        path.write_text(f"terms {at}")
    done = cli(
        *("package", str(model), "mine", "--format", family, "--chat-template", str(template)),
        *("--mmproj", str(eye), "--license", str(licenses[0]), "--license", str(licenses[1])),
    )
    assert done.returncode == 0, done.stderr
    artifact = cli.store.resolve("mine").artifact
    assert [layer.descriptor.size for layer in artifact.weights] == [len(weights)]
    assert artifact.template is not None
    assert artifact.projector is not None
    assert len({layer.descriptor.digest for layer in artifact.licenses}) == 2


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("x.dduf", b"PK\x03\x04" + bytes(40), "DDUF"),
        ("x.safetensors", b"\x08\0\0\0\0\0\0\0{}      ", "safetensors"),
        ("renamed.gguf", b"\x08\0\0\0\0\0\0\0{}      ", "safetensors"),
        ("x.onnx", b"\x08\x07\x12\x07pytorch", "ONNX"),
    ],
)
def test_weights_of_another_format_are_unsupported_wherever_a_file_is_given(
    cli: CommandLine, tmp_path: Path, name: str, content: bytes, format_: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    commands = [["import", str(file)], ["estimate", str(file)]]
    if file.suffix == ".gguf":
        # others are packaged, to be run by other programs
        commands.append(["package", str(file), "mine"])
    for command in commands:
        done = cli(*command)
        assert done.returncode == 10, command
        assert done.stderr.splitlines()[0] == (
            f"error: {file}: the weights are {format_}, which llama.cpp does not read"
        )


def test_settings_for_a_model_that_is_not_here_are_kept_with_a_warning(
    cli: CommandLine, weights: bytes
) -> None:
    put(cli.store, docker_artifact(weights), "ai/smallest:1")
    done = cli("configure", "other:1", "--context", "512")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "context=512\n",
        "warning: ai/other:1 is not in the local store; settings saved anyway\n",
    )
    assert cli("configure", "ai/smallest:1", "--context", "512").stderr == ""
    assert cli("configure", "other:1", "--unset", "context").stderr == (
        "no settings saved for ai/other:1\n"
    )


# What a model is for.


@pytest.mark.parametrize("source", ["config", "header"])
@pytest.mark.parametrize(
    ("architecture", "pooling", "what"),
    [
        ("bert", None, "an embedding model: it cannot chat"),
        ("llama", 3, "an embedding model: it cannot chat"),
        ("llama", 4, "a reranking model: it cannot chat"),
    ],
)
def test_a_model_that_does_not_chat_is_not_downloaded_to_say_so(
    cli: CommandLine,
    registry: Registry,
    tmp_path: Path,
    architecture: str,
    pooling: int | None,
    what: str,
    source: str,
) -> None:
    keys = {} if pooling is None else {f"{architecture}.pooling_type": pooling}
    file = tiny_gguf(tmp_path / "v.gguf", architecture=architecture, metadata=keys)
    weights = file.read_bytes() + bytes(4 * 1024 * 1024)
    told = {"general.architecture": architecture} | {key: str(keys[key]) for key in keys}
    if source == "config":
        made = docker_artifact(weights, config={"architecture": architecture, "gguf": told})
    else:
        made = modelpack_artifact(weights, config={"architecture": architecture})
    registry.add(made, "team/vectors", ["1"])
    name = registry.reference("team/vectors:1")
    for command in (["run", name, "hi"], ["bench", name]):
        done = cli(*command)
        assert done.returncode == 10, done.stderr
        assert f"error: {name} is {what}\n" in done.stderr
        assert cli("list", "-q").stdout == ""
    assert registry.bytes_sent() < len(weights) / 2
