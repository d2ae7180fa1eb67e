"""Models leave in an archive and come back; what is wrong with one is found before a name is."""

import gzip
import hashlib
import io
import json
import os
import re
import sys
import tarfile
from importlib import import_module
from pathlib import Path

import pytest

from modelrunner.errors import (
    CorruptStoreError,
    DigestMismatchError,
    DiskFullError,
    IntegrityError,
    MalformedManifestError,
    ModelRunnerError,
    UnsupportedArtifactError,
    UsageError,
)
from modelrunner.events import Advanced, Finished, Planned, Verified
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.operations.archive.index import repository_for
from modelrunner.operations.archive.load import Loader
from modelrunner.operations.archive.output import to_files, to_stream
from modelrunner.operations.archive.save import Archive, choose
from modelrunner.operations.archive.source import find_parts, open_parts
from modelrunner.store.store import Store
from tests.support.artifacts import (
    Artifact,
    docker_artifact,
    image_artifact,
    index_artifact,
    modelpack_artifact,
    tar_of,
)
from tests.support.stores import put

ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
LICENSE = b"do as you like"
ONE = docker_artifact(b"GGUF one" * 1000, license=LICENSE)
TWO = modelpack_artifact([b"GGUF two", b"GGUF three"], license=LICENSE)
NAMES = ("docker.io/ai/one:1", "registry.example.com:5000/team/two:2")
REF_NAME = "org.opencontainers.image.ref.name"


@pytest.fixture
def filled(tmp_path):
    store = Store(tmp_path / "from" / "store")
    put(store, ONE, NAMES[0], "ai/one:latest")
    put(store, TWO, NAMES[1])
    return store


def save(store, path, *texts, part_bytes=None, mtime=0):
    archive = Archive(store, [choose(store, text) for text in texts], mtime=mtime)
    with to_files(path, part_bytes) as output:
        saved = archive.write(output)
    assert saved.size == archive.size
    return output.paths


def load(store, path, **options):
    with open_parts(find_parts([path])) as stream:
        return Loader(store, **options).load(stream)


def members_of(path):
    with tarfile.open(path) as archive:
        return {
            entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()
        }


def laid_out(*artifacts: Artifact, names=("docker.io/ai/m:1",), **more) -> dict[str, bytes]:
    """The files of a layout, as any tool may write it."""
    files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    entries = []
    for artifact, name in zip(artifacts, names, strict=True):
        entry: dict[str, object] = {
            "mediaType": artifact.media_type,
            "digest": artifact.digest,
            "size": len(artifact.manifest),
        }
        if name is not None:
            entry["annotations"] = {REF_NAME: name}
        entries.append(entry | more)
        for content in (artifact.manifest, *artifact.blobs.values()):
            files[blob_name(content)] = content
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    return files


def blob_name(content: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def load_files(store, files, **options):
    return Loader(store, **options).load(io.BytesIO(tar_of(files)))


def contents_of(store):
    """Every file of the store that says anything."""
    root = store.layout.root
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != "lock"
    }


# There and back.


def test_models_that_were_saved_come_back_as_they_were(filled, store, tmp_path):
    (path,) = save(filled, tmp_path / "m.tar", *NAMES)
    loaded = load(store, path)
    assert [(str(one.names[0]), one.is_new) for one in loaded] == [(name, True) for name in NAMES]
    for artifact, name in zip((ONE, TWO), NAMES, strict=True):
        model = store.resolve(name)
        assert str(model.digest) == artifact.digest
        assert model.weights().read_bytes() == artifact.layers[0]
    assert store.find(Reference.parse("ai/one:latest")) is None
    assert {one.is_new for one in load(store, path)} == {False}


def test_the_archive_is_a_layout_that_says_first_what_it_needs(filled, tmp_path):
    (path,) = save(filled, tmp_path / "m.tar", *NAMES)
    with tarfile.open(path) as archive:
        entries = archive.getmembers()
    rest = sorted(digest.removeprefix("sha256:") for digest in {**ONE.blobs, **TWO.blobs})
    first = sorted(artifact.digest.removeprefix("sha256:") for artifact in (ONE, TWO))
    folders = ["blobs", "blobs/sha256"]
    assert [entry.name for entry in entries] == [
        *("oci-layout", "index.json", *folders),
        *(f"blobs/sha256/{name}" for name in [*first, *rest]),
    ]
    assert {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries} == {
        (0, 0, "", "")
    }
    assert {(entry.mode, entry.mtime) for entry in entries} == {(0o644, 0), (0o755, 0)}
    index = json.loads(members_of(path)["index.json"])
    full = [{REF_NAME: name} for name in NAMES]
    aliases = [
        {REF_NAME: re.sub("[/:]", "_", name), "io.containerd.image.name": name} for name in NAMES
    ]
    assert [entry["annotations"] for entry in index["manifests"]] == [*full, *aliases]
    digests = [entry["digest"] for entry in index["manifests"]]
    assert digests[: len(full)] == digests[len(full) :]


