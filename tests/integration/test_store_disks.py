"""Disks that are full, read-only or limited: the program says so, and loses nothing."""

import json
import shutil
from datetime import UTC, datetime

import pytest

from modelrunner.errors import DiskFullError, ExitStatus, StoreAccessError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.operations.package.import_models import Importer
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.operations.remove import plan_removal, remove
from modelrunner.operations.verify import verify_store
from modelrunner.other_stores import folder as plain_files
from modelrunner.store.store import Store
from modelrunner.store.sweep import leftovers, make_room_by, sweep
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.mounts import freeze, read_only, small_disk
from tests.support.processes import child
from tests.support.stores import put

CONTENT = bytes(range(256)) * 16 * 1024
BLOB = Descriptor("application/x", Digest.of(CONTENT), len(CONTENT))
MIB = 1024 * 1024


@pytest.fixture
def disk(tmp_path):
    """A file system of 2 MiB."""
    with small_disk(tmp_path / "disk", "2m") as folder:
        yield folder


@pytest.fixture
def frozen(disk):
    """A store with one model, on a disk that was made read-only afterwards; a function melts it."""
    put(Store(disk / "store"), docker_artifact(b"GGUF weights", license=b"free"), "ai/m:1")
    freeze(disk)
    with pytest.raises(OSError, match="Read-only"):
        (disk / "x").write_bytes(b"")
    return Store(disk / "store")


def fill(folder, free):
    """Leaves so many bytes on the disk."""
    with (folder / "ballast").open("wb") as file:
        file.write(bytes(shutil.disk_usage(folder).free - free))
    return folder / "ballast"


def write(store, blob=BLOB, content=CONTENT):
    with store.blobs.writer(blob) as writer:
        begin = writer.offset
        for start in range(begin, len(content), 100_000):
            writer.write(content[start : start + 100_000])
    return begin


