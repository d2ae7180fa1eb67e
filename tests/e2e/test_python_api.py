"""The library: its documentation runs, and importing it costs nothing."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

import modelrunner
from modelrunner.errors import InvalidReferenceError
from tests.conftest import ROOT
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry

GUIDE = ROOT / "docs" / "python.md"
SMALL_SERVER = ROOT / "tests" / "support" / "small_server.py"
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


@pytest.fixture
def small_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `llama-server` on PATH that answers without a model."""
    program = tmp_path / "bin" / "llama-server"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {SMALL_SERVER} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def locked(mirrored: Registry) -> None:
    """A project in the directory to work in, with a lock."""
    Path("modelrunner.toml").write_text('models.chat = "ai/smollm2:135M"\n')
    subprocess.run([sys.executable, "-m", "modelrunner", "lock", "-q"], check=True, timeout=120)


@pytest.mark.usefixtures("small_runtime", "locked")
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
    assert re.search(r"^llama-server ai/smollm2:135M.*context 512", said.out, re.MULTILINE)
    assert "\nHello.\n" in said.out


def test_the_guide_and_the_package_name_the_same(mirrored: Registry) -> None:
    assert dir(modelrunner) == sorted([*modelrunner.__all__, "__version__"])
    text = GUIDE.read_text()
    for name in modelrunner.__all__:
        assert getattr(modelrunner, name) is not None
        assert f"`{name}`" in text
    with pytest.raises(AttributeError, match="no attribute 'Puller'"):
        _ = modelrunner.Puller  # type: ignore[attr-defined]


def test_the_examples_of_the_guide_are_typed(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    api = pytest.importorskip("mypy.api")
    script = tmp_path / "examples.py"
    script.write_text("\n".join(EXAMPLES))
    # what has not changed since the last run is known
    kept = pytestconfig.cache.mkdir("mypy") if pytestconfig.cache else tmp_path / "cache"
    said, _, status = api.run(["--strict", "--config-file=", f"--cache-dir={kept}", str(script)])
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


@pytest.mark.usefixtures("small_runtime")
def test_a_launched_server_needs_its_key_and_ends_with_the_block(mirrored: Registry) -> None:
    with modelrunner.launch("ai/smollm2:135M", settings={"context": 512}) as server:
        assert (server.model, server.context) == ("ai/smollm2:135M", 512)
        with pytest.raises(HTTPError, match="401"):
            urlopen(f"{server.base_url}/models", timeout=60)
        address = server.base_url
    with pytest.raises(URLError):
        urlopen(f"{address}/models", timeout=60)
    assert server.api_key not in repr(server)


@pytest.mark.usefixtures("small_runtime")
def test_a_path_is_a_file_with_and_without_a_directory_before_it(mirrored: Registry) -> None:
    for name in ("m.gguf", "smollm2"):
        tiny_gguf(Path(name))
        for path in (Path(name), Path(name).absolute()):
            with modelrunner.launch(path, settings={"context": 512}) as server:
                assert Path(server.model).absolute() == Path(name).absolute()
    with (
        pytest.raises(modelrunner.errors.UsageError, match="no-such"),
        modelrunner.launch(Path("no-such.gguf")),
    ):
        pass
    assert mirrored.requests == []


def test_a_launch_offline_pulls_nothing(mirrored: Registry) -> None:
    with (
        pytest.raises(modelrunner.errors.NotInStoreError),
        modelrunner.launch("ai/smollm2:135M", runtime="http://127.0.0.1:9/v1", offline=True),
    ):
        pass
    assert mirrored.requests == []


@pytest.mark.usefixtures("locked")
def test_what_a_lock_pins_is_pulled_by_digest_and_never_when_frozen(mirrored: Registry) -> None:
    with pytest.raises(modelrunner.errors.NotInStoreError, match="chat"):
        modelrunner.pull_locked(frozen=True)
    (found,) = modelrunner.pull_locked()
    assert (found.name, found.output) == ("chat", None)
    assert found.model.references == ("docker.io/ai/smollm2:135M",)
    mirrored.requests.clear()
    assert modelrunner.pull_locked(["chat"], frozen=True) == (found,)
    assert mirrored.requests == []


def test_a_model_that_does_not_fit_is_not_pulled(mirrored: Registry) -> None:
    little = modelrunner.Fit(choose=False, budget=1024)
    with pytest.raises(modelrunner.errors.DoesNotFitError):
        modelrunner.pull("ai/smollm2:135M", fit=little)
    assert modelrunner.Store().models() == ()
    with pytest.warns(UserWarning, match="does not fit"):
        modelrunner.pull("ai/smollm2:135M", fit=replace(little, require=False))


def test_what_fits_is_chosen_among_stored_variants_offline(mirrored: Registry) -> None:
    model = modelrunner.pull("ai/smollm2:360M")
    mirrored.requests.clear()
    found = modelrunner.pull("ai/smollm2", offline=True, fit=modelrunner.Fit(budget=2**33))
    assert found == model
    with pytest.raises(modelrunner.errors.DoesNotFitError):
        modelrunner.pull("ai/smollm2", offline=True, fit=modelrunner.Fit(budget=2**10))
    with pytest.raises(modelrunner.errors.NotInStoreError):
        modelrunner.pull("ai/other", offline=True, fit=modelrunner.Fit(budget=2**33))
    assert mirrored.requests == []


def test_a_damaged_blob_is_found_and_left_where_it_is(mirrored: Registry) -> None:
    model = modelrunner.pull("ai/smollm2:135M")
    blob = model.path.resolve()
    content = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    (damage,) = modelrunner.verify("ai/smollm2:135M", deep=True).damage
    assert (damage.state, damage.models) == ("damaged", ("ai/smollm2:135M",))
    assert blob.exists()


def test_an_estimate_is_for_the_devices_that_are_named(mirrored: Registry) -> None:
    def host(free: int) -> modelrunner.Device:
        return modelrunner.Device(
            name="h", kind="host", backend="cpu", total_bytes=free, free_bytes=free
        )

    large = modelrunner.estimate("ai/smollm2:135M", context=512, devices=[host(2**34)])
    small = modelrunner.estimate("ai/smollm2:135M", context=512, devices=[host(2**10)])
    assert (large.verdict, small.verdict) == ("fits", "no")
