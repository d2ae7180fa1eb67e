"""Artifacts made here and pushed: to a registry of ours that keeps count, and to one of others."""

import json
import threading
import tracemalloc
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from modelrunner.errors import (
    CorruptStoreError,
    MalformedGGUFError,
    ManifestNotFoundError,
    ModelRunnerError,
    RegistryAnswerError,
    TransferError,
    UnauthorizedError,
    UsageError,
)
from modelrunner.events import Finished, Retrying, Skipped, Verified
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.store.store import Store
from tests.support.artifacts import docker_artifact, modelpack_artifact
from tests.support.docker_registry import (
    docker_registry,
    needs_docker_registry,
    needs_skopeo,
    skopeo,
    skopeo_copy,
)
from tests.support.gguf import Typed, tiny_gguf, tiny_shards, write_gguf
from tests.support.pulling import Pulling, docker_config
from tests.support.registry import Registry, sha256

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FAMILIES = ("docker", "modelpack")


@pytest.fixture
def registry():
    with Registry() as registry:
        yield registry


@pytest.fixture
def pulling(store):
    return Pulling(store)


@pytest.fixture
def ingredients(tmp_path):
    """A model with all that can go with it."""
    license_, template = tmp_path / "LICENSE", tmp_path / "chat.jinja"
    license_.write_text("do as you like")
    template.write_text("{{ messages }}")
    projector = write_gguf(
        tmp_path / "mmproj.gguf",
        architecture="clip",
        metadata={"general.type": "mmproj", "clip.has_vision_encoder": Typed("bool", True)},
    )
    return Ingredients(tiny_gguf(tmp_path / "tiny.gguf"), [license_], projector, template)


def make(store, ingredients, name="docker.io/ai/tiny:1", family="docker"):
    return package(store, ingredients, Reference.parse(name), family=family, created=MOMENT)


def round_trip(folder, model, text):
    """The model, pulled into another store."""
    other = Pulling(Store(folder / "other"))
    pulled = other.pull(text)
    assert pulled.model.digest == model.digest
    assert pulled.model.manifest.raw == model.manifest.raw
    for blob in model.manifest.blobs:
        assert other.store.blobs.deep_state(blob) == "good"
    return pulled.model


# Making.


@pytest.mark.parametrize("family", FAMILIES)
def test_artifact_has_all_parts_under_their_names(store, ingredients, family):
    model = make(store, ingredients, family=family)

    artifact = model.artifact
    assert [str(layer.path) for layer in artifact.weights] == ["tiny.gguf"]
    assert artifact.projector is not None
    assert artifact.template is not None
    assert len(artifact.licenses) == 1
    assert model.weights().name.endswith(".gguf")
    assert model.weights().read_bytes() == ingredients.weights.read_bytes()
    config = model.config
    assert (config.architecture, config.format) == ("llama", "gguf")
    # the other family's config has no place for it
    assert config.context_length == (2048 if family == "docker" else None)
    assert config.quantization
    assert config.parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_same_files_and_time_give_the_same_digest(tmp_path, ingredients, family):
    models = [make(Store(tmp_path / name), ingredients, family=family) for name in ("a", "b")]
    assert models[0].digest == models[1].digest


@pytest.mark.parametrize("family", FAMILIES)
def test_any_shard_stands_for_all(store, tmp_path, family):
    shards = tiny_shards(tmp_path)
    model = make(store, Ingredients(shards[1]), family=family)
    assert [layer.descriptor.size for layer in model.artifact.weights] == [
        path.stat().st_size for path in shards
    ]
    assert model.weights().name == shards[0].name


def test_missing_shard_is_named(store, tmp_path):
    shards = tiny_shards(tmp_path)
    shards[1].unlink()
    with pytest.raises(MalformedGGUFError, match=shards[1].name):
        make(store, Ingredients(shards[0]))
    assert store.models() == ()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no GGUF at all", bytes(100)])
def test_file_that_is_no_gguf_is_refused(store, tmp_path, content):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(MalformedGGUFError):
        make(store, Ingredients(tmp_path / "x.gguf"))
    assert store.models() == ()


def test_files_that_are_not_there_or_something_else_are_named(store, tmp_path, ingredients):
    weights = ingredients.weights
    for wrong in (
        Ingredients(tmp_path / "none.gguf"),
        Ingredients(tmp_path),
        Ingredients(weights, [tmp_path / "none"]),
        Ingredients(weights, projector=tmp_path / "none.gguf"),
        Ingredients(weights, projector=weights),
        Ingredients(weights, template=tmp_path / "none.jinja"),
        Ingredients(ingredients.projector),
    ):
        with pytest.raises(UsageError):
            make(store, wrong)
    assert store.models() == ()


