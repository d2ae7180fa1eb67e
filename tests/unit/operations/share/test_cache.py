"""What the cache of a share keeps, throws away, and finds again."""

import os
from pathlib import Path

import pytest

from modelrunner.errors import CapacityError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.share.cache import BlobCache
from modelrunner.operations.share.names import Names
from tests.support.artifacts import docker_artifact

NAME = Reference("docker.io", "ai/smollm2", "1")
MODEL = docker_artifact(b"GGUF weights")


def put(cache: BlobCache, content: bytes) -> Descriptor:
    descriptor = Descriptor("application/octet-stream", Digest.of(content), len(content))
    cache.put(descriptor, content)
    return descriptor


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    evicted: list[int] = []
    with BlobCache(tmp_path, 30, evicted.append) as cache:
        one, two, three = (put(cache, bytes([n]) * 10) for n in range(3))
        assert cache.has(one)
        four = put(cache, b"4" * 9)
        assert [cache.has(each) for each in (one, two, three, four)] == [True, False, True, True]
        assert (evicted, cache.size) == ([10], 29)
        assert not cache.blobs.path(two.digest).exists()


def test_what_is_too_large_throws_nothing_away(tmp_path: Path) -> None:
    with BlobCache(tmp_path, 30) as cache:
        one = put(cache, b"1" * 10)
        with pytest.raises(CapacityError, match="does not fit the cache"):
            put(cache, b"2" * 31)
        assert cache.has(one)


def test_what_is_on_its_way_is_not_thrown_away(tmp_path: Path) -> None:
    with BlobCache(tmp_path, 30) as cache:
        coming = Descriptor("x", Digest.of(b"coming"), 25)
        with cache.arriving(coming), pytest.raises(CapacityError, match="everything is in use"):
            put(cache, b"2" * 10)


def test_the_order_of_use_outlives_a_restart(tmp_path: Path) -> None:
    with BlobCache(tmp_path, 100) as cache:
        entries = [put(cache, bytes([n]) * 10) for n in range(3)]
        for seconds, entry in zip((300, 100, 200), entries, strict=True):
            os.utime(cache.layout.stamp(entry.digest), (seconds, seconds))
    with BlobCache(tmp_path, 20) as cache:
        assert [cache.size_of(entry.digest) for entry in entries] == [10, None, 10]


def test_an_unfinished_blob_counts_and_goes_first(tmp_path: Path) -> None:
    with BlobCache(tmp_path, 1_000_000) as cache:
        one = put(cache, b"1" * 10)
        partial = cache.layout.partial(Digest.of(b"unfinished"))
        partial.write_bytes(b"x" * 8192)
        (cache.layout.ingest / "other.partial").write_bytes(b"not a digest")
        (cache.layout.blobs / "other").write_bytes(b"not a digest")
    with BlobCache(tmp_path, 1_000_000) as cache:
        assert cache.size == 8192 + 10
    with BlobCache(tmp_path, 4096) as cache:
        assert (cache.size, partial.exists(), cache.has(one)) == (10, False, True)


def kept(cache: BlobCache) -> Names:
    names = Names(cache)
    manifest = Manifest.from_bytes(MODEL.manifest)
    cache.put(manifest.descriptor, manifest.raw)
    names.note_manifest(NAME, manifest)
    return names


def test_names_outlive_a_restart_and_go_with_their_manifests(tmp_path: Path) -> None:
    with BlobCache(tmp_path, 100_000) as cache:
        kept(cache)
    with BlobCache(tmp_path, 100_000) as cache:
        names = Names(cache)
        assert (str(names.tag(NAME)), names.tags(NAME)) == (MODEL.digest, ["1"])
        assert names.places() == [("docker.io", "ai/smollm2")]
        assert {str(digest) for digest in MODEL.layer_digests} <= {
            str(digest) for digest in names._of(NAME).blobs
        }
        assert names.blob(Reference("docker.io", "ai/other", None), Digest.of(b"x")) is None
    with BlobCache(tmp_path, 0) as cache:
        names = Names(cache)
        assert (names.tag(NAME), names.places()) == (None, [])
        assert list((cache.layout.root / "names").iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"registry": 5}',
        b'{"registry": "docker.io", "repository": "../x", "tags": {}, "manifests": []}',
        b'{"registry": "docker.io", "repository": "ai/x", "tags": {"1": 5}, "manifests": []}',
        b'{"registry": "docker.io", "repository": "ai/x", "tags": {}, "manifests": [{}]}',
    ],
)
def test_notes_that_are_damaged_are_passed_over(tmp_path: Path, content: bytes) -> None:
    with BlobCache(tmp_path, 100_000) as cache:
        kept(cache)
        (cache.layout.root / "names" / f"{'0' * 64}.json").write_bytes(content)
        assert Names(cache).places() == [("docker.io", "ai/smollm2")]
