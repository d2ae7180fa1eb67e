"""The store as a registry: what clients ask, what attackers ask, and many of them at once."""

import json
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from modelrunner.errors import ManifestNotFoundError, PortInUseError
from modelrunner.oci.reference import Reference
from modelrunner.share.server import ShareServer, sharing
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact, modelpack_artifact
from tests.support.docker_registry import needs_skopeo, skopeo, skopeo_copy
from tests.support.pulling import Pulling
from tests.support.registry import sha256
from tests.support.registry_client import ask
from tests.support.stores import put
from tests.support.waiting import wait_until

WEIGHTS = b"GGUF" + (bytes(range(256)) * 400)[4:]
MODEL = docker_artifact(WEIGHTS, license=b"do as you like")
SHARDS = modelpack_artifact([b"GGUF one", b"GGUF two", b"GGUF three"])
BLOB = f"/v2/ai/smollm2/blobs/{sha256(WEIGHTS)}"
MANIFESTS = "/v2/ai/smollm2/manifests"


@pytest.fixture
def shared(store):
    put(store, MODEL, "ai/smollm2:135M", "ai/smollm2:latest", "ghcr.io/org/copy:1")
    put(store, SHARDS, "ai/shards:1")
    with sharing(store) as server:
        yield server


@pytest.fixture
def host(shared):
    return shared.address.removeprefix("http://")


def get(shared, path, method="GET", **headers):
    return ask(shared.address + path, method, **headers)


# What clients ask.


def test_version_check(shared):
    answer = get(shared, "/v2/")
    assert (answer.status, answer.json) == (200, {})
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize("name", ["135M", "latest", MODEL.digest])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_manifest_by_tag_and_by_digest(shared, name, method):
    answer = get(shared, f"{MANIFESTS}/{name}", method)
    assert answer.status == 200
    assert answer.headers["Docker-Content-Digest"] == MODEL.digest
    assert answer.headers["Content-Type"] == MODEL.media_type
    assert answer.headers["Content-Length"] == str(len(MODEL.manifest))
    assert answer.body == (MODEL.manifest if method == "GET" else b"")


def test_blob(shared):
    answer = get(shared, BLOB)
    assert (answer.status, answer.body) == (200, WEIGHTS)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Docker-Content-Digest"] == sha256(WEIGHTS)
    head = get(shared, BLOB, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(len(WEIGHTS))


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-", slice(0, None)),
        ("bytes=0-0", slice(0, 1)),
        ("bytes=100-199", slice(100, 200)),
        ("bytes=102000-", slice(102000, None)),
        ("bytes=102399-102399", slice(102399, 102400)),
        ("bytes=102399-999999999", slice(102399, None)),
        ("bytes=-1", slice(102399, None)),
        ("bytes=-400", slice(102000, None)),
        ("bytes=-999999", slice(0, None)),
    ],
)
def test_range(shared, asked, part):
    answer = get(shared, BLOB, Range=asked)
    assert (answer.status, answer.body) == (206, WEIGHTS[part])
    first = part.start
    last = first + len(answer.body) - 1
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(WEIGHTS)}"
    assert answer.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize("asked", ["bytes=102400-", "bytes=999999-", "bytes=102400-102500"])
def test_range_behind_the_end(shared, asked):
    answer = get(shared, BLOB, Range=asked)
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(WEIGHTS)}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "lines=0-1",
        "bytes=0-1,5-6",
        "bytes=٣-",
        f"bytes=0-{'9' * 6000}",
        f"bytes={'9' * 6000}-",
    ],
)
def test_range_that_is_none_is_passed_over(shared, asked):
    answer = get(shared, BLOB, Range=asked.encode())
    assert (answer.status, answer.body) == (200, WEIGHTS)


def test_range_on_the_condition_that_it_is_the_same_file(shared):
    same = get(shared, BLOB, Range="bytes=0-9", If_Range=f'"{sha256(WEIGHTS)}"')
    other = get(shared, BLOB, Range="bytes=0-9", If_Range='"another"')
    assert (same.status, other.status) == (206, 200)


def test_tags_come_in_pages(shared):
    whole = get(shared, "/v2/ai/smollm2/tags/list").json
    assert whole == {"name": "ai/smollm2", "tags": ["135M", "latest"]}
    first = get(shared, "/v2/ai/smollm2/tags/list?n=1")
    assert first.json["tags"] == ["135M"]
    assert first.headers["Link"] == '</v2/ai/smollm2/tags/list?n=1&last=135M>; rel="next"'
    second = get(shared, "/v2/ai/smollm2/tags/list?n=1&last=135M")
    assert second.json["tags"] == ["latest"]
    assert second.headers["Link"] is None