def test_artifact_is_named_by_a_tag(store, ingredients):
    with pytest.raises(UsageError, match="cannot package under a digest"):
        make(store, ingredients, f"ai/m@sha256:{'0' * 64}")


# Sending.


@pytest.mark.parametrize("family", FAMILIES)
def test_pushed_model_comes_back_the_same(registry, pulling, tmp_path, ingredients, family):
    model = make(pulling.store, ingredients, family=family)

    pushed = pulling.push(model, registry.reference("team/tiny:1"))

    assert pushed.digest == str(model.digest)
    assert pushed.uploaded_bytes == model.manifest.total_bytes
    assert len(pulling.heard(Verified)) == len(model.manifest.blobs)
    assert pulling.heard(Finished)[-1].digest == str(model.digest)
    assert registry.tags("team/tiny") == {"1": str(model.digest)}
    round_trip(tmp_path, model, registry.reference("team/tiny:1"))


def test_manifest_goes_last(registry, pulling, ingredients):
    pulling.push(make(pulling.store, ingredients), registry.reference("team/tiny:1"))
    writes = [r.kind for r in registry.requests if r.method in {"PUT", "POST"}]
    assert writes[-1] == "manifest"
    assert set(writes[:-1]) == {"upload"}


def test_what_is_there_is_not_sent_again(registry, pulling, ingredients):
    model = make(pulling.store, ingredients)
    pulling.push(model, registry.reference("team/tiny:1"))
    registry.forget()
    pulling.events.clear()

    pushed = pulling.push(model, registry.reference("team/tiny:2"))

    assert pushed.uploaded_bytes == 0
    assert pushed.skipped_bytes == model.manifest.total_bytes
    assert registry.count("POST", "upload") == 0
    assert len(pulling.heard(Skipped)) == len(model.manifest.blobs)
    assert set(registry.tags("team/tiny")) == {"1", "2"}


def test_push_that_broke_off_goes_on_with_what_is_missing(registry, pulling, ingredients):
    model = make(pulling.store, ingredients)
    registry.answer(500, times=None, on="manifest", method="PUT")
    with pytest.raises(TransferError):
        pulling.push(model, registry.reference("team/tiny:1"))
    assert registry.tags("team/tiny") == {}
    registry.calm()
    assert pulling.push(model, registry.reference("team/tiny:1")).uploaded_bytes == 0


@pytest.mark.parametrize("access", ["open", "token"])
def test_blobs_are_taken_over_from_a_repository_next_door(registry, tmp_path, store, access):
    config = docker_config(tmp_path / "docker", {registry.host: ("me", "word")})
    pulling = Pulling(store, config)
    weights = tiny_gguf(tmp_path / "tiny.gguf")
    model = make(store, Ingredients(weights), registry.reference("team/one:1"))
    if access == "token":
        registry.demand_token({"me": "word"})
    pulling.push(model, registry.reference("team/one:1"))
    registry.forget()

    pushed = pulling.push(model, registry.reference("team/two:1"))

    assert pushed.uploaded_bytes == 0
    assert registry.count("PUT", "upload") == 0
    assert registry.tags("team/two") == {"1": str(model.digest)}


def test_registry_that_mounts_nothing_gets_the_bytes(registry, pulling, tmp_path):
    weights = tiny_gguf(tmp_path / "tiny.gguf")
    model = make(pulling.store, Ingredients(weights), registry.reference("team/one:1"))
    # the repository next door is known here, and not there
    pushed = pulling.push(model, registry.reference("team/two:1"))
    assert pushed.uploaded_bytes == model.manifest.total_bytes


def test_push_asks_for_the_right_to(registry, tmp_path, store, ingredients):
    registry.demand_token({"me": "word"})
    config = docker_config(tmp_path / "docker", {registry.host: ("me", "word")})
    model = make(store, ingredients)

    Pulling(store, config).push(model, registry.reference("team/tiny:1"))

    assert registry.tags("team/tiny") == {"1": str(model.digest)}
    (asked,) = registry.requests_of(kind="token")
    assert asked.query["scope"] == "repository:team/tiny:pull,push"
    with pytest.raises(UnauthorizedError):
        Pulling(store).push(model, registry.reference("team/other:1"))


