"""Copies from registry to registry: digest for digest, through memory, whatever breaks."""

import json
from dataclasses import replace

import pytest

from modelrunner.errors import (
    DigestMismatchError,
    ManifestNotFoundError,
    ModelNotFoundError,
    RateLimitedError,
    RegistryUnavailableError,
    TransferError,
    UnauthorizedError,
    UnverifiedError,
    UsageError,
)
from modelrunner.events import Advanced, Retrying, Skipped, Verified
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import referrers_tag
from modelrunner.operations.copy.copy import Copying
from modelrunner.operations.copy.result import NotCopied
from modelrunner.operations.copy.to_registry import RegistryCopier
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.oci import sink as oci_sink
from modelrunner.transfer import passage
from modelrunner.transfer.limits import Limits, Throttle
from tests.support.artifacts import (
    docker_artifact,
    helm_like_artifact,
    image_artifact,
    index_artifact,
    plain_artifact,
    safetensors_artifact,
)
from tests.support.breaking_registry import BreakingRegistry
from tests.support.docker_registry import docker_registry, needs_docker_registry, push_artifact
from tests.support.pulling import QUICK, Pulling, docker_config
from tests.support.registry import Registry, sha256
from tests.support.registry_messages import error
from tests.support.signing import Signer, attestation, bundle, signature_artifact, simple_signature
from tests.support.stores import put

MIB = 1024 * 1024
MODEL = docker_artifact(b"GGUF weights" * 1000, license=b"free")
DIGEST = Digest.parse(MODEL.digest)
SIG, ATT = referrers_tag(DIGEST, ".sig"), referrers_tag(DIGEST, ".att")
WEIGHTS = b"GGUF" + bytes(range(256)) * (8 * 4096) + bytes(100)
LARGE = docker_artifact(WEIGHTS)
LARGEST = sha256(WEIGHTS)

SIGNER = Signer.make()
BUNDLED = bundle(SIGNER, MODEL)
TAGGED = simple_signature(SIGNER, MODEL.digest)
ATTESTED = attestation(SIGNER, MODEL.digest)
PARTS = signature_artifact(b'{"spdxVersion": "SPDX-2.3"}', "application/spdx+json", MODEL)


@pytest.fixture
def source():
    with Registry() as made:
        made.add(MODEL, "team/m", ["1"])
        made.add(LARGE, "team/large", ["1"])
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


def copying(pulling, *, check=unchecked, referrers="all", limits=None, backoff=QUICK):
    places = replace(pulling.places, backoff=backoff)
    copier = RegistryCopier(
        places.sink_for, check, referrers, pulling.events.append, backoff, limits or Limits()
    )
    return Copying(pulling.store, places.source_for, places.referrers_of, copier, backoff)


def blobs_of(registry, repository):
    found = registry.storage.repositories.get(repository)
    return {} if found is None else found.blobs


def gets(registry, digest):
    return [
        request.headers.get("Range")
        for request in registry.requests
        if request.method == "GET" and request.reference == digest
    ]


def assert_same(target, repository, artifact):
    there = target.storage.repositories[repository]
    assert there.manifests[artifact.digest].content == artifact.manifest
    assert there.manifests[artifact.digest].media_type == artifact.media_type
    for digest, content in artifact.blobs.items():
        assert there.blobs[digest] == content
    for child in artifact.children:
        assert_same(target, repository, child)


# What is copied.


def test_copy_has_the_bytes_of_the_source(source, target, pulling):
    copied = copying(pulling).copy(source.reference("team/m:1"), target.reference("ai/m:2"))

    assert copied.to_dict() == {
        "source": source.reference("team/m:1"),
        "destination": target.reference("ai/m:2"),
        "digest": MODEL.digest,
        "status": "copied",
        "size_bytes": MODEL.size,
        "copied_bytes": MODEL.size,
        "mounted_bytes": 0,
        "skipped_bytes": 0,
        "manifests": 1,
        "tags": [target.reference("ai/m:2")],
    }
    assert target.tags("ai/m") == {"2": MODEL.digest}
    assert_same(target, "ai/m", MODEL)
    assert len(pulling.heard(Verified)) == len(MODEL.blobs)
    # nothing of it is on this machine
    assert pulling.store.models() == ()
    assert not pulling.store.layout.root.exists()


