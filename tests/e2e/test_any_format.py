"""Models of every format go through every command; only a run refuses what it cannot read."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import (
    DOCKER_AI,
    Artifact,
    Layer,
    dduf_artifact,
    docker_artifact,
    modelpack_artifact,
    ollama_artifact,
    plain_artifact,
    safetensors_artifact,
    tar_of,
)
from tests.support.ollama_registry import OllamaRegistry
from tests.support.registry import Cdn, Registry
from tests.support.safetensors import TINY, config_json, safetensors_file
from tests.support.stores import put

SAFETENSORS = b"\x02\0\0\0\0\0\0\0{}"
CONFIG = b'{"architectures":["LlamaForCausalLM"]}'
SHARDS = {
    "config.json": CONFIG,
    "model-00001-of-00002.safetensors": SAFETENSORS,
    "model-00002-of-00002.safetensors": SAFETENSORS + b" ",
    "tokenizer/tokenizer.json": b"{}",
}
VLLM = (
    "run it with vLLM or SGLang, or convert it: `modelrunner package --from @NAME@ NAME --to-gguf`"
)
FORMATS: dict[str, tuple[Artifact, str, str, str | None, str]] = {
    "Docker, safetensors": (
        safetensors_artifact(SHARDS),
        "docker",
        "safetensors",
        None,
        f"@NAME@: these weights are safetensors, which llama.cpp does not read\nhint: {VLLM}",
    ),
    "ModelPack, safetensors": (
        modelpack_artifact(
            [SAFETENSORS],
            filenames=["model.safetensors"],
            extra_files={"config.json": CONFIG},
            config={"format": "safetensors"},
        ),
        "modelpack",
        "safetensors",
        None,
        f"@NAME@: these weights are safetensors, which llama.cpp does not read\nhint: {VLLM}",
    ),
    "DDUF": (
        dduf_artifact(),
        "docker",
        "diffusers",
        "model.dduf",
        "this is a DDUF file, an image-generation model\nhint: run it with the diffusers library",
    ),
    "plain ONNX": (
        plain_artifact(b"onnx", "m.onnx", {"vocab.txt": b"a"}),
        "files",
        "onnx",
        "m.onnx",
        "the weights are ONNX, which llama.cpp does not read\nhint: run them with onnxruntime",
    ),
    "an adapter": (
        plain_artifact(SAFETENSORS, "adapter_model.safetensors", {"adapter_config.json": b"{}"}),
        "files",
        "adapter",
        None,
        (
            "this is an adapter (LoRA), not a model\nhint: use it with its base model: "
            "`vllm serve BASE --enable-lora --lora-modules NAME=DIR`"
        ),
    ),
    "two models": (
        plain_artifact(b"GGUF 1", "a.gguf", {"b.gguf": b"GGUF 2"}),
        "files",
        "gguf",
        None,
        (
            "ambiguous artifact: it has 2 models: a.gguf, b.gguf\nhint: place its files with "
            "`modelrunner pull @NAME@ --output DIR`, then run the one that you want: "
            "`modelrunner run DIR/FILE.gguf`"
        ),
    ),
}


@pytest.mark.parametrize(
    ("artifact", "family", "form", "main", "error"), FORMATS.values(), ids=FORMATS
)
def test_a_model_of_any_format_is_delivered_and_a_run_says_what_runs_it(
    cli: CommandLine,
    registry: Registry,
    project: Path,
    artifact: Artifact,
    family: str,
    form: str,
    main: str | None,
    error: str,
) -> None:
    registry.add(artifact, "team/any", ["1"])
    name = registry.reference("team/any:1")
    # what vLLM runs is estimated for it
    estimated = [["export", "compose", name]] if form == "safetensors" else [["estimate", name]]
    for command in (["run", name, "hi"], ["serve", name, "--port", "0"], *estimated):
        done = cli(*command)
        assert done.returncode == 10, (command, done.stderr)
        assert done.stderr.endswith(f"error: {error.replace('@NAME@', name)}\n"), done.stderr
    assert cli("list", "-q").stdout == ""

    assert cli("pull", name).returncode == 0
    assert cli("pull", name, "--json").stdout.count('"up-to-date"') == 1
    (row,) = json.loads(cli("list", "--json").stdout)
    view = cli.home / f"store/v1/views/{artifact.digest.removeprefix('sha256:')}"
    given = view if main is None else view / main
    assert (row["family"], row["format"], row["path"]) == (family, form, str(given))
    assert cli("path", name).stdout == f"{given}\n"
    shown = json.loads(cli("inspect", name).stdout)
    assert (shown["format"], shown["gguf"], shown["blobs_good"]) == (form, None, True)
    assert f"{shown['not_runnable']['message']}\nhint: {shown['not_runnable']['hint']}" == (
        error.replace("@NAME@", name)
    )
    remote = json.loads(cli("inspect", name, "--remote").stdout)
    assert (remote["format"], remote["not_runnable"]) == (form, shown["not_runnable"])
    for command in (
        ["run", name, "hi"],
        ["serve", name],
        ["launch", "aider", "--model", name, "--print"],
    ):
        done = cli(*command)
        assert done.returncode == 10, (command, done.stderr)
        assert done.stderr.endswith(f"error: {error.replace('@NAME@', name)}\n"), done.stderr
    assert cli("verify", "--deep").returncode == 0

    files = _files(view)
    assert files
    (project / "modelrunner.toml").write_text(f'[models]\nany = "{name}"\n')
    assert cli("lock").returncode == 0
    assert f'format = "{family}"' in (project / "modelrunner.lock").read_text()
    assert cli("lock", "--check").returncode == 0
    done = cli("pull", "--locked", "--output", "placed")
    assert done.returncode == 0, done.stderr
    placed = _files(project / "placed/any")
    assert placed.pop("SHA256SUMS")
    assert placed == files

    copied = registry.reference("team/copy:2")
    assert cli("tag", name, copied).returncode == 0
    assert cli("push", copied).returncode == 0
    assert cli("save", name, "-o", "all.tar").returncode == 0
    assert cli("rm", name, copied).returncode == 0
    assert cli("load", "all.tar").returncode == 0
    assert _files(view) == {} or _files(view) == files
    assert cli("path", name).returncode == 0
    assert _files(view) == files
    assert cli("rm", name).returncode == 0
    assert cli("pull", copied).returncode == 0
    assert json.loads(cli("list", "--json").stdout)[0]["id"] == artifact.digest


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# GGUF in artifacts of others.


@pytest.fixture
def weights(tiny: Artifact) -> bytes:
    """A GGUF file that is a model."""
    return tiny.layers[0]


def test_a_plain_gguf_is_a_model_without_a_config(
    cli: CommandLine, registry: Registry, weights: bytes
) -> None:
    for tag, artifact in {
        "docker": docker_artifact(weights, config={"context_size": None}),
        "plain": plain_artifact(weights, "tiny.gguf", {"README.md": b"# Tiny"}),
        "tar": plain_artifact(
            weights, "tiny.gguf", media_type="application/vnd.oci.image.layer.v1.tar"
        ),
    }.items():
        registry.add(artifact, "team/tiny", [tag])
        name = registry.reference(f"team/tiny:{tag}")
        remote = json.loads(cli("estimate", name, "--json", "--budget", "1GiB").stdout)
        assert cli("pull", name).returncode == 0
        local = json.loads(cli("estimate", name, "--json", "--budget", "1GiB").stdout)
        assert (local["source"], local["fit"]["verdict"]) == ("header", "fits")
        assert local["bytes"] == remote["bytes"]
    rows = {row["references"][0].rpartition(":")[2]: row for row in _rows(cli)}
    facts = ("architecture", "format", "context_length")
    assert [[rows[tag][key] for key in facts] for tag in ("plain", "tar")] == [
        ["llama", "gguf", 2048]
    ] * 2
    assert rows["plain"]["family"] == "files"
    assert rows["plain"]["parameters"] is not None


def _rows(cli: CommandLine) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(cli("list", "--json").stdout)
    return found


def test_weights_that_are_something_else_are_refused_at_the_pull(
    cli: CommandLine, registry: Registry
) -> None:
    pointer = b"version https://git-lfs"
    for tag, file, said in (
        ("1", "m.gguf", "m.gguf is not a GGUF file but a Git LFS pointer"),
        ("2", "m.safetensors", "m.safetensors is a Git LFS pointer, not weights"),
    ):
        registry.add(plain_artifact(pointer, file), "team/bad", [tag])
        done = cli("pull", registry.reference(f"team/bad:{tag}"))
        assert (done.returncode, cli("list", "-q").stdout) == (6, "")
        assert f"{said}\n" in done.stderr


def test_ollamas_parameters_and_system_prompt_are_packaged_settings(
    cli: CommandLine, registry: Registry, weights: bytes
) -> None:
    params = {"num_ctx": 512, "temperature": 0.25, "stop": ["<|end|>"], "num_gpu": 3}
    made = ollama_artifact(weights, params=params, system="Be brief.")
    registry.add(made, "library/tiny", ["1b"])
    name = registry.reference("library/tiny:1b")
    done = cli("pull", name)
    assert done.returncode == 0, done.stderr
    shown = json.loads(cli("inspect", name).stdout)
    assert (shown["family"], shown["packaged"], shown["packaged_ignored"]) == (
        "ollama",
        {"context": 512, "temperature": 0.25, "system": "Be brief."},
        [],
    )
    remote = json.loads(cli("inspect", name, "--remote").stdout)
    assert remote["packaged"] == shown["packaged"]
    assert (shown["parameters"], shown["quantization"]) == ("1.2B", "Q8_0")
    for more in ([], ["--source", "config"]):
        found = json.loads(cli("estimate", name, "--json", *more).stdout)
        assert found["context"] == 512


def test_a_model_of_ollamas_registry_is_locked_and_pulled_by_its_lock(
    cli: CommandLine, weights: bytes, project: Path, tmp_path: Path
) -> None:
    away = CommandLine(tmp_path / "b", {**cli.environ, "MODELRUNNER_HOME": str(tmp_path / "b")})
    with Cdn(host="localhost") as cdn, OllamaRegistry(cdn) as registry:
        registry.add(ollama_artifact(weights), "library/tiny", ["1b"])
        name = registry.reference("library/tiny:1b")
        (project / "modelrunner.toml").write_text(f'[models]\ntiny = "{name}"\n')
        done = cli("lock")
        assert done.returncode == 0, done.stderr
        for home in (cli, away):
            done = home("pull", "--locked")
            assert done.returncode == 0, done.stderr
        assert cli("outdated").returncode == 0
        assert cli("inspect", name, "--remote").returncode == 0
        estimated = json.loads(cli("estimate", name, "--json").stdout)
        done = cli("tags", name)
        assert (done.returncode, done.stdout) == (3, "")
    assert estimated["source"] == "header"
    assert away("verify", "--deep").returncode == 0


def test_weights_in_an_archive_are_placed_out_of_it(
    cli: CommandLine, registry: Registry, project: Path, weights: bytes
) -> None:
    made = modelpack_artifact(weights, compressed=True)
    registry.add(made, "team/packed", ["1"])
    name = registry.reference("team/packed:1")
    assert cli("pull", name, "--output", "out").returncode == 0
    assert (project / "out/model.gguf").resolve().read_bytes() == weights
    here, away = (
        json.loads(cli("estimate", name, "--json", "--budget", "8GiB", **environ).stdout)["bytes"]
        for environ in ({}, {"MODELRUNNER_HOME": str(project / "other")})
    )
    # its header is read through the archive
    assert away == here


def test_a_list_has_a_column_of_formats_where_they_differ(cli: CommandLine, tiny: Artifact) -> None:
    put(cli.store, tiny, "ai/tiny:1")
    assert "FORMAT" not in cli("list").stdout
    put(cli.store, plain_artifact(b"onnx", "m.onnx"), "ai/onnx:1")
    heading, onnx, gguf = cli("list").stdout.splitlines()
    assert heading.endswith("  SIZE       FORMAT")
    assert (onnx.split(), gguf.split()[-1]) == (
        ["ai/onnx:1", "a541cf1d4930", "6", "B", "onnx"],
        "gguf",
    )


def test_a_pull_shows_no_settings_of_what_cannot_be_run(
    cli: CommandLine, registry: Registry
) -> None:
    settings = {"system": "Be brief."}
    made = safetensors_artifact(config={"context_size": 4096, "settings": settings})
    registry.add(made, "team/st", ["1"])
    done = cli("pull", registry.reference("team/st:1"))
    assert (done.returncode, "sets" in done.stderr) == (0, False)


def test_an_app_gets_no_model_that_cannot_be_run(cli: CommandLine) -> None:
    put(cli.store, safetensors_artifact(), "ai/other:1")
    done = cli("launch", "aider", "--print")
    assert done.returncode == 3
    assert "llama.cpp does not read its format" in done.stderr


def test_a_model_of_another_format_is_not_a_draft(cli: CommandLine, tiny: Artifact) -> None:
    put(cli.store, tiny, "ai/tiny:1")
    put(cli.store, safetensors_artifact(), "ai/other:1")
    done = cli("run", "ai/tiny:1", "hi", "--draft", "ai/other:1")
    assert (done.returncode, "safetensors" in done.stderr) == (10, True)


def test_a_directory_of_dockers_model_is_unpacked(cli: CommandLine, weights: bytes) -> None:
    tar = tar_of({"templates/chat.txt": b"text"})
    more = [Layer(f"{DOCKER_AI}.dir.tar", tar, "templates")]
    model = put(cli.store, docker_artifact(weights, more=more), "ai/m:1")
    assert (model.view() / "templates" / "chat.txt").read_bytes() == b"text"


# Safetensors: listed, inspected and estimated for vLLM.


def test_a_model_in_safetensors_is_described_and_estimated_for_vllm(
    cli: CommandLine, registry: Registry
) -> None:
    files = {"config.json": config_json(), "tokenizer.json": b"{}"}
    registry.add(plain_artifact(safetensors_file(TINY), "model.safetensors", files), "team/st", "1")
    name = registry.reference("team/st:1")
    use = ("--context", "8192", "--parallel", "2", "--json")
    remote = json.loads(cli("estimate", name, *use, "--budget", "8GiB").stdout)
    inspected = json.loads(cli("inspect", name, "--remote").stdout)
    assert cli("pull", name).returncode == 0
    local = json.loads(cli("estimate", name, *use, "--budget", "8GiB").stdout)
    # what is free differs from one moment to the next
    # what refers to it is asked of its registry, or known here
    apart = {"devices": [], "referrers": []}
    assert {**remote, **apart} == {**local, **apart}
    assert (local["source"], local["kv_type"], local["bytes"]["kv_cache"]) == (
        "config",
        "bf16",
        2 * 8192 * 32 * 1024,
    )
    assert local["bytes"]["total"] == local["bytes"]["weights"] + local["bytes"]["kv_cache"]
    assert (local["fit"]["verdict"], local["trained_context"]) == ("fits", 131072)
    facts = {
        "architecture": "LlamaForCausalLM",
        "parameters": "6.46K",
        "quantization": "BF16",
        "context_length": 131072,
    }
    for _ in range(2):
        (row,) = _rows(cli)
        assert {key: row[key] for key in facts} == facts
    assert {key: inspected[key] for key in facts} == facts
    shown = json.loads(cli("inspect", name).stdout)["safetensors"]
    assert inspected["safetensors"] == shown
    assert (shown["parameters"], shown["dtype"], shown["layers"]) == (6464, "BF16", 16)
    done = cli("estimate", name, "--context", "8192", "--budget", "100MiB")
    assert done.returncode == 7
    assert "error:" in done.stderr
    text = cli("estimate", name, "--context", "8192", "--budget", "8GiB", "--source", "config")
    assert text.stdout == (
        f"{name}: fits, needs 256.01 MiB of 8.00 GiB memory; context 8192\n"
        "WHERE     SIZE\n"
        "weights   12.80 KiB   tensors of the file\n"
        "kv cache  256.00 MiB  bf16, 8192 tokens\n"
        "total     256.01 MiB  from the config, between 256.01 MiB and 2.25 GiB\n"
        "longest context that fits: 131072 of 131072 trained\n"
        "note: for vLLM: weights and KV cache by config.json; activations and CUDA graphs are in"
        " the upper bound alone, with 2.00 GiB\n"
        "note: vLLM takes 90 % of a GPU unless --gpu-memory-utilization is set\n"
    )


def test_safetensors_that_cannot_be_understood_are_listed_all_the_same(cli: CommandLine) -> None:
    bad = plain_artifact(b"\xff" * 40, "model.safetensors", {"config.json": config_json()})
    put(cli.store, bad, "ai/bad:1")
    (row,) = _rows(cli)
    assert (row["format"], row["architecture"]) == ("safetensors", "LlamaForCausalLM")
    found = json.loads(cli("estimate", "ai/bad:1", "--json", "--budget", "8GiB").stdout)
    assert "model.safetensors is not a safetensors file, or is cut off" in found["notes"]
    assert cli("estimate", "ai/bad:1", "--source", "header").returncode == 10
