"""The name of a runtime that is unpacked says that all of it is on the disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.runtime.images import library
from modelrunner.runtime.images.library import Installed, Library


def test_a_runtime_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Digest("ab" * 32)
    known = Library(tmp_path / "runtimes")
    one = Installed(
        folder=known.folder / digest.hex,
        digest=digest,
        reference="ghcr.io/ggml-org/llama.cpp:server",
        backend="cpu",
        program="app/llama-server",
    )
    done: list[str] = []

    def note(what: str, call: Callable[..., object]) -> Callable[..., object]:
        def noted(path: Path, *others: object) -> object:
            done.append(f"{what} {'beside' if path.name.startswith('.tmp-') else path.name}")
            return call(path, *others)

        return noted

    monkeypatch.setattr(library, "flush_file_system", note("all files", library.flush_file_system))
    monkeypatch.setattr(library, "sync_directory", note("directory", library.sync_directory))
    monkeypatch.setattr(library, "write_atomically", note("written", library.write_atomically))
    monkeypatch.setattr(Path, "rename", note("named", Path.rename))
    with known.changing(), known.adding(digest) as beside:
        known.record(beside, one)
    assert done == [
        f"written {library._RECORD}",
        "all files beside",
        "named beside",
        "directory runtimes",
    ]
    assert [each.digest for each in known.all()] == [digest]
