"""Models whose layers are archives: images with a model, ModelKits, tars of other families."""

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelrunner.disk.lock import held
from modelrunner.errors import (
    DiskFullError,
    MalformedGGUFError,
    ModelRunnerError,
    UnsupportedArtifactError,
)
from modelrunner.events import Unpacking
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.operations.verify import verify_models
from modelrunner.store.sweep import leftovers, remove_blobs_of, sweep
from modelrunner.store.unpacked import unpack as unpacking
from tests.conftest import CommandLine
from tests.support.artifacts import (
    OCI_MANIFEST,
    Artifact,
    modelpack_artifact,
    plain_artifact,
)
from tests.support.docker_registry import docker_registry, needs_docker_registry
from tests.support.gguf import tiny_gguf
from tests.support.images import (
    MANIFEST,
    Image,
    Item,
    Packed,
    digest_of,
    directory,
    hardlink,
    packed,
    symlink,
    tar_of,
)
from tests.support.pulling import Pulling
from tests.support.registry import Registry

MODELPACK = "application/vnd.cncf.model"
KITOPS = "application/vnd.kitops.modelkit"
SAYS = {"org.containers.type": "ai.image.model.raw"}
BASE = [directory("bin"), Item("bin/sh", b"#!", mode=0o755), symlink("lib", "usr/lib")]


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def pulling(store):
    return Pulling(store)


@pytest.fixture
def gguf(tmp_path) -> bytes:
    return tiny_gguf(tmp_path / "tiny.gguf").read_bytes()


def as_artifact(image: Image) -> Artifact:
    blobs = {digest_of(blob): blob for blob in image.blobs}
    return Artifact(image.manifest, MANIFEST, blobs)


def modelcar(gguf: bytes, how: Packed = "", **more: object) -> Artifact:
    """An image as people build them: a base, and the model in a layer above."""
    above = [directory("models"), Item("models/tiny.gguf", gguf), Item("models/LICENSE", b"free")]
    return as_artifact(Image([tar_of(BASE), tar_of(above)], how, annotations=SAYS, **more))


def typed(config: tuple[str, object], layers: Sequence[tuple[str, bytes, str]]) -> Artifact:
    """An artifact of layers with media types, and names where they have some."""
    raw = json.dumps(config[1]).encode()

    def entry(kind: str, content: bytes, name: str = "") -> dict[str, object]:
        found: dict[str, object] = {
            "mediaType": kind,
            "digest": digest_of(content),
            "size": len(content),
        }
        return found | ({"annotations": {"org.cncf.model.filepath": name}} if name else {})

    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": entry(config[0], raw),
        "layers": [entry(*layer) for layer in layers],
    }
    blobs = {digest_of(content): content for content in (raw, *(layer[1] for layer in layers))}
    return Artifact(json.dumps(document).encode(), OCI_MANIFEST, blobs)


def modelkit(gguf: bytes, how: Packed) -> Artifact:
    kind = f"{KITOPS}.%s.v1.tar{f'+{how}' if how else ''}"
    model = tar_of([directory("weights"), Item("weights/tiny.gguf", gguf)])
    docs = tar_of([Item("README.md", b"# Tiny\n")])
    kitfile = {"manifestVersion": "1.0.0", "package": {"name": "tiny"}}
    return typed(
        (f"{KITOPS}.config.v1+json", kitfile),
        [(kind % "model", packed(model, how), ""), (kind % "docs", packed(docs, how), "")],
    )


def docker_tars(gguf: bytes) -> Artifact:
    config = {"config": {"format": "gguf"}, "descriptor": {}, "rootfs": {}}
    ai = "application/vnd.docker.ai"
    extra = tar_of([directory("tokens"), Item("tokens/a.json", b"{}")])
    settings = tar_of([Item("config.json", b"{}")])
    return typed(
        (f"{ai}.model.config.v0.1+json", config),
        [
            (f"{ai}.gguf.v3", gguf, "tiny.gguf"),
            (f"{ai}.dir.tar", extra, "tokens"),
            (f"{ai}.vllm.config.tar", settings, ""),
        ],
    )