def test_the_same_models_give_the_same_bytes(filled, store, tmp_path):
    (one,) = save(filled, tmp_path / "1.tar", *NAMES)
    load(store, one)
    (two,) = save(store, tmp_path / "2.tar", *reversed(NAMES), NAMES[0])
    assert one.read_bytes() == two.read_bytes()
    (three,) = save(store, tmp_path / "3.tar", *NAMES, mtime=1_700_000_000)
    with tarfile.open(three) as archive:
        assert {entry.mtime for entry in archive} == {1_700_000_000}


def test_an_id_stands_for_all_names_and_a_name_for_itself(filled, store, tmp_path):
    short = ONE.digest.removeprefix("sha256:")[:12]
    (path,) = save(filled, tmp_path / "m.tar", short)
    (one,) = load(store, path)
    assert [str(name) for name in one.names] == [NAMES[0], "docker.io/ai/one:latest"]


@pytest.mark.parametrize("part_bytes", [512, 1000, 4096, 1_000_000])
def test_parts_are_what_the_whole_is(filled, store, tmp_path, part_bytes):
    (whole,) = save(filled, tmp_path / "whole.tar", *NAMES)
    parts = save(filled, tmp_path / "m.tar", *NAMES, part_bytes=part_bytes)
    assert b"".join(part.read_bytes() for part in parts) == whole.read_bytes()
    assert {part.stat().st_size for part in parts[:-1]} <= {part_bytes}
    assert [part.name for part in parts][:1] == ["m.tar.000"]
    for named in (parts[0], tmp_path / "m.tar"):
        assert len(load(store, named)) == 2


def test_a_shorter_archive_leaves_no_part_of_the_longer_one(filled, store, tmp_path):
    before = save(filled, tmp_path / "m.tar", *NAMES, part_bytes=1000)
    after = save(filled, tmp_path / "m.tar", NAMES[1], part_bytes=4000)
    assert len(after) < len(before)
    assert sorted(tmp_path.glob("m.tar.*")) == sorted(after)
    assert [str(one.names[0]) for one in load(store, tmp_path / "m.tar")] == [NAMES[1]]


def test_a_part_that_is_missing_is_missed(filled, store, tmp_path):
    parts = save(filled, tmp_path / "m.tar", *NAMES, part_bytes=3000)
    parts[1].unlink()
    with pytest.raises(UsageError, match=r"missing part m\.tar\.001 of the archive"):
        load(store, parts[0])
    assert store.models() == ()


@pytest.mark.parametrize("pack", [gzip.compress, import_module(ZSTD).compress])
def test_a_compressed_archive_is_read(filled, store, tmp_path, pack):
    (path,) = save(filled, tmp_path / "m.tar", *NAMES)
    packed = tmp_path / "m.tar.packed"
    packed.write_bytes(pack(path.read_bytes()))
    assert len(load(store, packed)) == 2
    packed.write_bytes(packed.read_bytes()[:-1000])
    with pytest.raises(IntegrityError):
        load(store, packed)


@pytest.mark.parametrize("magic", [b"\xfd7zXZ", b"BZh9"])
def test_another_compression_is_called_by_its_name(store, tmp_path, magic):
    (tmp_path / "m.tar.x").write_bytes(magic + bytes(2000))
    with pytest.raises(UnsupportedArtifactError, match="compressed with"):
        load(store, tmp_path / "m.tar.x")


# Saving what is not right, or to where it cannot be.


@pytest.mark.parametrize("harm", ["gone", "shorter", "flipped"])
def test_a_damaged_blob_is_found_and_no_file_is_left(filled, tmp_path, harm):
    blob = filled.blobs.path(Digest.of(LICENSE))
    before = blob.stat()
    blob.chmod(0o644)
    if harm == "gone":
        blob.unlink()
    else:
        blob.write_bytes(LICENSE[1:] if harm == "shorter" else bytes(len(LICENSE)))
        # as a disk rots: no look from outside tells
        os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "m.tar").write_bytes(b"older")
    with pytest.raises(CorruptStoreError):
        save(filled, tmp_path / "m.tar", *NAMES)
    assert (tmp_path / "m.tar").read_bytes() == b"older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["from", "m.tar"]


