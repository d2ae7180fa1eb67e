"""Docker Model Runner's API: models pushed, looked at in a registry, loaded and exported."""

import io
import json
import socket
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import requests

from modelrunner.oci.reference import Reference
from modelrunner.operations.archive.load import Loader
from modelrunner.operations.archive.output import to_files
from modelrunner.operations.archive.save import Archive, choose
from modelrunner.store.store import Store
from tests.support.artifacts import Artifact, Layer, docker_artifact, tar_of
from tests.support.mounts import small_disk
from tests.support.pulling import docker_config
from tests.support.registry import Registry, sha256
from tests.support.served_store import ServedStore
from tests.support.serving import CONTROL_KEY, Running, gateway
from tests.support.stores import put
from tests.support.waiting import wait_until

MIB = 1024 * 1024
MODEL = docker_artifact(b"GGUF" + bytes(3 * MIB), license=b"do as you like")
OTHER = docker_artifact(b"GGUF" + b"2" * 100_000)
USER, PASSWORD = "writer", "p4ssw0rd-of-writer"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def serving(store: Store, tmp_path: Path, registry: Registry) -> ServedStore:
    put(store, MODEL, registry.reference("team/model:1"), "ai/model:latest")
    return ServedStore(store, tmp_path / "0")


@contextmanager
def running(serving: ServedStore, **options: Any) -> Iterator[Running]:
    with gateway(
        serving.runtime, *serving.served_from_the_start(), library=serving.library(), **options
    ) as server:
        yield server


def lines(body: bytes) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


def docker_form(artifact: Artifact, **changed: bytes | None) -> bytes:
    """The archive that `docker model package` sends: layers, config, manifest."""
    manifest = json.loads(artifact.manifest)
    digests = [entry["digest"] for entry in (*manifest["layers"], manifest["config"])]
    files = {f"blobs/sha256/{d.removeprefix('sha256:')}": artifact.blobs[d] for d in digests}
    files["manifest.json"] = artifact.manifest
    for name, content in changed.items():
        if content is None:
            del files[name]
        else:
            files[name] = content
    return tar_of(files)


def blob_name(content: bytes) -> str:
    return f"blobs/sha256/{sha256(content).removeprefix('sha256:')}"


def files_of(store: Store) -> set[str]:
    """What of a store takes room: blobs, those on their way, and views."""
    root = store.layout.root
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and path.parent != root
    }


# Pushes.


def test_a_push_has_a_line_for_each_step_and_the_registry_has_the_model(
    serving: ServedStore, registry: Registry
) -> None:
    name = registry.reference("team/model:1")
    with running(serving) as server:
        answer = server.ask("POST", f"/models/{name}/push")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        *steps, last = lines(answer.body)
        assert last == {
            "type": "success",
            "message": "Model pushed successfully",
            "total": 0,
            "layer": {"size": 0, "current": 0},
            "mode": "push",
        }
        assert {step["type"] for step in steps} == {"progress"}
        assert {step["mode"] for step in steps} == {"push"}
        done = {step["layer"]["id"]: step["layer"] for step in steps}
        assert set(done) == set(MODEL.blobs)
        assert all(layer["current"] == layer["size"] for layer in done.values())
        assert {step["total"] for step in steps} == {sum(len(b) for b in MODEL.blobs.values())}
        assert steps[-1]["message"].startswith("Uploaded: ")
        assert registry.tags("team/model") == {"1": MODEL.digest}
        uploads = registry.count("PUT", "upload")
        again = server.ask("POST", f"/models/{name}/push", Accept="application/json")
        assert again.headers["content-type"] == "application/json"
        assert lines(again.body)[-1]["type"] == "success"
    assert registry.count("PUT", "upload") == uploads


def test_a_push_finds_the_login_of_the_command_line(
    serving: ServedStore, registry: Registry, tmp_path: Path
) -> None:
    registry.demand_basic(USER, PASSWORD)
    name = registry.reference("team/model:1")
    with running(serving) as server:
        refused = server.ask("POST", f"/models/{name}/push")
        assert refused.status == 403
        assert refused.body.decode() == (
            f"{name}: login required to push to {registry.host}; run `modelrunner login"
            f" {registry.host}` and push to a repository that you can write to\n"
        )
    serving.config = docker_config(tmp_path / "docker", {registry.host: (USER, PASSWORD)})
    with running(serving) as server:
        assert lines(server.ask("POST", f"/models/{name}/push").body)[-1]["type"] == "success"


