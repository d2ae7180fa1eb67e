"""A shared store that may be written to: pushes, what is refused, and what outlives a `kill -9`."""

import base64
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelrunner.errors import ConfigError
from modelrunner.share.repositories import is_taken
from modelrunner.share.server import ShareServer, sharing
from modelrunner.share.writing.requests import Writing
from modelrunner.share.writing.storage import PushedContent
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact
from tests.support.docker_registry import needs_skopeo, skopeo_copy
from tests.support.gguf import tiny_gguf
from tests.support.pulling import Pulling
from tests.support.registry import sha256
from tests.support.registry_client import Answer, ask, basic
from tests.support.stores import put

MODEL = docker_artifact(b"GGUF" + bytes(range(256)) * 4000, license=b"do as you like")
BLOB = b"some bytes of a blob"
DIGEST = sha256(BLOB)
UPLOADS = "/v2/team/own/blobs/uploads/"


@contextmanager
def writable(store: Store, folder: Path, key: str | None = None) -> Iterator[ShareServer]:
    with PushedContent(folder) as content:
        writing = Writing(content, lambda name: is_taken(store, name, None), key)
        with sharing(store, writing=writing) as server:
            yield server


@pytest.fixture
def shared(store: Store, tmp_path: Path) -> Iterator[ShareServer]:
    with writable(store, tmp_path / "registry") as server:
        yield server


def send(
    shared: ShareServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> Answer:
    return ask(shared.address + path, method, body, **headers)


def begin(shared: ShareServer) -> str:
    answer = send(shared, "POST", UPLOADS)
    assert (answer.status, answer.headers["Range"]) == (202, "0-0")
    return str(answer.headers["Location"])


def push_blob(shared: ShareServer, content: bytes, name: str = "team/own") -> str:
    digest = sha256(content)
    path = f"/v2/{name}/blobs/uploads/?digest={digest}"
    assert send(shared, "POST", path, content).status == 201
    return digest


def push_model(shared: ShareServer, name: str, tag: str) -> Answer:
    for content in MODEL.blobs.values():
        push_blob(shared, content, name)
    path = f"/v2/{name}/manifests/{tag}"
    return send(shared, "PUT", path, MODEL.manifest, Content_Type=MODEL.media_type)


def test_a_model_that_was_pushed_can_be_pulled(store, shared, tmp_path):
    pushing = Pulling(store)
    model = put(store, MODEL, "local/own:1")
    host = shared.address.removeprefix("http://")
    pushing.push(model, f"{host}/team/own:1")
    pulled = Pulling(Store(tmp_path / "other")).pull(f"{host}/team/own:1")
    assert str(pulled.model.digest) == MODEL.digest
    assert send(shared, "GET", "/v2/_catalog").json["repositories"] == ["local/own", "team/own"]
    assert send(shared, "GET", "/v2/team/own/tags/list").json["tags"] == ["1"]
    # what was pushed is no model of this machine
    assert [str(name) for each in store.models() for name in each.references] == [
        "docker.io/local/own:1"
    ]


def test_a_model_that_was_pushed_from_the_store_beside_it_is_listed_once(store, shared):
    host = shared.address.removeprefix("http://")
    model = put(store, MODEL, f"{host}/team/own:1", f"{host}/team/other:1")
    Pulling(store).push(model, f"{host}/team/own:1")
    listed = send(shared, "GET", "/v2/_catalog", Host=host).json["repositories"]
    # the other one was not pushed: it has its full name alone
    assert listed == [f"{host}/team/other", "team/own"]


def test_an_upload_in_pieces_says_how_far_it_is(shared):
    location = begin(shared)
    first = send(shared, "PATCH", location, BLOB[:7], Content_Range="0-6")
    assert (first.status, first.headers["Range"]) == (202, "0-6")
    wrong = send(shared, "PATCH", location, BLOB[10:], Content_Range="10-19")
    assert (wrong.status, wrong.headers["Range"]) == (416, "0-6")
    state = send(shared, "GET", location)
    assert (state.status, state.headers["Range"], state.headers["Location"]) == (
        204,
        "0-6",
        location,
    )
    done = send(shared, "PUT", f"{location}?digest={DIGEST}", BLOB[7:], Content_Range="7-19")
    assert (done.status, done.headers["Location"]) == (201, f"/v2/team/own/blobs/{DIGEST}")
    assert send(shared, "GET", f"/v2/team/own/blobs/{DIGEST}").body == BLOB
    assert send(shared, "GET", location).status == 404


def test_an_upload_in_chunks_of_http(shared):
    location = begin(shared)
    with socket.create_connection(shared.server_address[:2], timeout=60) as client:
        head = f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode() + b"5;x=y\r\nsome \r\n0f\r\nbytes of a blob\r\n0\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 202 ")
    assert send(shared, "PUT", f"{location}?digest={DIGEST}").status == 201


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n",
        b"-5\r\n12345\r\n",
        b"5\r\nabc",
        b"ffffffffffffffffffff\r\n",
        b"\r\n",
        b"3\r\nabcd\r\n",
    ],
)
def test_chunks_that_are_malformed_are_refused(shared, chunks):
    location = begin(shared)
    with socket.create_connection(shared.server_address[:2], timeout=60) as client:
        head = f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head.encode() + chunks)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert send(shared, "GET", "/v2/").status == 200


