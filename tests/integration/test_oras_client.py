"""What `oras` does over our exchange: tags page by page, and uploads in chunks."""

import inspect
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import oras.provider
import pytest

from modelrunner.errors import ModelRunnerError, RegistryAnswerError, RequestTooLargeError
from modelrunner.events import Advanced, Retrying
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.push import Pusher
from modelrunner.registry.oci import oras_client
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact
from tests.support.docker_registry import docker_registry, needs_docker_registry
from tests.support.pulling import Pulling, docker_config
from tests.support.registry import Registry
from tests.support.registry_messages import error

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
    whole, method = (
        inspect.getsource(part)
        for part in (oras.provider.Registry, oras.provider.Registry.do_request)
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
    monkeypatch.setattr(oras_client, "_MAX_PAGES", 3)
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


# Uploads.


def limited(registry, limit):
    """A proxy before the registry takes no request with a larger body."""
    handle = registry.handle
    refused = []

    def through(request):
        if len(request.body) > limit:
            refused.append(request.method)
            return error(413, "SIZE_INVALID", "too large")
        return handle(request)

    registry.handle = through
    return refused


@pytest.fixture
def model(pulling, registry):
    return pulling.pull(registry.reference("team/m:1")).model


def test_blob_that_is_too_large_for_one_request_goes_in_chunks(
    tmp_path, store, registry, model, monkeypatch
):
    monkeypatch.setattr(oras_client, "CHUNK", 1000)
    with Registry() as other:
        other.demand_token({"me": "word"})
        refused = limited(other, 2000)
        pulling = Pulling(store, docker_config(tmp_path, {other.host: ("me", "word")}))
        pulling.push(model, other.reference("team/copy:1"))
        assert other.tags("team/copy") == {"1": str(model.digest)}
        for blob in model.manifest.blobs:
            content = store.blobs.path(blob.digest).read_bytes()
            assert other.blob_bytes("team/copy", str(blob.digest)) == content
        chunks = [r.headers["Content-Range"] for r in other.requests if r.method == "PATCH"]
    # it is tried once; a registry has the one limit for all
    assert refused == ["PUT"]
    weights = model.manifest.layers[0]
    assert chunks[:3] == ["0-999", "1000-1999", f"2000-{weights.size - 1}"]
    sent = [e.done for e in pulling.heard(Advanced) if e.digest == str(weights.digest)]
    assert sent[-3:] == [1000, 2000, weights.size]


def test_chunk_that_is_too_large_too_ends_the_push(pulling, model):
    with Registry() as other:
        limited(other, 100)
        with pytest.raises(RequestTooLargeError) as caught:
            pulling.push(model, other.reference("team/copy:1"))
    assert caught.value.exit_code == 5
    assert caught.value.hint == (
        "raise the size limit for requests in the proxy in front of the registry "
        "(nginx: `client_max_body_size`)"
    )


def test_chunks_to_another_host_carry_no_login(tmp_path, store, model):
    with Registry() as other, Registry(host="localhost") as elsewhere:
        other.demand_basic("me", "word")
        headers = {"Location": f"{elsewhere.url}/v2/x/blobs/uploads/1?state=2"}
        other.answer(202, times=None, on="upload", method="POST", headers=headers)
        elsewhere.answer(413, times=None, on="upload", method="PUT")
        pulling = Pulling(store, docker_config(tmp_path, {other.host: ("me", "word")}))
        with pytest.raises(ModelRunnerError):
            pulling.push(model, other.reference("team/copy:1"))
        asked = [(request.method, request.authorization) for request in elsewhere.requests]
        assert asked == [("PUT", None), ("PATCH", None)]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 429, 500, 503])
def test_blob_that_is_not_mounted_is_uploaded_whatever_the_answer(pulling, registry, model, status):
    registry.answer(status, times=1, on="upload", method="POST")
    pushed = pulling.push(model, registry.reference("team/copy:1"))
    # the others are mounted
    assert pushed.uploaded_bytes == model.manifest.blobs[0].size
    assert registry.tags("team/copy") == {"1": str(model.digest)}


