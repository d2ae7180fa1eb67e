"""A shared store with registries behind it: fetched once, kept, and never more than is right."""

import http.client
import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest

from modelrunner.errors import AccessError, ConfigError
from modelrunner.oci.reference import Reference
from modelrunner.operations.share import upstream as subject
from modelrunner.operations.share.open import UpstreamRequest, upstream_of
from modelrunner.operations.share.upstream import CachingUpstream
from modelrunner.registry.http.retry import Backoff
from modelrunner.share.server import ShareServer, sharing
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact, modelpack_artifact
from tests.support.pulling import QUICK, Pulling, docker_config
from tests.support.registry import Registry, sha256
from tests.support.registry_client import ask
from tests.support.stores import put
from tests.support.waiting import partial_bytes, wait_until

WEIGHTS = b"GGUF" + bytes(range(256)) * 12_000
MODEL = docker_artifact(WEIGHTS, license=b"do as you like")
NEWER = docker_artifact(b"GGUF a newer one")
BLOB = sha256(WEIGHTS)


@dataclass
class Cache:
    """A share with one registry behind it, which clients take for Docker Hub's mirror."""

    server: ShareServer
    upstream: CachingUpstream
    folder: Path
    warnings: list[str] = field(default_factory=list)

    def pull(self, name: str, folder: Path) -> Pulling:
        pulling = Pulling(Store(folder), mirrors={"docker.io": (self.server.address,)})
        pulling.pull(name)
        return pulling

    def get(self, path: str, method: str = "GET", **headers: str):
        return ask(self.server.address + path, method, **headers)

    def metric(self, name: str) -> int:
        text = self.get("/metrics").body.decode()
        found = re.search(rf"^modelrunner_share_{re.escape(name)} (\d+)$", text, re.MULTILINE)
        assert found is not None, text
        return int(found[1])


@contextmanager
def caching(
    store: Store,
    registry: Registry,
    folder: Path,
    size: str = "1GiB",
    backoff: Backoff = QUICK,
    *,
    login: bool = False,
    config: Path | None = None,
) -> Iterator[Cache]:
    warnings: list[str] = []
    request = UpstreamRequest.of([f"docker.io={registry.url}"], size, login=login)
    usual = Pulling(store, config, backoff=backoff).places
    with ExitStack() as stack:
        found = upstream_of(request, store, usual, folder, warnings.append)
        upstream = stack.enter_context(found)
        server = stack.enter_context(sharing(store, upstream=upstream))
        yield Cache(server, upstream, folder, warnings)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as found:
        found.add(MODEL, "ai/smollm2", ["135M"])
        yield found


@pytest.fixture
def cache(store: Store, registry: Registry, tmp_path: Path) -> Iterator[Cache]:
    with caching(store, registry, tmp_path / "cache") as found:
        yield found


def test_what_the_store_lacks_is_fetched_once_and_kept(cache, store, registry, tmp_path):
    first = cache.pull("ai/smollm2:135M", tmp_path / "one")
    assert registry.bytes_sent(BLOB) == len(WEIGHTS)
    sent = registry.bytes_sent()
    second = cache.pull("ai/smollm2:135M", tmp_path / "two")
    assert [str(model.digest) for model in (*first.store.models(), *second.store.models())] == [
        MODEL.digest,
        MODEL.digest,
    ]
    assert registry.bytes_sent() == sent
    # of the user's own store nothing has become more
    assert store.models() == ()


def test_no_name_waits_for_the_answer_about_another(cache):
    names = [Reference.parse(f"ai/model{number}:1") for number in range(1000)]
    entered = Event()

    def enter() -> None:
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(cache.upstream._turn(name))
            entered.set()

    Thread(target=enter, daemon=True).start()

    assert entered.wait(30)


def test_names_of_what_is_kept_are_listed(cache, tmp_path):
    assert cache.get("/v2/_catalog").json == {"repositories": []}
    cache.pull("ai/smollm2:135M", tmp_path / "one")
    assert cache.get("/v2/_catalog").json == {"repositories": ["ai/smollm2"]}
    assert cache.get("/v2/ai/smollm2/tags/list").json == {"name": "ai/smollm2", "tags": ["135M"]}