def test_a_disk_that_fills_up_keeps_what_came_and_goes_on_when_there_is_room(disk):
    store, blob = Store(disk / "store"), Descriptor("a", Digest.of(CONTENT[:MIB]), MIB)
    store.layout.create()
    ballast = fill(disk, MIB // 2)
    with pytest.raises(DiskFullError) as caught:
        write(store, blob, CONTENT[:MIB])
    assert caught.value.exit_code == ExitStatus.CAPACITY == 7
    assert "prune" in (caught.value.hint or "")
    kept = store.blobs.partial_bytes(blob)
    assert MIB // 4 < kept <= MIB // 2
    assert store.layout.partial(blob.digest).read_bytes() == CONTENT[:kept]
    assert store.models() == ()
    ballast.unlink()
    assert write(store, blob, CONTENT[:MIB]) == kept
    assert store.blobs.deep_state(blob) == "good"


def test_a_full_disk_says_so_everywhere_and_changes_nothing(disk):
    store = Store(disk / "store")
    model = put(store, docker_artifact(b"GGUF weights"), "ai/m:1")
    store.tag(model, Reference.parse("ai/padding:" + "x" * 128))
    before = store.layout.index.read_bytes()
    fill(disk, 0)
    with pytest.raises(DiskFullError):
        store.tag(model, Reference.parse("ai/m:2"))
    with pytest.raises(DiskFullError):
        store.untag([Reference.parse("ai/m:1")])
    with pytest.raises(DiskFullError):
        write(store)
    assert store.layout.index.read_bytes() == before
    assert [path.name for path in store.layout.root.iterdir() if path.name.startswith(".")] == []
    assert store.resolve("m:1").digest == model.digest


def test_on_a_full_disk_prune_still_frees_room(disk):
    store = Store(disk / "store")
    store.layout.create()
    with pytest.raises(DiskFullError):
        write(store)
    assert shutil.disk_usage(disk).free < MIB // 10
    (gone,) = sweep(store, partials=True)
    assert gone.kind == "partial"
    assert shutil.disk_usage(disk).free > MIB


@pytest.mark.parametrize("has", ["a view", "names", "nothing more"])
def test_on_a_full_disk_a_model_can_be_removed(disk, has):
    store = Store(disk / "store")
    names = ("ai/m:1", "ai/m:2") if has == "names" else ("ai/m:1",)
    model = put(store, docker_artifact(b"GGUF" * 50_000, license=b"shared"), *names)
    other = put(store, docker_artifact(b"other", license=b"shared"), "ai/other:1")
    if has == "nothing more":
        for stamp in store.layout.stamps.iterdir():
            stamp.unlink()
    else:
        model.weights()
    fill(disk, 0)
    with pytest.raises(DiskFullError):
        store.forget(model.digest)
    freed = [remove(store, plan_removal(store, name, force=False)).freed for name in names]
    assert freed[-1] > 200_000
    assert [found.digest for found in store.models()] == [other.digest]
    assert verify_store(store, deep=True).bad == ()
    assert sweep(store, partials=True) == ()


@pytest.mark.parametrize("has", ["a view", "stamps", "nothing more"])
def test_on_a_full_disk_a_name_can_be_removed(disk, has):
    store = Store(disk / "store")
    model = put(store, docker_artifact(b"GGUF" * 50_000, license=b"shared"), "ai/m:1", "ai/m:2")
    for number in range(8):
        put(store, docker_artifact(b"other%d" % number), f"ai/other:{number}")
    if has == "a view":
        model.weights()
    if has == "nothing more":
        for digest in (model.digest, *(blob.digest for blob in model.manifest.blobs)):
            for note in store.layout.notes(digest.hex):
                note.unlink(missing_ok=True)
    fill(disk, 0)
    assert remove(store, plan_removal(store, "ai/m:1", force=False)).freed == 0
    assert [name.short for name in store.resolve("ai/m:2").references] == ["ai/m:2"]
    assert verify_store(store, deep=True).bad == ()


def test_on_a_full_disk_with_nothing_to_give_a_name_stays(disk):
    store = Store(disk / "store")
    put(store, docker_artifact(b"GGUF" * 50_000), "ai/m:1", "ai/m:2")
    for stamp in store.layout.stamps.iterdir():
        stamp.unlink()
    fill(disk, 0)
    with pytest.raises(DiskFullError):
        remove(store, plan_removal(store, "ai/m:1", force=False))
    assert len(store.resolve("ai/m:2").references) == 2


def test_a_model_that_gave_its_files_to_a_full_disk_can_be_pulled_again(store):
    artifact = docker_artifact(b"GGUF" * 1000, license=b"free")
    model = put(store, artifact, "ai/m:1")
    assert make_room_by(store, model, files=True) == 4004
    assert [found.digest for found in store.models()] == [model.digest]
    assert store.complete(Reference.parse("ai/m:1")) is None
    put(store, artifact, "ai/m:1")
    assert verify_store(store, deep=True).bad == ()


def test_a_good_blob_without_a_stamp_is_good_on_a_full_disk(disk):
    store = Store(disk / "store")
    model = put(store, docker_artifact(b"GGUF weights"), "ai/m:1")
    for stamp in store.layout.stamps.iterdir():
        stamp.unlink()
    fill(disk, 0)
    for entry in model.manifest.blobs:
        assert store.blobs.state(entry) == "good"


def test_a_new_store_on_a_full_disk_leaves_nothing_that_is_in_the_way_later(disk):
    ballast = fill(disk, 0)
    store = Store(disk / "store")
    with pytest.raises(DiskFullError):
        put(store, docker_artifact(b"GGUF weights"), "ai/m")
    ballast.unlink()
    put(store, docker_artifact(b"GGUF weights"), "ai/m")
    assert len(store.models()) == 1


def test_a_file_larger_than_the_system_allows_is_a_matter_of_capacity(tmp_path):
    code = """
import resource
from pathlib import Path
from modelrunner.errors import DiskFullError
from modelrunner.store.store import Store
from tests.integration.test_store_disks import write
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
store = Store(Path(sys.argv[1]))
store.layout.create()
try:
    write(store)
except DiskFullError as exc:
    print(exc.message)
"""
    with child(code, tmp_path) as process:
        assert "file too large for the file system" in process.finish()
    assert Store(tmp_path).blobs.partial_bytes(BLOB) == MIB


def test_a_read_only_store_can_be_read(frozen):
    (model,) = frozen.models()
    assert model.config.architecture == "llama"
    for entry in (model.descriptor, *model.manifest.blobs):
        assert frozen.blobs.state(entry) == "good"
        assert frozen.blobs.deep_state(entry) == "good"
    assert leftovers(frozen, partials=True) == ()


def test_a_read_only_store_says_so_when_it_is_to_be_changed(frozen):
    (model,) = frozen.models()
    changes = [
        lambda: frozen.tag(model, Reference.parse("ai/m:2")),
        lambda: frozen.forget(model.digest),
        lambda: sweep(frozen, partials=True),
        lambda: put(frozen, docker_artifact(b"other"), "ai/other"),
        lambda: write(frozen),
        model.view,
    ]
    for change in changes:
        with pytest.raises(StoreAccessError, match="read-only file system") as caught:
            change()
        assert caught.value.exit_code == ExitStatus.USAGE
        assert "MODELRUNNER_HOME" in (caught.value.hint or "")


def test_a_view_that_is_there_is_used_on_a_read_only_disk(disk):
    path = put(Store(disk / "store"), docker_artifact(b"GGUF weights"), "ai/m:1").weights()
    freeze(disk)
    assert Store(disk / "store").resolve("m:1").weights() == path


def test_a_file_that_has_no_room_is_refused_before_a_byte_is_copied(disk, tmp_path):
    file = tiny_gguf(tmp_path / "m.gguf")
    with file.open("ab") as stream:
        stream.write(bytes(3 * MIB))
    store = Store(disk / "store")
    store.layout.create()
    before = shutil.disk_usage(disk).free
    (found,) = plain_files.find(file)
    for attempt in (
        lambda: Importer(store, "copy").take(found),
        lambda: package(
            store,
            Ingredients(file),
            Reference.parse("ai/m:1"),
            family="docker",
            created=datetime.now(UTC),
        ),
    ):
        with pytest.raises(DiskFullError, match=r"3\.01 MiB to copy \(3\.01 MiB are kept free"):
            attempt()
        assert shutil.disk_usage(disk).free >= before - 8192
        assert store.models() == ()


# What the command line makes of it.


def error_of(done):
    assert done.stdout == ""
    return json.loads(done.stderr)["error"]


def test_the_command_line_lists_a_read_only_store_and_refuses_to_change_it(cli, frozen, disk):
    home = {"MODELRUNNER_HOME": str(disk)}
    assert "ai/m:1" in cli("list", **home).stdout
    for arguments in (("tag", "ai/m:1", "ai/m:2"), ("rm", "ai/m:1"), ("prune",)):
        done = cli(*arguments, "--json", **home)
        assert (done.returncode, error_of(done)["code"]) == (2, "store_access")


@pytest.mark.parametrize("place", ["home", "home/store", "home/store/v1"])
def test_the_command_line_says_that_a_file_is_where_the_store_should_be(cli, tmp_path, place):
    file = tmp_path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"")
    gguf = tiny_gguf(tmp_path / "m.gguf")
    done = cli("package", str(gguf), "ai/m", "--json", MODELRUNNER_HOME=str(tmp_path / "home"))
    assert done.returncode == ExitStatus.USAGE
    assert error_of(done)["code"] in ("store_access", "invalid_configuration")
    assert file.read_bytes() == b""


