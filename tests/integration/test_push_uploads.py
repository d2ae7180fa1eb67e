"""How blobs go up: side by side, in chunks, within limits, and on after a break."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from modelrunner.errors import (
    CorruptStoreError,
    DeniedError,
    ModelRunnerError,
    RegistryAnswerError,
    RequestTooLargeError,
    TransferError,
)
from modelrunner.events import Advanced, Retrying
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.push import Pusher
from modelrunner.registry.oci import sink as oci_sink
from modelrunner.registry.settings import RegistrySettings
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact
from tests.support.breaking_registry import BreakingRegistry
from tests.support.docker_registry import docker_registry, needs_docker_registry
from tests.support.pulling import Pulling, docker_config
from tests.support.registry import Registry, can_make_certificates, sha256
from tests.support.registry_messages import error

MODEL = docker_artifact(b"GGUF" + bytes(range(256)) * 10, license=b"do as you like")
MIB = 1024 * 1024


@pytest.fixture
def registry():
    with Registry() as made:
        made.add(MODEL, "team/m", ["1", "2", "3"])
        yield made


@pytest.fixture
def pulling(store):
    return Pulling(store)


# In chunks, and elsewhere.


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
    monkeypatch.setattr(oci_sink, "CHUNK", 1000)
    with Registry() as other:
        other.demand_token({"me": "word"})
        refused = limited(other, 2000)
        pulling = Pulling(store, docker_config(tmp_path, {other.host: ("me", "word")}))
        pulling.push(model, other.reference("team/copy:1"), connections=1)
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
            pulling.push(model, other.reference("team/copy:1"), connections=1)
        asked = [(request.method, request.authorization) for request in elsewhere.requests]
        assert asked == [("PUT", None), ("PATCH", None)]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 429, 500, 503])
def test_blob_that_is_not_mounted_is_uploaded_whatever_the_answer(pulling, registry, model, status):
    registry.answer(status, times=1, on="upload", method="POST")
    pushed = pulling.push(model, registry.reference("team/copy:1"), connections=1)
    # the others are mounted
    assert pushed.uploaded_bytes == max(blob.size for blob in model.manifest.blobs)
    assert registry.tags("team/copy") == {"1": str(model.digest)}


def test_body_of_an_answer_to_an_upload_is_not_waited_for(pulling, model):
    with _EndlessAnswers() as address:
        pulling.push(model, f"{address}/team/copy:1")


def test_refusal_that_comes_before_the_body_is_read_is_seen(pulling, registry, monkeypatch):
    monkeypatch.setattr(oci_sink, "CHUNK", 4 << 20)
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
    """The same, but the body of an answer never ends; or a PUT is not answered at all."""

    def __init__(self, *, answers=True):
        self.answers = answers

    def __enter__(self):
        self.ended = threading.Event()
        return super().__enter__()

    def __exit__(self, *exception):
        self.ended.set()
        super().__exit__(*exception)

    def answer(self, handler):
        if handler.command == "PUT" and not self.answers:
            self.ended.wait()
            return
        if not self.answers:
            super().answer(handler)
            return
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
            pulling.push(model, other.reference("team/copy:1"), connections=1)
        (put,) = [request for request in other.requests if request.method == "PUT"]
        blob = max(model.manifest.blobs, key=lambda blob: blob.size)
        assert put.target == f"{target}&digest={blob.digest}"


@needs_docker_registry
@pytest.mark.registry
def test_registry_of_others_takes_chunks(tmp_path, pulling, model, monkeypatch):
    monkeypatch.setattr(oci_sink, "CHUNK", 1000)
    with docker_registry(tmp_path / "registry") as other:
        reference = Reference.parse(other.reference("team/copy:1"))
        sink = pulling.places.sink_for(reference)
        sink.found.in_chunks = True
        Pusher(pulling.store, sink).push(model, reference)
        again = Pulling(Store(tmp_path / "again")).pull(str(reference))
        assert again.model.digest == model.digest
        assert again.model.weights().read_bytes() == model.weights().read_bytes()


# On after a break.


WEIGHTS = b"GGUF" + bytes(8 * MIB - 4)
LARGE = docker_artifact(WEIGHTS)


@pytest.fixture
def large(pulling, registry):
    registry.add(LARGE, "team/large", ["1"])
    return pulling.pull(registry.reference("team/large:1")).model


def push_large(pulling, large, other):
    pulling.events.clear()
    pulling.push(large, f"{other.host}/team/copy:1", connections=1)
    assert other.blobs[sha256(WEIGHTS)] == WEIGHTS


def test_upload_that_broke_goes_on_with_what_the_registry_lacks(pulling, large):
    with BreakingRegistry(3 * MIB) as other:
        push_large(pulling, large, other)
    assert other.log[:3] == [
        ("PUT", None),
        ("GET", 3 * MIB),
        ("PATCH", f"{3 * MIB}-{8 * MIB - 1}"),
    ]
    digest = f"sha256:{large.manifest.layers[0].digest.hex}"
    assert 3 * MIB in [e.done for e in pulling.heard(Advanced) if e.digest == digest]
    assert len(pulling.heard(Retrying)) == 1


@pytest.mark.parametrize("conduct", [{"tells": False}, {"takes": False}])
def test_upload_starts_again_where_the_registry_cannot_go_on(pulling, large, conduct):
    with BreakingRegistry(3 * MIB, **conduct) as other:
        push_large(pulling, large, other)
    assert [method for method, _ in other.log].count("PUT") >= 2


def test_upload_of_which_only_the_answer_was_lost_is_not_sent_again(pulling, large):
    with BreakingRegistry(9 * MIB, tells=False, loses_answers=True) as other:
        push_large(pulling, large, other)
    assert other.log[:2] == [("PUT", None), ("GET", 8 * MIB)]
    # what follows is the config
    assert len(other.log) == 3


def test_line_that_breaks_often_but_gets_on_does_not_end_a_push(pulling, large):
    assert pulling.backoff.attempts == 3
    with BreakingRegistry(MIB, times=7) as other:
        push_large(pulling, large, other)
    assert [span for method, span in other.log if method == "PATCH"] == [
        f"{begin * MIB}-{8 * MIB - 1}" for begin in range(1, 8)
    ]


def test_line_that_brings_nothing_ends_a_push(pulling, large):
    with BreakingRegistry(0, times=100) as other, pytest.raises(TransferError):
        pulling.push(large, f"{other.host}/team/copy:1")


def test_chunks_go_on_after_a_break_too(pulling, large, monkeypatch):
    monkeypatch.setattr(oci_sink, "CHUNK", 2 * MIB)
    with BreakingRegistry(MIB) as other:
        reference = Reference.parse(f"{other.host}/team/copy:1")
        sink = pulling.places.sink_for(reference)
        sink.found.in_chunks = True
        Pusher(pulling.store, sink, pulling.events.append, pulling.backoff).push(large, reference)
        assert other.blobs[sha256(WEIGHTS)] == WEIGHTS
    spans = [span for method, span in other.log if method == "PATCH" and span != "0-1"]
    first = [(0, 2), (1, 3), (3, 5), (5, 7), (7, 8)]
    wanted = [f"{begin * MIB}-{end * MIB - 1}" for begin, end in first]
    assert [span for span in spans if span in wanted] == wanted


# Side by side, and within limits.


def test_blobs_go_up_side_by_side(pulling, model):
    assert len(model.manifest.blobs) == 3
    together = threading.Barrier(3)
    with Registry() as other:
        handle = other.handle

        def wait_for_the_others(request):
            # the kind is found out while it is answered
            if request.method == "PUT" and "/blobs/uploads/" in request.path:
                together.wait(60)
            return handle(request)

        other.handle = wait_for_the_others
        pushed = pulling.push(model, other.reference("team/copy:1"))
        assert other.tags("team/copy") == {"1": str(model.digest)}
    assert pushed.uploaded_bytes == model.manifest.total_bytes


def test_first_blob_that_is_refused_ends_the_push(pulling, model):
    with Registry() as other:
        other.answer(403, times=None, on="upload", method="PUT")
        with pytest.raises(DeniedError):
            pulling.push(model, other.reference("team/copy:1"))
        assert other.tags("team/copy") == {}


def test_rate_of_a_push_is_let_through_in_even_pieces(pulling, large):
    with BreakingRegistry(9 * MIB) as other:
        pulling.events.clear()
        pulling.push(large, f"{other.host}/team/copy:1", rate=80 * MIB)
    digest = f"sha256:{large.manifest.layers[0].digest.hex}"
    done = [event.done for event in pulling.heard(Advanced) if event.digest == digest]
    assert done == [2 * MIB, 4 * MIB, 6 * MIB, 8 * MIB]


def test_time_limit_ends_a_push(cli, pulling, model):
    with _EndlessAnswers(answers=False) as address:
        home = {"MODELRUNNER_HOME": str(pulling.store.layout.root.parents[1])}
        name = f"{address}/team/copy:1"
        assert cli("tag", model.references[0].short, name, **home).returncode == 0
        done = cli("push", name, "--timeout", "0.5", **home)
    assert done.returncode == 5
    assert done.stderr.splitlines()[-2:] == [
        f"error: timed out after 0.5 s (--timeout): {address}: no data received, timed out",
        "hint: try again later, or allow more time",
    ]


@pytest.mark.skipif(not can_make_certificates(), reason="needs openssl")
def test_authority_of_a_push_can_be_named(cli, pulling, large):
    home = {"MODELRUNNER_HOME": str(pulling.store.layout.root.parents[1])}
    with Registry(tls=True) as other:
        name = other.reference("team/copy:1")
        assert cli("tag", large.references[0].short, name, **home).returncode == 0
        refused = cli("push", name, **home)
        done = cli("push", name, "--ca-file", str(other.ca_file), "--connections", "1", **home)
        assert other.blob_bytes("team/copy", sha256(WEIGHTS)) == WEIGHTS
    assert refused.returncode == 5
    assert "certificate not trusted" in refused.stderr
    assert done.returncode == 0, done.stderr


def test_blob_that_becomes_shorter_while_it_is_sent_is_an_error(pulling, large, monkeypatch):
    path = pulling.store.blobs.path(large.manifest.layers[0].digest)
    begin = oci_sink.Upload._begin

    def shorten(upload):
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.truncate(MIB)
        return begin(upload)

    monkeypatch.setattr(oci_sink.Upload, "_begin", shorten)
    with (
        BreakingRegistry(9 * MIB) as other,
        pytest.raises(CorruptStoreError, match="became shorter"),
    ):
        pulling.push(large, f"{other.host}/team/copy:1", connections=1)


def test_proxy_gets_the_same_bytes(pulling, large, monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    with BreakingRegistry(9 * MIB) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        registries = {"registry.example": RegistrySettings(insecure=True)}
        places = Pulling(pulling.store, registries=registries)
        places.push(large, "registry.example/team/copy:1", connections=1)
        assert proxy.blobs[sha256(WEIGHTS)] == WEIGHTS


@needs_docker_registry
@pytest.mark.registry
@pytest.mark.parametrize(
    "options",
    [(), ("--connections", "1"), ("--limit-rate", "80M"), ("--timeout", "300")],
)
def test_registry_of_others_gets_the_same_with_every_option(tmp_path, cli, pulling, large, options):
    home = {"MODELRUNNER_HOME": str(pulling.store.layout.root.parents[1])}
    with docker_registry(tmp_path / "registry") as other:
        name = other.reference("team/copy:1")
        assert cli("tag", large.references[0].short, name, **home).returncode == 0
        done = cli("push", name, *options, **home)
        assert done.returncode == 0, done.stderr
        again = Pulling(Store(tmp_path / "again")).pull(name)
    assert again.model.digest == large.digest
    assert again.model.weights().read_bytes() == WEIGHTS
