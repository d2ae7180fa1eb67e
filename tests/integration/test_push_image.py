"""A model pushed as a container image: what a registry gets, and what reads it."""

import hashlib
import io
import json
import subprocess
import tarfile
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelrunner.errors import CorruptStoreError
from modelrunner.events import Retrying
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.image import image_of
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.registry.oci import sink as oci_sink
from modelrunner.store.store import Store, StoredModel
from tests.conftest import CommandLine
from tests.support.artifacts import docker_artifact, plain_artifact
from tests.support.docker_daemon import DockerDaemon
from tests.support.docker_registry import (
    docker_registry,
    needs_docker_registry,
    needs_skopeo,
    needs_umoci,
    skopeo,
)
from tests.support.gguf import tiny_gguf
from tests.support.pulling import Pulling
from tests.support.registry import Registry
from tests.support.registry_messages import error

LICENSE = b"do as you like\n"


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def pulling(store):
    return Pulling(store)


def packed(store: Store, folder: Path, *, license_: bytes = LICENSE, year: int = 2026):
    folder.mkdir(exist_ok=True)
    (folder / "LICENSE").write_bytes(license_)
    ingredients = Ingredients(tiny_gguf(folder / "tiny.gguf"), [folder / "LICENSE"])
    name = Reference.parse("local/tiny:1")
    moment = datetime(year, 1, 2, 3, 4, 5, tzinfo=UTC)
    return package(store, ingredients, name, family="docker", created=moment)


def push(pulling: Pulling, model: StoredModel, text: str):
    """The push of a model's image, and the image."""
    name = Reference.parse(text)
    image = image_of(pulling.store, model, Reference.parse("local/tiny:1"))
    return pulling.pusher(name).push_image(image, name), image


def layers(registry: Registry, name: str, tag: str) -> list[dict[str, bytes]]:
    """The files of each layer of an image at the registry, for the first platform."""
    index = json.loads(registry.manifest_bytes(name, tag))
    manifest = json.loads(registry.manifest_bytes(name, index["manifests"][0]["digest"]))
    found = []
    for layer in manifest["layers"]:
        raw = registry.blob_bytes(name, layer["digest"])
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (layer["size"], layer["digest"][7:])
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            files = {each.name: archive.extractfile(each) for each in archive}
            found.append({path: file.read() for path, file in files.items() if file is not None})
    return found


def test_a_registry_gets_a_layer_for_each_file(registry, pulling, tmp_path):
    model = packed(pulling.store, tmp_path / "files")
    pushed, image = push(pulling, model, registry.reference("team/tiny:image"))
    assert registry.tags("team/tiny") == {"image": pushed.digest}
    weights = (tmp_path / "files" / "tiny.gguf").read_bytes()
    assert layers(registry, "team/tiny", "image") == [
        {"models/tiny.gguf": weights},
        {"models/LICENSE": LICENSE},
    ]
    assert pushed.uploaded_bytes == sum(blob.size for blob in image.blobs)
    # nothing of it is kept, and the registry does not have the model itself
    assert not (pulling.store.blobs.path(image.blobs[0].digest)).exists()
    assert not pulling.store.resolve("local/tiny:1").published


def test_images_share_the_layers_that_are_the_same(registry, pulling, tmp_path):
    first = packed(pulling.store, tmp_path / "files")
    push(pulling, first, registry.reference("team/tiny:image"))
    again, _ = push(pulling, first, registry.reference("team/tiny:again"))
    assert again.uploaded_bytes == 0
    other = packed(pulling.store, tmp_path / "files", license_=b"other words")
    sent, image = push(pulling, other, registry.reference("team/tiny:other"))
    weights = image.images[0].manifest.layers[0]
    assert sent.skipped_bytes == weights.size


@pytest.mark.parametrize("limit", [2000, 5000, 100_000])
def test_a_layer_goes_in_chunks_where_one_request_is_too_large(
    registry, pulling, tmp_path, monkeypatch, limit
):
    # chunks begin and end in what is before the file, in the file and behind it
    monkeypatch.setattr(oci_sink, "CHUNK", 700)
    handle = registry.handle
    registry.handle = lambda request: (
        error(413, "SIZE_INVALID", "too large") if len(request.body) > limit else handle(request)
    )
    model = packed(pulling.store, tmp_path / "files")
    push(pulling, model, registry.reference("team/tiny:image"))
    weights = (tmp_path / "files" / "tiny.gguf").read_bytes()
    assert layers(registry, "team/tiny", "image")[0] == {"models/tiny.gguf": weights}


