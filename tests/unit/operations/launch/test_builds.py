"""With which build of a runtime a model last worked, and what is said when another one fails."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from modelrunner.errors import RuntimeFailedError
from modelrunner.operations.launch.builds import Builds
from modelrunner.runtime.base import RuntimeImage

FAILED = RuntimeFailedError("the server exited", hint="update the runtime")


@dataclass
class Stand:
    """What of a runtime counts here."""

    name: str
    text: str | None
    named: str | None = None

    def build(self) -> str | None:
        return self.text

    def image(self) -> RuntimeImage | None:
        if self.named is None:
            return None
        return RuntimeImage(self.named, "ghcr.io/o/x:1", "sha256:" + "0" * 64, None, None)


OLD = Stand("installed", "vulkan@b101 sha256:1", "vulkan@b101")
NEW = Stand("installed", "vulkan@b102 sha256:2", "vulkan@b102")
WHEEL = Stand("xllamacpp", "0.2.1")
BACK = "ai/m last worked with vulkan@b101: `modelrunner runtimes use vulkan@b101` goes back to it"


def builds(folder: Path, *installed: str) -> Builds:
    return Builds(folder / "state" / "builds.json", lambda name: name in installed)


def hint(found: Builds, runtime: Stand, model: str = "m") -> str | None:
    return found.explained(FAILED, model, "ai/m", runtime).hint  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("worked", "fails", "said"),
    [
        (OLD, NEW, BACK),
        (OLD, WHEEL, BACK),
        (WHEEL, NEW, "ai/m last worked with xllamacpp: use it with `--runtime xllamacpp`"),
        (OLD, OLD, "update the runtime"),
        (WHEEL, Stand("xllamacpp", "0.3.0"), "update the runtime"),
        (OLD, Stand("http://127.0.0.1:1", None), "update the runtime"),
    ],
)
def test_a_failure_names_the_build_that_worked(
    tmp_path: Path, worked: Stand, fails: Stand, said: str
) -> None:
    found = builds(tmp_path, "vulkan@b101")
    assert hint(found, fails) == "update the runtime"
    found.note("m", worked)  # type: ignore[arg-type]
    assert hint(found, fails) == said
    assert hint(found, fails, "another model") == "update the runtime"


def test_a_build_that_was_removed_is_to_be_installed_again(tmp_path: Path) -> None:
    found = builds(tmp_path)
    found.note("m", OLD)  # type: ignore[arg-type]
    assert hint(found, NEW) == (
        "ai/m last worked with vulkan@b101: `modelrunner runtimes install vulkan@b101` installs it"
        " again"
    )


def test_the_last_one_counts_and_the_same_one_is_not_written_again(tmp_path: Path) -> None:
    found = builds(tmp_path)
    for one in (OLD, NEW):
        found.note("m", one)  # type: ignore[arg-type]
    last = found.of("m")
    assert last is not None
    assert (last.title, last.build) == ("vulkan@b102", "vulkan@b102 sha256:2")
    before = found.path.stat().st_ino
    found.note("m", NEW)  # type: ignore[arg-type]
    assert found.path.stat().st_ino == before


@pytest.mark.parametrize("text", ["", "[]", '{"m": 1}', '{"m": {"runtime": 1}}'])
def test_a_file_that_cannot_be_understood_counts_as_empty(tmp_path: Path, text: str) -> None:
    found = builds(tmp_path)
    found.path.parent.mkdir()
    found.path.write_text(text)
    assert found.of("m") is None
    found.note("m", OLD)  # type: ignore[arg-type]
    assert found.of("m") is not None


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    found = builds(tmp_path)
    for number in range(300):
        found.note(f"m{number}", OLD)  # type: ignore[arg-type]
    assert found.of("m0") is None
    assert found.of("m299") is not None
