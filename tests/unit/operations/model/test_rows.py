from collections.abc import Callable
from pathlib import Path

import pytest

from modelrunner.operations.model import headers
from modelrunner.operations.model.rows import rows, utc
from modelrunner.store.store import Store
from modelrunner.store.sweep import sweep
from tests.support.artifacts import Artifact, docker_artifact, modelpack_artifact
from tests.support.gguf import tiny_gguf
from tests.support.stores import put


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        (None, None),
        ("2025-10-02T09:00:00Z", "2025-10-02T09:00:00Z"),
        ("2025-10-02T11:00:00+02:00", "2025-10-02T09:00:00Z"),
        ("2025-10-02T09:00:00.123456789Z", "2025-10-02T09:00:00Z"),
        ("2025-10-02T09:00:00", "2025-10-02T09:00:00Z"),
        ("0001-01-01T00:00:00+05:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_are_utc_to_the_second_or_not_told(time: str | None, shown: str | None) -> None:
    assert utc(time) == shown


def test_no_store_has_no_rows_and_is_not_made(tmp_path: Path) -> None:
    assert rows(Store(tmp_path / "store")) == ()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    return tiny_gguf(tmp_path / "tiny.gguf", context_length=2048).read_bytes()


SILENT = {"architecture": None, "parameters": None, "quantization": None, "context_size": None}
SILENT_PACK = {"architecture": None, "paramSize": None, "quantization": None}


@pytest.mark.parametrize(
    "make",
    [
        # Docker's config has what the header says a second time
        lambda weights: docker_artifact(weights, config={**SILENT, "gguf": None}),
        lambda weights: docker_artifact(weights, config={"context_size": None, "gguf": None}),
        modelpack_artifact,
        lambda weights: modelpack_artifact(weights, config=SILENT_PACK),
    ],
)
def test_what_the_config_does_not_say_is_read_from_the_header(
    store: Store, weights: bytes, make: Callable[[bytes], Artifact]
) -> None:
    put(store, make(weights), "ai/m:1")
    (row,) = rows(store)
    assert row.architecture == "llama"
    assert row.context_length == 2048
    assert row.parameters
    assert row.quantization in ("MOSTLY_Q4_0", "MOSTLY_Q4_K_M")


def test_a_header_is_read_once(
    store: Store, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = put(store, modelpack_artifact(weights), "ai/m:1")
    first = rows(store)

    def unread(_model: object) -> object:
        raise AssertionError("the header was read again")

    monkeypatch.setattr(headers, "of_stored", unread)
    assert rows(store) == first
    kept = store.layout.facts(model.artifact.weights[0].descriptor.digest)
    kept.write_text("{damaged")
    with pytest.raises(AssertionError):
        rows(store)


def test_facts_go_with_their_blob(store: Store, weights: bytes) -> None:
    model = put(store, modelpack_artifact(weights), "ai/m:1")
    rows(store)
    store.forget(model.digest)
    sweep(store, partials=False)
    assert list(store.layout.stamps.iterdir()) == []


def test_facts_that_cannot_be_kept_are_shown(store: Store, weights: bytes) -> None:
    put(store, modelpack_artifact(weights), "ai/m:1")
    stamps = store.layout.stamps
    stamps.rename(stamps.with_name("away"))
    stamps.write_text("not a directory")
    (row,) = rows(store)
    assert row.context_length == 2048


def test_the_path_is_that_of_a_file_or_unknown(store: Store, weights: bytes) -> None:
    model = put(store, modelpack_artifact(weights), "ai/m:1")
    assert rows(store)[0].path is None
    path = model.weights()
    assert rows(store)[0].path == str(path)
    assert path.is_file()
    path.unlink()
    path.write_bytes(bytes(len(weights)))
    assert rows(store)[0].path is None
    assert model.weights() == path
    assert (rows(store)[0].path, path.read_bytes()) == (str(path), weights)
    path.unlink()
    path.symlink_to(store.layout.blob(model.artifact.weights[0].descriptor.digest))
    assert rows(store)[0].path is None
