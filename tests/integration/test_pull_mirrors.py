"""Mirrors before a registry: the first that delivers does, and a bad one costs no model."""

from contextlib import closing

import pytest

from modelrunner.errors import ConfigError, DigestMismatchError, ManifestNotFoundError
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.retry import Backoff
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling
from tests.support.registry import Registry, sha256

WEIGHTS = b"GGUF" + (bytes(range(256)) * 400)[4:]
MODEL = docker_artifact(WEIGHTS, license=b"do as you like")
NAME = "ai/smollm2:135M"


@pytest.fixture
def origin():
    with Registry() as registry:
        registry.add(MODEL, "ai/smollm2", tags=["135M"])
        yield registry


@pytest.fixture
def mirror():
    with Registry(host="localhost") as registry:
        registry.add(MODEL, "ai/smollm2", tags=["135M"])
        yield registry


@pytest.fixture
def pulling(store, origin, mirror):
    return Pulling(store, mirrors={origin.host: (mirror.url,)})


def pull(pulling, origin):
    pulled = pulling.pull(origin.reference(NAME))
    assert str(pulled.model.digest) == MODEL.digest
    for digest, content in MODEL.blobs.items():
        path = pulling.store.layout.blobs / digest.removeprefix("sha256:")
        assert path.read_bytes() == content
    return pulled


def test_mirror_is_asked_and_the_registry_is_not(pulling, origin, mirror):
    pulled = pull(pulling, origin)

    assert origin.requests == []
    assert pulled.source == mirror.url
    # it has the registry's name, wherever it came from
    assert str(pulled.reference) == origin.reference(NAME)


def test_model_that_is_here_costs_the_mirror_one_request(pulling, origin, mirror):
    pull(pulling, origin)
    mirror.forget()
    assert pull(pulling, origin).status == "up-to-date"
    assert len(mirror.requests) == 1
    assert origin.requests == []


def test_mirror_is_told_whose_mirror_it_is_and_the_registry_is_not(pulling, origin, mirror):
    mirror.add(MODEL, "ai/smollm2", tags=["360M"])
    # the address of its second page does not name the registry
    mirror.page_size = 1
    mirror.answer(404, times=None, on="blob")
    pull(pulling, origin)
    reference = Reference.parse(origin.reference(NAME))
    with closing(pulling.places.source_for(reference)) as source:
        assert source.tags(reference) == ("135M", "360M")
    asked = [(request.method, request.kind) for request in mirror.requests]
    wanted = [("GET", "manifest"), ("GET", "blob"), ("GET", "tags")]
    assert set(asked) == set(wanted)
    assert asked.count(("GET", "tags")) == 2
    assert {request.query["ns"] for request in mirror.requests} == {origin.host}
    assert origin.requests
    assert [request for request in origin.requests if "ns" in request.query] == []


def test_mirror_that_is_down_is_passed_over(pulling, origin, mirror):
    mirror.close()
    assert pull(pulling, origin).source == origin.host


def test_mirror_that_is_down_costs_no_long_wait(store, origin, mirror):
    slept = []
    patient = Backoff(attempts=9, sleep=slept.append)
    pulling = Pulling(store, mirrors={origin.host: (mirror.url,)}, backoff=patient)
    mirror.close()
    pull(pulling, origin)
    assert sum(slept) < 3


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_mirror_that_refuses_is_passed_over(pulling, origin, mirror, status, what):
    fault = mirror.answer(status, times=None, on=what)
    pull(pulling, origin)
    assert fault.hits > 0
    assert origin.count("GET", what) > 0


def test_mirror_that_lacks_a_blob_is_helped_out_by_the_registry(pulling, origin, mirror):
    mirror.remove_blob("ai/smollm2", sha256(WEIGHTS))
    pull(pulling, origin)
    assert mirror.bytes_sent(sha256(MODEL.config)) == len(MODEL.config)
    assert origin.bytes_sent() == len(WEIGHTS)


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_mirror_that_answers_with_a_web_page_is_passed_over(pulling, origin, mirror, what):
    mirror.html(on=what)
    pull(pulling, origin)


