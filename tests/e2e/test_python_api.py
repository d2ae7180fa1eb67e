"""The library: its documentation runs, and importing it costs nothing."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import modelrunner
from modelrunner.errors import InvalidReferenceError
from tests.conftest import ROOT
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry

GUIDE = ROOT / "docs" / "python.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def mirrored(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Docker Hub with two small models, and a folder to work in."""
    for seed, tag in enumerate(("135M", "360M")):
        weights = tiny_gguf(tmp_path / f"{tag}.gguf", seed=seed).read_bytes()
        facts = {"architecture": "llama", "parameters": tag, "quantization": "Q4_0"}
        registry.add(docker_artifact(weights, config=facts), "ai/smollm2", [tag])
    monkeypatch.setenv("MODELRUNNER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODELRUNNER_MIRRORS", f"docker.io={registry.url}")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return registry


def test_the_examples_of_the_guide_run(
    mirrored: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(EXAMPLES) >= 7
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(compile(example, str(GUIDE), "exec"), names)
    said = capsys.readouterr()
    assert said.err == ""
    assert re.search(r"^ai/smollm2:360M: \d+ bytes$", said.out, re.MULTILINE)
    assert "ai/smollm2:136M: no such tag" in said.out


def test_the_guide_and_the_package_name_the_same(mirrored: Registry) -> None:
    assert dir(modelrunner) == sorted([*modelrunner.__all__, "__version__"])
    text = GUIDE.read_text()
    for name in modelrunner.__all__:
        assert getattr(modelrunner, name) is not None
        assert f"`{name}`" in text
    with pytest.raises(AttributeError, match="no attribute 'Puller'"):
        _ = modelrunner.Puller  # type: ignore[attr-defined]


def test_the_examples_of_the_guide_are_typed(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    script = tmp_path / "examples.py"
    script.write_text("\n".join(EXAMPLES))
    said, _, status = api.run(
        ["--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}", str(script)]
    )
    assert status == 0, said


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = (
        "import sys; before = {*sys.modules}; import modelrunner;"
        "print(sorted({*sys.modules} - before))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "['modelrunner']\n"


def test_a_script_that_asks_offline_loads_no_network_library(
    mirrored: Registry, tmp_path: Path
) -> None:
    model = modelrunner.pull("ai/smollm2:135M")
    code = (
        "import sys, modelrunner;"
        "print(modelrunner.pull('ai/smollm2:135M', offline=True).path);"
        "assert not {'requests', 'urllib3', 'oras', 'http.client'} & {*sys.modules}"
    )
    mirrored.requests.clear()
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stdout, found.stderr) == (f"{model.path}\n", "")
    assert mirrored.requests == []


def test_what_is_not_here_is_not_fetched_offline(mirrored: Registry) -> None:
    with pytest.raises(modelrunner.errors.NotInStoreError):
        modelrunner.pull("ai/smollm2:135M", offline=True)
    assert mirrored.requests == []
    assert modelrunner.Store().models() == ()


def test_what_is_no_text_is_no_name(mirrored: Registry) -> None:
    nothing: Any = None
    for ask in (modelrunner.pull, modelrunner.Store().find):
        with pytest.raises(InvalidReferenceError, match="expected a model reference, got None"):
            ask(nothing)
    assert mirrored.requests == []
