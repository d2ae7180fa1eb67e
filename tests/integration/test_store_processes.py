"""One store, many processes: they wait for each other, lose nothing, and may die at any point."""

import os
import random
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.store import Store
from modelrunner.store.sweep import sweep
from tests.support.artifacts import docker_artifact
from tests.support.processes import child, run_together
from tests.support.stores import put

CONTENT = bytes(range(256)) * 64
BLOB = Descriptor("application/x", Digest.of(CONTENT), len(CONTENT))

PREPARE = """
from pathlib import Path
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.store.store import Store
from modelrunner.store.sweep import remove_blobs_of, sweep
from tests.support.artifacts import docker_artifact
from tests.support.stores import put

store = Store(Path(sys.argv[1]))
"""

WRITER = f"""{PREPARE}
content = bytes(range(256)) * 64
blob = Descriptor("application/x", Digest.of(content), len(content))
store.layout.create()
print("ready", flush=True)
with store.blobs.writer(blob) as writer:
    print("absent" if writer else "present", flush=True)
    if writer:
        at = writer.offset
        writer.write(content[at : at + 1000])
        sys.stdin.readline()
        writer.write(content[at + 1000 :])
"""


def check(store):
    """Whatever has a name is there and right, to the last byte."""
    for model in store.models():
        for entry in (model.descriptor, *model.manifest.blobs):
            assert store.blobs.deep_state(entry) == "good"
        assert model.weights().stat().st_size > 0


def test_the_second_writer_waits_and_finds_the_blob_there(tmp_path):
    with child(WRITER, tmp_path) as first:
        first.hear("ready")
        first.hear("absent")
        with child(WRITER, tmp_path) as second:
            second.hear("ready")
            time.sleep(0.2)
            assert second.process.poll() is None
            first.tell("go on")
            first.finish()
            second.hear("present")
            second.finish()
    assert Store(tmp_path).blobs.state(BLOB) == "good"


def test_the_second_writer_goes_on_where_the_first_was_killed(tmp_path):
    store = Store(tmp_path)
    with child(WRITER, tmp_path) as first:
        first.hear("ready")
        first.hear("absent")
        with child(WRITER, tmp_path) as second:
            second.hear("ready")
            first.kill()
            second.hear("absent")
            assert store.blobs.partial_bytes(BLOB) >= 1000
            second.tell("go on")
            second.finish()
    assert store.blobs.read(BLOB) == CONTENT


def test_a_prune_in_another_process_takes_nothing_from_a_writer(tmp_path):
    store = Store(tmp_path)
    with child(WRITER, tmp_path) as writer:
        writer.hear("ready")
        writer.hear("absent")
        assert sweep(store, partials=True) == ()
        writer.tell("go on")
        writer.finish()
    assert store.blobs.state(BLOB) == "good"


TAGGER = f"""{PREPARE}
model = put(store, docker_artifact(b"weights"))
for number in range(10):
    store.add(model.manifest, [Reference.parse(f"ai/m{{sys.argv[2]}}:{{number}}")])
"""


def test_tags_set_at_once_by_many_processes_in_a_new_store_are_all_there(tmp_path):
    run_together(TAGGER, [(tmp_path, number) for number in range(6)])
    (model,) = Store(tmp_path).models()
    assert {name.short for name in model.references} == {
        f"ai/m{process}:{number}" for process in range(6) for number in range(10)
    }


def test_many_threads_make_one_store_at_once(tmp_path):
    """The first use is the one where everybody finds nothing."""
    for round_ in range(20):
        store, start = Store(tmp_path / str(round_)), threading.Barrier(8)

        def use(number, store=store, start=start):
            start.wait()
            put(store, docker_artifact(b"weights"), f"ai/m:{number}")

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(use, range(8)))
        assert len(store.models()[0].references) == 8


VIEWER = f"""{PREPARE}
for round_ in range(20):
    path = store.resolve("ai/m").weights()
    import shutil
    if sys.argv[2] == "0":
        shutil.rmtree(path.parent / "folder", ignore_errors=True)
"""