@pytest.mark.parametrize(
    "artifact",
    [
        image_artifact(),
        image_artifact(oci=True),
        helm_like_artifact(),
        safetensors_artifact(),
        plain_artifact(b"", "empty.txt"),
        index_artifact(MODEL, image_artifact(oci=True)),
        index_artifact(index_artifact(MODEL), index_artifact(LARGE, MODEL)),
    ],
    ids=["docker", "oci", "helm", "safetensors", "plain", "index", "nested"],
)
def test_whatever_a_registry_keeps_is_copied(source, target, pulling, artifact):
    source.add(artifact, "team/x", ["1"])
    copied = copying(pulling).copy(source.reference("team/x:1"), target.reference("team/y:1"))
    assert copied.digest == artifact.digest
    assert_same(target, "team/y", artifact)
    assert target.tags("team/y") == {"1": artifact.digest}


def test_manifests_go_after_what_they_need(source, target, pulling):
    artifact = index_artifact(MODEL, LARGE)
    source.add(artifact, "team/x", ["1"])
    copying(pulling).copy(source.reference("team/x:1"), target.reference("team/y:1"))
    puts = [each.reference for each in target.requests if each.method == "PUT"]
    manifests = [each for each in puts if each in {MODEL.digest, LARGE.digest, "1"}]
    assert manifests == [MODEL.digest, LARGE.digest, "1"]
    assert puts[-3:] == manifests


def test_copy_of_what_is_there_asks_for_two_digests_and_moves_nothing(source, target, pulling):
    names = (source.reference("team/m:1"), target.reference("ai/m:2"))
    copying(pulling).copy(*names)
    for registry in (source, target):
        registry.forget()

    copied = copying(pulling, referrers="none").copy(*names)

    assert (copied.status, copied.sent, copied.skipped) == ("present", 0, MODEL.size)
    # Docker Hub counts a manifest as a pull, and no HEAD
    assert [(each.method, each.kind) for each in source.requests] == [("HEAD", "manifest")]
    assert [(each.method, each.kind) for each in target.requests] == [
        ("HEAD", "manifest"),
        ("GET", "manifest"),
    ]


def test_more_tags_are_set_at_the_destination(source, target, pulling):
    copying(pulling).copy(
        source.reference("team/m:1"), target.reference("ai/m:2"), ["stable", "newest"]
    )
    assert target.tags("ai/m") == dict.fromkeys(["2", "stable", "newest"], MODEL.digest)


def test_copy_by_digest_sets_no_tag(source, target, pulling):
    name = f"{source.reference('team/m')}@{MODEL.digest}"
    copying(pulling).copy(name, f"{target.reference('ai/m')}@{MODEL.digest}")
    assert target.tags("ai/m") == {}
    assert_same(target, "ai/m", MODEL)
    with pytest.raises(UsageError, match="names another digest"):
        copying(pulling).copy(name, f"{target.reference('ai/m')}@{LARGE.digest}")


def test_blobs_of_the_same_registry_are_mounted(source, pulling):
    copied = copying(pulling).copy(source.reference("team/m:1"), source.reference("other/m:1"))
    assert (copied.sent, copied.mounted) == (0, MODEL.size)
    assert_same(source, "other/m", MODEL)
    assert [each for each in source.requests if each.kind == "blob" and each.method == "GET"] == []


def test_blobs_are_mounted_from_where_they_were_copied_before(source, target, pulling):
    works = copying(pulling)
    works.copy(source.reference("team/m:1"), target.reference("one/m:1"))
    copied = works.copy(source.reference("team/m:1"), target.reference("two/m:1"))
    assert (copied.sent, copied.mounted) == (0, MODEL.size)


