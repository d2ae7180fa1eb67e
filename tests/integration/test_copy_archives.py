"""Copies to and from archives, directories and the store: the same bytes as between registries."""

import gzip
import json
import re
import shutil
import sys
from importlib import import_module

import pytest

from modelrunner.errors import (
    DigestMismatchError,
    IntegrityError,
    ManifestNotFoundError,
    ModelNotFoundError,
    TransferError,
    UnsupportedArtifactError,
    UsageError,
)
from modelrunner.events import Skipped
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import referrers_tag
from modelrunner.operations.archive.load import Loader
from modelrunner.operations.archive.output import to_files
from modelrunner.operations.archive.save import Archive, choose
from modelrunner.operations.archive.source import find_parts, open_parts
from modelrunner.operations.copy.copy import Copying
from modelrunner.operations.copy.mirror import parse_place, parse_start
from modelrunner.operations.copy.to_registry import RegistryCopier
from modelrunner.store.store import Store
from tests.support.artifacts import Artifact, docker_artifact, image_artifact, index_artifact
from tests.support.docker_registry import needs_skopeo, skopeo
from tests.support.gguf import tiny_gguf
from tests.support.images import MANIFEST, Image, Item, digest_of, symlink, tar_of
from tests.support.pulling import QUICK, Pulling
from tests.support.registry import Registry
from tests.support.signing import Signer, bundle, simple_signature
from tests.support.stores import put, put_referrer

ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


@pytest.fixture
def model(tmp_path):
    return docker_artifact(tiny_gguf(tmp_path / "tiny.gguf").read_bytes(), license=b"free")


@pytest.fixture
def source(model):
    with Registry() as made:
        made.add(model, "team/m", ["1"])
        signer = Signer.make()
        made.add(bundle(signer, model), "team/m")
        tag = referrers_tag(Digest.parse(model.digest), ".sig")
        made.add(simple_signature(signer, model.digest), "team/m", [tag])
        yield made


@pytest.fixture
def target():
    with Registry() as made:
        yield made


@pytest.fixture
def pulling(store):
    return Pulling(store)


def unchecked(_reference, _manifest):
    """Every manifest may pass."""


@pytest.fixture
def copying(pulling):
    places = pulling.places
    copier = RegistryCopier(places.sink_for, unchecked, "all", pulling.events.append, QUICK)
    return Copying(pulling.store, places.source_for, places.referrers_of, copier, QUICK)


def assert_same(target, repository, artifact):
    there = target.storage.repositories[repository]
    assert there.manifests[artifact.digest].content == artifact.manifest
    for digest, content in artifact.blobs.items():
        assert there.blobs[digest] == content
    for child in artifact.children:
        assert_same(target, repository, child)


@pytest.mark.parametrize("end", ["archive:{}/m.tar", "dir:{}/m"])
def test_way_over_an_archive_changes_nothing(copying, source, target, tmp_path, model, end):
    end = end.format(tmp_path)
    copied = copying.copy(source.reference("team/m:1"), end)
    assert copied.digest == model.digest
    assert copied.destination == f"{end}:{source.reference('team/m:1')}"
    assert copied.referrers.count == 2
    source.close()

    again = copying.copy(end, target.reference("ai/m:2"))

    assert (again.digest, again.referrers.count) == (model.digest, 2)
    assert again.source == source.reference("team/m:1")
    assert_same(target, "ai/m", model)
    manifests = source.storage.repositories["team/m"].manifests
    assert target.storage.repositories["ai/m"].manifests.keys() >= manifests.keys()


@pytest.mark.parametrize("end", ["archive:{}/m.tar", "dir:{}/m"])
def test_indexes_and_images_go_into_archives(copying, source, target, tmp_path, model, end):
    index = index_artifact(model, image_artifact(oci=True))
    source.add(index, "team/i", ["1"])
    end = end.format(tmp_path)
    copying.copy(source.reference("team/i:1"), f"{end}:ai/i:2")
    copying.copy(f"{end}:ai/i:2", target.reference("ai/i:3"))
    assert_same(target, "ai/i", index)