def test_wrong_content_is_not_kept(shared, tmp_path):
    other = sha256(b"other")
    answer = send(shared, "POST", f"{UPLOADS}?digest={other}", BLOB)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert send(shared, "HEAD", f"/v2/team/own/blobs/{other}").status == 404
    assert list((tmp_path / "registry" / "uploads").iterdir()) == []


def test_a_manifest_needs_its_blobs(shared):
    path = "/v2/team/own/manifests/1"
    early = send(shared, "PUT", path, MODEL.manifest, Content_Type=MODEL.media_type)
    assert (early.status, early.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert push_model(shared, "team/own", "1").status == 201
    # those of another repository do not count
    other = send(
        shared, "PUT", "/v2/team/other/manifests/1", MODEL.manifest, Content_Type=MODEL.media_type
    )
    assert other.status == 404


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, "MANIFEST_INVALID"),
        (b"[]", 400, "MANIFEST_INVALID"),
        (b"{}", 400, "MANIFEST_INVALID"),
        (b'{"schemaVersion": 2, "layers": 5}', 400, "MANIFEST_INVALID"),
        (b'{"schemaVersion": 2, "mediaType": "text/plain"}', 400, "MANIFEST_INVALID"),
        (b"[" * 100_000, 400, "MANIFEST_INVALID"),
        (b" " * (4 * 1024 * 1024 + 1), 413, "MANIFEST_INVALID"),
    ],
)
def test_what_is_no_manifest_is_refused(shared, raw, status, code):
    kind = "application/vnd.oci.image.manifest.v1+json"
    answer = send(shared, "PUT", "/v2/team/own/manifests/1", raw, Content_Type=kind)
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v2/Team/Own/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/../../etc/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/local/own/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/docker.io/local/own/blobs/uploads/", 403, "DENIED"),
        ("POST", "/v2/_/blobs/uploads/", 400, "NAME_INVALID"),
        ("POST", "/v2/ai/stored/blobs/uploads/", 403, "DENIED"),
        ("DELETE", "/v2/ai/stored/manifests/1", 403, "DENIED"),
        ("PUT", "/v2/team/own/manifests/..", 400, "TAG_INVALID"),
        ("POST", f"{UPLOADS}?mount=sha256:../../x&from=a/b", 400, "DIGEST_INVALID"),
        (
            "PUT",
            f"/v2/team/own/blobs/uploads/{'0' * 32}?digest={DIGEST}",
            404,
            "BLOB_UPLOAD_UNKNOWN",
        ),
        ("PATCH", "/v2/team/own/blobs/uploads/..%2F..%2Flock", 404, "UNSUPPORTED"),
        ("DELETE", f"/v2/team/own/blobs/{DIGEST}", 404, "BLOB_UNKNOWN"),
        ("DELETE", "/v2/team/own/manifests/1", 404, "MANIFEST_UNKNOWN"),
        ("POST", "/v2/team/own/tags/list", 404, "UNSUPPORTED"),
        ("POST", "/elsewhere", 404, "UNSUPPORTED"),
    ],
)
def test_what_cannot_be_written_is_refused(store, shared, method, path, status, code):
    put(store, docker_artifact(b"GGUF another"), "ai/stored:1")
    answer = send(shared, method, path)
    assert (answer.status, answer.code) == (status, code), answer.body