def test_a_view_that_many_processes_mend_at_once_ends_up_right(tmp_path):
    store = Store(tmp_path)
    model = put(store, docker_artifact(b"weights", extra_files={"folder/file": b"x"}), "ai/m")
    run_together(VIEWER, [(tmp_path, number) for number in range(4)])
    assert (model.view() / "folder" / "file").read_bytes() == b"x"
    assert [entry.name for entry in store.layout.views.iterdir()] == [model.digest.hex]


LIFE = f"""{PREPARE}
import random
chance = random.Random(int(sys.argv[2]))
models = [docker_artifact(bytes([n]) * 50_000, license=b"shared") for n in range(4)]
print("begun", flush=True)
while True:
    number = chance.randrange(4)
    model = put(store, models[number], f"ai/m:{{number}}")
    model.weights()
    what = chance.randrange(4)
    if what == 0:
        store.tag(model, Reference.parse(f"ai/other:{{number}}"))
    elif what == 1:
        store.forget(model.digest)
        remove_blobs_of(store, model)
    elif what == 2:
        store.untag(model.references)
        sweep(store, partials=True)
"""


def test_a_process_killed_at_any_point_leaves_a_store_that_works(tmp_path):
    chance, store = random.Random(7), Store(tmp_path)
    for seed in range(20):
        with child(LIFE, tmp_path, seed) as life:
            life.hear("begun")
            time.sleep(chance.random() * 0.15)
            assert life.process.poll() is None
            life.kill()
        check(store)
        sweep(store, partials=bool(seed % 2))
        check(store)
        put(store, docker_artifact(b"after", license=b"shared"), "ai/after")
        check(store)
    sweep(store, partials=True)
    assert list(store.layout.ingest.glob("*.partial")) == []


PULLER = f"""{PREPARE}
import time
from modelrunner.errors import RemovedMeanwhileError
lost = 0
end = time.monotonic() + 2
while time.monotonic() < end:
    try:
        weights = b"mine " + sys.argv[2].encode()
        put(store, docker_artifact(weights, license=b"shared"), "ai/m:" + sys.argv[2])
    except RemovedMeanwhileError:
        # said so, and named nothing
        lost += 1
        continue
    model = store.lookup("ai/m:" + sys.argv[2])
    assert model is not None
    for entry in (model.descriptor, *model.manifest.blobs):
        assert store.blobs.state(entry) == "good", entry
"""

REMOVER = f"""{PREPARE}
import time
end = time.monotonic() + 2
while time.monotonic() < end:
    model = put(store, docker_artifact(b"gone", license=b"shared"), "ai/gone")
    store.forget(model.digest)
    remove_blobs_of(store, model)
    sweep(store, partials=True)
"""


def test_removing_a_model_while_another_one_that_shares_a_blob_arrives_names_nothing_broken(
    tmp_path,
):
    with ExitStack() as stack:
        children = [stack.enter_context(child(PULLER, tmp_path, number)) for number in range(2)]
        children.append(stack.enter_context(child(REMOVER, tmp_path)))
        for each in children:
            each.finish()
    check(Store(tmp_path))


ORDINARY = f"""{PREPARE}
import os
content = bytes(range(256)) * 64
blob = Descriptor("application/x", Digest.of(content), len(content))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with store.blobs.writer(blob) as writer:
    assert writer.offset == len(content)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_takes_up_what_was_killed_when_it_was_read_only_already():
    # not below pytest's folder, which is root's alone
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "store")
        store.layout.create()
        partial = store.layout.partial(BLOB.digest)
        partial.write_bytes(CONTENT)
        partial.chmod(0o444)
        for path in (Path(name), *Path(name).rglob("*")):
            os.chown(path, 65534, 65534)
        with child(ORDINARY, Path(name) / "store") as ordinary:
            ordinary.finish()
        assert store.blobs.state(BLOB) == "good"