def test_archive_is_loaded_and_what_is_saved_is_copied(copying, source, target, tmp_path, model):
    copying.copy(source.reference("team/m:1"), f"archive:{tmp_path}/m.tar:ai/m:1")
    store = Store(tmp_path / "other")
    with open_parts(find_parts([tmp_path / "m.tar"])) as stream:
        (loaded,) = Loader(store).load(stream)
    assert (str(loaded.model.digest), loaded.referrers) == (model.digest, 2)

    with to_files(tmp_path / "saved.tar", 64 * 1024) as output:
        Archive(store, [choose(store, "ai/m:1")]).write(output)
    copied = copying.copy(f"archive:{tmp_path}/saved.tar", target.reference("ai/m:1"))
    assert copied.referrers.count == 2
    assert_same(target, "ai/m", model)


# All tags, and lists.


@pytest.mark.parametrize("end", ["archive:{}/m.tar", "dir:{}/m", "store:ai/m"])
def test_all_tags_go_over_an_archive_or_the_store(copying, source, target, tmp_path, model, end):
    other = docker_artifact(tiny_gguf(tmp_path / "two.gguf", seed=2).read_bytes())
    source.add(other, "team/m", ["2"])
    end = end.format(tmp_path)
    way = list(copying.copy_all(source.reference("team/m"), end))
    named = "docker.io/ai/m" if end.startswith("store:") else source.reference("team/m")
    assert [
        (one.status, one.destination.removesuffix(f"{named}:{tag}"))
        for one, tag in zip(way, "12", strict=True)
    ] == [("copied", "store:" if end.startswith("store:") else f"{end}:")] * 2
    source.close()

    back = list(copying.copy_all(end, target.reference("ai/m")))

    assert [one.digest for one in back] == [model.digest, other.digest]
    assert target.tags("ai/m").keys() >= {"1", "2"}
    assert_same(target, "ai/m", model)
    assert_same(target, "ai/m", other)
    chosen = list(copying.copy_all(end, target.reference("ai/n"), ["2*"]))
    assert [one.digest for one in chosen] == [other.digest]
    with pytest.raises(ManifestNotFoundError, match="no tag matches 3"):
        list(copying.copy_all(end, target.reference("ai/n"), ["3"]))


def test_all_tags_of_an_archive_are_of_one_repository(copying, source, target, tmp_path, model):
    place = f"dir:{tmp_path}/d"
    copying.copy(source.reference("team/m:1"), f"{place}:ai/m:1")
    copying.copy(source.reference("team/m:1"), f"{place}:ai/o:2")
    with pytest.raises(UsageError, match="has models of 2 repositories") as no:
        list(copying.copy_all(place, target.reference("x/y")))
    assert no.value.hint == (
        "add one after a colon: docker.io/ai/m, docker.io/ai/o; or copy all with"
        f" `modelrunner mirror sync --from {place} --to HOST`"
    )
    (one,) = copying.copy_all(f"{place}:ai/o", target.reference("x/y"))
    assert (one.source, one.digest) == ("ai/o:2", model.digest)
    with pytest.raises(UsageError, match="--all-tags needs a repository, got ai/o:2"):
        list(copying.copy_all(f"{place}:ai/o:2", target.reference("x/y")))


def test_mirror_is_made_of_an_archive_without_a_network(copying, source, target, tmp_path, model):
    other = docker_artifact(b"GGUF other", license=b"free")
    source.add(other, "team/o", ["1"])
    copying.copy(source.reference("team/m:1"), f"dir:{tmp_path}/d:ghcr.io/team/m:1")
    copying.copy(source.reference("team/o:1"), f"dir:{tmp_path}/d:ghcr.io/team/o:1")
    source.close()
    archive = copying.read_archive(parse_start(f"dir:{tmp_path}/d"))
    place = parse_place(target.host, scoped=False)
    listed = [
        Reference.parse(f"ghcr.io/team/n:7@{model.digest}"),
        Reference.parse("ghcr.io/team/o:1"),
        Reference.parse("ghcr.io/team/o:2"),
    ]
    with copying.mirror(place, archive) as mirror:
        first, second, third = mirror.sync(listed)
    assert (first.status, first.digest, first.referrers.count) == ("copied", model.digest, 2)
    assert (second.status, second.digest) == ("copied", other.digest)
    assert third.error.message == f"{tmp_path}/d: no model ghcr.io/team/o:2 in the archive"
    assert third.error.hint == "it has ghcr.io/team/m:1, ghcr.io/team/o:1"
    assert_same(target, "team/n", model)
    with copying.mirror(place, archive) as mirror:
        again = list(mirror.sync(archive.references))
    assert [one.status for one in again] == ["copied", "present"]
    assert target.tags("team/m")["1"] == model.digest