def test_all_tags_are_copied_and_what_fails_does_not_end_it(source, target, pulling):
    broken = docker_artifact(b"GGUF broken" * 100)
    source.add(broken, "team/m", ["2"])
    source.remove_blob("team/m", broken.layer_digests[0])
    source.add(LARGE, "team/m", ["3"])
    source.add(TAGGED, "team/m", [SIG])

    found = list(copying(pulling).copy_all(source.reference("team/m"), target.reference("ai/m")))

    assert [type(each) is NotCopied for each in found] == [False, True, False]
    assert isinstance(found[1].error, ManifestNotFoundError)
    # signatures come with what they sign
    assert target.tags("ai/m") == {"1": MODEL.digest, "3": LARGE.digest, SIG: TAGGED.digest}


def test_tags_are_chosen_by_patterns(source, target, pulling):
    source.add(LARGE, "team/m", ["135M-Q4_0", "135M-F16", "360M-F16"])
    list(
        copying(pulling).copy_all(
            source.reference("team/m"), target.reference("ai/m"), ["135M-*", "1"]
        )
    )
    assert sorted(target.tags("ai/m")) == ["1", "135M-F16", "135M-Q4_0"]
    name = source.reference("team/m")
    with pytest.raises(ManifestNotFoundError) as none:
        list(copying(pulling).copy_all(name, target.reference("ai/m"), ["q*", "r*"]))
    assert str(none.value) == f"{name}: no tag matches q*, r*"
    for words in (
        [source.reference("team/m:1"), target.reference("ai/m")],
        ["store:" + "a" * 64, "ai/m"],
    ):
        with pytest.raises(UsageError):
            list(copying(pulling).copy_all(*words))


# What refers to it.


@pytest.fixture
def signed(source):
    source.add(BUNDLED, "team/m")
    source.add(PARTS, "team/m")
    source.add(TAGGED, "team/m", [SIG])
    source.add(ATTESTED, "team/m", [ATT])
    return source.reference("team/m:1")


@pytest.mark.parametrize("api", [True, False])
def test_what_refers_to_it_goes_along(signed, target, pulling, api):
    target.referrers_supported = api
    copied = copying(pulling).copy(signed, target.reference("ai/m:1"))
    assert copied.referrers.count == 4
    assert copied.referrers.problems == ()
    for artifact in (MODEL, BUNDLED, PARTS, TAGGED, ATTESTED):
        assert_same(target, "ai/m", artifact)
    assert target.tags("ai/m").items() >= {"1": MODEL.digest, SIG: TAGGED.digest}.items()
    # who sees the name sees the signatures too
    puts = [r.reference for r in target.requests if (r.kind, r.method) == ("manifest", "PUT")]
    assert puts[-1] == "1"


def test_signatures_alone_or_nothing_goes_along(signed, target, pulling):
    copying(pulling, referrers="signatures").copy(signed, target.reference("signed/m:1"))
    there = target.storage.repositories["signed/m"].manifests
    assert PARTS.digest not in there
    assert {BUNDLED.digest, TAGGED.digest, ATTESTED.digest} <= there.keys()
    copying(pulling, referrers="none").copy(signed, target.reference("bare/m:1"))
    assert target.storage.repositories["bare/m"].manifests.keys() == {MODEL.digest}


def test_new_signatures_of_what_is_there_are_copied(source, target, pulling):
    names = (source.reference("team/m:1"), target.reference("ai/m:1"))
    copying(pulling).copy(*names)
    source.add(BUNDLED, "team/m")
    copied = copying(pulling).copy(*names)
    assert (copied.status, copied.referrers.count) == ("present", 1)
    assert_same(target, "ai/m", BUNDLED)