@pytest.mark.parametrize("part_bytes", [None, 1000])
def test_a_save_that_is_interrupted_leaves_nothing(filled, tmp_path, part_bytes):
    def interrupt(event):
        if isinstance(event, Verified):
            raise KeyboardInterrupt

    archive = Archive(filled, [choose(filled, NAMES[0])])
    with (
        pytest.raises(KeyboardInterrupt),
        to_files(tmp_path / "m.tar", part_bytes) as output,
    ):
        archive.write(output, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["from"]


def test_progress_tells_of_every_byte(filled, store, tmp_path):
    events = []
    with to_files(tmp_path / "m.tar") as output:
        Archive(filled, [choose(filled, NAMES[0])]).write(output, events.append)
    total = len(ONE.manifest) + sum(map(len, ONE.blobs.values()))
    assert events[0] == Planned("ai/one:1", total, 0, 0)
    assert sum(event.done for event in events if isinstance(event, Advanced)) == total
    events.clear()
    load(store, tmp_path / "m.tar", listener=events.append)
    assert sum(event.done for event in events if isinstance(event, Advanced)) == total
    assert events[-1] == Finished("ai/one:1", "", total)


def test_a_device_is_written_to_and_never_replaced(filled, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        save(filled, pipe, NAMES[1])
        assert os.read(reader, 10) == b"oci-layout"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert save(filled, Path(os.devnull), NAMES[1]) == ()
    assert Path(os.devnull).is_char_device()


def test_a_link_is_followed(filled, store, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link.tar").symlink_to(tmp_path / "disk" / "m.tar")
    save(filled, tmp_path / "link.tar", NAMES[0])
    assert (tmp_path / "link.tar").is_symlink()
    assert len(load(store, tmp_path / "disk" / "m.tar")) == 1


def test_a_folder_is_no_place_for_an_archive(filled, tmp_path):
    with pytest.raises(UsageError):
        save(filled, tmp_path, NAMES[0])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_a_stream_is_said(filled):
    archive = Archive(filled, [choose(filled, NAMES[0])])
    with (
        pytest.raises(DiskFullError),
        open("/dev/full", "wb", buffering=0) as full,  # noqa: PTH123
        to_stream(full) as output,
    ):
        archive.write(output)


def test_a_reader_that_leaves_is_an_error_for_an_archive(filled):
    reader, writer = os.pipe()
    os.close(reader)
    archive = Archive(filled, [choose(filled, NAMES[0])])
    with (
        pytest.raises(ModelRunnerError, match="the reader closed the pipe"),
        os.fdopen(writer, "wb", buffering=0) as stream,
        to_stream(stream) as output,
    ):
        archive.write(output)


def test_what_is_no_model_is_not_saved(filled, tmp_path):
    put(filled, image_artifact(oci=True), "ai/box:1")
    with pytest.raises(UnsupportedArtifactError, match="container image"):
        save(filled, tmp_path / "m.tar", "ai/box:1")


# Loading from anybody.


@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, reverse=True)])
def test_members_may_come_in_any_order(store, order):
    files = laid_out(ONE, TWO, names=NAMES)
    loaded = load_files(store, {name: files[name] for name in order(files)})
    assert [str(one.names[0]) for one in loaded] == list(NAMES)


@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, reverse=True)])
def test_what_no_model_needs_is_not_kept(store, order):
    files = laid_out(ONE) | {blob_name(b"stowaway"): b"stowaway", "blobs/sha512/x": b"x", "y": b"y"}
    load_files(store, {name: files[name] for name in order(files)})
    assert {path.name for path in store.layout.blobs.iterdir()} == {
        digest.removeprefix("sha256:") for digest in (ONE.digest, *ONE.blobs)
    }
    assert len(list(store.layout.stamps.iterdir())) == 1 + len(ONE.blobs)


def test_what_the_store_has_need_not_come_again(filled):
    files = laid_out(ONE, names=["ai/again:1"])
    for content in ONE.blobs.values():
        del files[blob_name(content)]
    (one,) = load_files(filled, files)
    assert [str(name) for name in one.names] == ["docker.io/ai/again:1"]


def test_a_name_that_is_a_bare_tag_names_nothing(store):
    files = laid_out(ONE, names=["latest"])
    with pytest.raises(UsageError, match="has no name") as caught:
        load_files(store, files)
    assert "--name" in (caught.value.hint or "")
    (one,) = load_files(store, files, name=Reference.parse("ai/mine:1"))
    assert [str(name) for name in one.names] == ["docker.io/ai/mine:1"]


