"""What `oras` does over our exchange: tags page by page."""

import inspect
import json
from importlib import import_module

import pytest

from modelrunner.errors import RegistryAnswerError
from modelrunner.oci.reference import Reference
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling
from tests.support.registry import Registry

MODEL = docker_artifact(b"GGUF" + bytes(range(256)) * 10, license=b"do as you like")


@pytest.fixture
def registry():
    with Registry() as made:
        made.add(MODEL, "team/m", ["1", "2", "3"])
        yield made


@pytest.fixture
def pulling(store):
    return Pulling(store)


def tags(pulling, registry):
    name = Reference.parse(registry.reference("team/m"))
    return pulling.places.sink_for(name).tags(name)


def test_oras_sends_every_request_in_the_one_method_that_we_replace():
    provider = import_module("oras.provider")
    whole, method = (
        inspect.getsource(part) for part in (provider.Registry, provider.Registry.do_request)
    )
    for way in ("self.session.", "requests.get(", "requests.post(", "requests.request("):
        assert whole.count(way) - method.count(way) == (1 if way == "self.session." else 0)
    # the one that is left sets the policy for cookies
    assert "self.session.cookies.set_policy" in whole


# Tags.


def test_all_pages_of_tags_are_read(pulling, registry):
    registry.page_size = 1
    assert tags(pulling, registry) == ("1", "2", "3")
    assert [request.query for request in registry.requests_of(kind="tags")] == [
        {"n": "1000"},
        {"n": "1", "last": "1"},
        {"n": "1", "last": "2"},
    ]


@pytest.mark.parametrize(
    ("link", "asked"),
    [
        ("?last=1", 2),
        ("/v2/team/m/tags/list?n=1000", 2),
        ("http://127.0.0.2:9/v2/team/m/tags/list?last=1", 1),
        ("//evil.example/v2/team/m/tags/list", 1),
    ],
)
def test_next_page_is_on_the_same_server_and_is_read_once(pulling, registry, link, asked):
    registry.answer(
        200,
        times=None,
        on="tags",
        headers={"Link": f'<{link}>; rel="next"', "Content-Type": "application/json"},
        body=b'{"tags": ["1"]}',
    )
    assert tags(pulling, registry) == ("1",)
    assert len(registry.requests) == asked


def test_list_without_end_is_read_for_so_many_pages(pulling, registry, monkeypatch):
    monkeypatch.setattr("modelrunner.registry.oci.oras_client._MAX_PAGES", 3)
    handle = registry.handle

    def endless(request):
        reply = handle(request)
        reply.content = json.dumps({"tags": [str(len(registry.requests))]}).encode()
        reply.headers["Link"] = f'<?last={len(registry.requests)}>; rel="next"'
        return reply

    registry.handle = endless
    assert len(tags(pulling, registry)) == 4


@pytest.mark.parametrize("link", ["http://[", "ftp://x/y", "http://a@b/c"])
def test_invalid_address_of_the_next_page_is_said_in_words(pulling, registry, link):
    registry.answer(
        200, times=None, on="tags", headers={"Link": f"<{link}>; rel=next"}, body=b'{"tags": ["1"]}'
    )
    with pytest.raises(RegistryAnswerError) as caught:
        tags(pulling, registry)
    assert caught.value.hint


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b'{"tags":', b"[" * 100_000, b'{"tags": NaN}']
)
def test_malformed_list_of_tags_is_said_in_words(pulling, registry, body):
    registry.answer(200, times=None, on="tags", body=body)
    with pytest.raises(RegistryAnswerError, match="malformed tag list"):
        tags(pulling, registry)


@pytest.mark.parametrize("value", ["5", '"abc"', '{"a": 1}', "null", "[5, null, [1]]"])
def test_what_is_no_list_of_tags_has_none(pulling, registry, value):
    registry.answer(200, times=None, on="tags", body=b'{"tags": %b}' % value.encode())
    assert tags(pulling, registry) == ()