@pytest.mark.parametrize("text", ["registry.example.com", "archive:m.tar:ai/m:1"])
def test_mirror_of_what_is_not_an_archive(text):
    with pytest.raises(UsageError, match="is not an archive") as no:
        parse_start(text)
    assert no.value.hint


PACKINGS = {"gz": gzip.compress, "zst": import_module(ZSTD).compress}


@pytest.mark.parametrize(("kind", "pack"), PACKINGS.items(), ids=PACKINGS)
def test_compressed_archives_are_copied_from(
    copying, source, target, store, tmp_path, model, kind, pack
):
    copying.copy(source.reference("team/m:1"), f"archive:{tmp_path}/m.tar:ai/m:1")
    packed = tmp_path / f"m.tar.{kind}"
    packed.write_bytes(pack((tmp_path / "m.tar").read_bytes()))
    copied = copying.copy(f"archive:{packed}", target.reference("ai/m:1"))
    assert copied.referrers.count == 2
    assert_same(target, "ai/m", model)
    assert copying.copy(f"archive:{packed}", "store:ai/m:2").status == "copied"
    assert list(store.layout.ingest.glob("*tmp*")) == []


@pytest.mark.parametrize(("kind", "pack"), PACKINGS.items(), ids=PACKINGS)
def test_compressed_archive_that_is_damaged_is_not_copied_from(
    copying, source, target, tmp_path, kind, pack
):
    copying.copy(source.reference("team/m:1"), f"archive:{tmp_path}/m.tar:ai/m:1")
    packed = tmp_path / f"m.tar.{kind}"
    whole = pack((tmp_path / "m.tar").read_bytes())
    for damaged in (whole[:-100], whole[:200] + b"?" * 100 + whole[300:]):
        packed.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            copying.copy(f"archive:{packed}", target.reference("ai/m:1"))
    packed.write_bytes(pack(bytes(65 * 1024 * 1024)))
    with pytest.raises(
        IntegrityError, match=r"unpacks to more than 64\.00 MiB, 100 times its size"
    ):
        copying.copy(f"archive:{packed}", target.reference("ai/m:1"))


def test_directory_keeps_what_it_has(copying, pulling, source, target, tmp_path, model):
    other = docker_artifact(b"GGUF other", license=b"free")
    source.add(other, "team/o", ["1"])
    place = f"dir:{tmp_path}/d"
    copying.copy(source.reference("team/m:1"), f"{place}:ai/m:1")
    copying.copy(source.reference("team/o:1"), f"{place}:ai/o:1")
    # the license is there already
    assert len(pulling.heard(Skipped)) == 1
    for name, artifact in (("ai/m:1", model), ("ai/o:1", other)):
        copying.copy(f"{place}:{name}", target.reference(name))
        assert_same(target, name.partition(":")[0], artifact)
    with pytest.raises(UsageError, match="has 2 models: add the name of one after a colon") as no:
        copying.copy(place, target.reference("x/y:1"))
    assert no.value.hint == "it has ai/m:1, ai/o:1"
    with pytest.raises(ModelNotFoundError, match="no model 'ai/p:1' in the archive"):
        copying.copy(f"{place}:ai/p:1", target.reference("x/y:1"))
    again = copying.copy(source.reference("team/m:1"), f"{place}:ai/m:1")
    assert again.status == "present"


def test_blob_that_is_damaged_is_not_committed(copying, source, target, tmp_path, model):
    copying.copy(source.reference("team/m:1"), f"dir:{tmp_path}/d")
    (weights, *_) = model.layer_digests
    path = tmp_path / "d" / "blobs" / "sha256" / weights.removeprefix("sha256:")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"?")
    with pytest.raises(DigestMismatchError):
        copying.copy(f"dir:{tmp_path}/d", target.reference("ai/m:1"))
    path.write_bytes(content[:-1])
    with pytest.raises(IntegrityError):
        copying.copy(f"dir:{tmp_path}/d", target.reference("ai/m:1"))
    path.unlink()
    with pytest.raises(ManifestNotFoundError, match="is missing"):
        copying.copy(f"dir:{tmp_path}/d", target.reference("ai/m:1"))
    there = target.storage.repositories.get("ai/m")
    assert there is None or weights not in there.blobs
    assert target.tags("ai/m") == {}


