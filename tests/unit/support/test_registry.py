"""The support registry reads and writes by the specification, and remembers."""

import contextlib
import http.client
import json
import socket
import warnings
from urllib.parse import urlsplit

import pytest

from tests.support.artifacts import (
    Artifact,
    docker_artifact,
    image_artifact,
    index_artifact,
    modelpack_artifact,
)
from tests.support.registry import Registry, sha256
from tests.support.registry_client import WEIGHTS, ask

SIZE = len(WEIGHTS)


def test_manifest_is_served_by_tag_and_by_digest(
    registry: Registry, model: Artifact, manifest: str
) -> None:
    by_tag = ask(manifest, Accept="application/vnd.oci.image.manifest.v1+json")
    by_digest = ask(f"{registry.url}/v2/ai/smollm2/manifests/{model.digest}")

    assert by_tag.body == by_digest.body == model.manifest
    assert by_tag.headers["Docker-Content-Digest"] == model.digest
    assert by_tag.headers["Content-Type"] == "application/vnd.oci.image.manifest.v1+json"
    assert registry.requests[0].accept == "application/vnd.oci.image.manifest.v1+json"


def test_head_says_what_get_would_send(model: Artifact, manifest: str, blob: str) -> None:
    for url, size in ((manifest, len(model.manifest)), (blob, SIZE)):
        head = ask(url, "HEAD")
        assert (head.status, head.headers["Content-Length"], head.body) == (200, str(size), b"")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("ai/nothing/manifests/latest", "NAME_UNKNOWN"),
        ("ai/smollm2/manifests/99B", "MANIFEST_UNKNOWN"),
        (f"ai/smollm2/blobs/{sha256(b'?')}", "BLOB_UNKNOWN"),
    ],
)
def test_what_is_unknown_is_a_404_with_the_code_of_the_specification(
    registry: Registry, model: Artifact, path: str, code: str
) -> None:
    answer = ask(f"{registry.url}/v2/{path}")
    assert (answer.status, answer.code) == (404, code)


@pytest.mark.parametrize(
    ("asked", "content_range", "body"),
    [
        ("bytes=0-9", f"bytes 0-9/{SIZE}", WEIGHTS[:10]),
        ("bytes=10-", f"bytes 10-{SIZE - 1}/{SIZE}", WEIGHTS[10:]),
        ("bytes=-5", f"bytes {SIZE - 5}-{SIZE - 1}/{SIZE}", WEIGHTS[-5:]),
        (f"bytes=5-{SIZE * 2}", f"bytes 5-{SIZE - 1}/{SIZE}", WEIGHTS[5:]),
    ],
)
def test_range_is_a_206(blob: str, asked: str, content_range: str, body: bytes) -> None:
    answer = ask(blob, Range=asked)
    assert (answer.status, answer.headers["Content-Range"]) == (206, content_range)
    assert answer.body == body


def test_range_behind_the_end_is_a_416(blob: str) -> None:
    answer = ask(blob, Range=f"bytes={SIZE}-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")


def test_if_range_with_another_etag_gets_the_whole(blob: str) -> None:
    etag = ask(blob, "HEAD").headers["ETag"]
    assert ask(blob, Range="bytes=1-2", If_Range=etag).status == 206
    assert ask(blob, Range="bytes=1-2", If_Range='"old"').body == WEIGHTS


def test_tags_come_in_pages(registry: Registry, model: Artifact) -> None:
    for tag in ("a", "b", "c"):
        registry.tag("ai/smollm2", tag, model.digest)
    url = f"{registry.url}/v2/ai/smollm2/tags/list"

    seen = []
    page = ask(f"{url}?n=2")
    seen.append(page.json["tags"])
    while link := page.headers["Link"]:
        page = ask(registry.url + link[1 : link.index(">")])
        seen.append(page.json["tags"])

    assert seen == [["135M", "a"], ["b", "c"], ["latest"]]
    assert ask(url).json["tags"] == ["135M", "a", "b", "c", "latest"]


def test_page_size_of_the_registry_holds_without_being_asked_for() -> None:
    with Registry(page_size=1) as registry:
        registry.add(docker_artifact(WEIGHTS), "ai/m", tags=["a", "b"])
        answer = ask(f"{registry.url}/v2/ai/m/tags/list")
    assert answer.json["tags"] == ["a"]
    assert answer.headers["Link"] == '</v2/ai/m/tags/list?n=1&last=a>; rel="next"'


def test_moved_and_removed_tags_are_seen(registry: Registry, model: Artifact) -> None:
    other = registry.add(modelpack_artifact(b"other"), "ai/smollm2")
    registry.tag("ai/smollm2", "latest", other)
    registry.remove_tag("ai/smollm2", "135M")

    assert registry.tags("ai/smollm2") == {"latest": other}
    assert ask(f"{registry.url}/v2/ai/smollm2/manifests/latest", "HEAD").headers[
        "Docker-Content-Digest"
    ] == (other)
    assert ask(f"{registry.url}/v2/ai/smollm2/manifests/135M").code == "MANIFEST_UNKNOWN"


def test_index_brings_its_children(registry: Registry) -> None:
    child = image_artifact()
    registry.add(index_artifact(child), "ai/box", tags=["latest"])
    assert ask(f"{registry.url}/v2/ai/box/manifests/{child.digest}").body == child.manifest