@pytest.mark.parametrize("n", ["0", "-1", "x", "", "9" * 6000, "٣".encode().hex()])
def test_page_size_that_is_none_breaks_nothing(shared, n):
    answer = get(shared, f"/v2/ai/smollm2/tags/list?n={n}")
    assert answer.status == 200
    assert answer.headers["Link"] is None


def test_catalogue_lists_every_repository(shared):
    assert get(shared, "/v2/_catalog").json == {
        "repositories": ["ai/shards", "ai/smollm2", "ghcr.io/org/copy"]
    }
    assert get(shared, "/v2/_catalog?n=1").json == {"repositories": ["ai/shards"]}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/", 404, "UNSUPPORTED"),
        ("/v1/_ping", 404, "UNSUPPORTED"),
        ("/v2/nothing/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/ai/smollm2/tags/other", 404, "UNSUPPORTED"),
        (f"{MANIFESTS}/none", 404, "MANIFEST_UNKNOWN"),
        (f"{MANIFESTS}/sha256:{'0' * 64}", 404, "MANIFEST_UNKNOWN"),
        (f"{MANIFESTS}/{SHARDS.digest}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/ai/smollm2/blobs/sha256:{'0' * 64}", 404, "BLOB_UNKNOWN"),
        (f"/v2/ai/smollm2/blobs/{sha256(b'GGUF two')}", 404, "BLOB_UNKNOWN"),
        ("/v2/ai/smollm2/blobs/md5:abc", 400, "DIGEST_INVALID"),
        ("/v2/ai/smollm2/blobs/sha256:../../../../etc/passwd", 404, "UNSUPPORTED"),
        ("/v2/ai/smollm2/blobs/..%2f..%2findex.json", 404, "UNSUPPORTED"),
        ("/v2/../../index.json", 404, "UNSUPPORTED"),
        ("/%00", 404, "UNSUPPORTED"),
    ],
)
def test_error_is_the_specifications(shared, path, status, code):
    answer = get(shared, path)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(shared, store, method):
    answer = ask(f"{shared.address}{MANIFESTS}/135M", method, b"{}")
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.code == "UNSUPPORTED"
    assert len(store.models()) == 2


def test_damaged_store_is_an_error_and_no_crash(shared, store):
    (model,) = [model for model in store.models() if str(model.digest) == MODEL.digest]
    path = store.blobs.path(model.digest)
    path.chmod(0o644)
    path.write_bytes(b"{}")
    assert get(shared, f"{MANIFESTS}/135M").status in {404, 500}
    assert get(shared, "/v2/").status == 200


def test_model_that_comes_or_goes_meanwhile_is_seen(shared, store):
    put(store, docker_artifact(b"GGUF new"), "ai/new:1")
    assert get(shared, "/v2/ai/new/manifests/1").status == 200
    store.untag([Reference.parse("ai/new:1")])
    assert get(shared, "/v2/ai/new/manifests/1").status == 404


# Who may ask.


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1"]
)
@pytest.mark.parametrize("path", ["/v2/", BLOB, "/v2/_catalog"])
def test_name_that_somebody_pointed_at_this_machine_is_refused(shared, name, path):
    answer = get(shared, path, Host=name)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert WEIGHTS[:100] not in answer.body


@pytest.mark.parametrize(
    "name", ["localhost", "LOCALHOST:5001", "127.0.0.1", "[::1]:5001", "[::1]"]
)
def test_names_of_this_machine_are_answered(shared, name):
    assert get(shared, "/v2/", Host=name).status == 200


def test_server_listens_on_this_machine_only(shared):
    assert shared.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("bound", ["127.0.0.1", "127.0.0.2"])
def test_names_of_elsewhere_are_refused_at_every_address_of_this_machine(store, bound):
    put(store, MODEL, "ai/smollm2:1")
    with sharing(store, bound) as server:
        own = ["localhost", "LOCALHOST:80", "127.0.0.1:5001", bound, "[::1]:80", "x.localhost"]
        assert [get(server, "/v2/_catalog", Host=name).status for name in own] == [200] * len(own)
        others = ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "10.0.0.1"]
        for name in others:
            answer = get(server, "/v2/_catalog", Host=name)
            assert (answer.status, answer.code) == (403, "DENIED")