def test_the_token_of_a_request_is_shown_to_the_registry_instead_of_the_login(
    serving: ServedStore, registry: Registry, tmp_path: Path
) -> None:
    registry.demand_token({USER: PASSWORD})
    serving.config = docker_config(tmp_path / "docker", {registry.host: ("reader", "wrong")})
    scope = {"scope": "repository:team/model:pull,push"}
    granted = requests.get(
        f"{registry.url}/token", params=scope, auth=(USER, PASSWORD), timeout=30
    ).json()["token"]
    path = f"/models/{registry.reference('team/model:1')}/push"
    with running(serving) as server:
        assert server.post(path, {"bearer-token": "none"}).status == 403
        done = server.post(path, {"bearer-token": granted})
        assert lines(done.body)[-1]["type"] == "success"
        # it is not kept for those who have none
        assert server.ask("POST", path).status == 403
        for invalid in (5, "two words", "line\nfeed"):
            assert server.post(path, {"bearer-token": invalid}).status == 400


def test_a_push_that_fails_on_the_way_ends_with_an_error(
    serving: ServedStore, registry: Registry
) -> None:
    registry.answer(400, method="PUT", on="manifest", body=b"&quot;no&quot; <b>")
    with running(serving) as server:
        answer = server.ask("POST", f"/models/{registry.reference('team/model:1')}/push")
    assert answer.status == 200
    first, *_, last = lines(answer.body)
    assert (first["type"], last["type"], last["mode"]) == ("progress", "error", "push")
    # clients replace entities of HTML before they parse a line
    assert b"&" not in answer.body


def test_what_cannot_be_pushed_has_a_status_and_a_line_of_text(
    serving: ServedStore, registry: Registry
) -> None:
    serving.library().tag("ai/model", "hf.co/team/model:Q4_K_M")
    serving.library().tag("ai/model", "local/model:1")
    with running(serving) as server:
        for name, status, message in (
            ("ai/none", 404, "ai/none: not in the local store"),
            ("no such name!", 400, "no such name!"),
            (MODEL.digest, 400, "push needs a model name, got the ID"),
            ("local/model:1", 404, "local/model:1 is a local name: no registry has it"),
            ("hf.co/team/model:Q4_K_M", 422, "the Hugging Face Hub is not an OCI registry"),
        ):
            answer = server.ask("POST", f"/models/{name.replace(' ', '%20')}/push")
            assert (answer.status, message in answer.body.decode()) == (status, True), answer
    serving.offline = True
    with running(serving) as server:
        name = registry.reference("team/model:1")
        assert server.ask("POST", f"/models/{name}/push").status == 403
    assert registry.requests == []


def test_a_push_ends_when_its_client_goes_away(serving: ServedStore, registry: Registry) -> None:
    registry.latency(0.5, on="upload")
    name = registry.reference("team/model:1")
    with running(serving) as server:
        connection = server.connect()
        connection.request("POST", f"/models/{name}/push")
        assert connection.getresponse().readline().startswith(b'{"type": "progress"')
        connection.close()
        wait_until(lambda: not any(t.name.startswith("push ") for t in threading.enumerate()))
    assert registry.tags("team/model") == {}


# Looks into registries.


def test_a_model_is_looked_at_in_its_registry_without_its_weights(
    serving: ServedStore, registry: Registry
) -> None:
    registry.add(OTHER, "team/other", tags=["1"])
    name = registry.reference("team/other:1")
    with running(serving) as server:
        found = server.get(f"/models/{name}?remote=true")
        assert found.json == {
            "id": OTHER.digest,
            "created": 1759395600,
            "config": {
                "format": "gguf",
                "quantization": "MOSTLY_Q4_K_M",
                "parameters": "3.19B",
                "architecture": "llama",
                "size": "98.02KiB",
                "gguf": {"general.architecture": "llama", "general.file_type": "15"},
                "context_size": 8192,
            },
        }
        assert server.get(f"/models/{registry.reference('team/none:1')}?remote=true").status == 404
        assert server.get(f"/models/{name}").status == 404
        page = server.get(f"/models/{name}?remote=1", Origin="http://localhost:3000")
        assert page.status == 403
    weights = OTHER.layer_digests[0]
    assert not any(weights in request.path for request in registry.requests)
    assert Reference.parse(name) not in [r for m in serving.store.models() for r in m.references]


def test_a_model_is_described_by_its_last_name_too(serving: ServedStore) -> None:
    serving.library().tag("ai/model", "mine/special:2")
    with running(serving) as server:
        assert server.get("/models/special").json["id"] == MODEL.digest
        assert server.get("/models/special:2").status == 404


