"""The support registry misbehaves exactly as ordered."""

import contextlib
import gzip
import http.client
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from tests.support.artifacts import (
    Artifact,
)
from tests.support.registry import Cdn, Registry, sha256
from tests.support.registry_client import WEIGHTS, ask

SIZE = len(WEIGHTS)


def test_cut_is_where_it_was_ordered_and_once(registry: Registry, blob: str) -> None:
    fault = registry.cut_after(1000)
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(blob)
    assert cut.value.partial == WEIGHTS[:1000]
    assert ask(blob).body == WEIGHTS
    assert (fault.hits, registry.bytes_sent(sha256(WEIGHTS))) == (1, 1000 + SIZE)


def test_body_shorter_than_the_cut_is_spared(registry: Registry, blob: str) -> None:
    fault = registry.cut_after(10)
    assert ask(blob, Range="bytes=0-9").status == 206
    assert fault.hits == 0


def test_stall_ends_after_its_time(registry: Registry, blob: str) -> None:
    registry.stall_after(100, 0.2)
    start = time.monotonic()
    assert ask(blob).body == WEIGHTS
    assert time.monotonic() - start >= 0.2


def test_stalled_connection_does_not_outlive_the_server() -> None:
    with Registry() as registry:
        digest = registry.add_blob(WEIGHTS, "a/b")
        fault = registry.stall_after(100, 600)
        client = socket.create_connection(("127.0.0.1", registry.port), timeout=60)
        with client:
            client.sendall(f"GET /v2/a/b/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            fault.wait()
    assert not [thread for thread in threading.enumerate() if "origin" in thread.name]


def test_slow_and_late(registry: Registry, blob: str) -> None:
    registry.slow(SIZE * 10)
    registry.latency(0.05, on="blob")
    start = time.monotonic()
    assert ask(blob).body == WEIGHTS
    assert time.monotonic() - start >= 0.1


def test_reset_is_a_reset(registry: Registry, blob: str) -> None:
    registry.reset()
    with pytest.raises(ConnectionResetError):
        ask(blob)
    assert ask(blob).status == 200


def test_answers_are_used_up_in_order(registry: Registry, blob: str, manifest: str) -> None:
    registry.answer(503, times=2, on="blob")
    registry.answer(429, on="blob", headers={"Retry-After": "7"})
    answers = [ask(blob) for _ in range(4)]
    assert [answer.status for answer in answers] == [503, 503, 429, 200]
    assert (answers[2].headers["Retry-After"], answers[2].code) == ("7", "TOOMANYREQUESTS")
    assert [request.status for request in registry.requests] == [503, 503, 429, 200]


def test_faults_are_aimed(registry: Registry, blob: str, manifest: str) -> None:
    registry.answer(500, on="manifest", method="HEAD", times=None)
    registry.answer(502, on="blob", skip=1)
    assert (ask(manifest).status, ask(manifest, "HEAD").status) == (200, 500)
    assert [ask(blob).status for _ in range(3)] == [200, 502, 200]


def test_calm_ends_all_faults(registry: Registry, blob: str) -> None:
    registry.html()
    assert ask(blob).headers["Content-Type"] == "text/html; charset=utf-8"
    registry.calm()
    assert ask(blob).body == WEIGHTS


def test_redirects_lead_astray(registry: Registry, blob: str) -> None:
    registry.redirect_loop(times=2)
    hops = [ask(blob).headers["Location"] for _ in range(2)]
    assert len({urlsplit(hop).path for hop in hops}) == 1
    assert len(set(hops)) == 2
    registry.redirect_to("http://127.0.0.1:9/away")
    assert ask(blob).headers["Location"] == "http://127.0.0.1:9/away"


def test_ranges_go_wrong(registry: Registry, blob: str) -> None:
    registry.ignore_ranges(times=1)
    registry.omit_content_range(times=1)
    registry.short_ranges(5, times=1)
    ignored = ask(blob, Range="bytes=10-19")
    bent = ask(blob, Range="bytes=10-19")
    registry.shift_ranges(by=1)
    shifted = ask(blob, Range="bytes=10-19")

    assert (ignored.status, ignored.body) == (200, WEIGHTS)
    assert (bent.status, bent.headers["Content-Range"], bent.body) == (206, None, WEIGHTS[10:15])
    assert shifted.headers["Content-Range"] == f"bytes 11-20/{SIZE}"
    assert shifted.body == WEIGHTS[11:21]


def test_content_goes_wrong(registry: Registry, model: Artifact, blob: str) -> None:
    digest = sha256(WEIGHTS)
    registry.corrupt(digest, at=3, times=1)
    registry.truncate(digest, 10, times=1)
    spoiled = ask(blob)
    assert spoiled.headers["Content-Length"] == str(SIZE - 10)
    assert spoiled.body == WEIGHTS[:3] + bytes([WEIGHTS[3] ^ 0xFF]) + WEIGHTS[4:-10]

    registry.gzip_encoding(digest, times=1)
    packed = ask(blob, Range="bytes=1-2")
    assert (packed.status, packed.headers["Content-Encoding"]) == (200, "gzip")
    assert gzip.decompress(packed.body) == WEIGHTS
    assert ask(blob).body == WEIGHTS
    assert registry.blob_bytes("ai/smollm2", digest) == WEIGHTS


def test_endless_has_no_end(registry: Registry, blob: str) -> None:
    registry.endless(sha256(WEIGHTS))
    with contextlib.closing(http.client.HTTPConnection(registry.host, timeout=60)) as connection:
        connection.request("GET", urlsplit(blob).path)
        with connection.getresponse() as response:
            assert response.headers["Content-Length"] is None
            assert response.read(SIZE + 2**20) == WEIGHTS + bytes(2**20)


def test_etag_changes_defeat_if_range(registry: Registry, blob: str) -> None:
    registry.etag_changes()
    etag = ask(blob, "HEAD").headers["ETag"]
    assert ask(blob, Range="bytes=1-2", If_Range=etag).status == 200


def test_manifest_is_not_what_its_digest_says(
    registry: Registry, model: Artifact, manifest: str
) -> None:
    registry.manifest_override(model.digest, b"{}", "text/plain")
    answer = ask(f"{registry.url}/v2/ai/smollm2/manifests/{model.digest}")
    assert (answer.body, answer.headers["Content-Type"]) == (b"{}", "text/plain")
    assert answer.headers["Docker-Content-Digest"] == model.digest
    assert ask(manifest).body == model.manifest

    registry.manifest_override("new", b"[]", claimed_digest=sha256(b"[]"))
    assert ask(f"{registry.url}/v2/ai/smollm2/manifests/new").body == b"[]"


@pytest.mark.parametrize("declared", [True, False])
def test_huge_manifest_is_as_long_as_ordered(
    registry: Registry, manifest: str, declared: bool
) -> None:
    registry.huge_manifest(3_000_000, declared=declared)
    answer = ask(manifest)
    assert len(answer.body) == 3_000_000
    assert answer.headers["Content-Length"] == ("3000000" if declared else None)


def test_cdn_misbehaves_too(registry: Registry, cdn: Cdn, blob: str) -> None:
    registry.redirect_blobs(to=cdn)
    cdn.cut_after(7)
    with pytest.raises(http.client.IncompleteRead) as cut:
        ask(ask(blob).headers["Location"])
    assert cut.value.partial == WEIGHTS[:7]
