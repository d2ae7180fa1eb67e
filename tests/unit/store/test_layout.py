"""What is a store, what is none, and what a newer version's is."""

import json

import pytest

from modelrunner.errors import (
    ConfigError,
    CorruptStoreError,
    ExitStatus,
    StoreAccessError,
    StoreVersionError,
)
from modelrunner.oci.digest import Digest
from modelrunner.store.index import read_index
from modelrunner.store.layout import Layout
from modelrunner.store.store import Store
from modelrunner.store.sweep import sweep


def test_reading_creates_nothing(tmp_path):
    store = Store(tmp_path / "store")
    assert store.models() == ()
    assert store.lookup("ai/m") is None
    assert list(tmp_path.iterdir()) == []


def test_a_new_store_is_an_empty_oci_layout(store):
    store.layout.create()
    root = store.layout.root
    assert json.loads((root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((root / "index.json").read_bytes())["manifests"] == []
    tag = (root / "CACHEDIR.TAG").read_bytes()
    assert tag.startswith(b"Signature: 8a477f597d28d172789f06886806bc55")
    assert sorted(entry.name for entry in root.iterdir() if entry.is_dir()) == [
        "blobs",
        "ingest",
        "stamps",
        "views",
    ]


def test_creating_again_changes_nothing_and_completes_what_is_missing(store, model):
    before = store.layout.index.read_bytes()
    store.layout.stamp(model.digest).unlink()
    (store.layout.root / "CACHEDIR.TAG").unlink()
    store.layout.create()
    assert store.layout.index.read_bytes() == before
    assert (store.layout.root / "CACHEDIR.TAG").exists()


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    other = tmp_path / "store" / "v1" / "thesis.tex"
    other.parent.mkdir(parents=True)
    other.write_text("precious")
    store = Store(tmp_path / "store")
    for use in (store.models, store.layout.create):
        with pytest.raises(ConfigError, match="is not a modelrunner store"):
            use()
    assert [entry.name for entry in other.parent.iterdir()] == ["thesis.tex"]


def test_what_a_killed_creation_leaves_is_taken_over(store):
    store.layout.root.mkdir(parents=True)
    (store.layout.root / ".tmp-oci-layout-0123").write_bytes(b"{")
    assert store.models() == ()
    store.layout.create()
    assert store.layout.exists()


@pytest.mark.parametrize("newer", [["v2"], ["v9", "v10"]])
def test_a_newer_versions_store_is_left_alone(tmp_path, newer):
    for name in newer:
        (tmp_path / name).mkdir()
    with pytest.raises(StoreVersionError, match=newer[-1]) as caught:
        Store(tmp_path)
    assert caught.value.exit_code == ExitStatus.USAGE
    assert "upgrade" in (caught.value.hint or "")


def test_our_store_beside_a_newer_one_is_used(tmp_path):
    Store(tmp_path).layout.create()
    (tmp_path / "v2").mkdir()
    assert Store(tmp_path).layout.exists()


@pytest.mark.parametrize("version", ["2.0.0", "10.1"])
def test_a_newer_layout_is_left_alone(store, version):
    store.layout.create()
    marker = store.layout.root / "oci-layout"
    marker.write_text(json.dumps({"imageLayoutVersion": version}))
    for use in (store.models, store.layout.create):
        with pytest.raises(StoreVersionError, match=version):
            use()


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"3", b"\xff", b'{"x":', b"[" * 100_000])
def test_a_damaged_marker_is_a_corrupt_store(store, raw):
    store.layout.create()
    (store.layout.root / "oci-layout").write_bytes(raw)
    with pytest.raises(CorruptStoreError, match="oci-layout is damaged"):
        store.models()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"manifests": null}',
        b'{"manifests": {}}',
        b'{"manifests": "x"}',
        b'{"manifests": [3]}',
        b'{"manifests": [{"digest": "sha256:../../x", "size": 1, "mediaType": "a"}]}',
        b'\xff{"manifests": []}',
        b"[" * 100_000,
        b'{"manifests": ' + b"[" * 100_000,
    ],
)
def test_a_damaged_index_is_a_corrupt_store_and_stays_as_it_is(store, model, raw):
    store.layout.index.write_bytes(raw)
    uses = (
        store.models,
        lambda: store.untag(model.references),
        lambda: store.resolve("m"),
        lambda: sweep(store, partials=True),
    )
    for use in uses:
        with pytest.raises(CorruptStoreError, match=r"index\.json is damaged") as caught:
            use()
    assert caught.value.exit_code == ExitStatus.INTEGRITY == 6
    assert store.layout.index.read_bytes() == raw


def test_without_its_index_a_store_is_empty_and_its_blobs_are_still_good(store, model):
    manifest = model.manifest
    store.layout.index.unlink()
    assert store.models() == ()
    store.add(manifest, model.references)
    assert [str(name) for name in store.models()[0].references] == [
        "docker.io/ai/m:1",
        "docker.io/ai/m:latest",
    ]


@pytest.mark.parametrize("place", ["home", "home/store", "home/store/v1"])
def test_a_file_in_the_way_of_the_store_is_no_bug(tmp_path, place):
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("a file")
    store = Store(tmp_path / "home" / "store")
    assert store.models() == ()
    with pytest.raises(StoreAccessError) as caught:
        store.layout.create()
    assert "MODELRUNNER_HOME" in (caught.value.hint or "")
    assert file.read_text() == "a file"


def test_the_index_is_what_other_tools_expect(store, model):
    index = json.loads(store.layout.index.read_bytes())
    assert index["schemaVersion"] == 2
    assert index["manifests"][0] == {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": str(model.digest),
        "size": len(model.manifest.raw),
        "annotations": {"org.opencontainers.image.ref.name": "docker.io/ai/m:1"},
    }


def test_names_of_other_tools_survive_our_changes(store, model):
    index = json.loads(store.layout.index.read_bytes())
    foreign = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": str(model.digest),
        "size": len(model.manifest.raw),
        "annotations": {"org.opencontainers.image.ref.name": "Another Tool's ~name~", "x": "y"},
    }
    index["manifests"].append(foreign)
    store.layout.index.write_text(json.dumps(index))
    store.tag(model, model.references[0].with_tag("2"))
    assert foreign in json.loads(store.layout.index.read_bytes())["manifests"]
    assert len(read_index(store.layout)) == 4


def test_paths_of_blobs_that_a_server_is_asked_for_do_not_pile_up(tmp_path, monkeypatch):
    monkeypatch.setattr("modelrunner.store.layout._MOST_PATHS", 3)
    layout = Layout(tmp_path)
    digests = [Digest.of(bytes([number])) for number in range(10)]
    assert [layout.blob(each).name for each in digests] == [each.hex for each in digests]
    assert len(layout._of_blobs) <= 3