# Archives that come.


def test_an_archive_of_docker_is_loaded_and_named_by_its_id(serving: ServedStore) -> None:
    with running(serving) as server:
        loaded = server.ask("POST", "/models/load", docker_form(OTHER))
        assert (loaded.status, lines(loaded.body)) == (
            200,
            [
                {
                    "type": "success",
                    "message": "Model loaded successfully",
                    "total": 0,
                    "layer": {"size": 0, "current": 0},
                    "mode": "pull",
                }
            ],
        )
        assert serving.store.resolve(OTHER.digest).references == ()
        assert server.ask("POST", f"/models/{OTHER.digest}/tag?repo=mine/other&tag=1").status == 201
        assert server.chat("mine/other:1").status == 200
        assert server.ask("POST", "/models/load", docker_form(OTHER)).status == 200
    assert [str(n) for n in serving.store.resolve(OTHER.digest).references] == [
        "docker.io/mine/other:1"
    ]


def test_an_archive_of_docker_may_have_a_layer_twice(serving: ServedStore) -> None:
    name = blob_name(OTHER.layers[0])
    raw = tar_of({name: OTHER.layers[0]}).rstrip(b"\0")
    raw += bytes(-len(raw) % 512) + docker_form(OTHER)
    with running(serving) as server:
        assert server.ask("POST", "/models/load", raw).status == 200


def test_a_model_without_a_name_can_be_removed(serving: ServedStore) -> None:
    before = files_of(serving.store)
    with running(serving) as server:
        assert server.ask("POST", "/models/load", docker_form(OTHER)).status == 200
        gone = server.ask("DELETE", f"/models/{OTHER.digest}")
        assert gone.json == [{"Deleted": OTHER.digest}]
    assert files_of(serving.store) == before


def test_a_layout_with_names_is_loaded_too(serving: ServedStore, tmp_path: Path) -> None:
    archive = tmp_path / "m.tar"
    other = Store(tmp_path / "other")
    put(other, OTHER, "ai/other:1")
    with to_files(archive) as output:
        Archive(other, [choose(other, "ai/other:1")]).write(output)
    with running(serving) as server:
        assert server.ask("POST", "/models/load", archive.read_bytes()).status == 200
        assert server.chat("ai/other:1").status == 200


SAFETENSORS = docker_artifact(
    [], more=[Layer("application/vnd.docker.ai.safetensors", b"x" * 100, "model.safetensors")]
)
BAD = blob_name(OTHER.layers[0])
ODD = json.dumps({"schemaVersion": 2, "layers": []}).encode()


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "unexpected end of archive"),
        (b"no tar at all", 400, "not a tar archive"),
        (bytes(10_240), 400, "not an OCI image layout"),
        (docker_form(OTHER)[:50_000], 400, "unexpected end of archive"),
        (docker_form(OTHER, **{BAD: b"GGUF" + b"3" * 100_000}), 400, "expected sha256:"),
        (docker_form(OTHER, **{BAD: None}), 400, "blob missing from the archive"),
        (docker_form(OTHER, **{"manifest.json": None}), 400, "not an OCI image layout"),
        (docker_form(OTHER, **{"manifest.json": b"{"}), 400, "manifest.json"),
        (docker_form(OTHER, **{"manifest.json": b"[]"}), 422, "container images"),
        (docker_form(OTHER, **{"manifest.json": ODD}), 400, "manifest"),
        (docker_form(OTHER, **{"../../x": b"x"}), 400, "outside of it"),
        (docker_form(docker_artifact(b"no weights of GGUF")), 400, "is not a GGUF file"),
    ],
)
def test_a_wrong_archive_is_refused_and_leaves_nothing(
    serving: ServedStore, body: bytes, status: int, message: str
) -> None:
    before = files_of(serving.store)
    with running(serving) as server:
        answer = server.ask("POST", "/models/load", body)
        assert (answer.status, message in answer.body.decode()) == (status, True), answer
        assert answer.body.endswith(b"\n")
        assert len(server.get("/models").json) == 1
    assert files_of(serving.store) == before


def test_a_model_of_another_format_is_loaded_and_not_offered_for_chats(
    serving: ServedStore,
) -> None:
    with running(serving) as server:
        answer = server.ask("POST", "/models/load", docker_form(SAFETENSORS))
        assert answer.status == 200, answer
        formats = {model.artifact.format for model in serving.store.models()}
        assert formats == {"gguf", "safetensors"}
        listed = server.get("/models").json
        assert len(listed) == 1