def test_an_upload_that_broke_goes_on(registry, pulling, tmp_path):
    registry.answer(500, times=1, on="upload", method="PUT")
    model = packed(pulling.store, tmp_path / "files")
    push(pulling, model, registry.reference("team/tiny:image"))
    assert len(pulling.heard(Retrying)) == 1
    weights = (tmp_path / "files" / "tiny.gguf").read_bytes()
    assert layers(registry, "team/tiny", "image")[0] == {"models/tiny.gguf": weights}


def test_a_damaged_file_is_found_before_anything_is_sent(registry, pulling, tmp_path):
    model = packed(pulling.store, tmp_path / "files")
    blob = pulling.store.blobs.path(model.artifact.weights[0].descriptor.digest)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    with pytest.raises(CorruptStoreError):
        push(pulling, model, registry.reference("team/tiny:image"))
    assert registry.requests == []


def test_a_large_file_is_neither_held_in_memory_nor_copied(registry, pulling, tmp_path):
    large = tmp_path / "files"
    model = packed(pulling.store, large, license_=bytes(48 << 20))
    before = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    tracemalloc.start()
    image_of(pulling.store, model, Reference.parse("local/tiny:1"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 12 << 20
    after = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    # the facts of the header, at most
    assert after - before < 4096


def test_two_machines_make_the_same_image(registry, tmp_path):
    """Another home, user, umask, day and time zone: the same digests."""
    found = []
    for number, (umask, day, zone) in enumerate(
        [("022", "0", "UTC"), ("077", "86400", "Asia/Tokyo")]
    ):
        home = tmp_path / f"machine{number}"
        home.mkdir()
        environ = {"HOME": str(home), "USER": f"user{number}", "TZ": zone, "SOURCE_DATE_EPOCH": day}
        cli = CommandLine(home / "modelrunner", {"PATH": "/usr/bin:/bin", **environ})
        file = tiny_gguf(home / "tiny.gguf")
        target = registry.reference(f"team{number}/tiny:1")
        environment = {**cli.environ, "MODELRUNNER_HOME": str(cli.home)}
        for arguments in (
            ["package", str(file), "local/tiny:1"],
            ["push", "local/tiny:1", "--as", "image", "--to", target, "--json"],
        ):
            line = f'umask {umask}; exec "$@"'
            done = subprocess.run(
                ["sh", "-c", line, "sh", *cli.argv(*arguments)],
                env=environment,
                capture_output=True,
                check=True,
                text=True,
            )
        said = json.loads(done.stdout)
        found.append((said["digest"], said["platforms"]))
    assert found[0] == found[1]


def test_a_model_of_a_registry_is_named_in_its_image(registry, cli, tmp_path):
    file = tiny_gguf(tmp_path / "tiny.gguf")
    name = registry.reference("team/tiny:1")
    assert cli("package", str(file), name, "--push").returncode == 0
    done = cli("push", name, "--as", "image", "--to", registry.reference("team/tiny:image"))
    assert done.returncode == 0, done.stderr
    index = json.loads(registry.manifest_bytes("team/tiny", "image"))
    assert index["annotations"]["vnd.modelrunner.model.name"] == name
    digest = registry.tags("team/tiny")["1"]
    assert index["annotations"]["vnd.modelrunner.model.digest"] == digest


def test_labels_are_what_the_file_says_whatever_artifact_it_is_in(registry, pulling, tmp_path):
    content = tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
    # configs of strangers say what they like
    claims = {"architecture": "other", "parameters": "7B", "quantization": "Q2_K"}
    artifacts = (docker_artifact(content, config=claims), plain_artifact(content, "tiny.gguf"))
    found = []
    for number, artifact in enumerate(artifacts):
        registry.add(artifact, f"team/{number}", ["1"])
        model = pulling.pull(registry.reference(f"team/{number}:1")).model
        image = image_of(pulling.store, model, Reference.parse("local/tiny:1"))
        found.append(json.loads(image.images[0].config)["config"]["Labels"])
    assert found[0] == found[1]
    assert found[0]["vnd.modelrunner.model.parameters"] == "13K"


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("local/x:1", "--to local/x:1: no registry has names under local/"),
        (f"team/x@sha256:{'1' * 64}", "--to: cannot push under a digest: team/x@sha256:1"),
    ],
)
def test_a_name_that_cannot_be_pushed_to_is_refused(cli, tmp_path, to, message):
    file = tiny_gguf(tmp_path / "tiny.gguf")
    assert cli("package", str(file), "local/tiny:1").returncode == 0
    done = cli("push", "local/tiny:1", "--as", "image", "--to", to)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_packaged_image_is_a_stored_model(registry, cli, tmp_path):
    file = tiny_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "LICENSE").write_bytes(LICENSE)
    name = registry.reference("team/tiny:image")
    options = ("--license", str(tmp_path / "LICENSE"), "--as", "image")
    done = cli("package", str(file), name, *options, "--push", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert Path(said["path"]).read_bytes() == file.read_bytes()
    # nothing of the artifact on the way to it is left
    assert json.loads(cli("prune", "--json").stdout)["freed_bytes"] == 0
    assert cli("verify", "--deep").returncode == 0
    (found,) = json.loads(cli("list", "--json").stdout)
    assert (found["family"], found["id"]) == ("image", said["platforms"][0]["digest"])
    # the registry has it for both platforms
    files = [{"models/tiny.gguf": file.read_bytes()}, {"models/LICENSE": LICENSE}]
    assert layers(registry, "team/tiny", "image") == files
    again = json.loads(cli("push", name, "--as", "image", "--json").stdout)
    assert (again["uploaded_bytes"], again["platforms"]) == (0, said["platforms"])
    # a push of what is stored is the one for the first platform, as it is
    plain = json.loads(cli("push", name, "--to", f"{name}-plain", "--json").stdout)
    assert plain["digest"] == found["id"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--temperature", "0.5"), "settings are not supported by container images"),
        (("--context-size", "512"), "settings are not supported by container images"),
        (("--format", "modelpack"), "--format modelpack and --as image cannot be combined"),
    ],
)
def test_what_an_image_cannot_say_is_refused(cli, tmp_path, options, message):
    file = tiny_gguf(tmp_path / "tiny.gguf")
    done = cli("package", str(file), "local/tiny:1", "--as", "image", *options)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.registry