def test_port_that_is_taken_is_told(shared, store):
    port = shared.server_address[1]
    with pytest.raises(PortInUseError, match=str(port)):
        ShareServer(store, "127.0.0.1", port)


def test_other_protocol_of_this_machine(store):
    if not socket.has_ipv6:
        pytest.skip("needs IPv6")
    put(store, MODEL, "ai/smollm2:1")
    try:
        with sharing(store, "::1") as server:
            assert server.address.startswith("http://[::1]:")
            assert get(server, "/v2/").status == 200
    except PortInUseError:
        pytest.skip("needs an IPv6 loopback")


# Clients.


@pytest.mark.parametrize("name", ["ai/smollm2:135M", "ai/shards:1"])
def test_our_own_pull_takes_it_for_a_mirror(shared, tmp_path, name):
    pulling = Pulling(Store(tmp_path / "other"), mirrors={"docker.io": (shared.address,)})
    pulled = pulling.pull(name)
    assert pulled.source == shared.address
    assert str(pulled.reference) == f"docker.io/{name}"
    assert str(pulled.model.digest) in {MODEL.digest, SHARDS.digest}


def test_pull_of_a_fixed_number_of_requests(shared, host, tmp_path):
    pulling = Pulling(Store(tmp_path / "other"))
    assert pulling.pull(f"{host}/ai/smollm2:135M").status == "pulled"


# Names: a model is its full name.


TWIN = docker_artifact(b"GGUF another model of the same name", license=b"not as you like")
NAMESAKES = {
    "docker.io": "ai/smollm2:135M",
    "ghcr.io": "ghcr.io/ai/smollm2:135M",
    "localhost:5000": "localhost:5000/ai/smollm2:135M",
}


@pytest.fixture
def namesakes(store):
    """One path at three registries, three models; the store lists docker.io's second."""
    models = {
        "docker.io": MODEL,
        "ghcr.io": TWIN,
        "localhost:5000": docker_artifact(b"GGUF a third one"),
    }
    for registry in ("localhost:5000", "docker.io", "ghcr.io"):
        put(store, models[registry], NAMESAKES[registry])
    with sharing(store) as server:
        yield server, {registry: model.digest for registry, model in models.items()}


def digest_at(server, path, method="GET"):
    answer = get(server, path, method)
    return answer.headers["Docker-Content-Digest"] if answer.status == 200 else answer.status


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_path_is_a_full_name_and_a_short_one_is_docker_hubs(namesakes, method):
    server, digests = namesakes
    found = {
        path: digest_at(server, f"/v2/{path}/manifests/135M", method)
        for path in (
            "ai/smollm2",
            "docker.io/ai/smollm2",
            "index.docker.io/ai/smollm2",
            "ghcr.io/ai/smollm2",
            "localhost:5000/ai/smollm2",
            "quay.io/ai/smollm2",
            "smollm2",
        )
    }
    assert found == {
        "ai/smollm2": digests["docker.io"],
        "docker.io/ai/smollm2": digests["docker.io"],
        "index.docker.io/ai/smollm2": digests["docker.io"],
        "ghcr.io/ai/smollm2": digests["ghcr.io"],
        "localhost:5000/ai/smollm2": digests["localhost:5000"],
        "quay.io/ai/smollm2": 404,
        "smollm2": 404,
    }


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["manifests", "blobs", "tags", "referrers"])
@pytest.mark.parametrize(
    ("query", "registry"),
    [
        ("ns=docker.io", "docker.io"),
        ("ns=registry-1.docker.io", "docker.io"),
        ("ns=GHCR.io", "ghcr.io"),
        ("ns=localhost%3A5000", "localhost:5000"),
        ("ns=ghcr.io&ns=ghcr.io", "ghcr.io"),
    ],
)
def test_namespace_of_the_request_decides(namesakes, query, registry, kind, method):
    server, digests = namesakes
    tail = {
        "manifests": f"manifests/{digests[registry]}",
        "blobs": f"blobs/{sha256(WEIGHTS)}",
        "tags": "tags/list",
        "referrers": f"referrers/{digests[registry]}",
    }[kind]
    wanted = 404 if kind == "blobs" and registry != "docker.io" else 200
    assert get(server, f"/v2/ai/smollm2/{tail}?{query}", method).status == wanted
    other = "ghcr.io" if registry != "ghcr.io" else "docker.io"
    elsewhere = get(server, f"/v2/ai/smollm2/manifests/{digests[other]}?{query}", method)
    assert elsewhere.status == 404


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("ai/smollm2", "ns=quay.io", 404, "NAME_UNKNOWN"),
        ("ghcr.io/ai/smollm2", "ns=docker.io", 404, "NAME_UNKNOWN"),
        ("docker.io/ai/smollm2", "ns=ghcr.io", 404, "NAME_UNKNOWN"),
        ("ai/smollm2", "ns=", 400, "NAME_INVALID"),
        ("ai/smollm2", "ns=a%20b", 400, "NAME_INVALID"),
        ("ai/smollm2", "ns=ghcr.io/ai", 400, "NAME_INVALID"),
        ("ai/smollm2", "ns=https://ghcr.io", 400, "NAME_INVALID"),
        ("ai/smollm2", "ns=ghcr.io:99999", 400, "NAME_INVALID"),
        ("ai/smollm2", "ns=..%2F..", 400, "NAME_INVALID"),
        ("ai/smollm2", "ns=docker.io&ns=ghcr.io", 400, "NAME_INVALID"),
        ("_", "ns=a%20b", 400, "NAME_INVALID"),
    ],
)
def test_namespace_that_is_unknown_or_none_is_refused(namesakes, path, query, status, code):
    server, _ = namesakes
    answer = get(server, f"/v2/{path}/manifests/135M?{query}")
    assert (answer.status, answer.code) == (status, code)