def test_policy_is_asked_before_a_blob_moves(source, target, pulling):
    asked = []

    def refuse(reference, manifest):
        asked.append((str(reference), str(manifest.digest)))
        raise UnverifiedError(f"{reference.short}: not signed", hint="sign it")

    with pytest.raises(UnverifiedError):
        copying(pulling, check=refuse).copy(
            source.reference("team/m:1"), target.reference("ai/m:1")
        )
    assert asked == [(source.reference("team/m:1"), MODEL.digest)]
    assert blobs_of(target, "ai/m") == {}
    assert [each for each in source.requests if each.kind == "blob"] == []


# Out of the store.


def test_model_of_the_store_is_copied(store, target, pulling):
    model = put(store, MODEL, "local/m:1")
    for text in ("local/m:1", "store:local/m", str(model.digest), f"store:{DIGEST.short}"):
        copied = copying(pulling).copy(text, target.reference("ai/m:1"))
        assert copied.digest == MODEL.digest
    assert_same(target, "ai/m", MODEL)
    with pytest.raises(ModelNotFoundError):
        copying(pulling).copy("store:ai/none", target.reference("ai/m:1"))


# What breaks.


def test_wrong_byte_is_never_committed(source, target, pulling):
    source.corrupt(LARGEST, at=len(WEIGHTS) - 1)
    with pytest.raises(DigestMismatchError) as caught:
        copying(pulling).copy(source.reference("team/large:1"), target.reference("ai/large:1"))
    assert caught.value.exit_code == 6
    assert "blob " + LARGEST[7:19] in caught.value.message
    assert LARGEST not in blobs_of(target, "ai/large")
    assert target.tags("ai/large") == {}
    # and the registry need not keep what came of it
    assert target.storage.uploads == {}
    # not asked again: whoever is alone would send the same
    assert gets(source, LARGEST) == [None]


def test_right_bytes_come_from_the_registry_where_a_mirror_has_wrong_ones(store, source, target):
    with Registry() as mirror:
        mirror.add(LARGE, "team/large", ["1"])
        mirror.corrupt(LARGEST, times=None)
        pulling = Pulling(store, mirrors={source.host: (mirror.url,)})
        copying(pulling).copy(source.reference("team/large:1"), target.reference("ai/large:1"))
        assert len(gets(mirror, LARGEST)) == 1
    assert_same(target, "ai/large", LARGE)


def test_source_that_breaks_is_asked_for_what_follows(source, target, pulling):
    source.cut_after(3 * MIB, digest=LARGEST)
    copying(pulling).copy(source.reference("team/large:1"), target.reference("ai/large:1"))
    assert_same(target, "ai/large", LARGE)
    assert gets(source, LARGEST) == [None, f"bytes={3 * MIB}-"]
    # the upload has only waited
    assert [r.method for r in target.requests if r.method in {"PUT", "PATCH"}] == ["PUT"] * 3
    assert len(pulling.heard(Retrying)) == 1


def test_source_without_ranges_is_read_again_from_its_start(source, target, pulling):
    source.cut_after(3 * MIB, digest=LARGEST)
    source.ignore_ranges()
    copying(pulling).copy(source.reference("team/large:1"), target.reference("ai/large:1"))
    assert_same(target, "ai/large", LARGE)
    assert gets(source, LARGEST) == [None, f"bytes={3 * MIB}-", None]


def test_line_that_breaks_often_but_gets_on_does_not_end_a_copy(source, target, pulling):
    source.cut_after(MIB, times=None, digest=LARGEST)
    copying(pulling).copy(source.reference("team/large:1"), target.reference("ai/large:1"))
    assert_same(target, "ai/large", LARGE)
    assert len(gets(source, LARGEST)) == 9


def test_source_that_brings_nothing_ends_a_copy(source, target, pulling):
    source.cut_after(0, times=None, digest=LARGEST)
    with pytest.raises(TransferError):
        copying(pulling).copy(source.reference("team/large:1"), target.reference("ai/large:1"))
    # it was tried so often, and not so often for each of as many uploads
    assert len(gets(source, LARGEST)) == QUICK.attempts
    assert target.tags("ai/large") == {}