def test_token_that_runs_out_during_an_upload_is_fetched_anew(
    registry, tmp_path, store, ingredients
):
    tokens = registry.demand_token({"me": "word"})
    handle = registry.handle

    def expire_before_the_first_bytes(request):
        if request.method == "PUT" and registry.count("PUT") == 0:
            tokens.expire()
        return handle(request)

    registry.handle = expire_before_the_first_bytes
    config = docker_config(tmp_path / "docker", {registry.host: ("me", "word")})
    model = make(store, ingredients)
    Pulling(store, config).push(model, registry.reference("team/tiny:1"))
    round_trip(tmp_path, model, registry.reference("team/tiny:1"))


@pytest.mark.parametrize("fault", ["reset", "503", "429"])
def test_upload_that_fails_is_begun_again(registry, pulling, tmp_path, ingredients, fault):
    if fault == "reset":
        registry.reset(times=2, on="upload", skip=1)
    else:
        registry.answer(int(fault), times=2, on="upload", skip=1, headers={"Retry-After": "0"})
    model = make(pulling.store, ingredients)
    pulling.push(model, registry.reference("team/tiny:1"))
    assert pulling.heard(Retrying)
    round_trip(tmp_path, model, registry.reference("team/tiny:1"))


def test_upload_does_not_go_where_a_registry_has_no_business(registry, pulling, ingredients):
    model = make(pulling.store, ingredients)
    for target in ("http://169.254.169.254/up", r"http://evil.example\@127.0.0.1/", "file:///x"):
        registry.calm()
        headers = {"Location": target}
        registry.answer(202, times=None, headers=headers, on="upload", method="POST")
        with pytest.raises(RegistryAnswerError):
            pulling.push(model, registry.reference("team/tiny:1"))


def test_upload_to_another_host_carries_no_login(registry, tmp_path, store, ingredients):
    with Registry(host="localhost") as elsewhere:
        registry.demand_basic("me", "word")
        headers = {"Location": f"{elsewhere.url}/v2/x/blobs/uploads/1?state=2"}
        registry.answer(202, times=None, headers=headers, on="upload", method="POST")
        config = docker_config(tmp_path / "docker", {registry.host: ("me", "word")})
        pulling, model = Pulling(store, config), make(store, ingredients)
        with pytest.raises(ModelRunnerError):
            pulling.push(model, registry.reference("team/t:1"), connections=1)
        assert elsewhere.count("PUT") == 1
        assert elsewhere.requests[0].authorization is None
        assert elsewhere.requests[0].query["state"] == "2"


def test_requests_of_a_push_share_a_connection(registry, pulling, ingredients):
    model = make(pulling.store, ingredients)
    pulling.push(model, registry.reference("team/tiny:1"), connections=1)
    assert len(registry.requests) > 10
    assert registry.connections() == 1


def test_push_has_no_more_connections_than_blobs_nor_than_four(registry, pulling, ingredients):
    model = make(pulling.store, ingredients)
    assert len(model.manifest.blobs) == 5
    pulling.push(model, registry.reference("team/tiny:1"))
    assert registry.connections() <= 4
    registry.forget()
    two = make(pulling.store, Ingredients(ingredients.weights), "docker.io/ai/two:1")
    pulling.push(two, registry.reference("team/two:1"))
    assert registry.connections() <= 2


def test_damaged_blob_is_found_before_anything_is_sent(registry, pulling, ingredients):
    model = make(pulling.store, ingredients)
    path = pulling.store.blobs.path(model.artifact.weights[0].descriptor.digest)
    path.chmod(0o644)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(CorruptStoreError):
        pulling.push(model, registry.reference("team/tiny:1"))
    assert registry.requests == []


def test_large_file_is_not_held_in_memory(pulling, tmp_path):
    size = 64 * 1024 * 1024
    weights = tiny_gguf(tmp_path / "large.gguf")
    with weights.open("ab") as file:
        file.truncate(size)
    model = make(pulling.store, Ingredients(weights))
    with _SwallowingServer() as address:
        tracemalloc.start()
        try:
            pulling.push(model, f"{address}/team/large:1")
        finally:
            _now, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


