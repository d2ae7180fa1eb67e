"""`package --quantize`: with llama.cpp's own quantizer, and with ones that fail."""

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf
from tests.support.waiting import alive, wait_until

STAND_IN = """#!/bin/sh
echo "main: build = 4711 (abcdef0)"
echo "$$" > "$STAND_IN_FOLDER/pid"
for word; do case "$word" in *.tmp-*) target=$word;; esac; done
echo "[   1/   4]   token_embd.weight - [ 64, 256], type = f32, size = 1 MiB"
"""
"""The beginning of a program that behaves as llama-quantize does."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tiny_gguf(tmp_path / "tiny-F32.gguf")


class StandIn:
    """A program in place of llama-quantize, to fail as no real one can be made to."""

    def __init__(self, cli: CommandLine, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.environ = {"PATH": f"{folder}:{cli.environ['PATH']}", "TMPDIR": str(folder)}
        self._cli = cli

    def does(self, rest: str) -> None:
        script = STAND_IN.replace("$STAND_IN_FOLDER", str(self.folder)) + rest
        file = self.folder / "llama-quantize"
        file.write_text(script)
        file.chmod(0o755)

    def left(self) -> list[str]:
        """What there is of the result, and of logs."""
        ingest = self._cli.home / "store/v1/ingest"
        here = [path.name for path in self.folder.glob("modelrunner-*")]
        return [*here, *(path.name for path in ingest.iterdir() if path.name != "lock")]


@pytest.fixture
def stand_in(cli: CommandLine, tmp_path: Path) -> StandIn:
    return StandIn(cli, tmp_path / "stand-in")


def test_what_the_program_makes_is_packaged_with_its_origin(
    cli: CommandLine, stand_in: StandIn, file: Path
) -> None:
    # one that copies: what is made of the tensors is for the real ones
    stand_in.does(f'cp "{file}" "$target"\n')
    environ = {**stand_in.environ, "SOURCE_DATE_EPOCH": "0"}
    done = cli("package", str(file), "local/made:1", "--quantize", "q4_k", **environ)
    assert done.returncode == 0, done.stderr
    warning, progress = done.stderr.splitlines()
    assert warning == (
        "warning: tiny-F32.gguf is quantized already (Q4_0): quantizing it again loses more than"
        " quantizing the original weights"
    )
    assert progress.startswith("quantizing tiny-F32.gguf: ")
    shown = json.loads(cli("inspect", "local/made:1").stdout)
    digest = shown["layers"][0]["digest"]
    assert shown["layers"][0]["path"] == "tiny-Q4_K_M.gguf"
    assert shown["manifest"]["annotations"] == {
        "vnd.modelrunner.quantized.from": digest,
        "vnd.modelrunner.quantized.by": "llama-quantize 4711 (abcdef0)",
        "vnd.modelrunner.quantized.to": "Q4_K_M",
    }
    assert stand_in.left() == []
    again = cli("package", str(file), "local/again:1", "--quantize", "Q4_K_M", "--json", **environ)
    assert json.loads(again.stdout)["digest"] == shown["id"]


def test_an_importance_matrix_is_shown_to_the_program_and_noted(
    cli: CommandLine, stand_in: StandIn, file: Path, tmp_path: Path
) -> None:
    stand_in.does(f'echo "$@" > "{tmp_path}/words"\ncp "{file}" "$target"\n')
    matrix = tmp_path / "imatrix.dat"
    matrix.write_bytes(b"the older format")
    line = ("package", str(file), "local/made:1", "--quantize", "iq2_xxs")
    done = cli(*line, "--imatrix", str(matrix), **stand_in.environ)
    assert done.returncode == 0, done.stderr
    words = (tmp_path / "words").read_text().split()
    assert words[:3] == ["--allow-requantize", "--imatrix", str(matrix)]
    assert words[-2] == "IQ2_XXS"
    shown = json.loads(cli("inspect", "local/made:1").stdout)
    assert shown["manifest"]["annotations"]["vnd.modelrunner.quantized.imatrix"] == (
        f"sha256:{hashlib.sha256(b'the older format').hexdigest()}"
    )
    alone = cli(*line, **stand_in.environ)
    assert (alone.returncode, alone.stderr.splitlines()[-2:]) == (
        2,
        [
            "error: --quantize iq2_xxs needs an importance matrix",
            (
                "hint: add --imatrix FILE (llama.cpp's `llama-imatrix` makes one), or choose a"
                " larger one, such as Q2_K or IQ3_S"
            ),
        ],
    )


def test_what_is_no_importance_matrix_is_refused(
    cli: CommandLine, stand_in: StandIn, file: Path, tmp_path: Path
) -> None:
    stand_in.does(f'touch "{tmp_path}/started"\n')
    line = ("package", str(file), "local/made:1", "--quantize", "Q4_K_M", "--imatrix")
    for matrix, code, message in (
        (file, 10, "tiny-F32.gguf is a model, not an importance matrix"),
        (tmp_path / "none", 2, f"{tmp_path}/none: file not found"),
    ):
        done = cli(*line, str(matrix), **stand_in.environ)
        assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    without = cli("package", str(file), "local/made:1", "--imatrix", str(file))
    assert (without.returncode, without.stderr) == (
        2,
        "error: --imatrix needs --quantize\nhint: add --quantize TYPE\n",
    )
    assert not (tmp_path / "started").exists()


def test_a_program_that_fails_leaves_nothing(
    cli: CommandLine, stand_in: StandIn, file: Path
) -> None:
    stand_in.does(
        'echo half > "$target"\n'
        'echo "llama_model_quantize: failed to quantize: unknown model architecture: foo"\nexit 1\n'
    )
    done = cli("package", str(file), "local/made:1", "--quantize", "Q8_0", **stand_in.environ)
    assert done.returncode == 8
    assert done.stderr.endswith(
        f"error: {stand_in.folder}/llama-quantize cannot quantize tiny-F32.gguf:"
        " llama_model_quantize: failed to quantize: unknown model architecture: foo\n"
        "hint: check that there is enough memory and disk space, and that this llama.cpp knows the"
        " model: `modelrunner inspect FILE`\n"
    )
    assert stand_in.left() == []
    assert json.loads(cli("list", "--json").stdout) == []


def test_what_is_no_gguf_afterwards_gets_no_name(
    cli: CommandLine, stand_in: StandIn, file: Path
) -> None:
    stand_in.does('echo nonsense > "$target"\n')
    done = cli("package", str(file), "local/made:1", "--quantize", "Q8_0", **stand_in.environ)
    assert done.returncode == 6
    assert stand_in.left() == []
    assert json.loads(cli("list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_interruption_ends_the_program(
    cli: CommandLine, stand_in: StandIn, file: Path, number: signal.Signals, code: int
) -> None:
    fifo = stand_in.folder / "fifo"
    os.mkfifo(fifo)
    stand_in.does(f'echo half > "$target"\nexec cat "{fifo}"\n')
    with subprocess.Popen(
        cli.argv("package", str(file), "local/made:1", "--quantize", "Q8_0"),
        env={**cli.environ, **stand_in.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        ingest = cli.home / "store/v1/ingest"
        wait_until(lambda: [each for each in ingest.glob(".tmp-*") if each.stat().st_size])
        pid = int((stand_in.folder / "pid").read_text())
        process.send_signal(number)
        assert process.wait(60) == code
    wait_until(lambda: not alive(pid))
    if number is signal.SIGKILL:
        # what it has left goes with the next one
        stand_in.does(f'cp "{file}" "$target"\n')
        done = cli("package", str(file), "local/m:1", "--quantize", "Q8_0", **stand_in.environ)
        assert done.returncode == 0, done.stderr
        assert [name for name in stand_in.left() if not name.startswith("modelrunner-")] == []
    else:
        assert stand_in.left() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--quantize", "Q4"), "error: --quantize: unknown quantization 'Q4'\n"),
        (
            ("--quantize", "Q8_0", "--link"),
            "error: --link and --quantize cannot be combined\n",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is(
    cli: CommandLine, file: Path, words: tuple[str, ...], message: str
) -> None:
    done = cli("package", str(file), "local/made:1", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(message)


@pytest.mark.model
@pytest.mark.real
def test_a_real_model_is_quantized_and_answers(cli: CommandLine, smollm2_gguf: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python has the quantizer")
    done = cli("package", str(smollm2_gguf), "local/smol:q", "--quantize", "Q4_K_M", timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(
        "warning: SmolLM2-135M-Instruct.Q4_1.gguf is quantized already (Q4_1, Q8_0): quantizing"
        " it again loses more than quantizing the original weights\n"
    )
    shown = json.loads(cli("inspect", "local/smol:q").stdout)
    assert (shown["quantization"], shown["architecture"]) == ("MOSTLY_Q4_K_M", "llama")
    annotations = shown["manifest"]["annotations"]
    assert annotations["vnd.modelrunner.quantized.from"] == (
        "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    )
    assert "llama" in annotations["vnd.modelrunner.quantized.by"]
    # of a stored model, with what it brings along
    smaller = cli(
        *("package", "--from", "local/smol:q", "local/smol:small", "--quantize", "Q2_K"),
        *("--system", "Be short."),
        timeout=600,
    )
    assert smaller.returncode == 0, smaller.stderr
    small = json.loads(cli("inspect", "local/smol:small").stdout)
    assert (small["quantization"], small["packaged"]["system"]) == ("MOSTLY_Q2_K", "Be short.")
    assert small["size_bytes"] < shown["size_bytes"]
    said = cli(
        "run", "local/smol:q", "What is the capital of France?", "--temperature", "0", timeout=600
    )
    # quantized twice, it may name another city
    assert "France" in said.stdout
    assert cli("verify", "--deep").returncode == 0