def test_referrers_are_found_by_subject(registry: Registry, model: Artifact) -> None:
    document = json.loads(modelpack_artifact(b"signature").manifest)
    document["subject"] = {"mediaType": "x/y", "digest": model.digest, "size": 1}
    signature = Artifact(json.dumps(document).encode(), document["mediaType"])
    registry.add(signature, "ai/smollm2")

    answer = ask(f"{registry.url}/v2/ai/smollm2/referrers/{model.digest}")

    assert [entry["digest"] for entry in json.loads(answer.body)["manifests"]] == [signature.digest]
    filtered = ask(f"{registry.url}/v2/ai/smollm2/referrers/{model.digest}?artifactType=none/such")
    assert filtered.json["manifests"] == []


def test_connections_are_kept_alive_and_told_apart(registry: Registry, blob: str) -> None:
    with contextlib.closing(http.client.HTTPConnection(registry.host, timeout=60)) as connection:
        for _ in range(3):
            connection.request("GET", urlsplit(blob).path)
            assert connection.getresponse().read() == WEIGHTS
    ask(blob)
    assert registry.connections("blobs") == 2


def session(registry: Registry, repository: str = "me/mine") -> str:
    answer = ask(f"{registry.url}/v2/{repository}/blobs/uploads/", "POST", b"")
    assert answer.status == 202
    return registry.url + answer.headers["Location"]


def test_blob_is_pushed_in_chunks(registry: Registry) -> None:
    url = session(registry)
    first = ask(url, "PATCH", b"hello ", Content_Range="0-5")
    assert (first.status, first.headers["Range"]) == (202, "0-5")
    out_of_order = ask(url, "PATCH", b"world", Content_Range="0-4")
    assert (out_of_order.status, out_of_order.headers["Range"]) == (416, "0-5")
    assert ask(url, "GET").headers["Range"] == "0-5"
    ask(url, "PATCH", b"world", Content_Range="6-10")

    digest = sha256(b"hello world")
    done = ask(f"{url}&digest={digest}", "PUT", b"")

    assert (done.status, done.headers["Location"]) == (201, f"/v2/me/mine/blobs/{digest}")
    assert registry.blob_bytes("me/mine", digest) == b"hello world"


def test_chunked_transfer_encoding_is_read(registry: Registry) -> None:
    url = session(registry)
    with contextlib.closing(http.client.HTTPConnection(registry.host, timeout=60)) as connection:
        connection.request(
            "PUT", f"{urlsplit(url).path}?digest={sha256(b'abcd')}", iter([b"ab", b"cd"])
        )
        assert connection.getresponse().status == 201


def test_blob_that_is_not_its_digest_is_refused(registry: Registry) -> None:
    answer = ask(f"{session(registry)}&digest={sha256(b'right')}", "PUT", b"wrong")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert ask(f"{registry.url}/v2/me/mine/blobs/{sha256(b'wrong')}").status == 404


def test_blob_is_pushed_at_once_or_mounted(registry: Registry, model: Artifact) -> None:
    uploads = f"{registry.url}/v2/me/mine/blobs/uploads/"
    digest = sha256(WEIGHTS)
    assert ask(f"{uploads}?digest={sha256(b'x')}", "POST", b"x").status == 201
    assert ask(f"{uploads}?mount={digest}&from=ai/smollm2", "POST", b"").status == 201
    assert ask(f"{uploads}?mount={sha256(b'?')}&from=ai/smollm2", "POST", b"").status == 202
    assert registry.blob_bytes("me/mine", digest) == WEIGHTS


def test_manifest_needs_its_blobs(registry: Registry) -> None:
    artifact = docker_artifact(WEIGHTS)
    url = f"{registry.url}/v2/me/mine/manifests/v1"

    early = ask(url, "PUT", artifact.manifest, Content_Type=artifact.media_type)
    for content in artifact.blobs.values():
        registry.add_blob(content, "me/mine")
    late = ask(url, "PUT", artifact.manifest, Content_Type=artifact.media_type)

    assert (early.status, early.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert (late.status, late.headers["Docker-Content-Digest"]) == (201, artifact.digest)
    assert registry.manifest_bytes("me/mine", "v1") == artifact.manifest


def test_manifest_that_is_no_manifest_is_refused(registry: Registry) -> None:
    url = f"{registry.url}/v2/me/mine/manifests"
    empty = b'{"schemaVersion":2,"layers":[]}'
    assert ask(f"{url}/v1", "PUT", b"{", Content_Type="x/y").code == "MANIFEST_INVALID"
    assert ask(f"{url}/-v1", "PUT", empty, Content_Type="x/y").code == "MANIFEST_INVALID"
    assert ask(f"{url}/{sha256(b'')}", "PUT", empty, Content_Type="x/y").code == "DIGEST_INVALID"


def test_client_that_leaves_is_no_news(
    registry: Registry, model: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    registry.endless(sha256(WEIGHTS))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with socket.create_connection(("127.0.0.1", registry.port)) as client:
            path = f"/v2/ai/smollm2/blobs/{sha256(WEIGHTS)}"
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            client.recv(100)
        registry.close()
    assert caught == []
    assert capfd.readouterr() == ("", "")


def test_registry_comes_back_on_the_same_port(registry: Registry, blob: str) -> None:
    registry.close()
    with pytest.raises(ConnectionRefusedError):
        ask(blob)
    registry.start()
    assert ask(blob).body == WEIGHTS


def test_failure_of_the_server_itself_is_not_hidden() -> None:
    class Broken(Registry):
        def respond(self, request: object) -> None:  # type: ignore[override]
            raise KeyError("bug")

    registry = Broken()
    registry.start()
    with pytest.raises(http.client.RemoteDisconnected):
        ask(f"{registry.url}/v2/")
    with pytest.raises(ExceptionGroup, match="Broken failed"):
        registry.close()