@pytest.mark.parametrize(
    ("archive", "repository"),
    [
        ("box.tar", "box"),
        ("box.tar.gz", "box"),
        ("box.tgz", "box"),
        ("box.tar.000", "box"),
        ("My Models v1.2.tar", "my-models-v1-2"),
        ("box", "box"),
        ("...", "models"),
    ],
)
def test_short_names_are_tags_of_a_repository_named_after_the_archive(store, archive, repository):
    files = laid_out(ONE, TWO, names=["3B", "7B-Q4_K_M"])
    loaded = load_files(store, files, short=repository_for(archive))
    assert [str(name) for one in loaded for name in one.names] == [
        f"docker.io/local/{repository}:3B",
        f"docker.io/local/{repository}:7B-Q4_K_M",
    ]


def test_name_that_is_given_is_the_repository_of_several_short_names(store):
    files = laid_out(ONE, TWO, names=["3B", "7B"])
    loaded = load_files(store, files, name=Reference.parse("ai/mine"))
    names = [str(name) for one in loaded for name in one.names]
    assert names == ["docker.io/ai/mine:3B", "docker.io/ai/mine:7B"]


def lay_down(folder, *artifacts, names):
    for name, content in laid_out(*artifacts, names=names).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_layout_in_a_directory_is_loaded_like_an_archive(cli, tmp_path):
    folder = lay_down(tmp_path / "Box", ONE, TWO, names=["3B", "docker.io/ai/m:1"])
    done = cli("load", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    names = [name for one in json.loads(done.stdout) for name in one["references"]]
    assert names == ["docker.io/local/box:3B", "docker.io/ai/m:1"]
    assert cli("verify", "ai/m:1").returncode == 0


def test_link_in_a_layout_directory_is_not_followed(cli, tmp_path):
    folder = lay_down(tmp_path / "box", ONE, names=["3B"])
    blob = folder / blob_name(next(iter(ONE.blobs.values())))
    blob.rename(tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    done = cli("load", str(folder))
    assert done.returncode == 6
    assert f"error: {blob} is a symbolic link, not a file\nhint: copy the layout" in done.stderr
    assert json.loads(cli("list", "--json").stdout) == []


def test_pipe_in_a_layout_directory_keeps_nobody_waiting(cli, tmp_path):
    folder = lay_down(tmp_path / "box", ONE, names=["3B"])
    blob = folder / blob_name(next(iter(ONE.blobs.values())))
    blob.unlink()
    os.mkfifo(blob)
    done = cli("load", str(folder), timeout=60)
    assert "error: " in done.stderr
    assert "not a regular file" in done.stderr


def test_one_name_is_not_for_two_models(store):
    with pytest.raises(UsageError, match="needs an archive of one model"):
        load_files(store, laid_out(ONE, TWO, names=NAMES), name=Reference.parse("ai/m:1"))
    with pytest.raises(IntegrityError, match="same name for two"):
        load_files(store, laid_out(ONE, TWO, names=["ai/m:1", "docker.io/ai/m:1"]))


def _without(name):
    return lambda files: files.pop(name)


def _with(name, content):
    return lambda files: files.update({name: content})


def _flipped(name):
    return lambda files: files.update({name: bytes(len(files[name]))})


def _cut(name):
    return lambda files: files.update({name: files[name][:-1]})


WEIGHTS = blob_name(ONE.layers[0])
HOSTILE = {
    "no index": (_without("index.json"), MalformedManifestError),
    "no layout": (_without("oci-layout"), MalformedManifestError),
    "other layout": (_with("oci-layout", b'{"imageLayoutVersion":"2.0.0"}'), IntegrityError),
    "index is noise": (_with("index.json", b"\xff"), IntegrityError),
    "index is deep": (_with("index.json", b'{"a":' * 100_000), IntegrityError),
    "index is huge": (_with("index.json", b" " * 5_000_000), IntegrityError),
    "index is empty": (_with("index.json", b'{"manifests":[]}'), IntegrityError),
    "no manifest": (_without(blob_name(ONE.manifest)), IntegrityError),
    "no weights": (_without(WEIGHTS), IntegrityError),
    "no config": (_without(blob_name(ONE.config)), IntegrityError),
    "flipped weights": (_flipped(WEIGHTS), DigestMismatchError),
    "flipped manifest": (_flipped(blob_name(ONE.manifest)), DigestMismatchError),
    "short weights": (_cut(WEIGHTS), IntegrityError),
    "escapes": (_with("blobs/../../../etc/x", b"x"), IntegrityError),
    "absolute": (_with("/etc/x", b"x"), IntegrityError),
    "a container image": (
        lambda files: (files.clear(), files.update(laid_out(image_artifact(oci=True)))),
        UnsupportedArtifactError,
    ),
    "one of two is an image": (
        lambda files: files.update(laid_out(ONE, image_artifact(), names=["ai/a:1", "ai/b:1"])),
        UnsupportedArtifactError,
    ),
    "an index": (
        lambda files: files.update(laid_out(index_artifact(ONE))),
        UnsupportedArtifactError,
    ),
    "docker's own": (
        lambda files: (files.clear(), files.update({"manifest.json": b"[]", "abc.tar": b"x"})),
        UnsupportedArtifactError,
    ),
}


@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, reverse=True)])
@pytest.mark.parametrize(("change", "error"), HOSTILE.values(), ids=HOSTILE)
def test_an_archive_with_something_wrong_changes_nothing(store, change, error, order):
    # the same name as a model that is here, which has other content
    put(store, docker_artifact(b"GGUF mine"), "ai/one:latest")
    before = contents_of(store)
    files = laid_out(ONE, names=["ai/one:latest"])
    change(files)
    with pytest.raises(error):
        load_files(store, {name: files[name] for name in order(files)})
    assert contents_of(store) == before


