"""What becomes of a model after its pull: checked, measured, removed, and pulled again."""

import pytest

from modelrunner.errors import ModelNotFoundError, RegistryUnavailableError, UsageError
from modelrunner.operations.disk_usage import usage
from modelrunner.operations.remove import plan_removal, remove
from modelrunner.operations.verify import verify_models
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling
from tests.support.registry import Registry, sha256

WEIGHTS = b"GGUF" + (bytes(range(256)) * 100)[4:]
LICENSE = b"do as you like"
ONE = docker_artifact(WEIGHTS, license=LICENSE)
TWO = docker_artifact(b"GGUF other weights", license=LICENSE)


@pytest.fixture
def registry():
    with Registry() as registry:
        registry.add(ONE, "ai/one", tags=["1", "latest"])
        registry.add(TWO, "ai/two", tags=["1"])
        yield registry


@pytest.fixture
def pulling(store, registry):
    pulling = Pulling(store)
    for name in ("ai/one:1", "ai/one:latest", "ai/two:1"):
        pulling.pull(registry.reference(name))
    return pulling


def blob(store, content):
    return store.layout.blobs / sha256(content).removeprefix("sha256:")


def spoil(store, content):
    path = blob(store, content)
    path.chmod(0o644)
    path.write_bytes(bytes(len(content)))


def states(store, *, deep=True):
    findings = verify_models(store, store.models(), deep=deep)
    assert len({finding.digest for finding in findings}) == len(findings)
    return {finding.digest: finding.state for finding in findings}


# Checked.


@pytest.mark.parametrize("deep", [True, False])
def test_model_that_was_pulled_is_good_to_its_last_blob(store, pulling, deep):
    found = states(store, deep=deep)
    assert set(found) == {ONE.digest, TWO.digest, *ONE.blobs, *TWO.blobs}
    assert set(found.values()) == {"good"}


@pytest.mark.parametrize("deep", [True, False])
def test_blob_that_was_changed_is_found(store, pulling, deep):
    spoil(store, WEIGHTS)
    found = states(store, deep=deep)
    assert found.pop(sha256(WEIGHTS)) == "damaged"
    assert set(found.values()) == {"good"}


def test_blob_that_is_gone_is_found_and_mended_by_the_next_pull(store, pulling, registry):
    blob(store, WEIGHTS).unlink()
    assert states(store)[sha256(WEIGHTS)] == "absent"
    registry.forget()

    pulling.pull(registry.reference("ai/one:1"))

    assert set(states(store).values()) == {"good"}
    assert registry.bytes_sent() == len(WEIGHTS)


@pytest.mark.parametrize("state", ["damaged", "absent"])
def test_manifest_that_is_damaged_or_gone_is_found(store, pulling, state):
    if state == "damaged":
        spoil(store, ONE.manifest)
    else:
        blob(store, ONE.manifest).unlink()
    assert states(store)[ONE.digest] == state


def test_empty_store_is_good(store):
    assert verify_models(store, store.models(), deep=True) == ()


# Removed.


def test_one_of_two_names_goes_and_the_model_stays(store, pulling, registry):
    plan = plan_removal(store, registry.reference("ai/one:1"), force=False)
    assert not plan.last
    removed = remove(store, plan)
    assert removed.freed == 0
    assert blob(store, WEIGHTS).exists()
    with pytest.raises(ModelNotFoundError):
        store.resolve(registry.reference("ai/one:1"))
    assert store.resolve(registry.reference("ai/one:latest")).digest == plan.model.digest


def test_last_name_takes_the_model_along_and_leaves_what_others_share(store, pulling, registry):
    for name in ("ai/one:1", "ai/one:latest"):
        plan = plan_removal(store, registry.reference(name), force=False)
        removed = remove(store, plan)
    assert plan.last
    own = len(WEIGHTS) + len(ONE.config) + len(ONE.manifest)
    assert removed.freed == own
    assert not blob(store, WEIGHTS).exists()
    assert blob(store, LICENSE).exists()
    assert set(states(store)) == {TWO.digest, *TWO.blobs}


def test_plan_alone_removes_nothing(store, pulling, registry):
    plan_removal(store, registry.reference("ai/two:1"), force=True)
    assert len(store.models()) == 2


def test_id_of_a_model_with_several_names_needs_force(store, pulling):
    identity = ONE.digest.removeprefix("sha256:")[:12]
    with pytest.raises(UsageError, match="2 names") as caught:
        plan_removal(store, identity, force=False)
    assert "--force" in (caught.value.hint or "")
    plan = plan_removal(store, identity, force=True)
    assert len(plan.names) == 2
    remove(store, plan)
    assert [str(model.digest) for model in store.models()] == [TWO.digest]


def test_model_that_is_not_here_cannot_be_removed(store, pulling):
    with pytest.raises(ModelNotFoundError):
        plan_removal(store, "ai/nothing:1", force=True)


def test_removed_model_can_be_pulled_again(store, pulling, registry):
    remove(store, plan_removal(store, registry.reference("ai/two:1"), force=False))
    registry.forget()
    assert pulling.pull(registry.reference("ai/two:1")).status == "pulled"
    # the licence is still here, as part of the other model
    assert registry.bytes_sent(sha256(LICENSE)) == 0
    assert set(states(store).values()) == {"good"}


# Measured.


def test_bytes_are_counted_once(store, pulling):
    found = usage(store)
    contents = {**ONE.blobs, **TWO.blobs}
    size = sum(map(len, contents.values())) + len(ONE.manifest) + len(TWO.manifest)
    models = found.entries[0]
    assert (models.kind, models.count, models.size, models.reclaimable) == ("Models", 2, size, 0)
    assert found.free > 0
    assert all(entry.size == 0 for entry in found.entries[1:])


def test_views_cost_nothing(store, pulling):
    before = usage(store).entries
    for model in store.models():
        model.weights()
    assert usage(store).entries == before


def test_download_that_stopped_can_be_reclaimed(store, pulling, registry):
    content = bytes(3_000_000)
    registry.add(docker_artifact(content), "ai/big", tags=["1"])
    registry.answer(500, times=None, on="blob", reference=sha256(content), skip=1)
    with pytest.raises(RegistryUnavailableError):
        pulling.pull(registry.reference("ai/big:1"))
    stopped = next(entry for entry in usage(store).entries if entry.kind == "Incomplete downloads")
    assert stopped.count >= 1
    assert stopped.reclaimable == stopped.size > 0
    assert usage(store).to_dict()["reclaimable_bytes"] >= stopped.size


def test_store_that_is_not_there_takes_nothing(store):
    found = usage(store)
    assert all(entry.count == 0 for entry in found.entries)
    assert found.free > 0