def test_many_clients_at_once_join_one_download(cache, registry, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        pulled = list(
            pool.map(lambda n: cache.pull("ai/smollm2:135M", tmp_path / str(n)), range(4))
        )
    assert {str(each.store.models()[0].digest) for each in pulled} == {MODEL.digest}
    assert registry.bytes_sent() <= 1.05 * sum(map(len, MODEL.blobs.values()))
    assert registry.count("GET", "manifests") == 1


def test_parts_that_are_asked_for_at_once_are_one_download(cache, registry):
    size, step = len(WEIGHTS), 100_000
    starts = range(0, size, step)

    def part(start: int) -> bytes:
        last = min(start + step, size) - 1
        answer = cache.get(f"/v2/ai/smollm2/blobs/{BLOB}", Range=f"bytes={start}-{last}")
        assert answer.status == 206
        assert answer.headers["Content-Range"] == f"bytes {start}-{last}/{size}"
        return answer.body

    with ThreadPoolExecutor(32) as pool:
        assert b"".join(pool.map(part, starts)) == WEIGHTS
    assert registry.bytes_sent(BLOB) <= 1.05 * size


def test_bytes_are_passed_on_while_they_arrive(cache, registry):
    stall = registry.stall_after(400_000, 600.0, times=None, digest=BLOB)
    cache.get("/v2/ai/smollm2/manifests/135M")
    host, port = cache.server.server_address[:2]
    with socket.create_connection((host, port), timeout=60) as client:
        request = f"GET /v2/ai/smollm2/blobs/{BLOB} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        client.sendall(request.encode())
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.read(90_000) == WEIGHTS[:90_000]
        stall.wait()
        registry.close()


def test_what_is_still_arriving_is_said_so(cache):
    path = f"/v2/ai/smollm2/blobs/{BLOB}"
    first = cache.get(path)
    wait_until(lambda: cache.metric("downloads") == 0)
    found = [answer.headers["Modelrunner-Arriving"] for answer in (first, cache.get(path))]
    assert found == ["yes", None]


def test_a_client_that_begins_in_the_middle_is_served(cache):
    answer = cache.get(f"/v2/ai/smollm2/blobs/{BLOB}", Range="bytes=3000000-")
    assert (answer.status, answer.body) == (206, WEIGHTS[3_000_000:])


def test_wrong_bytes_are_never_complete(cache, registry):
    registry.corrupt(BLOB)
    with pytest.raises(http.client.IncompleteRead):
        cache.get(f"/v2/ai/smollm2/blobs/{BLOB}")
    # it is tried once more, for what was there before may have been the reason
    wait_until(lambda: cache.metric("downloads") == 0)
    assert cache.metric("cache_bytes") == 0
    registry.calm()
    wait_until(lambda: cache.get(f"/v2/ai/smollm2/blobs/{BLOB}", "HEAD").status == 200)
    assert cache.get(f"/v2/ai/smollm2/blobs/{BLOB}").body == WEIGHTS


def test_a_registry_that_breaks_off_is_resumed(cache, registry):
    registry.cut_after(1_500_000, digest=BLOB)
    assert cache.get(f"/v2/ai/smollm2/blobs/{BLOB}").body == WEIGHTS
    starts = [request.range for request in registry.requests_of("GET", "blob")]
    assert any(not text.startswith("bytes=0-") for text in starts if text)
    assert registry.bytes_sent(BLOB) <= 1.05 * len(WEIGHTS)


def test_a_registry_without_ranges_is_read_to_the_end(cache, registry):
    registry.ignore_ranges(on="blob")
    answer = cache.get(f"/v2/ai/smollm2/blobs/{BLOB}", Range="bytes=1000-1999")
    assert (answer.status, answer.body) == (206, WEIGHTS[1000:2000])


@pytest.mark.parametrize("kind", ["manifests/135M", f"blobs/{BLOB}"])
def test_a_rate_limit_is_passed_on_in_words(cache, registry, kind):
    registry.answer(429, times=None, headers={"Retry-After": "77"})
    answer = cache.get(f"/v2/ai/smollm2/{kind}")
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (
        429,
        "TOOMANYREQUESTS",
        "77",
    )
    assert "rate limit" in answer.json["errors"][0]["message"]


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        ("manifests/none", "MANIFEST_UNKNOWN"),
        ("manifests/a%20b", "MANIFEST_UNKNOWN"),
        (f"manifests/sha256:{'0' * 64}", "MANIFEST_UNKNOWN"),
        (f"blobs/sha256:{'0' * 64}", "MANIFEST_UNKNOWN"),
    ],
)
def test_what_the_registry_does_not_have_is_not_found(cache, tail, code):
    answer = cache.get(f"/v2/ai/smollm2/{tail}")
    assert (answer.status, answer.code) == (404, code)


