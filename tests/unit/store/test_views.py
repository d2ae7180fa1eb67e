"""A view has a model's files under their real names, and follows the blobs."""

import errno
import os
import shutil
import stat

import pytest

from modelrunner.disk import clones
from modelrunner.errors import ConfigError, CorruptStoreError, DiskFullError, StoreAccessError
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.store import stamps, views
from modelrunner.store.sweep import remove_blobs_of
from modelrunner.store.views import ensure_view, place_file
from tests.support.artifacts import docker_artifact

EXTRA = {"tokenizer/tokenizer.json": b"{}", "n" * 255: b"long", "a/b/c/d/e": b"deep"}


@pytest.fixture
def model(add):
    return add(docker_artifact(b"GGUF weights", license=b"free", extra_files=EXTRA), "ai/m")


@pytest.fixture
def weights(store, model):
    return store.blobs.path(model.artifact.weights[0].descriptor.digest)


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


FILES = {"model.gguf": b"GGUF weights", "LICENSE": b"free", **EXTRA}


def leftovers(store):
    return [path.name for path in store.layout.views.iterdir() if path.name.startswith(".tmp-")]


@pytest.fixture(params=[errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def no_links(request, monkeypatch):
    """A file system without hard links, or one that has had enough of them."""

    def refuse(*paths, **options):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "link", refuse)


def test_a_view_is_made_of_links_that_take_no_room(store, model, weights):
    folder = model.view()
    assert tree(folder) == FILES
    assert (folder / "model.gguf").samefile(weights)
    assert folder == store.layout.view(model.digest)
    assert leftovers(store) == []


def test_each_directory_of_a_view_is_made_once(model, monkeypatch):
    made = []
    make = views.make_directory
    monkeypatch.setattr(views, "make_directory", lambda path: (made.append(path), make(path)))
    folder = model.view()
    temporary = made[0]
    assert temporary.parent == folder.parent
    assert [str(path.relative_to(temporary)) for path in made] == [".", "tokenizer", "a/b/c/d"]


def test_the_manifest_of_a_stored_model_is_understood_once(model, monkeypatch):
    understood = []
    understand = ModelArtifact.from_manifest
    monkeypatch.setattr(
        ModelArtifact,
        "from_manifest",
        lambda *given, **named: (understood.append(given), understand(*given, **named))[1],
    )
    model.view()
    model.weights()
    assert len(understood) == 1


def test_a_right_view_is_left_alone(model):
    before = model.view().stat()
    assert model.view().stat() == before


def test_where_links_fail_the_files_are_copied_once(store, model, weights, no_links):
    folder = model.view()
    assert tree(folder) == FILES
    copy = folder / "model.gguf"
    assert not copy.samefile(weights)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o444
    before = copy.stat().st_ino
    assert (model.view() / "model.gguf").stat().st_ino == before


def test_a_copy_that_was_cut_short_is_made_again(model, no_links):
    copy = model.view() / "model.gguf"
    copy.chmod(0o644)
    copy.write_bytes(b"GGUF")
    assert tree(model.view()) == FILES


def test_a_copy_of_a_blob_that_was_replaced_is_made_again(model, weights, no_links):
    before = (model.view() / "model.gguf").stat()
    renew(weights)
    later = before.st_mtime_ns + 10**9
    os.utime(weights, ns=(later, later))
    assert (model.view() / "model.gguf").stat().st_ino != before.st_ino


def test_a_view_of_a_blob_that_was_replaced_is_linked_anew(model, weights):
    file = model.view() / "model.gguf"
    renew(weights)
    assert not file.samefile(weights)
    assert (model.view() / "model.gguf").samefile(weights)


def renew(path):
    beside = path.with_name("beside")
    shutil.copyfile(path, beside)
    beside.replace(path)


@pytest.mark.parametrize("harm", ["a file is missing", "a folder is missing", "a file is a folder"])
def test_a_view_that_is_not_right_any_more_is_made_again(store, model, harm):
    folder = model.view()
    if harm == "a file is missing":
        (folder / "model.gguf").unlink()
    elif harm == "a folder is missing":
        shutil.rmtree(folder / "a")
    else:
        (folder / "model.gguf").unlink()
        (folder / "model.gguf").mkdir()
    assert tree(model.view()) == FILES
    assert leftovers(store) == []


def test_a_view_is_whole_or_not_there(store, model, monkeypatch):
    real = os.link

    def fill_up(source, target):
        if target.name == "LICENSE":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        real(source, target)

    monkeypatch.setattr(os, "link", fill_up)
    target = store.layout.root / "LICENSE"
    monkeypatch.setattr(clones, "copy_data", lambda *_: fill_up(None, target))
    with pytest.raises(DiskFullError):
        model.view()
    assert list(store.layout.views.iterdir()) == []


def test_a_view_of_a_model_that_lacks_a_blob_says_so(store, model):
    store.blobs.path(model.artifact.licenses[0].descriptor.digest).unlink()
    with pytest.raises(CorruptStoreError, match="blob missing from the local store"):
        model.view()
    assert list(store.layout.views.iterdir()) == []


def test_a_symbolic_link_in_the_place_of_a_view_is_replaced_and_its_target_left_alone(
    store, model, tmp_path
):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "model.gguf").write_bytes(b"precious")
    store.layout.view(model.digest).symlink_to(victim)
    folder = model.view()
    assert not folder.is_symlink()
    assert tree(folder) == FILES
    assert tree(victim) == {"model.gguf": b"precious"}
    assert leftovers(store) == []