def test_mirror_with_a_wrong_manifest_is_passed_over(pulling, origin, mirror):
    mirror.corrupt(MODEL.digest)
    assert pull(pulling, origin).source == origin.host


@pytest.mark.parametrize("fault", ["corrupt", "endless"])
def test_mirror_with_wrong_bytes_is_not_asked_for_them_again(pulling, origin, mirror, fault):
    getattr(mirror, fault)(sha256(WEIGHTS))
    pull(pulling, origin)
    assert pulling.leftovers == []


def test_mirror_with_a_short_blob_is_passed_over(pulling, origin, mirror):
    mirror.truncate(sha256(WEIGHTS), 100)
    pull(pulling, origin)
    assert origin.bytes_sent(sha256(WEIGHTS)) == len(WEIGHTS)


def test_mirror_that_breaks_off_in_the_middle_is_followed_up_by_the_registry(
    pulling, origin, mirror
):
    mirror.cut_after(50_000, digest=sha256(WEIGHTS))
    mirror.answer(503, times=None, on="blob", reference=sha256(WEIGHTS), skip=1)
    pull(pulling, origin)
    assert origin.bytes_sent(sha256(WEIGHTS)) == len(WEIGHTS) - 50_000


def test_mirror_without_ranges_costs_no_model(pulling, origin, mirror):
    mirror.cut_after(50_000, digest=sha256(WEIGHTS))
    mirror.ignore_ranges()
    pull(pulling, origin)


def test_everybody_with_wrong_bytes_is_an_error_that_names_them(pulling, origin, mirror):
    for registry in (origin, mirror):
        registry.corrupt(sha256(WEIGHTS))
    with pytest.raises(DigestMismatchError):
        pull(pulling, origin)
    assert pulling.store.models() == ()
    assert pulling.leftovers == []


def test_tag_that_only_the_registry_has_comes_from_there(pulling, origin, mirror):
    mirror.remove_tag("ai/smollm2", "135M")
    pull(pulling, origin)


def test_tag_that_nobody_has_is_told_with_the_near_ones(pulling, origin):
    with pytest.raises(ManifestNotFoundError) as caught:
        pulling.pull(origin.reference("ai/smollm2:136M"))
    assert caught.value.facts["near"] == ["135M"]


def test_tag_on_a_mirror_while_the_registry_is_away(pulling, origin, mirror):
    origin.close()
    assert pull(pulling, origin).source == mirror.url


def test_several_mirrors_are_asked_in_their_order(store, origin, mirror):
    with Registry() as second:
        second.add(MODEL, "ai/smollm2", tags=["135M"])
        mirror.answer(503, times=None)
        pulling = Pulling(store, mirrors={origin.host: (mirror.url, second.url)})
        assert pull(pulling, origin).source == second.url
        assert origin.requests == []


def test_mirror_below_a_path(store, origin, mirror):
    handle = mirror.handle

    def below(request):
        assert request.target.startswith("/hub/v2/")
        request.target = request.target.removeprefix("/hub")
        mirror.classify(request)
        return handle(request)

    mirror.handle = below
    pulling = Pulling(store, mirrors={origin.host: (f"{mirror.url}/hub/",)})
    assert pull(pulling, origin).source == f"{mirror.url}/hub"


def test_mirror_of_one_registry_is_none_of_another(store, origin, mirror):
    pulling = Pulling(store, mirrors={"other.example": (mirror.url,)})
    pull(pulling, origin)
    assert mirror.requests == []


def test_mirror_on_another_machine_in_plain_http_is_refused(store, origin):
    pulling = Pulling(store, mirrors={origin.host: ("http://10.0.0.5:5001",)})
    with pytest.raises(ConfigError, match="plain http"):
        pull(pulling, origin)
    assert origin.requests == []


def test_push_never_goes_to_a_mirror(pulling, origin, mirror):
    pulled = pull(pulling, origin)
    mirror.forget()
    pulling.push(pulled.model, origin.reference("team/copy:1"))
    assert mirror.requests == []
    assert origin.tags("team/copy") == {"1": MODEL.digest}