@needs_docker_registry
class TestOtherPrograms:
    """What reads images takes it."""

    @pytest.fixture
    def pushed(self, cli, tmp_path):
        """An image at Debian's registry, and the file in it."""
        with docker_registry(tmp_path / "registry") as registry:
            file = tiny_gguf(tmp_path / "tiny.gguf")
            assert cli("package", str(file), "local/tiny:1").returncode == 0
            name = registry.reference("team/tiny:image")
            done = cli("push", "local/tiny:1", "--as", "image", "--to", name)
            assert done.returncode == 0, done.stderr
            yield name, file.read_bytes()

    @needs_skopeo
    def test_skopeo_reads_it_for_both_platforms(self, pushed):
        name, _ = pushed
        for architecture in ("amd64", "arm64"):
            options = ("--tls-verify=false", f"--override-arch={architecture}")
            said = json.loads(skopeo(options[1], "inspect", options[0], f"docker://{name}"))
            assert (said["Architecture"], said["Os"]) == (architecture, "linux")
            assert said["Labels"]["org.opencontainers.image.title"] == "tiny"

    @needs_skopeo
    @needs_umoci
    def test_umoci_unpacks_it(self, pushed, tmp_path):
        name, content = pushed
        options = ("--insecure-policy", "--src-tls-verify=false")
        skopeo("copy", *options, f"docker://{name}", f"oci:{tmp_path}/oci:tiny")
        unpack = ["umoci", "unpack", "--rootless", "--image", "oci:tiny", "bundle"]
        subprocess.run(unpack, cwd=tmp_path, check=True, capture_output=True)
        file = tmp_path / "bundle" / "rootfs" / "models" / "tiny.gguf"
        assert file.read_bytes() == content
        assert file.stat().st_mode & 0o777 == 0o644

    @pytest.mark.docker
    def test_docker_pulls_it_and_copies_the_file_out(
        self, pushed, docker_daemon: DockerDaemon, tmp_path
    ):
        name, content = pushed

        def docker(*arguments: str) -> str:
            argv = ["docker", "-H", docker_daemon.host, *arguments]
            return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

        docker("pull", name)
        container = docker("create", name, "none")
        docker("cp", f"{container}:/models", str(tmp_path / "copied"))
        assert (tmp_path / "copied" / "tiny.gguf").read_bytes() == content
        docker("rm", container)
        docker("pull", "--platform", "linux/arm64", name)
        assert docker("image", "inspect", "--format", "{{.Architecture}}", name) == "arm64"
        docker("rmi", name)