def test_a_file_in_the_place_of_a_view_is_no_bug(store, model):
    store.layout.view(model.digest).write_bytes(b"")
    with pytest.raises(StoreAccessError):
        model.view()
    assert leftovers(store) == []


def test_another_process_may_make_the_same_view_first(store, model, monkeypatch):
    real = os.link
    folder = store.layout.view(model.digest)

    def link(source, target):
        real(source, target)
        if target.name == "LICENSE":
            monkeypatch.setattr(os, "link", real)
            ensure_view(store.layout, model.artifact)

    monkeypatch.setattr(os, "link", link)
    model.view()
    assert tree(folder) == FILES
    assert leftovers(store) == []


def test_a_file_that_is_there_is_never_written_to(store, model, weights, tmp_path):
    """What has the name already may be a link to another blob."""
    other = tmp_path / "other.gguf"
    os.link(weights, other)
    blob = store.blobs.path(model.artifact.licenses[0].descriptor.digest)
    with pytest.raises(FileExistsError):
        place_file(blob, other)
    assert weights.read_bytes() == b"GGUF weights"


# Copies, where there are no hard links.


@pytest.fixture
def copied(model, monkeypatch):
    """The view of a model on a file system without hard links."""

    def refuse(_source, _target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = model.view()
    assert tree(folder) == FILES
    return folder


def replace_in_place(path, content):
    """Puts another file of the same size and time under a name."""
    status = path.stat()
    assert len(content) == status.st_size
    other = path.with_name("other")
    other.write_bytes(content)
    other.replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_copy_is_hashed_once(model, copied, monkeypatch):
    assert model.view() == copied
    monkeypatch.setattr(stamps, "hash_file", None)
    inode = (copied / "model.gguf").stat().st_ino
    assert model.view() == copied
    assert (copied / "model.gguf").stat().st_ino == inode


def test_another_file_of_the_same_size_is_replaced_by_the_right_one(store, model, copied):
    assert model.view() == copied
    replace_in_place(copied / "model.gguf", b"GGUF weightz")
    assert tree(model.view()) == FILES
    assert leftovers(store) == []


def test_a_link_of_somebody_else_in_a_view_is_replaced(store, model, weights):
    folder = model.view()
    (folder / "model.gguf").unlink()
    (folder / "model.gguf").write_bytes(b"GGUF weightz")
    os.utime(folder / "model.gguf", (2**31, 2**31))
    assert tree(model.view()) == FILES
    assert os.path.samestat((folder / "model.gguf").stat(), weights.stat())


def test_what_is_known_of_copies_goes_with_their_blob(store, model, copied):
    model.view()
    digest = model.artifact.weights[0].descriptor.digest
    assert store.layout.copies(digest).exists()
    store.forget(model.digest)
    remove_blobs_of(store, model)
    assert list(store.layout.stamps.iterdir()) == []


@pytest.mark.parametrize("harm", ["empty", "shorter", "changed", "gone"])
def test_damaged_weights_have_no_path(model, weights, harm):
    assert model.weights().read_bytes() == b"GGUF weights"
    weights.chmod(0o644)
    if harm == "gone":
        weights.unlink()
    else:
        weights.write_bytes({"empty": b"", "shorter": b"GGUF", "changed": b"GGUF weightz"}[harm])
    with pytest.raises(CorruptStoreError, match="is missing or damaged") as caught:
        model.weights()
    assert "modelrunner pull" in (caught.value.hint or "")


def test_names_that_are_one_for_the_file_system_are_refused(store, add):
    files = {"A.json": b"1", "a.json": b"2"}
    model = add(docker_artifact(b"GGUF weights", extra_files=files), "ai/m")
    folder = model.view()
    # this file system knows them from each other
    assert [(folder / name).read_bytes() for name in files] == [b"1", b"2"]
    # as on one that does not: the root has another spelling
    root = store.layout.root
    root.with_name(root.name.swapcase()).symlink_to(root)
    with pytest.raises(ConfigError, match=r"a\.json and A\.json are|A\.json and a\.json are") as no:
        model.view()
    assert no.value.hint == ("set MODELRUNNER_HOME to a directory on a case-sensitive file system")
