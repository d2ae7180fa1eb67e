"""A store that changes while it is served: pulls, names and removals, and what is served then."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.errors import (
    CanceledByUserError,
    DiskFullError,
    DoesNotFitError,
    IntegrityError,
    InvalidReferenceError,
    ManifestNotFoundError,
    ModelNotFoundError,
    ModelRunnerError,
    NotInStoreError,
    RateLimitedError,
    RegistryUnavailableError,
    StoreAccessError,
    UnauthorizedError,
    UnsupportedArtifactError,
    UnverifiedError,
)
from modelrunner.events import Advanced, Event, Finished, Planned, Verified
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.pull.pull import Puller
from modelrunner.operations.serve.plan import ServePlan
from modelrunner.serve.changes import StoreChanges
from modelrunner.serve.client.errors import RefusalError, refusal_for
from modelrunner.store.store import Store, StoredModel
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling
from tests.support.registry import Registry
from tests.support.served_store import ServedStore, planned
from tests.support.serving import model
from tests.support.stores import put

ONE = docker_artifact(b"GGUF" + bytes(200_000))
TWO = docker_artifact(b"GGUF" + b"2" * 100_000)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        registry.add(ONE, "ai/one", tags=["latest", "1"])
        registry.add(TWO, "ai/two", tags=["latest"])
        yield registry


@pytest.fixture
def serving(store: Store, tmp_path: Path) -> ServedStore:
    return ServedStore(store, tmp_path / "0")


def names(changes: StoreChanges) -> dict[str, list[str]]:
    """What is served: by its name, all its names."""
    return {
        name: sorted(reference.short for reference in slot.model.references)
        for name, slot in changes.pool.slots.items()
    }


# Pulls.


def test_a_model_that_is_pulled_is_served_at_once(serving: ServedStore, registry: Registry) -> None:
    name = registry.reference("ai/one:1")

    async def work(changes: StoreChanges) -> list[Event]:
        async with changes.pull(name) as pull:
            events = [event async for event in pull.events()]
            stored = await pull.result()
        assert str(stored.digest) == ONE.digest
        assert names(changes) == {name: [name]}
        async with changes.pool.borrowed(changes.pool.find(name)):
            pass
        return events

    events = serving.run(work)
    planned_, *_, last = events
    assert planned_ == Planned(name, ONE.size, 0, 0)
    assert last == Finished(name, ONE.digest, ONE.size)
    verified = {event.digest for event in events if isinstance(event, Verified)}
    assert verified == set(ONE.blobs)
    assert serving.runtime.started == [name]


def test_a_pull_is_prepared_beside_the_loop(serving: ServedStore, registry: Registry) -> None:
    threads = []

    def noted(puller: Puller) -> Puller:
        threads.append(threading.current_thread())
        return puller

    serving.puller_with = noted

    async def work(changes: StoreChanges) -> None:
        async with changes.pull(registry.reference("ai/one:1")) as pull:
            await pull.result()

    serving.run(work)
    (thread,) = threads
    assert thread is not threading.current_thread()


def test_what_is_stored_already_is_served_and_says_so(
    serving: ServedStore, store: Store, registry: Registry
) -> None:
    name = registry.reference("ai/one:1")
    Pulling(store).pull(name)

    async def work(changes: StoreChanges) -> list[Event]:
        changes.pool.update([])
        async with changes.pull(name) as pull:
            events = [event async for event in pull.events()]
        assert names(changes) == {name: [name]}
        return events

    assert serving.run(work) == [Finished(name, ONE.digest, ONE.size)]
    assert registry.count("GET", "blobs") == 2


def test_two_requests_for_one_model_share_one_pull(
    serving: ServedStore, registry: Registry
) -> None:
    name = registry.reference("ai/one:1")

    async def watched(changes: StoreChanges) -> list[Event]:
        async with changes.pull(name) as pull:
            return [event async for event in pull.events()]

    async def work(changes: StoreChanges) -> list[list[Event]]:
        return await asyncio.gather(watched(changes), watched(changes))

    for events in serving.run(work):
        assert isinstance(events[0], Planned)
        assert isinstance(events[-1], Finished)
    assert registry.count("GET", "blobs") == 2


def test_a_pull_that_nobody_watches_any_more_is_called_off_and_resumes(
    serving: ServedStore, store: Store, registry: Registry
) -> None:
    name = registry.reference("ai/one:1")
    stalled = registry.stall_after(100_000, 600, digest=ONE.layer_digests[0])

    async def work(changes: StoreChanges) -> None:
        async with changes.pull(name):
            await asyncio.to_thread(stalled.wait)
        async with changes.pull(name) as again:
            stored = await again.result()
        assert str(stored.digest) == ONE.digest

    serving.run(work)
    assert store.models()[0].references == (Reference.parse(name),)


def test_one_of_two_watchers_may_leave(serving: ServedStore, registry: Registry) -> None:
    name = registry.reference("ai/one:1")
    stalled = registry.stall_after(100_000, 1, digest=ONE.layer_digests[0])

    async def work(changes: StoreChanges) -> None:
        async with changes.pull(name) as stays:
            async with changes.pull(name) as leaves:
                assert leaves is stays
                await asyncio.to_thread(stalled.wait)
            assert str((await stays.result()).digest) == ONE.digest

    serving.run(work)


def test_a_slow_watcher_misses_steps_and_no_end(serving: ServedStore, registry: Registry) -> None:
    name = registry.reference("ai/one:1")

    async def work(changes: StoreChanges) -> list[Event]:
        async with changes.pull(name) as pull:
            await pull.result()
            # it comes when all is over
            return [event async for event in pull.events()]

    events = serving.run(work)
    assert not any(isinstance(event, Advanced) for event in events)
    assert [type(events[0]), type(events[-1])] == [Planned, Finished]


def test_a_server_that_ends_calls_its_pulls_off(
    serving: ServedStore, store: Store, registry: Registry
) -> None:
    name = registry.reference("ai/one:1")
    stalled = registry.stall_after(100_000, 600, digest=ONE.layer_digests[0])

    async def work(changes: StoreChanges) -> None:
        async with changes.pull(name) as pull:
            await asyncio.to_thread(stalled.wait)
            await changes.close()
            with pytest.raises(CanceledByUserError):
                await pull.result()

    serving.run(work)
    assert store.models() == ()


def test_a_tag_that_moves_is_served_with_its_new_content(
    serving: ServedStore, registry: Registry
) -> None:
    name = registry.reference("ai/one:1")

    async def work(changes: StoreChanges) -> None:
        async with changes.pull(name) as pull:
            await pull.result()
        before = changes.pool.find(name)
        async with changes.pool.borrowed(before) as old:
            registry.tag("ai/one", "1", registry.add(TWO, "ai/one"))
            async with changes.pull(name) as pull:
                await pull.result()
            assert str(changes.pool.find(name).digest) == TWO.digest
            # what is being answered is completed
            assert old.alive()
            async with changes.pool.borrowed(changes.pool.find(name)) as new:
                assert new is not old

    serving.run(work)
    assert serving.runtime.started == [name, name]
    assert not any(server.running for _, server in serving.runtime.starts)


# Failures.


def failing(serving: ServedStore, name: str) -> ModelRunnerError:
    async def work(changes: StoreChanges) -> None:
        async with changes.pull(name) as pull:
            await pull.result()

    with pytest.raises(ModelRunnerError) as failed:
        serving.run(work)
    return failed.value


def test_a_tag_that_is_not_there_is_not_found(serving: ServedStore, registry: Registry) -> None:
    error = failing(serving, registry.reference("ai/one:nope"))
    assert isinstance(error, ManifestNotFoundError)
    assert refusal_for(error).status == 404


def test_a_registry_without_an_answer_is_a_bad_gateway(serving: ServedStore) -> None:
    with Registry() as registry:
        name = registry.reference("ai/one")
    error = failing(serving, name)
    assert isinstance(error, RegistryUnavailableError)
    assert refusal_for(error).status == 502


def test_a_model_of_nothing_local_is_not_found(serving: ServedStore) -> None:
    error = failing(serving, "local/nope")
    assert isinstance(error, ModelNotFoundError)


@pytest.mark.parametrize("text", ["/etc/passwd", "./model.gguf", "not a name!", "https://x/y"])
def test_a_text_of_a_client_is_never_a_path(serving: ServedStore, text: str) -> None:
    error = failing(serving, text)
    assert isinstance(error, InvalidReferenceError)
    assert refusal_for(error).status == 400


def test_the_policy_counts(serving: ServedStore, registry: Registry) -> None:
    def keep_out(reference: Reference, _manifest: Manifest) -> None:
        raise UnverifiedError(f"{reference.short}: no signature", hint="sign it")

    serving.puller_with = lambda puller: replace(puller, check=keep_out)
    error = failing(serving, registry.reference("ai/one"))
    assert (type(error), refusal_for(error).status) == (UnverifiedError, 403)


def test_a_full_disk_is_said_before_anything_moves(
    serving: ServedStore, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelrunner.operations.disk_space.free_bytes", lambda _folder: 1000)
    error = failing(serving, registry.reference("ai/one"))
    assert (type(error), refusal_for(error).status) == (DiskFullError, 507)


def test_offline_nothing_is_pulled_but_what_is_stored_is_found(
    serving: ServedStore, store: Store, registry: Registry
) -> None:
    serving.offline = True
    error = failing(serving, registry.reference("ai/one"))
    assert (type(error), refusal_for(error).status) == (NotInStoreError, 403)
    put(store, ONE, "ai/one:1")

    async def work(changes: StoreChanges) -> str:
        async with changes.pull("ai/one:1") as pull:
            return str((await pull.result()).digest)

    assert serving.run(work) == ONE.digest
    assert registry.count("GET", "manifests") == 0


def test_a_model_that_does_not_fit_is_stored_and_says_why_it_is_not_served(
    serving: ServedStore, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    def too_large(_stored: StoredModel, name: str, _changed: object) -> ServePlan:
        raise DoesNotFitError(f"{name} needs 9 GB", hint="raise --budget")

    serving.plan = too_large
    name = registry.reference("ai/one:1")

    async def work(changes: StoreChanges) -> None:
        async with changes.pull(name) as pull:
            await pull.result()
        assert names(changes) == {}
        with pytest.raises(DoesNotFitError, match="needs 9 GB"):
            changes.pool.find(name)
        await changes.remove(name)
        assert changes.pool.find(name) is None

    serving.run(work)
    assert f"not served: {name}: {name} needs 9 GB" in caplog.text


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (InvalidReferenceError("x"), 400, False),
        (StoreAccessError("x"), 500, False),
        (ModelNotFoundError("x"), 404, False),
        (UnauthorizedError("x"), 403, False),
        (RateLimitedError("x", retry_after_s=7.5), 429, True),
        (RegistryUnavailableError("x"), 502, True),
        (IntegrityError("x"), 502, False),
        (UnsupportedArtifactError("x"), 422, False),
        (ModelRunnerError("x"), 500, False),
    ],
)
def test_each_kind_of_error_has_a_status(error: ModelRunnerError, status: int, retry: bool) -> None:
    refusal = refusal_for(error)
    headers = dict(refusal.headers)
    assert refusal.status == status
    assert (b"x-should-retry" not in headers) == retry
    assert headers.get(b"retry-after") == (b"8" if status == 429 else None)


# Names and removals.


def test_a_new_name_is_served_at_once(serving: ServedStore, store: Store) -> None:
    put(store, ONE, "ai/one:1")

    async def work(changes: StoreChanges) -> None:
        await changes.tag("one:1", "gpt-4")
        assert names(changes) == {"ai/one:1": ["ai/gpt-4:latest", "ai/one:1"]}
        assert changes.pool.find("gpt-4").name == "ai/one:1"

    serving.run(work)
    assert store.find(Reference.parse("gpt-4")) is not None


def test_a_name_with_a_digest_cannot_be_given(serving: ServedStore, store: Store) -> None:
    put(store, ONE, "ai/one:1")

    async def work(changes: StoreChanges) -> None:
        await changes.tag("one:1", f"ai/two@{ONE.digest}")

    with pytest.raises(InvalidReferenceError, match="must have a tag"):
        serving.run(work)


def test_a_model_that_loses_its_first_name_is_served_by_the_other(
    serving: ServedStore, store: Store
) -> None:
    put(store, ONE, "ai/one:1", "ai/one:2")

    async def work(changes: StoreChanges) -> None:
        async with changes.pool.borrowed(changes.pool.find("one:1")) as server:
            removed = await changes.remove("one:1")
            assert ([name.short for name in removed.names], removed.last) == (["ai/one:1"], False)
            assert names(changes) == {"ai/one:2": ["ai/one:2"]}
            assert changes.pool.find("one:1") is None
            assert server.alive()

    serving.run(work)
    assert len(serving.runtime.starts) == 1


def test_a_removed_model_is_served_no_more_and_its_runtime_ends(
    serving: ServedStore, store: Store
) -> None:
    put(store, ONE, "ai/one:1")
    put(store, TWO, "ai/two:1")

    async def work(changes: StoreChanges) -> None:
        async with changes.pool.borrowed(changes.pool.find("one:1")) as server:
            pass
        assert server.alive()
        removed = await changes.remove("one:1")
        assert removed.last
        assert removed.freed >= 200_000
        assert not server.alive()
        assert names(changes) == {"ai/two:1": ["ai/two:1"]}

    serving.run(work)
    assert [str(each.digest) for each in store.models()] == [TWO.digest]


def test_a_model_that_answers_is_not_removed_but_by_force(
    serving: ServedStore, store: Store
) -> None:
    put(store, ONE, "ai/one:1")

    async def work(changes: StoreChanges) -> None:
        async with changes.pool.borrowed(changes.pool.find("one:1")) as server:
            with pytest.raises(RefusalError) as refused:
                await changes.remove("one:1")
            assert (refused.value.status, refused.value.code) == (409, "model_in_use")
            assert names(changes) == {"ai/one:1": ["ai/one:1"]}
            await changes.remove("one:1", force=True)
            assert not server.alive()

    serving.run(work)
    assert store.models() == ()


def test_an_unknown_model_cannot_be_removed(serving: ServedStore) -> None:
    async def work(changes: StoreChanges) -> None:
        await changes.remove("nope")

    with pytest.raises(ModelNotFoundError):
        serving.run(work)


# Settings.


def test_what_a_model_takes_of_a_gpu_follows_its_settings(
    serving: ServedStore, store: Store
) -> None:
    put(store, ONE, "ai/one:1")

    def sized(stored: StoredModel, name: str, changed: Mapping[str, str]) -> ServePlan:
        plan = planned(stored, name, changed)
        context = plan.served.spec.context
        served = replace(plan.served, memory=2 * context, on_gpus=(("GPU", context),))
        return replace(plan, served=served)

    serving.plan = sized

    async def work(changes: StoreChanges) -> None:
        slot = changes.pool.slots["ai/one:1"]
        await changes.configure(slot, {"context": "512"})
        assert (slot.model.memory, slot.model.on_gpus) == (1024, (("GPU", 512),))

    serving.run(work)


def test_a_name_that_is_given_while_a_model_is_configured_stays(
    serving: ServedStore, store: Store
) -> None:
    put(store, ONE, "ai/one:1")
    begun, may_end = threading.Event(), threading.Event()

    def slow(stored: StoredModel, name: str, changed: Mapping[str, str]) -> ServePlan:
        begun.set()
        assert may_end.wait(20)
        return planned(stored, name, changed)

    serving.plan = slow

    async def work(changes: StoreChanges) -> None:
        slot = changes.pool.slots["ai/one:1"]
        configured = asyncio.create_task(changes.configure(slot, {"context": "512"}))
        await asyncio.to_thread(begun.wait)
        named = asyncio.create_task(changes.tag("one:1", "two"))
        await asyncio.wait({named}, timeout=0.3)
        may_end.set()
        await asyncio.gather(configured, named)
        assert names(changes) == {"ai/one:1": ["ai/one:1", "ai/two:latest"]}
        assert slot.model.spec.context == 512

    serving.run(work)


# What others do to the store.


def test_what_cannot_be_served_is_said_once(
    serving: ServedStore, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def too_large(_stored: StoredModel, name: str, _changed: object) -> ServePlan:
        raise DoesNotFitError(f"{name} needs 9 GB", hint="raise --budget")

    serving.everything, serving.plan = True, too_large

    async def work(changes: StoreChanges) -> None:
        put(store, ONE, "ai/one:1")
        await changes.refresh()
        put(store, TWO, "ai/two:1")
        await changes.refresh()

    serving.run(work)
    said = [each for each in caplog.messages if each.startswith("not served")]
    assert [each.split(":")[1].strip() for each in said] == ["ai/one", "ai/two"]


def test_where_everything_is_served_what_others_store_and_remove_counts(
    serving: ServedStore, store: Store
) -> None:
    serving.everything = True
    first = put(store, ONE, "ai/one:1")

    async def work(changes: StoreChanges) -> None:
        put(store, TWO, "ai/two:1")
        await changes.refresh()
        assert sorted(names(changes)) == ["ai/one:1", "ai/two:1"]
        store.forget(first.digest)
        await changes.refresh()
        assert sorted(names(changes)) == ["ai/two:1"]

    serving.run(work)


def test_where_models_are_named_what_others_store_is_not_served(
    serving: ServedStore, store: Store
) -> None:
    put(store, ONE, "ai/one:1")

    async def work(changes: StoreChanges) -> None:
        put(store, TWO, "ai/two:1")
        await changes.refresh()
        await changes.tag("one:1", "three")
        assert sorted(names(changes)) == ["ai/one:1"]
        stored = [each.references[0].short for each in await changes.models()]
        assert sorted(stored) == ["ai/one:1", "ai/two:1"]

    serving.run(work)


def test_what_a_user_has_stopped_stays_so_until_it_is_pulled(
    serving: ServedStore, store: Store, registry: Registry
) -> None:
    serving.everything = True
    name = registry.reference("ai/one:1")
    Pulling(store).pull(name)

    async def work(changes: StoreChanges) -> None:
        await changes.pool.retire(changes.pool.find(name))
        put(store, TWO, "ai/two:1")
        await changes.refresh()
        assert list(names(changes)) == ["ai/two:1"]
        async with changes.pull(name) as pull:
            await pull.result()
        assert sorted(names(changes)) == sorted([name, "ai/two:1"])

    serving.run(work)


def test_a_file_that_is_served_is_none_of_the_stores(serving: ServedStore, store: Store) -> None:
    async def work(changes: StoreChanges) -> None:
        changes.pool.update([model("ai/file")])
        put(store, ONE, "ai/one:1")
        await changes.tag("one:1", "two")
        assert list(names(changes)) == ["ai/file:latest", "ai/one:1"]

    serving.run(work)


def test_the_disk_usage_is_that_of_df(serving: ServedStore, store: Store) -> None:
    put(store, ONE, "ai/one:1")

    async def work(changes: StoreChanges) -> dict[str, object]:
        return dict(await changes.disk_usage())

    found = serving.run(work)
    assert found["types"][0]["type"] == "Models"
    assert found["types"][0]["count"] == 1