class _SwallowingServer:
    """Takes every upload and keeps nothing."""

    def __enter__(self):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                left = int(self.headers.get("Content-Length", 0))
                while left:
                    left -= len(self.rfile.read(min(left, 65_536)))
                status = {"HEAD": 404, "POST": 202, "PUT": 201}[self.command]
                self.send_response(status)
                self.send_header("Location", "/v2/up/1")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_POST = do_PUT = answer  # noqa: N815

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


def test_commands_package_push_and_pull(cli, registry, ingredients):
    reference = registry.reference("team/tiny:1")
    made = cli(
        "package",
        str(ingredients.weights),
        reference,
        "--license",
        str(ingredients.licenses[0]),
        "--mmproj",
        str(ingredients.projector),
        "--chat-template",
        str(ingredients.template),
        "--format",
        "modelpack",
        "--json",
        SOURCE_DATE_EPOCH="0",
    )
    assert made.returncode == 0, made.stderr
    digest = json.loads(made.stdout)["digest"]
    pushed = cli("push", reference, "--json")
    assert pushed.returncode == 0, pushed.stderr
    assert json.loads(pushed.stdout)["digest"] == digest
    assert cli("rm", reference).returncode == 0
    pulled = cli("pull", reference, "--json")
    assert pulled.returncode == 0, pulled.stderr
    assert json.loads(pulled.stdout)["digest"] == digest


# Registries and clients of others.


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Debian's registry."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@needs_docker_registry
@pytest.mark.registry
class TestDockerRegistry:
    @pytest.mark.parametrize("family", FAMILIES)
    def test_round_trip(self, others, pulling, tmp_path, ingredients, family):
        model = make(pulling.store, ingredients, family=family)
        reference = others.reference(f"team/{family}:1")
        assert pulling.push(model, reference).uploaded_bytes == model.manifest.total_bytes
        assert pulling.push(model, reference).uploaded_bytes == 0
        round_trip(tmp_path, model, reference)

    def test_round_trip_of_shards(self, others, pulling, tmp_path):
        model = make(pulling.store, Ingredients(tiny_shards(tmp_path)[0]))
        pulling.push(model, others.reference("team/shards:1"))
        round_trip(tmp_path, model, others.reference("team/shards:1"))

    def test_mount(self, others, pulling, tmp_path):
        weights = tiny_gguf(tmp_path / "tiny.gguf", seed=99)
        model = make(pulling.store, Ingredients(weights), others.reference("team/one:1"))
        pulling.push(model, others.reference("team/one:1"))
        assert pulling.push(model, others.reference("team/two:1")).uploaded_bytes == 0
        round_trip(tmp_path, model, others.reference("team/two:1"))

    def test_unknown_tag_names_the_near_ones(self, others, pulling, tmp_path):
        model = make(pulling.store, Ingredients(tiny_gguf(tmp_path / "tiny.gguf")))
        pulling.push(model, others.reference("team/near:135M-Q4_K_M"))
        with pytest.raises(ManifestNotFoundError, match="no such tag") as caught:
            pulling.pull(others.reference("team/near:135M"))
        assert caught.value.facts["near"] == ["135M-Q4_K_M"]

    @needs_skopeo
    @pytest.mark.parametrize(
        "artifact",
        [
            docker_artifact(b"GGUF weights", license=b"free"),
            docker_artifact([b"GGUF one", b"GGUF two"], annotations=False, version="v0.2"),
            modelpack_artifact(b"GGUF weights", license=b"free"),
        ],
    )
    def test_what_another_tool_has_pushed_is_pulled(self, others, pulling, tmp_path, artifact):
        with Registry() as source:
            source.add(artifact, "o/m", tags=["1"])
            skopeo_copy(
                f"docker://{source.reference('o/m:1')}", f"docker://{others.reference('o/m:1')}"
            )
        pulled = pulling.pull(others.reference("o/m:1"))
        assert str(pulled.model.digest) == artifact.digest
        assert pulled.model.weights().read_bytes() == artifact.layers[0]

    @needs_skopeo
    def test_what_we_have_pushed_another_tool_can_read(
        self, others, pulling, tmp_path, ingredients
    ):
        model = make(pulling.store, ingredients)
        pulling.push(model, others.reference("team/read:1"))
        raw = skopeo(
            "inspect", "--raw", "--tls-verify=false", f"docker://{others.reference('team/read:1')}"
        )
        assert sha256(raw.encode()) == str(model.digest)
        skopeo_copy(f"docker://{others.reference('team/read:1')}", f"dir:{tmp_path / 'copy'}")