def copy_large(source, pulling, other, **options):
    copying(pulling, limits=Limits(1), **options).copy(
        source.reference("team/large:1"), f"{other.host}/team/copy:1"
    )
    assert other.blobs[LARGEST] == WEIGHTS


@pytest.mark.parametrize("mark", [MIB, 64 * MIB])
def test_upload_that_broke_goes_on_with_what_the_registry_lacks(source, pulling, monkeypatch, mark):
    monkeypatch.setattr(passage, "MARK", mark)
    with BreakingRegistry(3 * MIB + 5) as other:
        copy_large(source, pulling, other, referrers="none")
    assert other.log[:3] == [
        ("PUT", None),
        ("GET", 3 * MIB + 5),
        ("PATCH", f"{3 * MIB + 5}-{len(WEIGHTS) - 1}"),
    ]
    # the hash goes on from the last state before that byte
    begin = f"bytes={3 * MIB}-" if mark == MIB else None
    assert gets(source, LARGEST) == [None, begin]
    done = [each.done for each in pulling.heard(Advanced) if each.digest == LARGEST]
    assert 3 * MIB + 5 in done


@pytest.mark.parametrize("conduct", [{"tells": False}, {"takes": False}])
def test_upload_starts_again_where_the_registry_cannot_go_on(source, pulling, conduct):
    with BreakingRegistry(3 * MIB, **conduct) as other:
        copy_large(source, pulling, other, referrers="none")


def test_wrong_byte_after_a_break_is_seen_too(source, pulling):
    with BreakingRegistry(3 * MIB) as other:
        source.cut_after(5 * MIB, digest=LARGEST)
        source.corrupt(LARGEST, at=len(WEIGHTS) - 2, times=None)
        with pytest.raises(DigestMismatchError):
            copy_large(source, pulling, other, referrers="none")
        assert LARGEST not in other.blobs


def test_registry_that_takes_no_large_requests_gets_chunks(source, target, pulling, monkeypatch):
    monkeypatch.setattr(oci_sink, "CHUNK", 3 * MIB)
    handle = target.handle

    def limited(request):
        if len(request.body) > 4 * MIB:
            return error(413, "SIZE_INVALID", "too large")
        return handle(request)

    target.handle = limited
    copying(pulling, limits=Limits(1)).copy(
        source.reference("team/large:1"), target.reference("ai/large:1")
    )
    assert_same(target, "ai/large", LARGE)
    chunks = [r.headers["Content-Range"] for r in target.requests if r.method == "PATCH"]
    assert chunks[:3] == [
        f"0-{3 * MIB - 1}",
        f"{3 * MIB}-{6 * MIB - 1}",
        f"{6 * MIB}-{len(WEIGHTS) - 1}",
    ]


def test_rate_limits_of_both_ends_are_waited_for(source, target, pulling):
    wait = {"Retry-After": "0"}
    source.answer(429, times=1, on="blob", method="GET", headers=wait)
    source.answer(429, times=1, on="manifest", method="HEAD", headers=wait)
    target.answer(429, times=1, on="upload", method="POST", headers=wait)
    target.answer(429, times=1, on="upload", method="PUT", headers=wait)
    target.answer(429, times=1, on="manifest", method="PUT", headers=wait)
    copying(pulling).copy(source.reference("team/m:1"), target.reference("ai/m:1"))
    assert_same(target, "ai/m", MODEL)
    said = [each.reason for each in pulling.heard(Retrying)]
    assert sum(source.host in reason for reason in said) == 1
    assert sum(target.host in reason for reason in said) == 2


@pytest.mark.parametrize("end", ["source", "target"])
def test_rate_limit_that_is_too_long_ends_a_copy(source, target, pulling, end):
    limited = {"source": source, "target": target}[end]
    kind, method = ("blob", "GET") if end == "source" else ("upload", "POST")
    limited.answer(429, times=None, on=kind, method=method, headers={"Retry-After": "3600"})
    with pytest.raises(RateLimitedError, match="rate limit reached, wait 3600 s"):
        copying(pulling, limits=Limits(1)).copy(
            source.reference("team/m:1"), target.reference("ai/m:1")
        )
    assert limited.count(method, kind) == 1


