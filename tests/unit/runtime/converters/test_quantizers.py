"""Which quantizer is used, and how it is started."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.oci.digest import Digest
from modelrunner.runtime.converters.quantizers import Job, find_quantizer
from modelrunner.runtime.converters.recipes import Recipe
from modelrunner.runtime.images.library import Installed, Library


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return Job(
        source=tmp_path / "in" / "model.gguf",
        target=tmp_path / "out" / "made",
        recipe=Recipe("Q4_K_M", 15),
        threads=3,
        requantize=True,
    )


def program(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "llama-quantize"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def installed(library: Library, hex_: str) -> Installed:
    one = Installed(
        folder=library.folder / hex_,
        digest=Digest(hex_),
        reference="ghcr.io/ggml-org/llama.cpp:full",
        backend="cpu",
        program="app/llama-server",
        build="b1",
    )
    with library.changing(), library.adding(one.digest) as beside:
        (beside / "rootfs" / "app").mkdir(parents=True)
        return library.record(beside, one)


def test_a_program_on_the_path_is_found(tmp_path: Path, job: Job) -> None:
    file = program(tmp_path / "bin")
    found = find_quantizer({"PATH": str(file.parent), "HF_TOKEN": "secret"}, tmp_path / "none")
    command = found.command(job)
    assert command.argv == (
        str(file),
        "--allow-requantize",
        str(job.source),
        str(job.target),
        "Q4_K_M",
        "3",
    )
    assert dict(command.environ) == {"PATH": str(file.parent)}
    assert replace(job, requantize=False).line[0] == str(job.source)
    matrix = job.source.with_name("imatrix.gguf")
    assert replace(job, requantize=False, matrix=matrix).line[:3] == [
        "--imatrix",
        str(matrix),
        str(job.source),
    ]


def test_an_installed_runtime_that_has_one_comes_first(tmp_path: Path, job: Job) -> None:
    on_path = program(tmp_path / "bin")
    library = Library(tmp_path / "runtimes")
    installed(library, "a" * 64)
    environ = {"PATH": str(on_path.parent)}
    # an image with a server alone
    assert find_quantizer(environ, library.folder).name == str(on_path)
    full = installed(library, "b" * 64)
    program(full.root / "app")
    found = find_quantizer(environ, library.folder)
    assert found.name == "llama-quantize of cpu@b1"
    order = found.command(job).argv[-1]
    assert f'["{job.target.parent}", "{job.target.parent}", true]' in order
    assert f'["{job.source.parent}", "{job.source.parent}", false]' in order
    assert '"isolate": true' in order
    nested = replace(job, target=job.source.parent / "made")
    assert '"isolate": false' in found.command(nested).argv[-1]


def test_a_machine_without_one_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(RuntimeUnavailableError) as caught:
        find_quantizer({"PATH": str(tmp_path)}, tmp_path)
    assert caught.value.message.startswith("no quantizer found: llama-quantize is neither on PATH")
    assert "llama-cpp-python" in (caught.value.hint or "")