def test_members_that_are_no_files_are_refused(store):
    for name, kind in [(WEIGHTS, tarfile.SYMTYPE), ("elsewhere", tarfile.LNKTYPE)]:
        files = laid_out(ONE)
        files.pop(name, None)
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, "/etc/passwd"
        raw = link.tobuf(tarfile.USTAR_FORMAT) + tar_of(files)
        with pytest.raises(IntegrityError):
            Loader(store).load(io.BytesIO(raw))
        assert store.models() == ()
        assert list(store.layout.blobs.iterdir()) == []


def test_an_archive_of_docker_model_runner_has_no_name_of_its_own(store):
    digests = [*ONE.layer_digests, *(set(ONE.blobs) - set(ONE.layer_digests))]
    files = {blob_name(ONE.blobs[digest]): ONE.blobs[digest] for digest in digests}
    files["manifest.json"] = ONE.manifest
    with pytest.raises(UsageError, match="has no name in the archive"):
        load_files(store, files)
    assert list(store.layout.blobs.iterdir()) == []
    (loaded,) = load_files(store, files, name=Reference.parse("mine/one:1"))
    assert str(loaded.model.digest) == ONE.digest
    (nameless,) = load_files(Store(store.layout.root.with_name("other")), files, nameless=True)
    assert (nameless.model.references, nameless.names) == ((), ())


def test_a_model_without_a_name_keeps_the_names_that_it_has(store):
    put(store, ONE, "ai/one:1")
    digests = sorted(ONE.blobs)
    files = {blob_name(ONE.blobs[digest]): ONE.blobs[digest] for digest in digests}
    files["manifest.json"] = ONE.manifest
    (loaded,) = load_files(store, files, nameless=True)
    assert not loaded.is_new
    assert [str(name) for name in store.resolve(ONE.digest).references] == ["docker.io/ai/one:1"]


@pytest.mark.parametrize("name", ["index.json", "oci-layout", WEIGHTS])
def test_two_members_of_one_name_are_refused(store, name):
    files = laid_out(ONE)
    end = tar_of({name: files[name]})
    raw = tar_of(files).rstrip(b"\0")
    raw += bytes(-len(raw) % 512)
    with pytest.raises(IntegrityError, match="duplicate entry"):
        Loader(store).load(io.BytesIO(raw + end))
    assert store.models() == ()


def test_an_archive_that_is_cut_anywhere_names_nothing_and_keeps_what_is_here(filled, tmp_path):
    (path,) = save(filled, tmp_path / "m.tar", *NAMES)
    raw = path.read_bytes()
    other = Store(tmp_path / "other")
    put(other, docker_artifact(b"GGUF mine"), "ai/mine:1")
    before = contents_of(other)
    for end in range(0, len(raw) - 10_240, 1_499):
        with pytest.raises(IntegrityError):
            Loader(other).load(io.BytesIO(raw[:end]))
        assert contents_of(other) == before
    assert len(Loader(other).load(io.BytesIO(raw))) == 2


def test_a_damaged_blob_is_healed_by_an_archive(filled, tmp_path):
    (path,) = save(filled, tmp_path / "m.tar", *NAMES)
    blob = filled.blobs.path(Digest.of(ONE.layers[0]))
    blob.chmod(0o644)
    blob.write_bytes(b"GGUF else")
    load(filled, path)
    assert blob.read_bytes() == ONE.layers[0]
