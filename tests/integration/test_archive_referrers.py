"""What refers to a model goes along in archives, in the form of each tool that writes some."""

import io
import json
import tarfile

import pytest

from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import referrers_tag
from modelrunner.operations.archive.load import Loader
from modelrunner.operations.archive.output import to_stream
from modelrunner.operations.archive.save import Archive, choose
from modelrunner.store.store import Store
from modelrunner.store.sweep import sweep
from tests.support.artifacts import docker_artifact, index_artifact, tar_of
from tests.support.registry import sha256
from tests.support.signing import (
    Signer,
    attestation,
    bundle,
    signature_artifact,
    simple_signature,
)
from tests.support.stores import put, put_referrer

MODEL = docker_artifact(b"GGUF weights" * 1000, license=b"free")
OTHER = docker_artifact(b"GGUF other")
DIGEST = Digest.parse(MODEL.digest)
NAME = "docker.io/ai/m:1"
SIG = referrers_tag(DIGEST, ".sig")

SIGNER = Signer.make()
BUNDLED = bundle(SIGNER, MODEL)
TAGGED = simple_signature(SIGNER, MODEL.digest)
ATTESTED = attestation(SIGNER, MODEL.digest)
PARTS = signature_artifact(b'{"spdxVersion": "SPDX-2.3"}', "application/spdx+json", MODEL)
KEPT = {BUNDLED.digest: None, PARTS.digest: None, TAGGED.digest: SIG}


@pytest.fixture
def filled(tmp_path):
    store = Store(tmp_path / "from" / "store")
    model = put(store, MODEL, NAME, "ai/m:latest")
    put_referrer(store, model, BUNDLED)
    put_referrer(store, model, PARTS)
    put_referrer(store, model, TAGGED, SIG)
    return store


def saved(store, *texts):
    out = io.BytesIO()
    archive = Archive(store, [choose(store, text) for text in texts or [NAME]])
    with to_stream(out) as output:
        archive.write(output)
    assert len(out.getvalue()) == archive.size
    return out.getvalue()


def load(store, raw, **options):
    return Loader(store, **options).load(io.BytesIO(raw))


def kept(store, digest=DIGEST):
    return {str(each.digest): each.tag for each in store.referrers_of(digest)}


def files_of(raw):
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}


def entry(artifact, name=None, **more):
    value = {
        "mediaType": artifact.media_type,
        "digest": artifact.digest,
        "size": len(artifact.manifest),
        **more,
    }
    if name is not None:
        value["annotations"] = {"org.opencontainers.image.ref.name": name}
    return value


def layout(entries, *artifacts):
    """The files of a layout as another tool writes it."""
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    for artifact in artifacts:
        for content in (artifact.manifest, *artifact.blobs.values()):
            files[f"blobs/sha256/{sha256(content)[7:]}"] = content
    return files


def test_what_refers_to_a_model_comes_back_with_it(filled, store):
    (loaded,) = load(store, saved(filled))
    assert kept(store) == KEPT
    assert loaded.referrers == 3
    assert {str(each.digest): each.size for each in loaded.model.referrers} == {
        str(each.digest): each.size for each in filled.referrers_of(DIGEST)
    }
    sweep(store, partials=True)
    assert kept(store) == KEPT
    # the same once more, on its way to the next machine
    assert saved(store) == saved(filled)


def test_the_archive_says_first_what_it_needs(filled, store):
    raw = saved(filled)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        blobs = [one.name.rpartition("/")[2] for one in archive if one.isfile()][2:]
    model, _alias = json.loads(files_of(raw)["index.json"])["manifests"]
    listed = model["annotations"]["vnd.modelrunner.referrers"]
    first = [MODEL.digest, listed, *sorted(KEPT)]
    assert blobs[: len(first)] == [digest[7:] for digest in first]
    assert blobs[len(first) :] == sorted(blobs[len(first) :])


def test_what_no_model_needs_is_not_written_to_the_disk(filled, store, monkeypatch):
    files = files_of(saved(filled))
    stray = b"of no model"
    files[f"blobs/sha256/{sha256(stray)[7:]}"] = stray
    written = []
    real = store.blobs.writer
    monkeypatch.setattr(
        store.blobs, "writer", lambda blob, **more: written.append(blob) or real(blob, **more)
    )
    load(store, tar_of(files))
    assert kept(store) == KEPT
    assert sha256(stray) not in {str(blob.digest) for blob in written}


def test_the_order_of_an_archive_does_not_matter(filled, store):
    files = files_of(saved(filled))
    load(store, tar_of(dict(reversed(files.items()))))
    assert kept(store) == KEPT


def test_an_archive_brings_a_signature_to_a_model_that_is_here(filled, store):
    put(store, MODEL, NAME)
    (loaded,) = load(store, saved(filled))
    assert (loaded.is_new, loaded.referrers) == (False, 3)
    assert kept(store) == KEPT