def test_what_registries_say_is_for_clients_alone(cache, registry, caplog):
    said = b'{"errors": [{"code": "DENIED", "message": "no \\u001b[31m"}]}'
    registry.answer(403, times=None, body=said)
    assert cache.get("/v2/ai/smollm2/manifests/135M").status == 403
    registry.calm()
    assert cache.get("/v2/ai/smollm2/manifests/none").status == 404
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


def test_registries_that_are_not_named_are_not_asked(cache, registry):
    paths = ("ghcr.io/ai/smollm2", "quay.io/ai/smollm2", "local/own")
    found = [cache.get(f"/v2/{path}/manifests/135M").status for path in paths]
    found.append(cache.get("/v2/ai/smollm2/manifests/135M?ns=ghcr.io").status)
    assert found == [404] * 4
    assert registry.requests == []


def test_full_names_and_namespaces_mean_the_same_model(cache):
    paths = ("ai/smollm2", "docker.io/ai/smollm2", "ai/smollm2", "docker.io/ai/smollm2")
    queries = ("", "", "?ns=docker.io", "?ns=docker.io")
    found = {
        cache.get(f"/v2/{path}/manifests/135M{query}").headers["Docker-Content-Digest"]
        for path, query in zip(paths, queries, strict=True)
    }
    assert found == {MODEL.digest}


def test_a_blob_is_served_only_in_repositories_that_have_it(cache, registry, tmp_path):
    registry.add(NEWER, "ai/other", ["1"])
    cache.pull("ai/smollm2:135M", tmp_path / "one")
    assert cache.get(f"/v2/ai/other/blobs/{BLOB}").status == 404


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(cache.upstream, "_clock", found)
    return found


def meaning(cache: Cache) -> str:
    return cache.get("/v2/ai/smollm2/manifests/135M").headers["Docker-Content-Digest"]


def test_a_tag_is_asked_for_again_after_a_while(cache, registry, clock):
    assert meaning(cache) == MODEL.digest
    registry.tag("ai/smollm2", "135M", registry.add(NEWER, "ai/smollm2"))
    assert meaning(cache) == MODEL.digest
    assert registry.count("HEAD", "manifests") == 1
    clock.now += subject.FRESH_S
    assert meaning(cache) == NEWER.digest


def test_a_tag_that_was_removed_is_not_served(cache, registry, clock):
    assert meaning(cache) == MODEL.digest
    registry.remove_tag("ai/smollm2", "135M")
    clock.now += subject.FRESH_S
    assert cache.get("/v2/ai/smollm2/manifests/135M").status == 404


def test_what_is_kept_is_served_while_the_registry_is_away_and_said_once(
    cache, registry, clock, tmp_path
):
    cache.pull("ai/smollm2:135M", tmp_path / "one")
    registry.answer(503, times=None)
    clock.now += subject.FRESH_S
    cache.pull("ai/smollm2:135M", tmp_path / "two")
    clock.now += subject.FRESH_S
    assert meaning(cache) == MODEL.digest
    assert [text.partition(":135M: ")[2][:26] for text in cache.warnings] == [
        "serving what is cached, si"
    ]
    assert cache.metric('manifests_total{result="stale"}') >= 2


def test_what_is_kept_outlives_a_restart(store, registry, tmp_path):
    with caching(store, registry, tmp_path / "cache") as first:
        first.pull("ai/smollm2:135M", tmp_path / "one")
    registry.forget()
    registry.answer(503, times=None)
    with caching(store, registry, tmp_path / "cache") as again:
        again.pull("ai/smollm2:135M", tmp_path / "two")
        assert again.get("/v2/_catalog").json == {"repositories": ["ai/smollm2"]}
    assert registry.bytes_sent() == 0


def test_what_the_store_has_is_not_fetched(store, registry, tmp_path):
    put(store, MODEL, "ghcr.io/org/copy:1")
    with caching(store, registry, tmp_path / "cache") as cache:
        assert cache.get(f"/v2/ai/smollm2/blobs/{BLOB}").body == WEIGHTS
    assert registry.bytes_sent() == 0


def test_a_name_that_was_never_pushed_is_served_from_the_store(store, registry, tmp_path):
    put(store, NEWER, "team/own:1")
    with caching(store, registry, tmp_path / "cache") as cache:
        assert cache.get("/v2/team/own/manifests/1").body == NEWER.manifest
        assert cache.get("/v2/team/own/tags/list").json["tags"] == ["1"]


def blob_of(cache: Cache, artifact) -> str:
    name = artifact.layer_digests[0]
    return cache.get(f"/v2/ai/many/blobs/{name}").status