def test_an_archive_that_no_disk_has_room_for_is_refused_at_once(serving: ServedStore) -> None:
    before = files_of(serving.store)
    member = tarfile.TarInfo(f"blobs/sha256/{'0' * 64}")
    member.size = 2**60
    with running(serving) as server:
        answer = server.ask("POST", "/models/load", member.tobuf() + bytes(100_000))
        assert answer.status == 507
        assert "the archive has a file of 1024.00 PiB" in answer.body.decode()
    assert files_of(serving.store) == before


def test_a_disk_that_fills_up_meanwhile_is_left_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        store = Store(disk / "store")
        put(store, OTHER, "ai/other:1")
        before = files_of(store)
        serving = ServedStore(store, tmp_path / "0")
        parts = io.BytesIO(docker_form(MODEL))
        with running(serving) as server, socket.create_connection(address_of(server), 30) as client:
            client.sendall(head_of(parts.getvalue()) + parts.read(MIB))
            partial = store.layout.ingest
            wait_until(lambda: any(p.stat().st_size > MIB // 2 for p in partial.glob("*.partial")))
            with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
                while ballast.write(bytes(64 * 1024)):
                    pass
            client.sendall(parts.read())
            answer = HTTPResponse(client)
            answer.begin()
            assert (answer.status, answer.read().decode().startswith("the disk is full")) == (
                507,
                True,
            )
        assert files_of(store) == before


def head_of(body: bytes) -> bytes:
    return (
        f"POST /models/load HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()


def address_of(server: Running) -> tuple[str, int]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return host, int(port)


def test_a_load_whose_client_goes_away_leaves_nothing(serving: ServedStore) -> None:
    before = files_of(serving.store)
    ingest = serving.store.layout.ingest
    body = docker_form(docker_artifact(b"GGUF" + b"4" * MIB))
    with running(serving) as server:
        with socket.create_connection(address_of(server), 30) as client:
            client.sendall(head_of(body) + body[: MIB // 2])
            wait_until(lambda: any(p.stat().st_size for p in ingest.glob("*.partial")))
        wait_until(lambda: files_of(serving.store) == before)
        assert server.get("/health").status == 200


def test_who_may_not_change_the_store_loads_and_pushes_nothing(
    serving: ServedStore, registry: Registry
) -> None:
    path = f"/models/{registry.reference('team/model:1')}/push"
    page = {"Origin": "http://localhost:3000"}
    with running(serving, api_key="secret") as server:
        for body, target in ((docker_form(OTHER), "/models/load"), (b"{}", path)):
            assert server.ask("POST", target, body).status == 401
            key = {"Authorization": "Bearer secret"}
            assert server.ask("POST", target, body, **key, **page).status == 403
            assert server.ask("POST", target, body, **key, X_Forwarded_For="10.0.0.1").status == 403
            control = {"Authorization": f"Bearer {CONTROL_KEY}"}
            assert server.ask("POST", target, body, **control, **page).status == 200
            assert server.ask("POST", target, body, **key).status == 200


# Archives that go.


def test_what_is_exported_can_be_loaded_and_is_the_same_model(
    serving: ServedStore, tmp_path: Path
) -> None:
    with running(serving) as server:
        answer = server.get("/models/ai/model/export")
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/x-tar"
        assert answer.headers["content-disposition"] == 'attachment; filename="ai-model.tar"'
        assert int(answer.headers["content-length"]) == len(answer.body)
        assert server.get("/models/ai/none/export").status == 404
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
        *blobs, last = [entry.name for entry in archive if entry.isfile()]
    assert last == "manifest.json"
    assert sorted(blobs) == sorted(f"blobs/sha256/{d.removeprefix('sha256:')}" for d in MODEL.blobs)
    other = Store(tmp_path / "other")
    name = Reference.parse("mine/copy:1")
    (loaded,) = Loader(other, name=name).load(io.BytesIO(answer.body))
    assert str(loaded.model.digest) == MODEL.digest
    assert loaded.model.weights().read_bytes() == MODEL.layers[0]


def test_an_export_of_a_model_that_is_not_complete_has_a_status(serving: ServedStore) -> None:
    serving.store.blobs.path(
        serving.store.models()[0].artifact.weights[0].descriptor.digest
    ).unlink()
    with running(serving) as server:
        answer = server.get("/models/ai/model/export")
    assert answer.status == 500
    assert "is missing or damaged" in answer.body.decode()