def test_each_model_keeps_what_refers_to_it(filled, store):
    other = put(filled, OTHER, "docker.io/ai/other:1")
    theirs = put_referrer(filled, other, bundle(SIGNER, OTHER))
    load(store, saved(filled, NAME, "ai/other:1"))
    assert kept(store) == KEPT
    assert kept(store, other.digest) == {str(theirs.digest): None}


def test_a_damaged_signature_is_left_behind_and_the_model_is_saved(filled, store):
    path = filled.blobs.path(Digest.parse(BUNDLED.layer_digests[0]))
    path.chmod(0o644)
    path.write_bytes(b"?")
    load(store, saved(filled))
    assert kept(store) == {PARTS.digest: None, TAGGED.digest: SIG}
    assert store.complete(Reference.parse(NAME)) is not None


FORMS = {
    "oras": (
        [entry(MODEL, "1"), entry(BUNDLED), entry(PARTS)],
        (MODEL, BUNDLED, PARTS),
        {BUNDLED.digest: None, PARTS.digest: None},
    ),
    "a list by tag": (
        [entry(MODEL, "1"), entry(index_artifact(BUNDLED, PARTS), referrers_tag(DIGEST))],
        (MODEL, index_artifact(BUNDLED, PARTS), BUNDLED, PARTS),
        {BUNDLED.digest: None, PARTS.digest: None},
    ),
    "cosign's tags": (
        [
            entry(MODEL, "1"),
            entry(TAGGED, SIG),
            entry(ATTESTED, f"ghcr.io/team/m:{referrers_tag(DIGEST, '.att')}"),
        ],
        (MODEL, TAGGED, ATTESTED),
        {TAGGED.digest: SIG, ATTESTED.digest: referrers_tag(DIGEST, ".att")},
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_other_tools_archives_bring_what_refers_to_a_model(store, form, reverse, named):
    entries, artifacts, expected = FORMS[form]
    files = layout(entries, *artifacts)
    if reverse:
        files = dict(reversed(files.items()))
    option = {"name": Reference.parse(NAME)} if named else {"short": Reference.parse("local/m")}
    (loaded,) = load(store, tar_of(files), **option)
    assert str(loaded.names[0]) == (NAME if named else "docker.io/local/m:1")
    assert kept(store) == expected
    # it is none of the models
    assert [str(model.digest) for model in store.models()] == [MODEL.digest]


def annotated(*artifacts, listed):
    """A layout whose model names a list."""
    note = {
        "org.opencontainers.image.ref.name": NAME,
        "vnd.modelrunner.referrers": sha256(listed),
    }
    files = layout([entry(MODEL) | {"annotations": note}], MODEL, *artifacts)
    return files | {f"blobs/sha256/{sha256(listed)[7:]}": listed}


@pytest.mark.parametrize(
    "listed",
    [
        b"no JSON",
        b"[]",
        b'{"manifests": {}}',
        b'{"manifests": [7, {}]}',
        b"[" * 100_000,
    ],
)
def test_a_list_that_is_nonsense_is_no_reason_to_refuse_the_model(store, listed):
    (loaded,) = load(store, tar_of(annotated(listed=listed)))
    assert (loaded.referrers, kept(store)) == (0, {})
    # and leaves nothing behind
    assert sweep(store, partials=True) == ()


@pytest.mark.parametrize("lacking", [0, 1])
def test_what_an_archive_lacks_of_a_signature_is_no_reason_to_refuse_the_model(store, lacking):
    listed = index_artifact(BUNDLED, PARTS).manifest
    files = annotated(BUNDLED, PARTS, listed=listed)
    gone = (BUNDLED.digest, BUNDLED.layer_digests[0])[lacking]
    del files[f"blobs/sha256/{gone[7:]}"]
    load(store, tar_of(files))
    assert kept(store) == {PARTS.digest: None}
    assert sweep(store, partials=True) == ()


def test_an_archive_without_its_list_loads(store):
    listed = index_artifact(BUNDLED).manifest
    files = annotated(BUNDLED, listed=listed)
    del files[f"blobs/sha256/{sha256(listed)[7:]}"]
    load(store, tar_of(files))
    assert kept(store) == {}
    assert sweep(store, partials=True) == ()


def test_a_signature_of_another_model_is_not_taken_for_one_of_this(store):
    transplanted = bundle(SIGNER, OTHER)
    listed = index_artifact(transplanted, BUNDLED).manifest
    load(store, tar_of(annotated(transplanted, BUNDLED, listed=listed)))
    assert kept(store) == {BUNDLED.digest: None}


def test_a_list_with_other_tags_names_nothing(store):
    value = {"manifests": [entry(TAGGED, "latest"), entry(TAGGED, "sha256-" + "0" * 64 + ".sig")]}
    load(store, tar_of(annotated(TAGGED, listed=json.dumps(value).encode())))
    assert kept(store) == {}