def test_full_name_and_the_same_namespace_agree(namesakes):
    server, digests = namesakes
    path = "/v2/ghcr.io/ai/smollm2/manifests/135M?ns=ghcr.io"
    assert digest_at(server, path) == digests["ghcr.io"]


def test_another_registrys_model_is_not_served_and_its_name_is_told(store, tmp_path):
    put(store, TWIN, "ghcr.io/ai/smollm2:135M")
    with sharing(store) as server:
        answer = get(server, "/v2/ai/smollm2/manifests/135M")
        assert answer.status == 404
        assert answer.json["errors"] == [
            {
                "code": "NAME_UNKNOWN",
                "message": "repository not found: docker.io/ai/smollm2; "
                "available: ghcr.io/ai/smollm2",
                "detail": {"near": ["ghcr.io/ai/smollm2"]},
            }
        ]
        host = server.address.removeprefix("http://")
        with pytest.raises(ManifestNotFoundError) as caught:
            Pulling(Store(tmp_path / "other")).pull(f"{host}/ai/smollm2:135M")
        assert caught.value.hint == f"did you mean `{host}/ghcr.io/ai/smollm2`?"


def test_catalogue_lists_names_as_they_can_be_pulled(namesakes, tmp_path):
    server, digests = namesakes
    names = get(server, "/v2/_catalog").json["repositories"]
    assert names == ["ai/smollm2", "ghcr.io/ai/smollm2", "localhost:5000/ai/smollm2"]
    found = [digest_at(server, f"/v2/{name}/manifests/135M") for name in names]
    assert found == list(digests.values())
    assert get(server, "/v2/_catalog?ns=ghcr.io").json == {"repositories": ["ai/smollm2"]}
    host = server.address.removeprefix("http://")
    pulling = Pulling(Store(tmp_path / "other"))
    pulled = [pulling.pull(f"{host}/{name}:135M").model.digest for name in names[:2]]
    assert [str(digest) for digest in pulled] == [digests["docker.io"], digests["ghcr.io"]]


def test_pages_keep_the_namespace(store):
    put(store, TWIN, "ghcr.io/ai/x:1", "ghcr.io/ai/x:2", "ai/x:3")
    with sharing(store) as server:
        page = get(server, "/v2/ai/x/tags/list?n=1&ns=ghcr.io")
        assert page.headers["Link"] == '</v2/ai/x/tags/list?n=1&last=1&ns=ghcr.io>; rel="next"'


@pytest.mark.parametrize("registry", ["docker.io", "ghcr.io", "localhost:5000"])
def test_mirror_of_one_registry_never_serves_another_ones_model(namesakes, tmp_path, registry):
    server, digests = namesakes
    pulling = Pulling(Store(tmp_path / "other"), mirrors={registry: (server.address,)})
    assert str(pulling.pull(NAMESAKES[registry]).model.digest) == digests[registry]


def test_name_made_on_this_machine_is_no_registrys(store):
    put(store, MODEL, "local/own:1")
    with sharing(store) as server:
        assert get(server, "/v2/_catalog").json == {"repositories": ["local/own"]}
        assert digest_at(server, "/v2/local/own/manifests/1") == MODEL.digest
        assert digest_at(server, "/v2/local/own/manifests/1?ns=docker.io") == 404


