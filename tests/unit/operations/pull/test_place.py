"""A model's files in a folder of the user's: real names, checksums, and nobody's file lost."""

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest

from modelrunner.disk import files
from modelrunner.errors import ConfigError, CorruptStoreError, MalformedManifestError, UsageError
from modelrunner.oci.digest import Digest
from modelrunner.operations.pull import place as placing
from modelrunner.operations.pull.place import place
from tests.support.artifacts import docker_artifact
from tests.support.stores import put

WEIGHTS, OTHER = b"GGUF" + b"w" * 5000, b"GGUF" + b"x" * 5000


def stored(store, weights=WEIGHTS, **more):
    return put(store, docker_artifact(weights, license=b"free\n", **more), "ai/x:1")


def listing(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*.*")
        if path.is_file()
    }


def looks(folder):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize("way", ["auto", "link", "copy"])
def test_files_have_their_real_names_and_sha256sum_agrees(store, tmp_path, way):
    folder = tmp_path / "out" / "deep"
    placed = place(stored(store), folder, way)
    assert placed.weights == folder / "model.gguf"
    assert placed.weights.read_bytes() == WEIGHTS
    assert sorted(path.name for path in folder.iterdir()) == ["LICENSE", "SHA256SUMS", "model.gguf"]
    names = [line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert names == sorted(names)
    checked = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("way", ["auto", "link", "copy"])
def test_a_second_time_changes_nothing_and_reads_no_weights(store, tmp_path, way, monkeypatch):
    model, folder = stored(store), tmp_path / "out"
    place(model, folder, way)
    before = looks(folder)
    monkeypatch.setattr(placing, "hash_file", lambda path: pytest.fail(f"{path} was read"))
    assert place(model, folder, way).changed == 0
    assert looks(folder) == before


def test_links_are_links_and_copies_are_independent(store, tmp_path):
    model = stored(store)
    linked = place(model, tmp_path / "links", "link").weights
    copied = place(model, tmp_path / "copies", "copy").weights
    assert linked.samefile(model.weights())
    assert not copied.samefile(model.weights())
    assert copied.stat().st_mode & stat.S_IWUSR
    copied.write_bytes(b"mine now")
    assert linked.read_bytes() == WEIGHTS


def test_another_way_later_is_done(store, tmp_path):
    model, folder = stored(store), tmp_path / "out"
    place(model, folder, "link")
    copied = place(model, folder, "copy")
    assert copied.changed == 2
    assert not copied.weights.samefile(model.weights())
    assert place(model, folder, "link").weights.samefile(model.weights())


def test_what_an_earlier_call_put_there_is_replaced_by_what_is_new(store, tmp_path):
    folder = tmp_path / "out"
    place(stored(store), folder, "copy")
    placed = place(stored(store, OTHER), folder, "copy")
    assert placed.weights.read_bytes() == OTHER
    assert placed.changed == 1


@pytest.mark.parametrize("kind", ["file", "same size", "link", "folder", "edited"])
def test_a_file_of_somebody_else_is_never_overwritten_unasked(store, tmp_path, kind):
    model, folder = stored(store), tmp_path / "out"
    folder.mkdir()
    target = folder / "model.gguf"
    if kind == "edited":
        place(stored(store, OTHER), folder, "copy")
    if kind == "folder":
        target.mkdir()
    elif kind == "link":
        (tmp_path / "elsewhere").write_bytes(b"precious")
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.write_bytes(b"m" * (len(WEIGHTS) if kind == "same size" else 10))
    before = listing(folder)
    with pytest.raises(
        UsageError, match=r"model\.gguf already exists and was not created by modelrunner"
    ):
        place(model, folder, "copy")
    assert listing(folder) == before
    if kind == "folder":
        with pytest.raises(ConfigError):
            place(model, folder, "copy", force=True)
    else:
        assert place(model, folder, "copy", force=True).weights.read_bytes() == WEIGHTS
    if kind == "link":
        assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_the_right_file_that_is_there_already_is_taken_as_it_is(store, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.gguf").write_bytes(WEIGHTS)
    assert place(stored(store), folder).changed == 1
    assert place(stored(store), folder).changed == 0


def test_checksums_of_other_files_stay_as_long_as_these_do(store, tmp_path):
    folder = tmp_path / "out"
    place(stored(store), folder)
    place(stored(store, filenames=["second.gguf"]), folder)
    names = [line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert names == ["LICENSE", "model.gguf", "second.gguf"]
    (folder / "LICENSE").unlink()
    place(put(store, docker_artifact(OTHER, filenames=["third.gguf"]), "ai/y:1"), folder)
    names = [line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert names == ["model.gguf", "second.gguf", "third.gguf"]


SHARDS = [f"granite-{number:05d}-of-00002.gguf" for number in (1, 2)]
STABLE_SHARDS = [f"model-{number:05d}-of-00002.gguf" for number in (1, 2)]


def links(folder):
    return {path.name: str(path.readlink()) for path in folder.iterdir() if path.is_symlink()}


def agrees(folder):
    """What `sha256sum -c` checks: every file and link, and nothing else is there."""
    subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, check=True
    )
    names = [line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    return names == sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")


@pytest.mark.parametrize("way", ["auto", "link", "copy"])
def test_weights_and_projector_have_a_stable_name_beside_their_own(store, tmp_path, way):
    folder = tmp_path / "out"
    model = stored(store, filenames=["granite-Q4.gguf"], mmproj=b"GGUF eye")
    placed = place(model, folder, way)
    assert placed.weights == folder / "granite-Q4.gguf"
    assert links(folder) == {
        "model.gguf": "granite-Q4.gguf",
        "mmproj.gguf": "mmproj-model-f16.gguf",
    }
    assert (folder / "model.gguf").read_bytes() == WEIGHTS
    assert agrees(folder)
    before = looks(folder)
    assert place(model, folder, way).changed == 0
    assert looks(folder) == before


def test_every_shard_has_a_stable_name_that_llama_cpp_finds_the_others_by(store, tmp_path):
    folder = tmp_path / "out"
    place(stored(store, [WEIGHTS, OTHER], filenames=SHARDS), folder)
    assert links(folder) == dict(zip(STABLE_SHARDS, SHARDS, strict=True))
    assert agrees(folder)


def test_stable_names_follow_the_model(store, tmp_path):
    folder = tmp_path / "out"
    place(stored(store, filenames=["a.gguf"], mmproj=b"GGUF eye"), folder)
    place(stored(store, OTHER, filenames=["b.gguf"]), folder)
    assert links(folder) == {"model.gguf": "b.gguf"}
    place(stored(store, [WEIGHTS, OTHER], filenames=SHARDS), folder)
    assert links(folder) == dict(zip(STABLE_SHARDS, SHARDS, strict=True))
    # now a file of the model is called so
    place(stored(store, OTHER), folder)
    assert links(folder) == {}
    assert (folder / "model.gguf").read_bytes() == OTHER
    place(stored(store, filenames=["a.gguf"]), folder)
    assert links(folder) == {"model.gguf": "a.gguf"}
    assert agrees(folder)


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_stable_name_is_not_taken_from_somebody_else(store, tmp_path, kind):
    folder = tmp_path / "out"
    folder.mkdir()
    target = folder / "model.gguf"
    if kind == "file":
        target.write_bytes(b"mine")
    elif kind == "link":
        target.symlink_to("/elsewhere")
    else:
        target.mkdir()
    model = stored(store, filenames=["a.gguf"])
    with pytest.raises(UsageError, match=r"model\.gguf already exists and was not created"):
        place(model, folder)
    assert [path.name for path in folder.iterdir()] == ["model.gguf"]
    if kind != "folder":
        place(model, folder, force=True)
        assert links(folder) == {"model.gguf": "a.gguf"}


def test_without_symbolic_links_the_stable_name_is_a_hard_link(store, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", refuse)
    folder = tmp_path / "out"
    model = stored(store, filenames=["a.gguf"])
    place(model, folder)
    assert (folder / "model.gguf").samefile(folder / "a.gguf")
    assert agrees(folder)
    before = looks(folder)
    place(model, folder)
    assert looks(folder) == before
    place(stored(store, OTHER, filenames=["b.gguf"]), folder)
    assert (folder / "model.gguf").samefile(folder / "b.gguf")


def test_checksums_that_are_something_else_are_not_overwritten(store, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "SHA256SUMS").write_text("my notes\n")
    with pytest.raises(UsageError, match="is not a list of checksums"):
        place(stored(store), folder)
    assert [path.name for path in folder.iterdir()] == ["SHA256SUMS"]


def test_a_model_that_brings_its_own_checksums_is_refused(store, tmp_path):
    model = stored(store, extra_files={"sha256sums": b"lies\n"})
    with pytest.raises(MalformedManifestError):
        place(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_all_here_is_named(store, tmp_path):
    model = stored(store)
    store.blobs.path(Digest.of(WEIGHTS)).unlink()
    with pytest.raises(CorruptStoreError, match="ai/x:1"):
        place(model, tmp_path / "out")


@pytest.mark.parametrize("folder", ["/proc/out", "/dev/null/out"])
def test_a_place_for_no_folder_is_a_configuration_error(store, folder):
    with pytest.raises(ConfigError) as caught:
        place(stored(store), Path(folder))
    assert "choose another directory" in str(caught.value.hint)


def test_a_link_that_cannot_be_says_what_to_do(store, tmp_path, monkeypatch):
    def refuse(_source, _target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    model = stored(store)
    model.weights()
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UsageError) as caught:
        place(model, tmp_path / "out", "link")
    assert "leave out --link" in str(caught.value.hint)
    assert not [*(tmp_path / "out").iterdir()]
    assert place(model, tmp_path / "out").weights.read_bytes() == WEIGHTS


@pytest.mark.parametrize("way", ["auto", "link", "copy"])
def test_files_are_on_the_disk_before_they_have_their_names(store, tmp_path, way, monkeypatch):
    model, folder = stored(store), tmp_path / "out"
    done = []
    real, replace, sync = placing.flush, Path.replace, placing.sync_directory

    def note(what, call):
        def noted(*arguments):
            done.append(what)
            return call(*arguments)

        return noted

    monkeypatch.setattr(placing, "flush", note("flushed", real))
    monkeypatch.setattr(placing, "sync_directory", note("directory", sync))
    monkeypatch.setattr(Path, "replace", note("named", replace))
    place(model, folder, way)
    assert done[:5] == ["flushed", "flushed", "named", "named", "directory"]
    assert done[-1] == "directory"


def test_an_empty_file_is_replaced_and_another_is_not(store, tmp_path):
    model, folder = stored(store), tmp_path / "out"
    folder.mkdir()
    (folder / "model.gguf").touch()
    assert place(model, folder).weights.read_bytes() == WEIGHTS
    (folder / "model.gguf").unlink()
    (folder / "model.gguf").write_bytes(b"mine")
    with pytest.raises(UsageError, match="already exists and was not created by modelrunner"):
        place(model, folder)
    assert (folder / "model.gguf").read_bytes() == b"mine"


def test_what_a_killed_process_has_left_is_removed(store, tmp_path, monkeypatch):
    model, folder = stored(store), tmp_path / "out"
    place(model, folder, "copy")
    (child,) = [subprocess.Popen(["true"])]
    child.wait()
    monkeypatch.setattr(os, "getpid", lambda: child.pid)
    left = [files.temporary_beside(folder / name) for name in ("model.gguf", "SHA256SUMS")]
    monkeypatch.undo()
    for file in left:
        file.write_bytes(b"half")
    assert place(model, folder, "copy").changed == 0
    assert [file for file in left if file.exists()] == []
