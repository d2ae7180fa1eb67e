"""Directories and files of other formats than GGUF as artifacts, and back."""

import json
import os
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf
from tests.support.model_directories import CONFIG, ONE, SHARDS, safetensors, write
from tests.support.registry import Registry, sha256

HIDDEN = {
    ".git/config": b"[core]",
    ".cache/huggingface/x": b"",
    "__pycache__/a.pyc": b"",
    ".gitattributes": b"*",
}
DOCKER = "application/vnd.docker.ai"
MODELPACK = "application/vnd.cncf.model"


def manifest_of(registry: Registry, name: str) -> dict[str, object]:
    repository, _, tag = name.partition(":")
    return json.loads(registry.manifest_bytes(repository, tag))


def types_of(manifest: dict[str, object]) -> list[tuple[str, str]]:
    return [
        (layer["annotations"]["org.cncf.model.filepath"], layer["mediaType"].rpartition(".ai.")[2])
        for layer in manifest["layers"]
    ]


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "SHA256SUMS"
    }


def test_a_directory_comes_back_as_it_was(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    folder = write(tmp_path / "model", {**SHARDS, **HIDDEN})
    name = registry.reference("team/model:1")
    done = cli("package", str(folder), name, "--push", "--json", SOURCE_DATE_EPOCH="0")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    manifest = manifest_of(registry, "team/model:1")
    assert manifest["config"]["mediaType"] == f"{DOCKER}.model.config.v0.2+json"
    assert types_of(manifest) == [
        ("LICENSE", "license"),
        ("README.md", "model.file"),
        ("chat_template.jinja", "chat.template.jinja"),
        ("config.json", "model.file"),
        ("model-00001-of-00002.safetensors", "safetensors"),
        ("model-00002-of-00002.safetensors", "safetensors"),
        ("model.safetensors.index.json", "model.file"),
        ("modeling_own.py", "model.file"),
        ("onnx/model.onnx", "model.file"),
        ("tokenizer.json", "model.file"),
    ]
    config = json.loads(registry.blob_bytes("team/model", manifest["config"]["digest"]))
    sizes = sum(len(content) for path, content in SHARDS.items() if path.endswith(".safetensors"))
    assert config["config"] == {
        "format": "safetensors",
        "quantization": "BF16",
        "parameters": "168.00",
        "architecture": "llama",
        "size": f"{sizes}.00B" if sizes < 1000 else f"{sizes / 1000:.2f}kB",
        "safetensors": {"format": "pt", "tensor_count": "2"},
        "context_size": 2048,
    }
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    # the same everywhere, whatever the times and modes of its files
    elsewhere = write(tmp_path / "elsewhere", SHARDS)
    os.utime(elsewhere / "config.json", (0, 0))
    (elsewhere / "config.json").chmod(0o600)
    again = cli("package", str(elsewhere), "local/m:1", "--json", SOURCE_DATE_EPOCH="0")
    assert json.loads(again.stdout)["digest"] == made["digest"]
    assert cli("rm", "--all", "--yes").returncode == 0
    assert cli("pull", name, "--output", str(tmp_path / "out")).returncode == 0
    assert files_in(tmp_path / "out") == SHARDS
    assert cli("verify", "--deep").returncode == 0


def test_what_is_left_out_is_said(cli: CommandLine, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {**ONE, **HIDDEN, "sub/.hidden": b""})
    done = cli("package", str(folder), "local/model:1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "left out: .cache, .git, .gitattributes, __pycache__, sub/.hidden\n"


def test_modelpack_tells_weights_settings_texts_and_code_apart(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    folder = write(tmp_path / "model", SHARDS)
    name = registry.reference("team/model:1")
    done = cli("package", str(folder), name, "--format", "modelpack", "--push")
    assert done.returncode == 0, done.stderr
    manifest = manifest_of(registry, "team/model:1")
    assert manifest["artifactType"] == f"{MODELPACK}.manifest.v1+json"
    assert {
        layer["annotations"]["org.cncf.model.filepath"]: layer["mediaType"].removeprefix(
            f"{MODELPACK}."
        )
        for layer in manifest["layers"]
    } == {
        "LICENSE": "doc.v1.raw",
        "README.md": "doc.v1.raw",
        "chat_template.jinja": "weight.config.v1.raw",
        "config.json": "weight.config.v1.raw",
        "model-00001-of-00002.safetensors": "weight.v1.raw",
        "model-00002-of-00002.safetensors": "weight.v1.raw",
        "model.safetensors.index.json": "weight.config.v1.raw",
        "modeling_own.py": "code.v1.raw",
        "onnx/model.onnx": "weight.v1.raw",
        "tokenizer.json": "weight.config.v1.raw",
    }
    config = json.loads(registry.blob_bytes("team/model", manifest["config"]["digest"]))
    assert config["config"] == {
        "architecture": "llama",
        "format": "safetensors",
        "paramSize": "168.00",
        "quantization": "BF16",
    }


def test_licenses_a_template_and_a_context_go_in_beside_it(
    cli: CommandLine, tmp_path: Path
) -> None:
    folder = write(tmp_path / "model", ONE)
    license_, template = tmp_path / "own.txt", tmp_path / "own.jinja"
    license_.write_text("be very kind")
    template.write_text("{{ own }}")
    done = cli(
        *("package", str(folder), "local/model:1", "--license", str(license_)),
        *("--chat-template", str(template), "--context-size", "512", "--temperature", "0.5"),
    )
    assert done.returncode == 0, done.stderr
    found = files_in(Path(cli("path", "local/model:1").stdout.strip()))
    assert found["chat_template.jinja"] == b"{{ own }}"
    assert found["LICENSE-own.txt"] == b"be very kind"
    shown = json.loads(cli("inspect", "local/model:1").stdout)
    assert (shown["format"], shown["context_length"]) == ("safetensors", 512)
    # another one of it, with its weights where they are
    derived = cli("package", "--from", "local/model:1", "local/other:1", "--context-size", "1024")
    assert derived.returncode == 0, derived.stderr
    other = json.loads(cli("inspect", "local/other:1").stdout)
    assert other["config_media_type"] == f"{DOCKER}.model.config.v0.2+json"
    assert other["context_length"] == 1024


@pytest.mark.parametrize(
    ("files", "form"),
    [
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": safetensors({"a": (4,)})},
         "adapter"),
        ({"config.json": b"{}", "model.onnx": b"onnx", "model.onnx_data": b"data"}, "onnx"),
        ({"config.json": b"{}", "pytorch_model.bin": b"pickle"}, "pytorch"),
        ({"image.dduf": b"PK\x03\x04"}, "dduf"),
        ({"config.json": b"{}", "weights.npz": b"PK\x03\x04"}, "mlx"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("family", ["docker", "modelpack"])
def test_every_format_is_packaged_and_delivered(
    cli: CommandLine, tmp_path: Path, files: dict[str, bytes], form: str, family: str
) -> None:
    folder = write(tmp_path / "model", files)
    done = cli("package", str(folder), "local/model:1", "--format", family)
    assert done.returncode == 0, done.stderr
    assert json.loads(cli("inspect", "local/model:1").stdout)["format"] == form
    path = Path(cli("path", "local/model:1").stdout.strip())
    assert files_in(path if path.is_dir() else path.parent) == files


def test_a_directory_of_gguf_has_the_facts_of_its_header(cli: CommandLine, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", {"LICENSE": b"be kind", "params": b'{"temperature": 0.5}'})
    tiny_gguf(folder / "tiny.gguf", context_length=8192)
    done = cli("package", str(folder), "local/model:1")
    assert done.returncode == 0, done.stderr
    shown = json.loads(cli("inspect", "local/model:1").stdout)
    assert (shown["format"], shown["architecture"]) == ("gguf", "llama")
    assert shown["context_length"] == 8192
    assert Path(cli("path", "local/model:1").stdout.strip()).name == "tiny.gguf"
    tiny_gguf(folder / "other.gguf", seed=2)
    several = cli("package", str(folder), "local/model:2")
    assert several.returncode == 10
    assert "several models" in several.stderr or "ambiguous artifact" in several.stderr


def test_a_single_file_of_another_format_is_packaged(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(ONE["model.safetensors"])
    done = cli("package", str(file), "local/model:1", "--json")
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["path"]).read_bytes() == ONE["model.safetensors"]


def test_links_lead_nowhere_else(cli: CommandLine, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    folder = write(tmp_path / "model", ONE)
    (folder / "copy.json").symlink_to("config.json")
    done = cli("package", str(folder), "local/model:1")
    assert done.returncode == 0, done.stderr
    found = files_in(Path(cli("path", "local/model:1").stdout.strip()))
    assert json.loads(found["copy.json"]) == CONFIG
    (folder / "leak.json").symlink_to(secret)
    leak = cli("package", str(folder), "local/leak:1")
    assert leak.returncode == 2
    assert leak.stderr == (
        f"error: {folder}/leak.json is a symbolic link that leads out of the directory\n"
        "hint: package a copy with the files themselves: `cp -rL DIR COPY`\n"
    )
    (folder / "leak.json").unlink()
    (folder / "loop").symlink_to(folder)
    assert cli("package", str(folder), "local/leak:1").returncode == 2
    (folder / "loop").unlink()
    os.mkfifo(folder / "fifo")
    assert cli("package", str(folder), "local/leak:1").returncode == 2


@pytest.mark.parametrize(
    ("files", "code", "message"),
    [
        ({"config.json": b"{}"}, 2, "error: no weights found in "),
        ({}, 2, "error: no weights found in "),
        ({"model.safetensors": b"version https://git-lfs"}, 6,
         "error: model.safetensors is not a valid safetensors file\n"),
        ({"model.safetensors": b"\xff" * 64}, 6,
         "error: model.safetensors is not a valid safetensors file\n"),
        ({"model.gguf": b"nonsense"}, 6, "error: "),
    ],
)  # fmt: skip
def test_what_is_not_a_model_is_refused(
    cli: CommandLine, tmp_path: Path, files: dict[str, bytes], code: int, message: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder, files)
    done = cli("package", str(folder), "local/model:1")
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(message)
    assert "hint: " in done.stderr
    assert json.loads(cli("list", "--json").stdout) == []


def test_a_name_that_no_file_may_have_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", ONE)
    (folder / "a\x1b[2Jb.json").write_bytes(b"{}")
    done = cli("package", str(folder), "local/model:1")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "a file of a package cannot have this name" in done.stderr


def test_digests_are_of_the_files(cli: CommandLine, tmp_path: Path) -> None:
    folder = write(tmp_path / "model", ONE)
    assert cli("package", str(folder), "local/model:1", "--link").returncode == 0
    shown = json.loads(cli("inspect", "local/model:1").stdout)
    assert {layer["path"]: layer["digest"] for layer in shown["layers"]} == {
        name: sha256(content) for name, content in ONE.items()
    }