def test_nothing_refers_to_a_manifest(shared):
    answer = get(shared, f"/v2/ai/smollm2/referrers/{MODEL.digest}")
    assert (answer.status, answer.headers["Content-Type"]) == (
        200,
        "application/vnd.oci.image.index.v1+json",
    )
    assert answer.json == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    }
    assert get(shared, f"/v2/ai/smollm2/referrers/sha256:{'0' * 64}").status == 200
    wrong = [get(shared, f"/v2/{tail}") for tail in ("ai/smollm2/referrers/x", "no/x/referrers/x")]
    assert [answer.code for answer in wrong] == ["DIGEST_INVALID", "NAME_UNKNOWN"]


@needs_skopeo
@pytest.mark.registry
class TestSkopeo:
    def test_copies(self, host, tmp_path):
        skopeo_copy(f"docker://{host}/ai/smollm2:135M", f"oci:{tmp_path / 'copy'}:m")
        path = tmp_path / "copy" / "blobs" / "sha256" / MODEL.digest.removeprefix("sha256:")
        assert path.read_bytes() == MODEL.manifest

    def test_lists_tags(self, host):
        listed = skopeo("list-tags", "--tls-verify=false", f"docker://{host}/ai/smollm2")
        assert json.loads(listed)["Tags"] == ["135M", "latest"]

    def test_inspects(self, host):
        raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{host}/ai/shards:1")
        assert raw.encode() == SHARDS.manifest


def test_many_clients_at_once(shared):
    def fetch(number):
        start = number * 1000
        return get(shared, BLOB, Range=f"bytes={start}-{start + 999}").body

    with ThreadPoolExecutor(32) as pool:
        parts = list(pool.map(fetch, range(102)))
    assert b"".join(parts) == WEIGHTS[:102_000]


def test_client_that_vanishes_hinders_nobody(store, shared, capfd):
    large = docker_artifact(b"GGUF" + bytes(32 * 1024 * 1024 - 4))
    put(store, large, "ai/large:1")
    port = shared.server_address[1]
    path = f"/v2/ai/large/blobs/{large.layer_digests[0]}"
    for _client in range(5):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            client.recv(1000)
    assert get(shared, "/v2/").status == 200
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"GET /v2/ HTTP/9.9\r\n\r\n",
        b"OPTIONS /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET " + b"/" * 70_000,
        b"GET /v2/ HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    ],
)
def test_client_that_talks_nonsense_hinders_nobody(shared, line, capfd):
    with socket.create_connection(("127.0.0.1", shared.server_address[1]), timeout=60) as client:
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65_536):
            pass
    assert get(shared, "/v2/").status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_connection_is_kept_for_the_next_request(shared):
    with socket.create_connection(("127.0.0.1", shared.server_address[1]), timeout=60) as client:
        for _request in range(3):
            client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            # head and body may come apart
            while not answer.endswith(b"{}"):
                piece = client.recv(65_536)
                assert piece, answer
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 ")


def test_block_ends_while_a_client_waits(store):
    put(store, MODEL, "ai/smollm2:1")
    before = set(threading.enumerate())
    with sharing(store) as server:
        client = socket.create_connection(("127.0.0.1", server.server_address[1]))
        assert get(server, "/v2/").status == 200
    client.close()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_command_shares_until_it_is_ended(cli, store):
    put(cli.store, MODEL, "ai/smollm2:135M")
    with subprocess.Popen(
        cli.argv("share", "--port", "0"),
        env=cli.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            address = process.stdout.readline().strip()
            done = cli(
                "pull",
                "ai/smollm2:135M",
                "--json",
                MODELRUNNER_HOME=str(cli.home.parent / "other"),
                MODELRUNNER_MIRRORS=f"docker.io={address}",
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["source"] == address
            process.send_signal(signal.SIGINT)
            process.wait(60)
            assert "Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_one_client_cannot_have_all_connections(store, monkeypatch):
    monkeypatch.setattr(ShareServer, "most_of_one", 2)
    with sharing(store) as server, ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection(server.server_address[:2], 10))
            for _ in range(3)
        ]
        assert held[2].recv(1) == b""

        held[0].sendall(b"GET /v2/ HTTP/1.1\r\nConnection: close\r\n\r\n")
        with held[0].makefile("rb") as answer:
            assert answer.read().startswith(b"HTTP/1.1 200 ")