def test_the_least_recently_used_goes_first_and_nothing_of_the_users(store, registry, tmp_path):
    shards = [docker_artifact(b"GGUF" + bytes([n]) * 1_000_000) for n in range(4)]
    for artifact in shards:
        registry.add(artifact, "ai/many")
    put(store, MODEL, "ai/mine:1")
    with caching(store, registry, tmp_path / "cache", "3200000") as cache:
        one, two, three, four = shards
        assert [blob_of(cache, each) for each in (one, two, three, one, four)] == [200] * 5
        wait_until(lambda: cache.metric("downloads") == 0)
        sent = registry.bytes_sent()
        assert [blob_of(cache, each) for each in (one, three, four)] == [200] * 3
        assert registry.bytes_sent() == sent
        assert (cache.metric("evictions_total"), cache.metric("evicted_bytes_total")) == (
            1,
            1_000_004,
        )
        assert blob_of(cache, two) == 200
        assert registry.bytes_sent() == sent + 1_000_004
        assert cache.metric("cache_bytes") <= 3_200_000
    assert [str(model.digest) for model in store.models()] == [MODEL.digest]
    assert store.complete(Reference.parse("ai/mine:1")) is not None


def test_a_blob_larger_than_the_cache_is_refused_in_words(store, registry, tmp_path):
    with caching(store, registry, tmp_path / "cache", "1MiB") as cache:
        answer = cache.get(f"/v2/ai/smollm2/blobs/{BLOB}")
        assert (answer.status, answer.json["errors"][0]["message"]) == (
            507,
            "a blob of 2.93 MiB does not fit the cache of 1.00 MiB",
        )


def test_one_process_has_the_cache(store, registry, tmp_path):
    with (
        caching(store, registry, tmp_path / "cache"),
        pytest.raises(ConfigError, match="another `modelrunner share` uses the cache"),
        caching(store, registry, tmp_path / "cache"),
    ):
        pass


def test_a_damaged_blob_of_the_cache_is_fetched_again(cache, registry, tmp_path):
    cache.pull("ai/smollm2:135M", tmp_path / "one")
    path = tmp_path / "cache" / "v1" / "blobs" / "sha256" / BLOB.removeprefix("sha256:")
    path.chmod(0o644)
    path.write_bytes(b"?" * len(WEIGHTS))
    assert cache.get(f"/v2/ai/smollm2/blobs/{BLOB}").body == WEIGHTS


@pytest.mark.parametrize("login", [False, True])
def test_logins_are_used_only_where_that_was_asked_for(store, registry, tmp_path, login):
    registry.demand_token({"me": "secret"}, private=["ai/smollm2"])
    config = docker_config(tmp_path / "docker", {registry.host: ("me", "secret")})
    with caching(store, registry, tmp_path / "cache", login=login, config=config) as cache:
        answer = cache.get("/v2/ai/smollm2/manifests/135M")
        assert answer.status == (200 if login else 403)
        if login:
            assert cache.get(f"/v2/ai/smollm2/blobs/{BLOB}").body == WEIGHTS
        else:
            assert answer.code == "DENIED"
            with pytest.raises(AccessError):
                cache.pull("ai/smollm2:135M", tmp_path / "one")


def test_shards_and_everything_else_of_a_model_arrive(cache, registry, tmp_path):
    shards = modelpack_artifact([b"GGUF one", b"GGUF two", b"GGUF three"])
    registry.add(shards, "ai/shards", ["1"])
    pulling = cache.pull("ai/shards:1", tmp_path / "one")
    assert str(pulling.store.models()[0].digest) == shards.digest


def test_neighbours_find_what_is_kept_by_its_digest(cache, tmp_path):
    assert cache.get(f"/v2/_/blobs/{BLOB}").status == 404
    cache.pull("ai/smollm2:135M", tmp_path / "one")
    assert cache.get(f"/v2/_/blobs/{BLOB}").body == WEIGHTS
    assert cache.get(f"/v2/_/manifests/{MODEL.digest}").body == MODEL.manifest


def test_referrers_are_those_of_the_registry(cache, registry, clock):
    path = f"/v2/ai/smollm2/referrers/{MODEL.digest}"
    empty = cache.get(path)
    assert (empty.status, empty.json["manifests"]) == (200, [])
    registry.answer(503, times=None)
    clock.now += subject.FRESH_S
    assert cache.get(path).status == 502