def test_archive_that_is_not_completed_is_not_there(copying, source, tmp_path, model):
    place = tmp_path / "m.tar"
    place.write_bytes(b"the old one")
    source.cut_after(0, times=None, digest=model.layer_digests[0])
    with pytest.raises(TransferError):
        copying.copy(source.reference("team/m:1"), f"archive:{place}")
    assert place.read_bytes() == b"the old one"
    assert [path.name for path in tmp_path.glob("*m.tar*")] == ["m.tar"]
    with pytest.raises(TransferError):
        copying.copy(source.reference("team/m:1"), f"dir:{tmp_path}/d")
    assert not (tmp_path / "d" / "index.json").exists()
    source.calm()
    copying.copy(source.reference("team/m:1"), f"dir:{tmp_path}/d")
    assert json.loads((tmp_path / "d" / "index.json").read_text())["manifests"]


def test_archive_is_not_replaced_by_what_is_copied_out_of_it(copying, source, tmp_path, model):
    copying.copy(source.reference("team/m:1"), f"archive:{tmp_path}/m.tar")
    place = tmp_path / "m.tar"
    before, other = place.read_bytes(), tmp_path / "link.tar"
    other.symlink_to(place)
    archive = copying.read_archive(parse_start(f"archive:{place}"))
    said = f"{other} is both the source and the destination"
    with pytest.raises(UsageError, match=re.escape(said)):
        copying.copy(f"archive:{place}", f"archive:{other}")
    with pytest.raises(UsageError, match=re.escape(said)):
        list(copying.copy_all(f"archive:{place}", f"archive:{other}"))
    to_itself = copying.mirror(parse_place(f"archive:{other}", scoped=False), archive)
    with pytest.raises(UsageError, match=re.escape(said)), to_itself:
        pass
    assert place.read_bytes() == before