def test_rate_is_kept_for_all_blobs_together(source, target, pulling, monkeypatch):
    taken = []
    monkeypatch.setattr(Throttle, "take", lambda self, count: taken.append((self.block, count)))
    copying(pulling, limits=Limits(rate=40_000_000)).copy(
        source.reference("team/large:1"), target.reference("ai/large:1")
    )
    assert sum(count for _block, count in taken) == LARGE.size
    assert max(count for _block, count in taken) == 1_000_000
    assert {block for block, _count in taken} == {1_000_000}


def test_time_limit_ends_a_copy(source, target, pulling):
    source.cut_after(MIB, times=None, digest=LARGEST)
    over = Backoff(attempts=3, base_s=0.002, cap_s=0.004, deadline=0.0, allowed_s=1.0)
    with pytest.raises(TransferError, match="timed out after 1 s"):
        copying(pulling, backoff=over).copy(
            source.reference("team/large:1"), target.reference("ai/large:1")
        )


def test_login_is_asked_of_the_registry_that_wants_it(tmp_path, store, source, target):
    target.demand_basic("me", "word")
    with pytest.raises(UnauthorizedError) as caught:
        copying(Pulling(store)).copy(source.reference("team/m:1"), target.reference("ai/m:1"))
    assert caught.value.message == (
        f"{target.reference('ai/m:1')}: login required to push to {target.host}"
    )
    config = docker_config(tmp_path, {target.host: ("me", "word")})
    copying(Pulling(store, config)).copy(source.reference("team/m:1"), target.reference("ai/m:1"))
    assert_same(target, "ai/m", MODEL)
    # nobody else has seen it
    assert {request.authorization for request in source.requests} == {None}


def test_missing_tag_is_answered_with_those_that_there_are(source, target, pulling):
    with pytest.raises(ManifestNotFoundError) as caught:
        copying(pulling).copy(source.reference("team/m:2"), target.reference("ai/m:1"))
    assert caught.value.hint == "available: `1`"


def test_skipped_blobs_are_told(source, target, pulling):
    target.add_blob(WEIGHTS, "ai/large")
    copied = copying(pulling).copy(source.reference("team/large:1"), target.reference("ai/large:1"))
    assert [each.digest for each in pulling.heard(Skipped)] == [LARGEST]
    assert copied.skipped == len(WEIGHTS)
    assert gets(source, LARGEST) == []


def test_registry_that_is_not_there_is_named(source, pulling):
    with pytest.raises(RegistryUnavailableError, match=r"cannot reach 127\.0\.0\.1:9"):
        copying(pulling).copy(source.reference("team/m:1"), "127.0.0.1:9/ai/m:1")


# Other registries.


@needs_docker_registry
@pytest.mark.registry
def test_registries_of_others_take_and_give(tmp_path, store, pulling):
    index = index_artifact(MODEL, image_artifact(oci=True))
    with docker_registry(tmp_path / "a") as one, docker_registry(tmp_path / "b") as two:
        push_artifact(one, index, "team/x", ["1"])
        push_artifact(one, LARGE, "team/x", ["2"])
        list(copying(pulling).copy_all(one.reference("team/x"), two.reference("ai/x")))
        again = Pulling(store).pull(two.reference("ai/x:2"))
        assert again.model.digest == Digest.parse(LARGE.digest)
        assert again.model.weights().read_bytes() == WEIGHTS
        found = pulling.places.source_for(Reference.parse(two.reference("ai/x:1")))
        assert found.manifest(Reference.parse(two.reference("ai/x:1"))).raw == index.manifest
        mounted = copying(pulling).copy(two.reference("ai/x:2"), two.reference("other/x:2"))
        assert (mounted.sent, mounted.mounted) == (0, LARGE.size)
        assert json.loads(index.manifest)["manifests"]