def test_the_stores_own_names_win(store, shared):
    push_model(shared, "team/own", "1")
    put(store, docker_artifact(b"GGUF another"), "team/own:2")
    assert send(shared, "GET", "/v2/team/own/tags/list").json["tags"] == ["2"]
    assert send(shared, "GET", "/v2/team/own/manifests/1").status == 404


def test_what_was_pushed_is_no_registrys(shared):
    push_model(shared, "ai/smollm2", "1")
    assert send(shared, "GET", "/v2/ai/smollm2/manifests/1").status == 200
    assert send(shared, "GET", "/v2/ai/smollm2/manifests/1?ns=docker.io").status == 404


def test_a_blob_is_taken_over_from_another_repository(shared):
    push_blob(shared, BLOB, "team/one")
    done = send(shared, "POST", f"{UPLOADS}?mount={DIGEST}&from=team/one")
    assert done.status == 201
    assert send(shared, "GET", f"/v2/team/own/blobs/{DIGEST}").body == BLOB
    assert send(shared, "DELETE", f"/v2/team/one/blobs/{DIGEST}").status == 202
    assert send(shared, "GET", f"/v2/team/own/blobs/{DIGEST}").body == BLOB
    assert send(shared, "POST", f"{UPLOADS}?mount={sha256(b'x')}&from=team/one").status == 202


def test_tags_manifests_and_blobs_are_deleted(shared, tmp_path):
    push_model(shared, "team/own", "1")
    send(shared, "PUT", "/v2/team/own/manifests/2", MODEL.manifest, Content_Type=MODEL.media_type)
    assert send(shared, "DELETE", "/v2/team/own/manifests/1").status == 202
    assert send(shared, "GET", "/v2/team/own/tags/list").json["tags"] == ["2"]
    assert send(shared, "DELETE", f"/v2/team/own/manifests/{MODEL.digest}").status == 202
    assert send(shared, "GET", "/v2/team/own/tags/list").json["tags"] == []
    for digest in MODEL.blobs:
        assert send(shared, "DELETE", f"/v2/team/own/blobs/{digest}").status == 202
    assert list((tmp_path / "registry" / "blobs" / "sha256").iterdir()) == []


def test_web_pages_cannot_write(shared):
    answer = send(shared, "POST", UPLOADS, Origin="http://localhost:3000")
    assert (answer.status, answer.code) == (403, "DENIED")


@pytest.mark.parametrize(
    "head",
    [
        "POST /elsewhere HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://page.example",
        f"POST {UPLOADS} HTTP/1.1\r\nHost: page.example\r\nOrigin: http://page.example",
        "GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1",
    ],
)
def test_a_body_is_never_taken_for_the_next_request(shared, tmp_path, head):
    hidden = f"POST {UPLOADS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"

    with socket.create_connection(shared.server_address[:2], 10) as raw:
        raw.sendall(f"{head}\r\nContent-Length: {len(hidden)}\r\n\r\n{hidden}".encode())
        with raw.makefile("rb") as answers:
            said = answers.read()

    assert said.count(b"HTTP/1.1 ") == 1
    assert list((tmp_path / "registry" / "uploads").iterdir()) == []


def test_with_a_key_only_those_who_have_it_write(store, tmp_path):
    with writable(store, tmp_path / "registry", "secret") as shared:
        refused = [
            send(shared, "POST", UPLOADS, **headers)
            for headers in (
                {},
                {"Authorization": basic("me", "wrong")},
                {"Authorization": "Basic ???"},
                {"Authorization": "Bearer wrong"},
            )
        ]
        assert {(answer.status, answer.code) for answer in refused} == {(401, "UNAUTHORIZED")}
        assert refused[0].headers["WWW-Authenticate"] == 'Basic realm="modelrunner share"'
        for given in (basic("anybody", "secret"), "Bearer secret"):
            assert send(shared, "POST", UPLOADS, Authorization=given).status == 202
        # reading needs none
        assert send(shared, "GET", "/v2/_catalog").status == 200