def test_body_of_an_answer_to_an_upload_is_not_waited_for(pulling, model):
    with _EndlessAnswers() as address:
        pulling.push(model, f"{address}/team/copy:1")


def test_refusal_that_comes_before_the_body_is_read_is_seen(pulling, registry, monkeypatch):
    monkeypatch.setattr(oras_client, "CHUNK", 4 << 20)
    large = docker_artifact(b"GGUF" + bytes(8 << 20))
    registry.add(large, "team/large", ["1"])
    model = pulling.pull(registry.reference("team/large:1")).model
    with _Impatient(5 << 20) as address:
        pushed = pulling.push(model, f"{address}/team/copy:1")
    assert pushed.uploaded_bytes == model.manifest.total_bytes
    assert pulling.heard(Retrying) == []


class _Accepting:
    """A server that accepts every upload and keeps nothing."""

    def __enter__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def respond(self):
                server.answer(self)

            do_HEAD = do_POST = do_PUT = do_PATCH = respond  # noqa: N815

            def log_message(self, *arguments):
                """Nothing is logged."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        return f"127.0.0.1:{self.server.server_address[1]}"

    def __exit__(self, *_exception):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def answer(self, handler, **headers):
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.send_response({"HEAD": 404, "POST": 202, "PATCH": 202, "PUT": 201}[handler.command])
        handler.send_header("Location", "/v2/up/1")
        for name, value in (headers or {"Content-Length": "0"}).items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()


class _EndlessAnswers(_Accepting):
    """The same, but the body of an answer never ends."""

    def __enter__(self):
        self.ended = threading.Event()
        return super().__enter__()

    def __exit__(self, *exception):
        self.ended.set()
        super().__exit__(*exception)

    def answer(self, handler):
        super().answer(handler, Transfer_Encoding="chunked")
        if handler.command != "HEAD":
            handler.wfile.write(b"1\r\n \r\n")
            self.ended.wait()


class _Impatient(_Accepting):
    """The same, but what is too large is refused before it has been read, and the line is cut."""

    def __init__(self, limit):
        self.limit = limit

    def answer(self, handler):
        if int(handler.headers.get("Content-Length", 0)) > self.limit:
            handler.send_response(413)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            handler.close_connection = True
        else:
            super().answer(handler)


def test_upload_without_an_address_is_said_in_words(pulling, model):
    with Registry() as other:
        other.answer(202, times=None, on="upload", method="POST")
        with pytest.raises(RegistryAnswerError) as caught:
            pulling.push(model, other.reference("team/copy:1"))
        assert caught.value.message == (f"{other.host}: the answer does not say where to upload to")


def test_address_of_an_upload_keeps_its_whole_query(pulling, model):
    with Registry() as other:
        target = "/v2/team/copy/blobs/uploads/1?empty=&a=1&a=2&state=x%2By"
        other.answer(202, times=None, on="upload", method="POST", headers={"Location": target})
        other.answer(400, times=None, on="upload", method="PUT")
        with pytest.raises(RegistryAnswerError):
            pulling.push(model, other.reference("team/copy:1"))
        (put,) = [request for request in other.requests if request.method == "PUT"]
        blob = model.manifest.blobs[0]
        assert put.target == f"{target}&digest={blob.digest}"


@needs_docker_registry
@pytest.mark.registry
def test_registry_of_others_takes_chunks(tmp_path, pulling, model, monkeypatch):
    monkeypatch.setattr(oras_client, "CHUNK", 1000)
    with docker_registry(tmp_path / "registry") as other:
        reference = Reference.parse(other.reference("team/copy:1"))
        sink = pulling.places.sink_for(reference)
        monkeypatch.setattr(sink, "_in_chunks", True)
        Pusher(pulling.store, sink).push(model, reference)
        again = Pulling(Store(tmp_path / "again")).pull(str(reference))
        assert again.model.digest == model.digest
        assert again.model.weights().read_bytes() == model.weights().read_bytes()
