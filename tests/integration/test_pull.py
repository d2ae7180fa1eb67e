"""Pulls over real HTTP from a registry that misbehaves: a right model, or a clean error."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Event

import pytest

from modelrunner.errors import (
    AccessError,
    ConfigError,
    DigestMismatchError,
    ExitStatus,
    IntegrityError,
    MalformedManifestError,
    ManifestNotFoundError,
    ModelRunnerError,
    RateLimitedError,
    RegistryAnswerError,
    RegistryUnavailableError,
    SizeMismatchError,
    TransferError,
    UnauthorizedError,
    UnsupportedArtifactError,
)
from modelrunner.events import Finished, Planned, Retrying, Skipped, Verified
from modelrunner.oci.digest import Digest
from modelrunner.registry.settings import RegistrySettings
from modelrunner.store.sweep import remove_blobs_of
from tests.support.artifacts import (
    docker_artifact,
    helm_like_artifact,
    image_artifact,
    index_artifact,
    modelpack_artifact,
)
from tests.support.pulling import Pulling
from tests.support.registry import Cdn, Registry, can_make_certificates, sha256

WEIGHTS = b"GGUF" + (bytes(range(256)) * 400)[4:]
LICENSE = b"do as you like"
MODEL = docker_artifact(WEIGHTS, license=LICENSE)
NAME = "ai/smollm2:135M"


@pytest.fixture
def registry():
    with Registry() as registry:
        registry.add(MODEL, "ai/smollm2", tags=["135M", "135M-Q4_K_M", "360M", "latest"])
        yield registry


@pytest.fixture
def pulling(store):
    return Pulling(store)


def assert_stored(pulling, artifact=MODEL):
    """The model is here, named, and every byte of it is right."""
    (model,) = pulling.store.models()
    assert str(model.digest) == artifact.digest
    for digest, content in artifact.blobs.items():
        path = pulling.store.layout.blobs / digest.removeprefix("sha256:")
        assert path.read_bytes() == content
    assert pulling.leftovers == []
    return model


def assert_nothing_stored(pulling, registry, *, blobs=0):
    assert pulling.store.models() == ()
    assert registry.count("GET", "blobs") == blobs


# What is there.


def test_weights_are_requested_while_the_config_is_on_its_way(pulling, registry):
    weights = b"GGUF" + bytes(3 * 1024 * 1024)
    registry.add(docker_artifact(weights), "ai/large", tags=["1"])
    requested, handle = Event(), registry.handle

    def wait_for_weights(request):
        if sha256(weights) in request.target:
            requested.set()
        elif request.kind == "blob":
            assert requested.wait(20)
        return handle(request)

    registry.handle = wait_for_weights

    pulling.pull(registry.reference("ai/large:1"))

    ranges = [request.range or "bytes=0-" for request in registry.requests_of(kind="blob")]
    # the config, and the front of the weights
    assert sum(part.startswith("bytes=0-") for part in ranges) == 2


def test_small_files_come_over_the_connection_of_the_manifest(pulling, registry):
    pulling.pull(registry.reference(NAME))

    assert len(registry.requests_of(kind="blob")) == 3
    assert registry.connections() == 1


@pytest.mark.parametrize(
    "artifact",
    [
        MODEL,
        docker_artifact(WEIGHTS, version="v0.2"),
        docker_artifact([b"GGUF one", b"GGUF two", b"GGUF three"], annotations=False),
        modelpack_artifact(WEIGHTS, license=LICENSE, template=b"{{ x }}", mmproj=b"GGUF p"),
        modelpack_artifact([b"GGUF one", b"GGUF two"], extra_files={"docs/README.md": b"# m"}),
    ],
)
def test_model_of_either_family_comes(registry, pulling, artifact):
    registry.add(artifact, "o/m", tags=["1"])

    pulled = pulling.pull(registry.reference("o/m:1"))

    assert_stored(pulling, artifact)
    assert pulled.status == "pulled"
    assert pulled.downloaded_bytes == artifact.size
    assert pulled.source == registry.host
    assert pulling.heard(Retrying) == []
    assert len(pulling.heard(Verified)) == len(artifact.blobs)
    assert pulling.heard(Planned)[0].total_bytes == artifact.size
    assert pulling.heard(Finished)[0].digest == artifact.digest
    assert pulled.model.weights().read_bytes() == artifact.layers[0]


def test_model_that_is_here_costs_one_head_request(registry, pulling):
    pulling.pull(registry.reference(NAME))
    registry.forget()

    pulled = pulling.pull(registry.reference(NAME))

    assert pulled.status == "up-to-date"
    assert [(r.method, r.kind) for r in registry.requests] == [("HEAD", "manifest")]


def test_model_that_is_new_costs_one_request_for_its_manifest(registry, pulling):
    pulling.pull(registry.reference(NAME))

    asked = [(r.method, r.kind) for r in registry.requests if r.kind == "manifest"]
    assert asked == [("GET", "manifest")]


def test_model_that_has_changed_is_asked_for_by_the_digest_that_its_tag_has(registry, pulling):
    pulling.pull(registry.reference(NAME))
    new = docker_artifact(b"GGUF new")
    registry.add(new, "ai/smollm2", tags=["135M"])
    registry.forget()

    pulling.pull(registry.reference(NAME))

    asked = [(r.method, r.reference) for r in registry.requests if r.kind == "manifest"]
    assert asked == [("HEAD", "135M"), ("GET", new.digest)]


def test_index_that_is_new_is_downloaded_once(registry, pulling):
    registry.add(index_artifact(MODEL), "ai/index", tags=["1"])

    pulled = pulling.pull(registry.reference("ai/index:1"))

    assert str(pulled.model.digest) == MODEL.digest
    asked = [(r.method, r.reference) for r in registry.requests if r.kind == "manifest"]
    assert asked == [("GET", "1"), ("GET", MODEL.digest)]


def test_manifest_that_is_not_what_its_header_says_is_refused(registry, pulling):
    registry.answer(
        200,
        times=None,
        headers={"Docker-Content-Digest": f"sha256:{'0' * 64}"},
        body=MODEL.manifest,
        on="manifest",
    )

    with pytest.raises(DigestMismatchError, match="the manifest should be"):
        pulling.pull(registry.reference(NAME))

    assert registry.count(kind="blob") == 0


def test_model_that_is_here_and_named_by_digest_costs_no_request(registry, pulling):
    pulling.pull(registry.reference(NAME))
    registry.forget()

    pulled = pulling.pull(f"{registry.host}/ai/smollm2@{MODEL.digest}")

    assert pulled.status == "up-to-date"
    assert registry.requests == []


def test_second_tag_of_the_same_model_costs_one_head_request(registry, pulling):
    pulling.pull(registry.reference(NAME))
    registry.forget()

    pulled = pulling.pull(registry.reference("ai/smollm2:latest"))

    assert pulled.status == "up-to-date"
    assert [(r.method, r.kind) for r in registry.requests] == [("HEAD", "manifest")]
    assert len(assert_stored(pulling).references) == 2


def test_second_tag_of_another_model_comes_by_the_digest_that_it_has(registry, pulling):
    pulling.pull(registry.reference(NAME))
    new = docker_artifact(b"GGUF new")
    registry.add(new, "ai/smollm2", tags=["360M"])
    registry.forget()

    pulled = pulling.pull(registry.reference("ai/smollm2:360M"))

    assert (pulled.status, str(pulled.model.digest)) == ("pulled", new.digest)
    asked = [(r.method, r.reference) for r in registry.requests if r.kind == "manifest"]
    assert asked == [("HEAD", "360M"), ("GET", new.digest)]


def test_tag_that_moved_brings_only_what_is_new(registry, pulling):
    pulling.pull(registry.reference(NAME))
    new = docker_artifact(WEIGHTS, license=b"another licence")
    registry.add(new, "ai/smollm2", tags=["135M"])
    registry.forget()

    pulled = pulling.pull(registry.reference(NAME))

    assert str(pulled.model.digest) == new.digest
    assert registry.bytes_sent(sha256(WEIGHTS)) == 0
    assert sha256(WEIGHTS) in [event.digest for event in pulling.heard(Skipped)]


def test_tag_that_moves_between_the_requests_gives_one_whole_model(registry, pulling):
    """HEAD names the old one; whatever the tag is by then, that one comes."""
    other = docker_artifact(b"GGUF of before")
    registry.add(other, "ai/smollm2", tags=["135M"])
    pulling.pull(registry.reference(NAME))
    fault = registry.latency(0.3, times=1, on="manifest", method="GET", reference=MODEL.digest)
    registry.add(docker_artifact(b"GGUF new"), "ai/smollm2", tags=["next"])
    registry.tag("ai/smollm2", "135M", MODEL.digest)
    reader = registry.handle

    def move_after_head(request):
        reply = reader(request)
        if request.method == "HEAD":
            registry.tag("ai/smollm2", "135M", docker_artifact(b"GGUF new").digest)
        return reply

    registry.handle = move_after_head

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)
    assert fault.hits == 1


def test_journal_of_a_blob_that_had_just_got_its_name_is_removed(registry, pulling):
    model = pulling.pull(registry.reference(NAME)).model
    # as a kill leaves it that comes in the moment after, before the model has its own name
    pulling.store.layout.journal(Digest.parse(sha256(WEIGHTS))).write_bytes(b"noted")
    pulling.store.forget(model.digest)
    assert pulling.leftovers != []
    pulling.pull(registry.reference(NAME))
    assert pulling.leftovers == []


def test_blob_that_is_removed_with_another_model_meanwhile_is_fetched_again(registry, pulling):
    first, second = (
        docker_artifact(b"GGUF one", license=b"s"),
        docker_artifact(WEIGHTS, license=b"s"),
    )
    registry.add(first, "ai/first", tags=["1"])
    registry.add(second, "ai/second", tags=["1"])
    pulling.pull(registry.reference("ai/first:1"))
    store = pulling.store
    shared = Digest.of(b"s")
    real = store.add

    def add_after_rm(*arguments, **more):
        store.add = real
        model = store.resolve(registry.reference("ai/first:1"))
        store.forget(model.digest)
        remove_blobs_of(store, model)
        assert not store.blobs.path(shared).exists()
        return real(*arguments, **more)

    store.add = add_after_rm
    pulled = pulling.pull(registry.reference("ai/second:1"))
    assert str(pulled.model.digest) == second.digest
    assert store.blobs.path(shared).read_bytes() == b"s"


def test_damaged_blob_on_disk_is_fetched_anew(registry, pulling):
    pulling.pull(registry.reference(NAME))
    path = pulling.store.layout.blobs / sha256(WEIGHTS).removeprefix("sha256:")
    path.chmod(0o644)
    path.write_bytes(bytes(len(WEIGHTS)))
    registry.forget()

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)
    assert registry.bytes_sent() == len(WEIGHTS)


def test_requests_share_a_connection(registry, pulling):
    registry.demand_token()

    pulling.pull(registry.reference(NAME))

    # one asks for the token and the manifest, one for each blob brings it
    assert registry.connections() <= 1 + len(MODEL.blobs)
    assert registry.count(kind="token") == 1


def test_registry_without_a_digest_header_is_believed_by_its_bytes(registry, pulling):
    registry.answer(200, times=None, on="manifest", method="HEAD")

    pulling.pull(registry.reference(NAME))
    assert pulling.pull(registry.reference(NAME)).status == "up-to-date"

    assert_stored(pulling)


# What is not there.


def test_unknown_tag_names_the_near_ones(registry, pulling):
    with pytest.raises(ManifestNotFoundError) as caught:
        pulling.pull(registry.reference("ai/smollm2:135m-q4-k-m"))

    error = caught.value
    assert error.exit_code == ExitStatus.NOT_FOUND == 3
    assert "no such tag" in error.message
    assert error.facts["near"][0] == "135M-Q4_K_M"
    assert "`135M-Q4_K_M`, `135M`" in (error.hint or "")


def test_near_tags_are_found_on_any_page(store):
    with Registry(page_size=2) as registry:
        registry.add(MODEL, "ai/m", tags=["a", "b", "c", "d", "zeta"])
        with pytest.raises(ManifestNotFoundError) as caught:
            Pulling(store).pull(registry.reference("ai/m:zet"))
    assert caught.value.facts["near"][0] == "zeta"
    assert registry.count(kind="tags") == 3


def test_list_of_tags_that_fails_takes_nothing_from_the_error(registry, pulling):
    registry.answer(500, times=None, on="tags")
    with pytest.raises(ManifestNotFoundError, match="not found"):
        pulling.pull(registry.reference("ai/smollm2:none"))


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"tags": null}', b'{"tags": 5}', b"x", b"[" * 9999]
)
def test_list_of_tags_that_is_none_takes_nothing_from_the_error(registry, pulling, body):
    registry.answer(200, times=None, on="tags", body=body)
    with pytest.raises(ManifestNotFoundError, match="not found"):
        pulling.pull(registry.reference("ai/smollm2:none"))


def test_tags_are_shown_without_control_characters(registry, pulling):
    registry.answer(200, times=None, on="tags", body=b'{"tags": ["\\u001b]0;x\\u0007evil"]}')
    with pytest.raises(ManifestNotFoundError) as caught:
        pulling.pull(registry.reference("ai/smollm2:none"))
    assert "\x1b" not in str(caught.value.hint)


def test_unknown_repository(registry, pulling):
    with pytest.raises(ManifestNotFoundError, match="no such repository"):
        pulling.pull(registry.reference("ai/nothing:1"))


def test_unknown_repository_of_a_registry_with_tokens_is_not_found_or_private(registry, pulling):
    registry.demand_token()
    with pytest.raises(UnauthorizedError, match="not found, or login required") as caught:
        pulling.pull(registry.reference("ai/nothing:1"))
    assert caught.value.exit_code == ExitStatus.ACCESS == 4


def test_blob_that_is_listed_and_missing_is_the_registrys_fault(registry, pulling):
    registry.remove_blob("ai/smollm2", sha256(WEIGHTS))
    with pytest.raises(ManifestNotFoundError, match="the manifest lists this blob, but"):
        pulling.pull(registry.reference(NAME))
    assert pulling.store.models() == ()


@pytest.mark.parametrize(
    ("artifact", "blobs"),
    # the config of an image may say that there is a model in it
    [(helm_like_artifact(), 0), (image_artifact(), 1), (index_artifact(image_artifact()), 1)],
)
def test_what_is_no_model_for_us_is_refused_before_a_layer_moves(
    registry, pulling, artifact, blobs
):
    registry.add(artifact, "o/x", tags=["1"])
    with pytest.raises(UnsupportedArtifactError):
        pulling.pull(registry.reference("o/x:1"))
    assert_nothing_stored(pulling, registry, blobs=blobs)


# Registries that are down, or in trouble.


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_trouble_that_passes_is_waited_for(registry, pulling, status):
    registry.answer(status, times=2, on="manifest", method="GET")
    registry.answer(status, times=2, on="blob")

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RegistryAnswerError),
        (401, UnauthorizedError),
        (403, AccessError),
        (405, RegistryAnswerError),
        (500, RegistryUnavailableError),
        (503, RegistryUnavailableError),
    ],
)
@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_trouble_that_stays_is_told(registry, pulling, status, kind, what):
    registry.answer(status, times=None, on=what)
    with pytest.raises(kind) as caught:
        pulling.pull(registry.reference(NAME))
    assert registry.host in caught.value.message
    assert pulling.store.models() == ()


def test_rate_limit_is_obeyed(registry, pulling):
    registry.answer(429, headers={"Retry-After": "0"}, on="manifest")
    soon = format_datetime(datetime.now(UTC), usegmt=True)
    registry.answer(429, headers={"Retry-After": soon}, on="blob")

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_rate_limit_that_asks_for_too_long_is_told_at_once(registry, pulling, what):
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    fault = registry.answer(429, times=None, headers={"Retry-After": later}, on=what)
    with pytest.raises(RateLimitedError, match="rate limit reached, wait 7") as caught:
        pulling.pull(registry.reference(NAME))
    assert caught.value.exit_code == ExitStatus.TRANSFER == 5
    assert fault.hits <= 4


def test_refused_connection(pulling):
    with pytest.raises(RegistryUnavailableError, match="Connection refused") as caught:
        pulling.pull("127.0.0.1:1/ai/m:1")
    assert caught.value.exit_code == ExitStatus.TRANSFER


def test_name_that_nobody_knows(pulling):
    with pytest.raises(RegistryUnavailableError, match=r"cannot reach registry\.invalid"):
        pulling.pull("registry.invalid/ai/m:1")


def test_tls_to_a_plain_port(registry, store):
    pulling = Pulling(store, mirrors={registry.host: (f"https://{registry.host}",)})
    pulling.mirrors = {"r.invalid": (f"https://{registry.host}",)}
    places = pulling.places
    from modelrunner.oci.reference import Reference

    source = places.source_for(Reference.parse("r.invalid/ai/m:1"))._places.best
    with pytest.raises(RegistryAnswerError, match="does not speak TLS") as caught:
        source.resolve(Reference.parse("r.invalid/ai/m:1"))
    assert "insecure = true" in (caught.value.hint or "")
    assert not caught.value.retryable


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_web_page_in_place_of_an_answer_is_told_as_such(registry, pulling, what):
    registry.html(on=what)
    with pytest.raises(RegistryAnswerError, match="web page") as caught:
        pulling.pull(registry.reference(NAME))
    assert "proxy" in (caught.value.hint or "")
    assert pulling.store.models() == ()


def test_web_page_takes_nothing_from_what_is_here(registry, pulling):
    registry.cut_after(60_000, digest=sha256(WEIGHTS))
    registry.html(on="blob", digest="", skip=3)
    with pytest.raises(TransferError):
        pulling.pull(registry.reference(NAME))
    registry.calm()

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


# Bytes that are wrong.


def test_manifest_that_is_not_what_was_asked_for_is_refused(registry, pulling):
    registry.corrupt(MODEL.digest)
    with pytest.raises(DigestMismatchError) as caught:
        pulling.pull(registry.reference(NAME))
    error = caught.value
    assert error.exit_code == ExitStatus.INTEGRITY == 6
    assert error.facts["expected"] == MODEL.digest
    assert str(error.facts["got"]).startswith("sha256:")
    assert_nothing_stored(pulling, registry)


def test_blob_that_is_wrong_once_is_mended(registry, pulling):
    registry.corrupt(sha256(WEIGHTS), times=1)

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)
    assert len(pulling.heard(Retrying)) == 1


def test_blob_that_is_wrong_always_is_refused_and_nothing_of_it_stays(registry, pulling):
    registry.corrupt(sha256(WEIGHTS))
    with pytest.raises(DigestMismatchError) as caught:
        pulling.pull(registry.reference(NAME))
    assert caught.value.facts["expected"] == sha256(WEIGHTS)
    assert sha256(WEIGHTS) in caught.value.message
    assert str(caught.value.facts["got"]) in caught.value.message
    assert pulling.leftovers == []
    assert pulling.store.models() == ()
    assert registry.count("GET", "blobs") == 1 + 2


def test_blob_that_is_too_short_is_refused(registry, pulling):
    registry.truncate(sha256(WEIGHTS), 10)
    with pytest.raises(SizeMismatchError):
        pulling.pull(registry.reference(NAME))
    assert pulling.store.models() == ()


def test_blob_without_an_end_is_read_no_further_than_its_size(registry, pulling):
    registry.endless(sha256(WEIGHTS))
    try:
        pulling.pull(registry.reference(NAME))
    except IntegrityError:
        assert pulling.store.models() == ()
    else:
        assert_stored(pulling)


@pytest.mark.parametrize("digest", [sha256(WEIGHTS), sha256(MODEL.config), MODEL.digest])
def test_encoding_that_nobody_asked_for_is_undone(registry, pulling, digest):
    registry.gzip_encoding(digest)

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


def test_nobody_asks_for_an_encoding(registry, pulling):
    pulling.pull(registry.reference(NAME))
    for request in registry.requests:
        assert request.headers["Accept-Encoding"] == "identity"
        assert request.headers["User-Agent"].startswith("modelrunner")


@pytest.mark.parametrize("config", [b"", b"no JSON", b"[]", b"[" * 99_999])
def test_config_that_is_none_is_refused_before_the_weights_move(registry, pulling, config):
    artifact = _with_config(config)
    registry.add(artifact, "o/m", tags=["1"])
    # the second time the blob is here, and no better for it
    for _attempt in range(2):
        with pytest.raises(MalformedManifestError) as caught:
            pulling.pull(registry.reference("o/m:1"))
        assert caught.value.exit_code == ExitStatus.INTEGRITY
        assert registry.bytes_sent(sha256(WEIGHTS)) == 0
        assert pulling.store.models() == ()


def test_config_of_a_gigabyte_is_refused_before_it_moves(registry, pulling):
    document = json.loads(MODEL.manifest)
    document["config"]["size"] = 1024**3
    raw = json.dumps(document).encode()
    registry.manifest_override("135M", raw, claimed_digest=sha256(raw))
    registry.manifest_override(sha256(raw), raw, claimed_digest=sha256(raw))
    with pytest.raises(IntegrityError):
        pulling.pull(registry.reference(NAME))
    assert registry.count("GET", "blobs") == 0


@pytest.mark.parametrize("declared", [True, False])
def test_manifest_of_a_hundred_megabytes_is_not_read(registry, pulling, declared):
    registry.huge_manifest(100 * 1024 * 1024, declared=declared)
    with pytest.raises(MalformedManifestError, match="exceeds 4194304 bytes"):
        pulling.pull(registry.reference(NAME))
    (request,) = registry.requests_of("GET", "manifest")
    assert request.sent < 20 * 1024 * 1024
    assert_nothing_stored(pulling, registry)


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/evil", "a/../../evil", "..", "a\\..\\b", "\x1b[31m"]
)
def test_path_that_leaves_the_folder_is_refused_before_a_blob_moves(registry, pulling, path):
    registry.add(docker_artifact(WEIGHTS, filenames=[path]), "o/m", tags=["1"])
    with pytest.raises(IntegrityError):
        pulling.pull(registry.reference("o/m:1"))
    assert_nothing_stored(pulling, registry)


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"{}", b'{"schemaVersion":1}', b"\xff", b"<html></html>"]
)
def test_manifest_that_is_none_is_refused(registry, pulling, raw):
    registry.manifest_override("135M", raw, claimed_digest=sha256(raw))
    registry.manifest_override(sha256(raw), raw, claimed_digest=sha256(raw))
    with pytest.raises(MalformedManifestError):
        pulling.pull(registry.reference(NAME))
    assert_nothing_stored(pulling, registry)


def test_digest_header_that_is_none_is_refused(registry, pulling):
    manifest = MODEL.manifest
    registry.manifest_override("135M", manifest, claimed_digest="../../etc/passwd")
    with pytest.raises(ModelRunnerError):
        pulling.pull(registry.reference(NAME))
    assert_nothing_stored(pulling, registry)


# Streams that break.


@pytest.mark.parametrize("offset", [0, 1, 4095, 65_535, 65_536, 65_537, len(WEIGHTS) - 1])
def test_stream_that_breaks_is_taken_up(registry, pulling, offset):
    fault = registry.cut_after(offset, digest=sha256(WEIGHTS))

    pulling.pull(registry.reference(NAME))

    assert fault.hits == 1
    assert_stored(pulling)
    assert len(pulling.heard(Retrying)) == 1
    # within one process, nothing that came is fetched again
    assert registry.bytes_sent(sha256(WEIGHTS)) <= len(WEIGHTS) + 1


def test_stream_that_breaks_again_and_again_gets_there_as_long_as_it_gets_on(registry, pulling):
    fault = registry.cut_after(9_000, times=8, digest=sha256(WEIGHTS))

    pulling.pull(registry.reference(NAME))

    assert fault.hits == 8
    assert_stored(pulling)


def test_stream_that_never_gets_on_is_given_up(registry, pulling):
    fault = registry.cut_after(0, times=None, digest=sha256(WEIGHTS))
    with pytest.raises(TransferError) as caught:
        pulling.pull(registry.reference(NAME))
    assert caught.value.retryable
    assert fault.hits <= 4
    assert pulling.store.models() == ()


def test_reset_connections_are_opened_again(registry, pulling):
    registry.reset(times=2, on="blob")
    registry.reset(times=1, on="manifest")

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


@pytest.mark.parametrize("fault", ["ignore_ranges", "shift_ranges", "omit_content_range"])
def test_server_that_is_bad_at_ranges_costs_bytes_and_no_model(registry, pulling, fault):
    registry.cut_after(50_000, digest=sha256(WEIGHTS))
    getattr(registry, fault)()

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


def test_range_that_cannot_be_had_costs_bytes_and_no_model(registry, pulling):
    registry.cut_after(50_000, digest=sha256(WEIGHTS))
    registry.answer(416, times=1, on="blob", reference=sha256(WEIGHTS), skip=1)

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


def test_short_ranges_are_put_together(registry, pulling):
    registry.cut_after(50_000, digest=sha256(WEIGHTS))
    registry.short_ranges(10_000)

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


# Redirects.


@pytest.fixture
def cdn():
    with Cdn(host="localhost") as cdn:
        yield cdn


def test_redirects_that_go_in_circles_end(registry, pulling):
    fault = registry.redirect_loop()
    with pytest.raises(RegistryAnswerError, match="more than 8 redirects"):
        pulling.pull(registry.reference(NAME))
    assert fault.hits <= 10


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("https://169.254.169.254/latest/meta-data", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("file:///etc/passwd", "not http or https"),
        ("ftp://127.0.0.1/x", "not http or https"),
        (r"http://169.254.169.254\@localhost/", "ambiguous URL"),
        ("http://user:password@localhost:1/", "ambiguous URL"),
        ("http://[::1", "invalid URL"),
    ],
)
@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_redirect_to_where_a_registry_has_no_business_is_refused(
    registry, pulling, target, says, what
):
    registry.redirect_to(target, on=what)
    with pytest.raises(TransferError, match=says):
        pulling.pull(registry.reference(NAME))
    assert pulling.store.models() == ()


def test_body_of_a_redirect_is_not_read(registry, pulling):
    blob = f"/v2/ai/smollm2/blobs/{sha256(WEIGHTS)}?again"
    body = bytes(50 * 1024 * 1024)
    registry.answer(307, headers={"Location": blob}, body=body, on="blob", times=3)
    pulling.pull(registry.reference(NAME))
    redirects = [request for request in registry.requests if request.status == 307]
    assert len(redirects) == 3
    assert sum(request.sent for request in redirects) < 30 * 1024 * 1024


def test_redirect_without_a_target_is_an_answer_that_makes_no_sense(registry, pulling):
    registry.answer(307, times=None, on="blob")
    with pytest.raises(RegistryAnswerError, match="307"):
        pulling.pull(registry.reference(NAME))


def test_relative_redirect_is_followed(registry, pulling):
    registry.redirect_to(
        f"/v2/ai/smollm2/blobs/{sha256(WEIGHTS)}?again",
        times=1,
        on="blob",
        reference=sha256(WEIGHTS),
    )

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


def test_manifest_may_be_behind_a_redirect(registry, pulling):
    registry.redirect_to(
        f"/v2/ai/smollm2/manifests/{MODEL.digest}", times=2, status=302, on="manifest"
    )

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


def test_signed_address_that_expires_is_asked_for_anew(registry, pulling, cdn):
    registry.redirect_blobs(to=cdn)
    cdn.cut_after(50_000, digest=sha256(WEIGHTS))
    cdn.answer(403, times=1, on="blob", skip=2)

    pulling.pull(registry.reference(NAME))

    assert_stored(pulling)


@pytest.mark.skipif(not can_make_certificates(), reason="needs openssl to make a certificate")
class TestTls:
    @pytest.fixture
    def secure(self):
        with Registry(host="localhost", tls=True) as registry:
            registry.add(MODEL, "ai/smollm2", tags=["135M"])
            yield registry

    @pytest.fixture
    def mirrored(self, store, secure):
        """`r.invalid` is spoken to in TLS at the registry's address."""
        return Pulling(store, mirrors={"r.invalid": (secure.url,)}, ca_file=str(secure.ca_file))

    def test_private_authority_is_trusted_where_it_is_named(self, secure, mirrored):
        mirrored.pull("r.invalid/ai/smollm2:135M")
        assert_stored(mirrored)

    def test_authority_of_one_registry_only(self, store, secure):
        own = {secure.host: RegistrySettings(ca_file=str(secure.ca_file))}
        pulling = Pulling(store, mirrors={"r.invalid": (secure.url,)}, registries=own)
        pulling.pull("r.invalid/ai/smollm2:135M")
        assert_stored(pulling)

    def test_authority_that_nobody_named_is_not_trusted(self, store, secure):
        pulling = Pulling(store, mirrors={"r.invalid": (secure.url,)})
        with pytest.raises(TransferError):
            pulling.pull("r.invalid/ai/smollm2:135M")
        assert secure.requests == []

    def test_file_of_certificates_that_is_not_there_is_a_mistake_of_ours(self, store, secure):
        pulling = Pulling(store, mirrors={"r.invalid": (secure.url,)}, ca_file="/nowhere.pem")
        with pytest.raises(ConfigError, match=r"/nowhere\.pem"):
            pulling.pull("r.invalid/ai/smollm2:135M")

    def test_encrypted_stream_that_breaks_is_taken_up(self, secure, mirrored):
        secure.cut_after(50_000, times=3, digest=sha256(WEIGHTS))
        secure.reset(times=2, on="blob")
        mirrored.pull("r.invalid/ai/smollm2:135M")
        assert_stored(mirrored)

    def test_redirect_out_of_encryption_is_not_followed(self, registry, secure, mirrored):
        secure.redirect_to(f"{registry.url}/v2/ai/smollm2/blobs/{sha256(WEIGHTS)}")
        with pytest.raises(TransferError):
            mirrored.pull("r.invalid/ai/smollm2:135M")
        assert registry.requests == []


def _with_config(config):
    document = json.loads(MODEL.manifest)
    document["config"] |= {"digest": sha256(config), "size": len(config)}
    blobs = {**MODEL.blobs, sha256(config): config}
    return type(MODEL)(json.dumps(document).encode(), MODEL.media_type, blobs)
