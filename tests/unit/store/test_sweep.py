"""What nothing needs goes; what a name reaches stays, whatever happened before."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.store.index import Entry
from modelrunner.store.store import Store
from modelrunner.store.sweep import leftovers, live_digests, remove_blobs_of, sweep
from tests.support.artifacts import OCI_INDEX, docker_artifact, image_artifact, index_artifact
from tests.support.stores import put

OLD = 2 * 3600


def digests(store):
    return {path.name for path in store.layout.blobs.iterdir()}


def kinds(gone):
    return sorted((entry.kind, entry.path.name) for entry in gone)


def age(path, seconds=OLD):
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def described(content):
    return Descriptor("application/x", Digest.of(content), len(content))


def test_a_store_that_is_not_there_has_nothing_to_sweep_and_is_not_made(store):
    assert leftovers(store, partials=True) == ()
    assert sweep(store, partials=True) == ()
    assert not store.layout.root.exists()


def test_a_store_in_use_has_nothing_to_sweep(store, model):
    model.view()
    assert sweep(store, partials=True) == ()
    assert (model.view() / "model.gguf").read_bytes() == b"GGUF weights"


def test_blobs_and_views_of_a_model_without_a_name_go_with_their_stamps(store, model):
    model.view()
    store.untag(model.references)
    planned = leftovers(store, partials=False)
    assert digests(store)
    gone = sweep(store, partials=False)
    assert gone == planned
    assert [kind for kind, _ in kinds(gone)] == ["blob"] * 4 + ["view"]
    assert sum(entry.size for entry in gone) == model.size + len(model.manifest.raw)
    assert digests(store) == set()
    assert list(store.layout.views.iterdir()) == list(store.layout.stamps.iterdir()) == []


def test_what_views_alone_have_is_counted_once(store, model):
    view = model.view()
    size = (view / "model.gguf").stat().st_size
    store.untag(model.references)
    other = store.layout.views / ("1" * 64)
    other.mkdir()
    os.link(view / "model.gguf", other / "model.gguf")
    for blob in store.layout.blobs.iterdir():
        blob.unlink()
    left = sum(path.stat().st_size for path in view.rglob("*") if path.is_file())
    gone = sweep(store, partials=False)
    assert [kind for kind, _ in kinds(gone)] == ["view"] * 2
    assert sum(entry.size for entry in gone) == left >= size


def test_shared_blobs_stay(store, add, model):
    other = add(docker_artifact(b"other weights", license=b"do as you like"), "ai/other")
    store.forget(model.digest)
    sweep(store, partials=True)
    assert digests(store) == {
        other.digest.hex,
        *(entry.digest.hex for entry in other.manifest.blobs),
    }


def test_removing_a_models_blobs_leaves_those_that_others_share(store, add, model):
    other = add(docker_artifact(b"other weights", license=b"do as you like"), "ai/other")
    own = model.size + len(model.manifest.raw) - len(b"do as you like")
    store.forget(model.digest)
    assert remove_blobs_of(store, model) == own
    assert all(store.blobs.state(entry) == "good" for entry in other.manifest.blobs)
    assert sweep(store, partials=True) == ()


def test_a_model_that_got_its_name_back_keeps_its_blobs(store, model):
    assert remove_blobs_of(store, model) == 0
    assert all(store.blobs.state(entry) == "good" for entry in model.manifest.blobs)


@pytest.mark.parametrize("damage", ["gone", "empty", "flipped", "no manifest"])
def test_while_a_manifest_is_damaged_no_blob_is_removed(store, add, model, damage):
    other = add(docker_artifact(b"other"), "ai/other")
    store.forget(other.digest)
    path = store.blobs.path(model.digest)
    raw = path.read_bytes()
    path.unlink()
    if damage == "flipped":
        path.write_bytes(b"?" + raw[1:])
    elif damage != "gone":
        path.write_bytes(b"" if damage == "empty" else b"{}")
    before = digests(store)
    assert live_digests(store) is None
    assert sweep(store, partials=True) == ()
    assert remove_blobs_of(store, other) == 0
    assert digests(store) == before


def test_what_an_index_of_another_tool_reaches_stays(store, add, model):
    image = image_artifact()
    child = add(image, "library/box")
    absent = docker_artifact(b"for another platform")
    index = index_artifact(image, absent)
    descriptor = Descriptor(OCI_INDEX, Digest.of(index.manifest), len(index.manifest))
    store.blobs.put(descriptor, index.manifest)
    with store.changing() as entries:
        entries.append(Entry(Reference.parse("library/boxes"), descriptor))
    store.forget(child.digest)
    before = digests(store)
    assert sweep(store, partials=True) == ()
    assert digests(store) == before
    store.forget(descriptor.digest)
    assert len(sweep(store, partials=True)) == 4


def test_indexes_within_indexes_are_followed_so_far_and_then_nothing_goes(store, model):
    raw = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    descriptor = Descriptor(OCI_INDEX, Digest.of(raw), len(raw))
    store.blobs.put(descriptor, raw)
    for _ in range(12):
        raw = json.dumps({"schemaVersion": 2, "manifests": [descriptor.to_dict()]}).encode()
        descriptor = Descriptor(OCI_INDEX, Digest.of(raw), len(raw))
        store.blobs.put(descriptor, raw)
    with store.changing() as entries:
        entries.append(Entry(None, descriptor))
    assert sweep(store, partials=True) == ()


def test_while_something_arrives_blobs_stay_and_partials_go(store, model):
    store.forget(model.digest)
    stopped = store.layout.partial(Digest.of(b"stopped"))
    stopped.write_bytes(b"stop")
    with store.arriving():
        assert kinds(sweep(store, partials=True)) == [("partial", stopped.name)]
    assert len(sweep(store, partials=True)) == 4


def test_a_stopped_download_goes_only_when_asked_for(store, model):
    stopped = store.layout.partial(Digest.of(b"stopped"))
    stopped.write_bytes(b"stop")
    stopped.with_suffix(".journal").write_bytes(b"{}")
    assert sweep(store, partials=False) == ()
    assert [entry.path for entry in sweep(store, partials=True)] == [
        stopped,
        stopped.with_suffix(".journal"),
    ]
    assert not stopped.exists()
    assert not stopped.with_suffix(".journal").exists()


def test_a_sparse_partial_counts_what_it_takes(store, model):
    stopped = store.layout.partial(Digest.of(b"stopped"))
    with stopped.open("wb") as file:
        file.truncate(1 << 40)
    (found,) = leftovers(store, partials=True)
    assert found.size < 1 << 20


def test_a_download_at_work_keeps_its_partial_and_journal(store, model):
    blob = described(b"arriving")
    with store.blobs.writer(blob) as writer:
        writer.write(b"arri")
        store.layout.journal(blob.digest).write_bytes(b"{}")
        assert sweep(store, partials=True) == ()
        assert store.layout.journal(blob.digest).exists()
        writer.write(b"ving")
    assert store.blobs.state(blob) == "good"


def test_a_partial_taken_up_between_plan_and_removal_stays(store, model, monkeypatch):
    blob = described(b"arriving")
    store.layout.partial(blob.digest).write_bytes(b"arri")
    with monkeypatch.context() as patch:
        # whoever comes later finds it idle at first
        answers = iter([True])
        from modelrunner.store import sweep as module

        real = module.try_lock
        patch.setattr(module, "try_lock", lambda file: next(answers, None) or real(file))
        with store.blobs.writer(blob) as writer:
            assert sweep(store, partials=True) == ()
            writer.write(b"ving")
    assert store.blobs.state(blob) == "good"


def test_old_temporary_files_go_and_new_ones_belong_to_somebody(store, model):
    layout = store.layout
    folders = (layout.root, layout.blobs, layout.ingest, layout.stamps, layout.views)
    for place, folder in enumerate(folders):
        (folder / f".tmp-new-{place}").write_bytes(b"x")
        (folder / f".tmp-old-{place}").write_bytes(b"x")
        age(folder / f".tmp-old-{place}")
    view = layout.views / ".tmp-old-view"
    (view / "folder").mkdir(parents=True)
    age(view)
    gone = kinds(sweep(store, partials=True))
    assert gone == [("temporary", f".tmp-old-{place}") for place in range(5)] + [
        ("temporary", ".tmp-old-view")
    ]
    assert not view.exists()
    assert all((folder / f".tmp-new-{place}").exists() for place, folder in enumerate(folders))


def test_what_is_not_the_stores_own_stays(store, model, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_bytes(b"precious")
    store.layout.view(Digest.of(b"x")).symlink_to(victim)
    (store.layout.blobs / "README").write_bytes(b"x")
    (store.layout.blobs / "folder").mkdir()
    (store.layout.views / "mine").mkdir()
    assert [entry.kind for entry in sweep(store, partials=True)] == ["view"]
    assert not store.layout.view(Digest.of(b"x")).is_symlink()
    assert (victim / "file").read_bytes() == b"precious"
    assert (store.layout.blobs / "README").exists()
    assert (store.layout.blobs / "folder").is_dir()
    assert (store.layout.views / "mine").is_dir()


MODELS = [
    docker_artifact(weights, license=license_)
    for weights in (b"one", b"two", b"three")
    for license_ in (None, b"free", b"not free")
]
NUMBERS = st.integers(0, len(MODELS) - 1)
NAMES = st.sampled_from([f"ai/m:{number}" for number in range(4)])


class StoreLife(RuleBasedStateMachine):
    """A store and what should be in it: names, and the models that they stand for."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.store = Store(Path(self.folder))
        self.names = {}

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule(number=NUMBERS, name=NAMES)
    def pull(self, number, name):
        put(self.store, MODELS[number], name)
        self.names[name] = number

    @rule(number=NUMBERS)
    def break_off(self, number):
        """Some blobs arrive, no name does."""
        artifact = MODELS[number]
        with self.store.arriving():
            for entry in Manifest.from_bytes(artifact.manifest).blobs[:2]:
                self.store.blobs.put(entry, artifact.blobs[str(entry.digest)])

    @rule(name=NAMES, new=NAMES)
    def tag(self, name, new):
        model = self.store.lookup(name)
        assert (model is None) == (name not in self.names)
        if model is not None:
            self.store.tag(model, Reference.parse(new))
            self.names[new] = self.names[name]

    @rule(name=NAMES)
    def untag(self, name):
        self.store.untag([Reference.parse(name)])
        self.names.pop(name, None)

    @rule(name=NAMES)
    def remove(self, name):
        model = self.store.lookup(name)
        if model is not None:
            self.store.forget(model.digest)
            remove_blobs_of(self.store, model)
            gone = self.names[name]
            self.names = {key: kept for key, kept in self.names.items() if kept != gone}

    @rule(name=NAMES)
    def look(self, name):
        model = self.store.lookup(name)
        if model is not None:
            assert model.weights().read_bytes() == MODELS[self.names[name]].layers[0]

    @rule()
    def prune(self):
        sweep(self.store, partials=True)
        wanted = {
            digest.removeprefix("sha256:")
            for number in self.names.values()
            for digest in (MODELS[number].digest, *MODELS[number].blobs)
        }
        folder = self.store.layout.blobs
        assert {path.name for path in folder.glob("*")} == wanted

    @invariant()
    def every_name_has_its_whole_model(self):
        found = {
            reference.short: model
            for model in self.store.models()
            for reference in model.references
        }
        assert set(found) == set(self.names)
        for name, number in self.names.items():
            assert str(found[name].digest) == MODELS[number].digest
            for entry in found[name].manifest.blobs:
                assert self.store.blobs.deep_state(entry) == "good"


TestStoreLife = StoreLife.TestCase
TestStoreLife.settings = settings(
    max_examples=settings.default.max_examples // 2, stateful_step_count=20
)


def test_a_link_in_the_place_of_a_partial_goes_and_a_folder_stays(store, tmp_path):
    store.layout.create()
    (tmp_path / "victim").write_bytes(b"precious")
    link, folder = (store.layout.partial(Digest.of(name)) for name in (b"link", b"folder"))
    link.symlink_to(tmp_path / "victim")
    folder.mkdir()
    assert [entry.path for entry in sweep(store, partials=True)] == [link]
    assert folder.is_dir()
    assert not link.is_symlink()
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_file_that_a_person_still_has_is_not_freed(store, tmp_path):
    model = put(store, docker_artifact(b"GGUF weights" * 100), "ai/m")
    (weights,) = model.artifact.weights
    # as an import does, where the file system can
    os.link(store.blobs.path(weights.descriptor.digest), tmp_path / "mine.gguf")
    everything = sum(path.stat().st_size for path in store.layout.blobs.iterdir())
    store.forget(model.digest)
    assert remove_blobs_of(store, model) == everything - weights.descriptor.size
    assert (tmp_path / "mine.gguf").read_bytes() == b"GGUF weights" * 100