def test_what_is_not_a_layout_is_said(copying, target, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no tar, and no zeros in it")
    (tmp_path / "m.tar.gz").write_bytes(gzip.compress(bytes(1024)))
    for end, kind in (
        (f"dir:{tmp_path}/empty", IntegrityError),
        (f"archive:{tmp_path}/text", IntegrityError),
        (f"archive:{tmp_path}/none", UsageError),
        (f"archive:{tmp_path}/m.tar.gz", IntegrityError),
    ):
        with pytest.raises(kind) as caught:
            copying.copy(end, target.reference("ai/m:1"))
        assert caught.value.hint


def test_tar_that_cannot_be_read_is_named(copying, target, tmp_path):
    place = tmp_path / "m.tar"
    for content, kind, said in (
        (b"text" * 1000, IntegrityError, "not a tar archive, or a damaged one"),
        (
            b"\xfd7zXZ\0" + bytes(1000),
            UnsupportedArtifactError,
            "the archive is compressed with xz",
        ),
    ):
        place.write_bytes(content)
        with pytest.raises(kind) as caught:
            copying.copy(f"archive:{place}", target.reference("ai/m:1"))
        assert caught.value.message == f"{place}: {said}"


# The store.


def test_model_goes_into_the_store_with_its_signatures(copying, pulling, source, tmp_path, model):
    copying.copy(source.reference("team/m:1"), f"archive:{tmp_path}/m.tar")
    for end in (source.reference("team/m:1"), f"archive:{tmp_path}/m.tar"):
        shutil.rmtree(pulling.store.layout.root, ignore_errors=True)
        copied = copying.copy(end, "store:ai/mine:1")
        assert copied.destination == "store:docker.io/ai/mine:1"
        stored = pulling.store.resolve("ai/mine:1")
        assert str(stored.digest) == model.digest
        assert len(pulling.store.sound_referrers(stored.digest)) == 2
        assert all(pulling.store.blobs.deep_state(b) == "good" for b in stored.manifest.blobs)
    assert copying.copy(source.reference("team/m:1"), "local/mine:1").status == "copied"
    assert copying.copy(source.reference("team/m:1"), "local/mine:1").status == "present"


def test_store_takes_models_only_and_says_so_before_a_blob_moves(copying, source, model):
    source.add(image_artifact(oci=True), "team/i", ["1"])
    source.add(index_artifact(model, model), "team/x", ["1"])
    source.forget()
    for name in ("team/i:1", "team/x:1"):
        with pytest.raises(UnsupportedArtifactError):
            copying.copy(source.reference(name), "store:ai/x:1")
    # the config of an image may say that it has a model
    assert source.count("GET", "blob") == 1


@pytest.mark.parametrize("end", ["store:ai/car:1", "archive:{}/m.tar", "dir:{}/m"])
def test_image_whose_config_alone_says_that_it_has_a_model_goes_everywhere(
    copying, store, source, target, tmp_path, end
):
    weights = tiny_gguf(tmp_path / "weights.gguf").read_bytes()
    labels = {"Labels": {"org.cnai.model.title": "tiny"}}
    image = Image([tar_of([Item("models/m.gguf", weights)])], config=labels)
    blobs = {digest_of(blob): blob for blob in image.blobs}
    source.add(Artifact(image.manifest, MANIFEST, blobs), "team/car", ["1"])
    end = end.format(tmp_path)
    copying.copy(source.reference("team/car:1"), end)
    if end.startswith("store:"):
        assert next(store.resolve("ai/car:1").view().rglob("m.gguf")).read_bytes() == weights
    else:
        copying.copy(end, "store:ai/car:1")
    copying.copy("store:ai/car:1", f"dir:{tmp_path}/again")
    copying.copy("store:ai/car:1", "store:ai/car:2")
    copied = copying.copy(f"dir:{tmp_path}/again", target.reference("ai/car:1"))
    assert copied.digest == digest_of(image.manifest)


HOSTILE = {
    "out": (symlink("models/m.gguf", "../../../etc/passwd"), "is a link that leaves the model"),
    "not weights": (Item("models/m.gguf", b"something else"), "m.gguf is not a GGUF file"),
}


@pytest.mark.parametrize(("item", "message"), HOSTILE.values(), ids=HOSTILE)
def test_model_that_cannot_be_unpacked_gets_no_name_in_the_store(
    copying, store, source, item, message
):
    says = {"org.containers.type": "ai.image.model.raw"}
    image = Image([tar_of([item])], annotations=says)
    blobs = {digest_of(blob): blob for blob in image.blobs}
    source.add(Artifact(image.manifest, MANIFEST, blobs), "team/car", ["1"])
    with pytest.raises(IntegrityError, match=message):
        copying.copy(source.reference("team/car:1"), "store:ai/car:1")
    assert store.models() == ()


def test_stored_model_goes_into_an_archive(copying, store, target, tmp_path, model):
    stored = put(store, model, "local/m:1")
    put_referrer(store, stored, bundle(Signer.make(), model))
    copying.copy("local/m:1", f"archive:{tmp_path}/m.tar")
    copied = copying.copy(f"archive:{tmp_path}/m.tar:local/m:1", target.reference("ai/m:1"))
    assert copied.referrers.count == 1
    assert_same(target, "ai/m", model)


# Archives of others.


@needs_skopeo
@pytest.mark.registry
def test_skopeo_reads_and_writes_the_same_archives(copying, source, target, tmp_path, model):
    copying.copy(source.reference("team/m:1"), f"archive:{tmp_path}/m.tar:ai/m:1")
    raw = skopeo("inspect", "--raw", f"oci-archive:{tmp_path}/m.tar:docker.io/ai/m:1")
    assert raw.encode() == model.manifest
    image = image_artifact(oci=True)
    source.add(image, "team/i", ["1"])
    skopeo(
        *("copy", "--insecure-policy", "--src-tls-verify=false"),
        f"docker://{source.reference('team/i:1')}",
        f"oci-archive:{tmp_path}/i.tar:one",
    )
    copying.copy(f"oci-archive:{tmp_path}/i.tar:one", target.reference("ai/i:1"))
    assert_same(target, "ai/i", image)