def view_of(model) -> dict[str, bytes]:
    view = model.view()
    return {
        path.relative_to(view).as_posix(): path.read_bytes()
        for path in view.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("how", ["", "gzip", "zstd"])
def test_the_model_of_an_image_is_unpacked(registry, pulling, gguf, how):
    artifact = modelcar(gguf, how)
    registry.add(artifact, "team/car", ["1"])
    pulled = pulling.pull(registry.reference("team/car:1"))
    assert view_of(pulled.model) == {"tiny.gguf": gguf, "LICENSE": b"free"}
    assert pulled.model.weights().name == "tiny.gguf"
    assert pulled.model.artifact.is_runnable
    # what a registry gets is what came, byte for byte
    assert pulled.model.manifest.raw == artifact.manifest
    with Registry() as other:
        pulling.push(pulled.model, other.reference("team/car:1"))
        assert other.tags("team/car") == {"1": artifact.digest}
    size = sum(len(layer) for layer in artifact.layers)
    name = registry.reference("team/car:1")
    assert pulling.heard(Unpacking) == [Unpacking(name, size)]
    registry.requests.clear()
    assert pulling.pull(name).status == "up-to-date"
    assert len(pulling.heard(Unpacking)) == 1
    assert registry.count("GET", "blob") == 0


@pytest.mark.parametrize("how", ["", "gzip", "zstd"])
def test_a_modelkit_is_unpacked(registry, pulling, gguf, how):
    registry.add(modelkit(gguf, how), "team/kit", ["1"])
    model = pulling.pull(registry.reference("team/kit:1")).model
    assert view_of(model) == {"weights/tiny.gguf": gguf, "README.md": b"# Tiny\n"}
    assert model.artifact.is_runnable


@pytest.mark.parametrize("how", ["", "gzip", "zstd"])
def test_weights_of_modelpack_in_a_tar_are_unpacked(registry, pulling, gguf, how):
    kind = f"{MODELPACK}.weight.v1.tar{f'+{how}' if how else ''}"
    layer = packed(tar_of([Item("tiny.gguf", gguf)]), how)
    config = {"descriptor": {}, "modelfs": {"type": "layers", "diffIds": []}, "config": {}}
    artifact = typed((f"{MODELPACK}.config.v1+json", config), [(kind, layer, "tiny.gguf")])
    registry.add(artifact, "team/pack", ["1"])
    model = pulling.pull(registry.reference("team/pack:1")).model
    assert view_of(model) == {"tiny.gguf": gguf}
    assert model.artifact.is_runnable


def test_directories_of_dockers_models_are_unpacked_beside_the_weights(registry, pulling, gguf):
    registry.add(docker_tars(gguf), "team/docker", ["1"])
    model = pulling.pull(registry.reference("team/docker:1")).model
    assert view_of(model) == {"tiny.gguf": gguf, "tokens/a.json": b"{}", "config.json": b"{}"}
    assert model.artifact.is_runnable


def test_upper_layers_replace_and_remove_what_is_below(registry, pulling, gguf):
    tars = [
        tar_of([Item("models/old.gguf", b"GGUF old"), Item("models/a.txt", b"a")]),
        tar_of([Item("models/.wh.old.gguf"), Item("models/tiny.gguf", gguf)]),
        tar_of([Item("models/a.txt", b"b"), hardlink("models/c.txt", "models/a.txt")]),
        # as RamaLama makes them
        tar_of([symlink("models/model.file", "tiny.gguf"), symlink("models/sh", "/models/a.txt")]),
    ]
    registry.add(as_artifact(Image(tars, annotations=SAYS)), "team/car", ["1"])
    model = pulling.pull(registry.reference("team/car:1")).model
    assert view_of(model) == {"tiny.gguf": gguf, "a.txt": b"b", "c.txt": b"b"}


def test_a_link_to_a_file_elsewhere_in_the_image_is_that_file(registry, pulling, gguf):
    tars = [
        tar_of([Item("blobs/x", gguf)]),
        tar_of([symlink("models/tiny.gguf", "../blobs/x")]),
    ]
    registry.add(as_artifact(Image(tars, annotations=SAYS)), "team/car", ["1"])
    model = pulling.pull(registry.reference("team/car:1")).model
    assert view_of(model) == {"tiny.gguf": gguf}


def silent(gguf: bytes, **config: object) -> Artifact:
    """An image whose manifest says nothing of a model."""
    image = Image([tar_of([Item("models/tiny.gguf", gguf)])], config=config)
    return as_artifact(image)


def with_history(artifact: Artifact, step: str) -> Artifact:
    document = json.loads(artifact.manifest)
    config = json.loads(artifact.blobs[document["config"]["digest"]])
    raw = json.dumps({**config, "history": [{"created_by": step}]}).encode()
    document["config"] |= {"digest": digest_of(raw), "size": len(raw)}
    blobs = {**artifact.blobs, digest_of(raw): raw}
    return Artifact(json.dumps(document).encode(), MANIFEST, blobs)


def test_labels_and_history_show_a_model(registry, pulling, gguf):
    registry.add(silent(gguf, Labels=SAYS), "team/car", ["labels"])
    for number, step in enumerate(
        ("COPY tiny.gguf /models/ # buildkit", "/bin/sh -c #(nop) ADD dir:1 in /models ")
    ):
        registry.add(with_history(silent(gguf), step), "team/car", [str(number)])
    for tag in ("labels", "0", "1"):
        model = pulling.pull(registry.reference(f"team/car:{tag}")).model
        assert view_of(model) == {"tiny.gguf": gguf}


@pytest.mark.docker
@pytest.mark.registry
@needs_docker_registry
def test_an_image_that_docker_has_built_is_pulled(cli, gguf, docker_daemon, tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    (context / "tiny.gguf").write_bytes(gguf)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY tiny.gguf /models/tiny.gguf\n")
    environ = {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_HOST": docker_daemon.host}
    with docker_registry(tmp_path / "registry") as registry:
        name = registry.reference("team/built:1")
        for arguments in (["build", "--tag", name, str(context)], ["push", name], ["rmi", name]):
            subprocess.run(["docker", *arguments], env=environ, check=True, capture_output=True)
        done = cli("pull", name)
        assert done.returncode == 0, done.stderr
        assert Path(cli("path", name).stdout.strip()).read_bytes() == gguf


def test_an_image_that_says_nothing_is_taken_by_its_prefix_alone(registry, cli, gguf):
    registry.add(silent(gguf), "team/car", ["1"])
    name = registry.reference("team/car:1")
    refused = cli("pull", name)
    assert refused.returncode == 10
    assert "this is a container image, not a model" in refused.stderr
    assert f"pull it as `oci://{name}`" in refused.stderr
    done = cli("pull", f"oci://{name}")
    assert done.returncode == 0, done.stderr
    assert f"\nunpacking {name}: " in done.stderr
    found = json.loads(cli("list", "--json").stdout)
    assert [(one["references"], one["family"], one["format"]) for one in found] == [
        ([name], "image", "gguf")
    ]
    assert Path(cli("path", f"oci://{name}").stdout.strip()).read_bytes() == gguf
    estimate = json.loads(cli("estimate", name, "--budget", "8GiB", "--json").stdout)
    assert estimate["source"] == "header"


def test_a_pulled_image_is_locked_saved_and_loaded(registry, cli, gguf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry.add(modelcar(gguf, "gzip"), "team/car", ["1"])
    name = registry.reference("team/car:1")
    (tmp_path / "modelrunner.toml").write_text(f'[models]\ncar = "{name}"\n')
    assert cli("lock").returncode == 0
    done = cli("pull", "--locked", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "car" / "tiny.gguf").read_bytes() == gguf
    assert cli("lock", "--check").returncode == 0
    assert cli("save", name, "-o", "car.tar").returncode == 0
    other = CommandLine(tmp_path / "other", {**cli.environ, "MODELRUNNER_HOME": "other"})
    loaded = other("load", "car.tar")
    assert loaded.returncode == 0, loaded.stderr
    assert Path(other("path", name).stdout.strip()).read_bytes() == gguf
    verified = other("verify", "--deep")
    assert verified.returncode == 0, verified.stderr


def test_what_is_removed_takes_its_files_along(registry, pulling, gguf):
    registry.add(modelcar(gguf), "team/car", ["1"])
    store = pulling.store
    model = pulling.pull(registry.reference("team/car:1")).model
    unpacked = store.blobs.path(model.artifact.weights[0].descriptor.digest)
    assert unpacked.exists()
    assert leftovers(store, partials=True) == ()
    store.forget(model.digest)
    freed = remove_blobs_of(store, model)
    assert freed > model.size
    assert not unpacked.exists()
    assert list(store.layout.blobs.iterdir()) == []
    assert [path.name for path in store.layout.unpacked.iterdir()] == ["lock"]


def test_prune_removes_what_was_unpacked_of_models_that_are_gone(registry, pulling, gguf):
    registry.add(modelcar(gguf), "team/car", ["1"])
    store = pulling.store
    model = pulling.pull(registry.reference("team/car:1")).model
    store.forget(model.digest)
    sweep(store, partials=True)
    assert list(store.layout.blobs.iterdir()) == []
    assert [path.name for path in store.layout.unpacked.iterdir()] == ["lock"]


def test_a_file_that_two_models_have_is_kept_once_and_for_both(registry, pulling, gguf):
    registry.add(modelcar(gguf), "team/car", ["1"])
    registry.add(modelpack_artifact(gguf), "team/raw", ["1"])
    store = pulling.store
    car = pulling.pull(registry.reference("team/car:1")).model
    raw = pulling.pull(registry.reference("team/raw:1")).model
    assert car.weights().samefile(raw.weights())
    store.forget(car.digest)
    remove_blobs_of(store, car)
    assert raw.weights().read_bytes() == gguf


def test_a_damaged_file_is_found_and_unpacked_again(registry, pulling, gguf):
    registry.add(modelcar(gguf), "team/car", ["1"])
    name = registry.reference("team/car:1")
    model = pulling.pull(name).model
    blob = model.artifact.weights[0].descriptor
    path = pulling.store.blobs.path(blob.digest)
    path.chmod(0o644)
    path.write_bytes(b"GGUF" + bytes(len(gguf) - 4))
    bad = [
        each for each in verify_models(pulling.store, [model], deep=True) if each.state != "good"
    ]
    assert [each.digest for each in bad] == [str(blob.digest)]
    assert pulling.pull(name).model.weights().read_bytes() == gguf


def test_an_unpacking_that_was_killed_is_begun_again(registry, pulling, gguf, monkeypatch):
    registry.add(modelcar(gguf), "team/car", ["1"])
    name = registry.reference("team/car:1")
    layout = pulling.store.layout

    def killed(*_arguments):
        raise SystemExit

    with monkeypatch.context() as patched:
        # neither the record is written nor the tree removed
        patched.setattr(unpacking.record, "write", killed)
        patched.setattr(unpacking, "remove_tree", lambda _path: None)
        with pytest.raises(SystemExit):
            pulling.pull(name)
    assert pulling.store.models() == ()
    assert any(path.name.startswith(".tmp-") for path in layout.unpacked.iterdir())
    model = pulling.pull(name).model
    assert view_of(model) == {"tiny.gguf": gguf, "LICENSE": b"free"}
    assert sorted(path.name for path in layout.unpacked.iterdir()) == [model.digest.hex, "lock"]


def test_prune_removes_what_a_killed_process_has_unpacked_and_nothing_of_one_that_runs(store):
    store.layout.create()
    folder = store.layout.unpacked
    tree = folder / ".tmp-1"
    (tree / "models").mkdir(parents=True)
    (tree / "models" / "x.gguf").write_bytes(bytes(1000))
    (tree / "models" / "link").symlink_to("/etc/passwd")
    with held(folder / "lock"):
        assert leftovers(store, partials=True) == ()
    (found,) = leftovers(store, partials=True)
    assert (found.path, found.kind, found.size) == (tree, "temporary", 1000)
    sweep(store, partials=True)
    assert [path.name for path in folder.iterdir()] == ["lock"]


def raw_tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sparse(gguf: bytes) -> bytes:
    info = tarfile.TarInfo("models/tiny.gguf")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    return raw_tar((info, gguf))


HOSTILE: Mapping[str, tuple[list[Item], str]] = {
    "a path out": ([Item("../x.gguf", b"GGUF")], "leaves the model"),
    "a path out below the directory": ([Item("models/../../x", b"GGUF")], "leaves the model"),
    "a link out": ([symlink("models/x", "../../etc/passwd")], "is a link that leaves the model"),
    "a file through a link": (
        [symlink("models", "/"), Item("models/../../x", b"")],
        "leaves the model",
    ),
    "a hard link to nothing": ([hardlink("models/x", "etc/passwd")], "is a hard link to a missing"),
    "a device": ([Item("models/x", kind=tarfile.CHRTYPE)], "is a device or a pipe"),
    "a pipe": ([Item("models/x", kind=tarfile.FIFOTYPE)], "is a device or a pipe"),
    "a name with an escape sequence": ([Item("models/\x1b[2J.gguf", b"GGUF")], "unsafe file path"),
    "too deep": ([Item("models/" + "a/" * 140 + "x", b"")], "directories deep"),
}


@pytest.mark.parametrize(("items", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_gets_no_name_and_leaves_nothing(
    registry, pulling, gguf, tmp_path, items, message
):
    tars = [tar_of([Item("models/tiny.gguf", gguf)]), tar_of(items)]
    registry.add(as_artifact(Image(tars, annotations=SAYS)), "team/car", ["1"])
    before = [path for path in sorted(tmp_path.rglob("*")) if path.name != "home"]
    with pytest.raises(ModelRunnerError, match=message) as caught:
        pulling.pull(registry.reference("team/car:1"))
    assert caught.value.exit_code == 6
    assert pulling.store.models() == ()
    assert [path.name for path in pulling.store.layout.unpacked.iterdir()] == ["lock"]
    home = tmp_path / "home"
    after = [path for path in sorted(tmp_path.rglob("*")) if home not in (path, *path.parents)]
    assert after == before


def test_sparse_files_are_refused(registry, pulling, gguf):
    registry.add(as_artifact(Image([sparse(gguf)], annotations=SAYS)), "team/car", ["1"])
    with pytest.raises(UnsupportedArtifactError, match="unsupported kind"):
        pulling.pull(registry.reference("team/car:1"))


def test_a_layer_that_unpacks_to_far_more_is_refused(registry, pulling, monkeypatch):
    monkeypatch.setattr(
        unpacking, "_LIMITS", unpacking.Limits(bytes=1 << 30, entries=100, ratio=10, small=1 << 20)
    )
    bomb = tar_of([Item("models/x.gguf", b"GGUF" + bytes(8 << 20))])
    registry.add(as_artifact(Image([bomb], "gzip", annotations=SAYS)), "team/car", ["1"])
    with pytest.raises(ModelRunnerError, match="10 times its size"):
        pulling.pull(registry.reference("team/car:1"))
    many = tar_of([Item(f"models/{number}", b"") for number in range(101)])
    registry.add(as_artifact(Image([many], annotations=SAYS)), "team/car", ["2"])
    with pytest.raises(ModelRunnerError, match="more than 100 entries"):
        pulling.pull(registry.reference("team/car:2"))


def test_a_layer_of_another_content_than_the_config_says_is_refused(registry, pulling, gguf):
    artifact = modelcar(gguf, "gzip", diff_ids=[f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"])
    registry.add(artifact, "team/car", ["1"])
    with pytest.raises(ModelRunnerError, match="its config says sha256:1111"):
        pulling.pull(registry.reference("team/car:1"))


def test_an_image_without_files_in_its_directory_is_no_model(registry, pulling):
    registry.add(as_artifact(Image([tar_of(BASE)], annotations=SAYS)), "team/car", ["1"])
    with pytest.raises(UnsupportedArtifactError, match="have no files below /models"):
        pulling.pull(registry.reference("team/car:1"))
    assert pulling.store.models() == ()


def test_a_full_disk_is_said_before_anything_is_unpacked(pulling, monkeypatch):
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    blob = Descriptor("application/x-tar", Digest("1" * 64), 5000)
    what = unpacking.Unpacking(Digest("2" * 64), [unpacking.Packed(blob)])
    with pytest.raises(DiskFullError, match=r"1000 B free, 4\.88 KiB to unpack"):
        unpacking.unpack(pulling.store.layout, what)


NOT_WEIGHTS = {
    "of GGUF": ("tiny.gguf", b"something else", "tiny.gguf is not a GGUF file"),
    "a pointer": ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "pointer"),
    "a page": ("model.safetensors", b"<html></html>", "is a web page, not weights"),
}


@pytest.mark.parametrize(("file", "content", "message"), NOT_WEIGHTS.values(), ids=NOT_WEIGHTS)
def test_weights_in_archives_have_to_be_weights(registry, pulling, file, content, message):
    layers = [(f"{KITOPS}.model.v1.tar", tar_of([Item(file, content)]), "")]
    registry.add(typed((f"{KITOPS}.config.v1+json", {}), layers), "team/kit", ["1"])
    with pytest.raises(ModelRunnerError, match=message) as caught:
        pulling.pull(registry.reference("team/kit:1"))
    assert caught.value.exit_code == 6
    assert pulling.store.models() == ()


class _Compared(str):
    """A text that counts how often it is compared."""

    times = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        _Compared.times += 1
        return str.__eq__(self, other)


def test_links_are_not_compared_with_every_file(tmp_path, monkeypatch):
    count = 300
    hashes = {f"f{number}": "" for number in range(count)}
    links = [(f"l{number}", _Compared(f"f{number}")) for number in range(count)]
    monkeypatch.setattr(unpacking, "_links", lambda *_: links)
    assert unpacking._chosen(tmp_path, hashes, None) == {name: name for name in hashes}
    assert _Compared.times < 2 * count


def test_weights_that_are_the_config_too_have_to_be_weights(registry, pulling):
    artifact = plain_artifact(b"{}", "tiny.gguf")
    registry.add(artifact, "team/m", ["1"])
    with pytest.raises(MalformedGGUFError, match=r"tiny\.gguf is not a GGUF file"):
        pulling.pull(registry.reference("team/m:1"))
    assert pulling.store.models() == ()


def test_a_lock_is_the_same_whether_the_model_is_unpacked_or_not(
    registry, cli, gguf, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    registry.add(modelcar(gguf), "team/car", ["1"])
    name = registry.reference("team/car:1")
    (tmp_path / "modelrunner.toml").write_text(f'[models]\ncar = "{name}"\n')
    assert cli("lock").returncode == 0
    lock = tmp_path / "modelrunner.lock"
    before = lock.read_bytes()
    assert cli("pull", "--locked").returncode == 0
    lock.unlink()
    assert cli("lock").returncode == 0
    assert lock.read_bytes() == before
    assert cli("lock", "--update", "car").returncode == 0
    assert lock.read_bytes() == before