def test_our_own_push_logs_in_with_the_key(store, tmp_path):
    model = put(store, MODEL, "local/own:1")
    with writable(store, tmp_path / "registry", "secret") as shared:
        host = shared.address.removeprefix("http://")
        auth = base64.b64encode(b"ci:secret").decode()
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
        Pulling(store, config).push(model, f"{host}/team/own:1")
        assert send(shared, "GET", "/v2/team/own/tags/list").json["tags"] == ["1"]


def test_what_was_pushed_outlives_a_restart(store, tmp_path):
    with writable(store, tmp_path / "registry") as shared:
        push_model(shared, "team/own", "1")
        location = begin(shared)
        send(shared, "PATCH", location, BLOB[:7])
    with writable(store, tmp_path / "registry") as shared:
        assert send(shared, "GET", "/v2/team/own/manifests/1").body == MODEL.manifest
        assert send(shared, "PUT", f"{location}?digest={DIGEST}", BLOB[7:]).status == 201


def test_one_process_has_the_place(store, tmp_path):
    with (
        writable(store, tmp_path / "registry"),
        pytest.raises(ConfigError, match="another `modelrunner share --writable` uses"),
        writable(store, tmp_path / "registry"),
    ):
        pass


def test_damaged_notes_are_passed_over(store, tmp_path):
    with writable(store, tmp_path / "registry") as shared:
        push_model(shared, "team/own", "1")
    (tmp_path / "registry" / "repositories" / f"{'0' * 64}.json").write_bytes(b'{"name": 5')
    with writable(store, tmp_path / "registry") as shared:
        assert send(shared, "GET", "/v2/team/own/tags/list").json["tags"] == ["1"]


def test_the_command_takes_a_push_and_a_kill(cli, tmp_path):
    file = tiny_gguf(tmp_path / "tiny.gguf")
    home = {"MODELRUNNER_HOME": str(tmp_path / "server")}
    digest = ""
    for again in (False, True):
        with subprocess.Popen(
            cli.argv("share", "--writable", "--port", "0"),
            env={**cli.environ, **home},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                address = process.stdout.readline().strip()
                said = "sharing 0 models and accepting pushes; press Ctrl-C to stop\n"
                assert process.stderr.readline() == said
                name = f"{address.removeprefix('http://')}/team/tiny:1"
                if not again:
                    packaged = cli("package", str(file), name, "--json")
                    digest = json.loads(packaged.stdout)["digest"]
                    done = cli("push", name)
                    assert done.returncode == 0, done.stderr
                else:
                    other = str(tmp_path / "other")
                    done = cli("pull", name, "--json", MODELRUNNER_HOME=other)
                    assert json.loads(done.stdout)["digest"] == digest, done.stderr
            finally:
                process.send_signal(signal.SIGKILL)
    assert json.loads(cli("list", "--json", **home).stdout) == []


def test_beyond_this_machine_it_needs_a_key(cli):
    done = cli("share", "--writable", "--host", "0.0.0.0", "--port", "0", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["message"], error["hint"]) == (
        2,
        "--writable needs a key where others can reach 0.0.0.0",
        "set MODELRUNNER_API_KEY; clients log in with it as the password of any user",
    )


@needs_skopeo
@pytest.mark.registry
def test_skopeo_pushes_and_copies_back(shared, store, tmp_path):
    host = shared.address.removeprefix("http://")
    put(store, MODEL, "local/own:1")
    skopeo_copy(f"docker://{host}/local/own:1", f"docker://{host}/team/own:1")
    skopeo_copy(f"docker://{host}/team/own:1", f"oci:{tmp_path / 'copy'}:m")
    copied = tmp_path / "copy" / "blobs" / "sha256" / MODEL.digest.removeprefix("sha256:")
    assert copied.read_bytes() == MODEL.manifest