def test_figures_are_counted(cache, tmp_path):
    total = sum(map(len, MODEL.blobs.values()))
    for name in ("one", "two"):
        cache.pull("ai/smollm2:135M", tmp_path / name)
    found = {
        name: cache.metric(name)
        for name in ("upstream_bytes_total", "served_bytes_total", "cache_limit_bytes", "downloads")
    }
    assert found.pop("served_bytes_total") >= 2 * total
    assert found == {
        "upstream_bytes_total": total,
        "cache_limit_bytes": 1024**3,
        "downloads": 0,
    }
    assert cache.metric("cache_bytes") == total + len(MODEL.manifest)


def test_a_share_without_registries_has_no_metrics(store):
    with sharing(store) as server:
        assert ask(f"{server.address}/metrics").status == 404


@contextmanager
def started(cli, *options: str, **environ: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    with subprocess.Popen(
        cli.argv("share", "--port", "0", *options),
        env={**cli.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def test_a_share_that_is_killed_goes_on_where_it_was(cli, registry, tmp_path):
    """`kill -9` in the middle of a blob."""
    upstream = ("--upstream", registry.host)
    name = registry.reference("ai/smollm2")
    # two of the pieces arrive, of which there are six
    stall = registry.stall_after(400_000, 600.0, times=None, skip=2, digest=BLOB)
    with started(cli, *upstream) as (address, process):
        host, _, port = address.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as client:
            request = f"GET /v2/{name}/blobs/{BLOB} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            client.sendall(request.encode())
            stall.wait(60)
            ingest = cli.home / "cache" / "share" / "v1" / "ingest"
            wait_until(lambda: partial_bytes(ingest) > 1_100_000)
            process.send_signal(signal.SIGKILL)
            process.wait(60)
    registry.calm()
    before = registry.bytes_sent(BLOB)
    with started(cli, *upstream) as (address, process):
        assert ask(f"{address}/v2/{name}/blobs/{BLOB}").body == WEIGHTS
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert registry.bytes_sent(BLOB) - before < len(WEIGHTS)


def test_the_command_says_what_it_does(cli, registry):
    with started(cli, "--upstream", registry.host, "--cache-size", "5GiB") as (address, process):
        assert address.startswith("http://127.0.0.1:")
        assert [process.stderr.readline() for _ in range(2)] == [
            f"downloading from {registry.host}, cached up to 5GiB\n",
            "sharing 0 models read-only; press Ctrl-C to stop\n",
        ]
        done = cli(
            "pull",
            registry.reference("ai/smollm2:135M"),
            "--json",
            MODELRUNNER_HOME=str(cli.home.parent / "other"),
            MODELRUNNER_MIRRORS=f"{registry.host}={address}",
        )
        assert json.loads(done.stdout)["digest"] == MODEL.digest
    assert json.loads(cli("list", "--json").stdout) == []


def test_a_pull_by_hand_takes_what_is_cached(cli, registry):
    name = registry.reference("ai/smollm2:135M")
    with started(cli, "--upstream", registry.host) as (address, _process):
        repository = registry.reference("ai/smollm2")
        assert ask(f"{address}/v2/{repository}/blobs/{BLOB}").body == WEIGHTS
        sent = registry.bytes_sent(BLOB)
        done = cli("pull", name, "--json")
        assert json.loads(done.stdout)["origins"]["the cache of share"] == len(WEIGHTS), done.stderr
    assert registry.bytes_sent(BLOB) == sent
    # a model of the user's own by now, whatever becomes of the cache
    assert json.loads(cli("list", "--json").stdout)[0]["id"] == MODEL.digest
    assert cli("verify", "--deep").returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--upstream", "a b"], "--upstream: invalid registry 'a b'"),
        (["--upstream", "hf.co"], "--upstream: the Hugging Face Hub is not an OCI registry"),
        (["--upstream", "docker.io="], "--upstream: missing URL after 'docker.io='"),
        (["--upstream", "docker.io=ftp://x"], "invalid URL of a mirror 'ftp://x'"),
        (["--upstream", "docker.io", "--cache-size", "x"], "--cache-size: invalid size 'x'"),
        (["--upstream-login"], "--upstream-login needs --upstream"),
    ],
)
def test_options_that_are_not_understood(cli, options, message):
    done = cli("share", "--port", "0", *options, "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, done.stdout, error["message"]) == (2, "", message)


def test_offline_there_is_no_upstream(cli):
    done = cli("share", "--port", "0", "--upstream", "docker.io", "--offline")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        9,
        "error: --upstream needs the network, but --offline is set",
    )