@pytest.mark.parametrize(
    ("file", "content", "exit_code", "code"),
    [
        ("index.json", b"{", 6, "corrupt_store"),
        ("oci-layout", b"{", 6, "corrupt_store"),
        ("oci-layout", b'{"imageLayoutVersion": "2.0.0"}', 2, "store_version"),
    ],
)
def test_the_command_line_says_what_is_wrong_with_a_store(cli, file, content, exit_code, code):
    put(cli.store, docker_artifact(b"GGUF weights"), "ai/m:1")
    (cli.store.layout.root / file).write_bytes(content)
    for arguments in (("list",), ("path", "ai/m:1"), ("rm", "ai/m:1"), ("prune",), ("df",)):
        done = cli(*arguments, "--json")
        assert (done.returncode, error_of(done)["code"]) == (exit_code, code)
    assert (cli.home / "store" / "v1" / file).read_bytes() == content


def test_the_command_line_leaves_a_newer_versions_store_alone(cli):
    (cli.home / "store" / "v2").mkdir(parents=True)
    done = cli("list", "--json")
    assert (done.returncode, error_of(done)["code"]) == (2, "store_version")
    assert not (cli.home / "store" / "v1").exists()


def test_with_a_read_only_home_what_is_noted_goes_elsewhere(cli, tmp_path):
    put(cli.store, docker_artifact(b"GGUF weights"), "ai/m:1")
    assert cli("configure", "ai/m:1", "--context", "512").returncode == 0
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    with read_only(cli.home):
        here = {"XDG_RUNTIME_DIR": str(runtime)}
        state = json.loads(cli("config", "--json", **here).stdout)["state"]
        assert state["origin"] == "MODELRUNNER_HOME is read-only"
        assert state["value"].startswith(str(runtime))
        assert "512" in cli("configure", "ai/m:1", **here).stdout
        assert cli("configure", "ai/m:1", "--context", "1024", **here).returncode == 0
        assert "1024" in cli("configure", "ai/m:1", **here).stdout
        assert cli("ps", **here).returncode == 0
        moved = cli("config", "--json", MODELRUNNER_STATE=str(tmp_path / "moved")).stdout
        assert json.loads(moved)["state"]["value"] == str(tmp_path / "moved" / "state")
