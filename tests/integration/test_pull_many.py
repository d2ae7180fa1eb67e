"""Several models at once over real HTTP: one budget, one listener, failures of one model only."""

import itertools
import os
import threading

import pytest

from modelrunner.errors import DigestMismatchError, ManifestNotFoundError
from modelrunner.events import Advanced, Finished, Started
from modelrunner.oci.reference import Reference
from modelrunner.operations.pull.many import pull_many
from modelrunner.operations.pull.outcome import Dropped, Failed, Pulled
from modelrunner.operations.pull.pull import Puller
from modelrunner.registry.credentials import DockerCredentials
from modelrunner.registry.registries import Registries
from modelrunner.transfer.budget import Budget
from modelrunner.transfer.limits import Limits, Throttle
from tests.support.artifacts import docker_artifact
from tests.support.clock import Clock
from tests.support.gguf import tiny_gguf
from tests.support.pulling import QUICK
from tests.support.registry import Registry

MIB = 1024 * 1024
# an answer that is left early has sent more than was taken: one connection leaves none
ALONE = Limits(connections=1)


@pytest.fixture
def registry():
    with Registry() as running:
        yield running


@pytest.fixture
def models(registry, tmp_path):
    """Three models of two megabytes each, in three repositories."""
    head = tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
    found = []
    for name in "abc":
        artifact = docker_artifact(head + os.urandom(2 * MIB))
        registry.add(artifact, f"team/{name}", ["1", "same"])
        found.append(artifact)
    return found


def names(registry, *texts):
    return [Reference.parse(registry.reference(text)) for text in texts]


def puller(store, events, budget=None, backoff=QUICK):
    places = Registries(DockerCredentials(None), backoff=backoff)
    return Puller(store, places.source_for, events.append, lambda: backoff, budget or Budget())


def test_models_come_side_by_side_in_the_order_they_were_asked_for(store, registry, models):
    events = []
    found = pull_many(puller(store, events), names(registry, "team/a:1", "team/b:1", "team/c:1"))
    assert [str(outcome.model.digest) for outcome in found] == [each.digest for each in models]
    assert [outcome.status for outcome in found] == ["pulled"] * 3
    assert sum(isinstance(event, Finished) for event in events) == 3
    assert len(store.models()) == 3


def test_events_are_heard_by_the_calling_thread_only(store, registry, models):
    heard_by = set()
    places = Registries(DockerCredentials(None), backoff=QUICK)
    source = Puller(
        store,
        places.source_for,
        lambda _event: heard_by.add(threading.get_ident()),
        lambda: QUICK,
        on_config=lambda *_facts: heard_by.add(threading.get_ident()),
    )
    pull_many(source, names(registry, "team/a:1", "team/b:1"))
    assert heard_by == {threading.get_ident()}


def test_two_models_move_at_the_same_time(store, registry, models):
    registry.slow(2 * MIB)
    events = []
    pull_many(puller(store, events), names(registry, "team/a:1", "team/b:1"))
    weights = {models[0].layer_digests[0], models[1].layer_digests[0]}
    order = [event.digest for event in events if isinstance(event, Advanced)]
    order = [digest for digest in order if digest in weights]
    changes = sum(1 for before, after in itertools.pairwise(order) if before != after)
    assert changes > 2


@pytest.mark.parametrize("connections", [1, 2, 3])
def test_all_of_them_share_the_connections(store, registry, models, connections):
    registry.slow(8 * MIB)
    open_now = [0, 0]
    lock = threading.Lock()
    places = Registries(DockerCredentials(None), backoff=QUICK)

    def source_for(reference):
        source = places.source_for(reference)
        opened = source.open_blob

        def counted(*arguments):
            with lock:
                open_now[0] += 1
                open_now[1] = max(open_now)
            stream = opened(*arguments)
            return Counted(stream)

        class Counted:
            def __init__(self, stream):
                self.stream = stream

            def __enter__(self):
                return self.stream.__enter__()

            def __exit__(self, *error):
                with lock:
                    open_now[0] -= 1
                return self.stream.__exit__(*error)

        source.open_blob = counted
        return source

    pulling = Puller(
        store,
        source_for,
        lambda _event: None,
        lambda: QUICK,
        Budget(Limits(connections=connections)),
    )
    found = pull_many(pulling, names(registry, "team/a:1", "team/b:1", "team/c:1"))
    assert all(isinstance(outcome, Pulled) for outcome in found)
    assert open_now == [0, connections]


def test_all_of_them_share_the_rate(store, registry, models):
    clock = Clock()
    budget = Budget(Limits(rate=6 * MIB))
    budget.throttle = Throttle(6 * MIB, clock, clock.sleep)
    begun = clock.now
    pull_many(puller(store, [], budget), names(registry, "team/a:1", "team/b:1", "team/c:1"))
    weights = sum(len(model.layers[0]) for model in models)
    assert clock.now - begun == pytest.approx(weights / (6 * MIB), abs=0.3)


def test_what_is_given_twice_and_what_has_two_names_comes_once(store, registry, models):
    wanted = names(registry, "team/a:1", "team/a:same", "team/a:1")
    found = pull_many(puller(store, [], Budget(ALONE)), wanted)
    assert [(outcome.reference.tag, outcome.status) for outcome in found] == [
        ("1", "pulled"),
        ("same", "up-to-date"),
    ]
    assert registry.bytes_sent(models[0].layer_digests[0]) == len(models[0].layers[0])


def test_a_blob_that_two_models_have_comes_once(store, registry, tmp_path):
    weights = tiny_gguf(tmp_path / "w.gguf").read_bytes() + os.urandom(4 * MIB)
    one = docker_artifact(weights, license=b"one\n")
    two = docker_artifact(weights, license=b"two\n")
    assert one.digest != two.digest
    registry.add(one, "team/one", ["1"])
    registry.add(two, "team/two", ["1"])
    registry.slow(8 * MIB)
    wanted = names(registry, "team/one:1", "team/two:1")
    found = pull_many(puller(store, [], Budget(ALONE)), wanted)
    assert [outcome.status for outcome in found] == ["pulled", "pulled"]
    assert registry.bytes_sent(one.layer_digests[0]) == len(weights)


def test_a_failure_is_of_one_model_only_and_is_told_at_once(store, registry, models):
    registry.corrupt(models[1].layer_digests[0])
    told = []
    found = pull_many(
        puller(store, []),
        names(registry, "team/a:nope", "team/b:1", "team/c:1"),
        on_outcome=told.append,
    )
    assert [type(outcome) for outcome in found] == [Failed, Failed, Pulled]
    assert isinstance(found[0].error, ManifestNotFoundError)
    assert isinstance(found[1].error, DigestMismatchError)
    assert sorted(map(id, told)) == sorted(map(id, found))


def test_with_fail_fast_the_first_failure_ends_the_others_and_what_came_is_kept(
    store, registry, models
):
    registry.slow(MIB)
    started = threading.Event()
    events = []

    def listen(event):
        events.append(event)
        if isinstance(event, Advanced) and event.done > MIB // 4:
            started.set()

    places = Registries(DockerCredentials(None), backoff=QUICK)

    def source_for(reference):
        if reference.tag == "nope":
            started.wait(20)
        return places.source_for(reference)

    pulling = Puller(store, source_for, listen, lambda: QUICK)
    found = pull_many(
        pulling, names(registry, "team/a:1", "team/b:nope", "team/c:1"), fail_fast=True
    )
    assert [type(outcome) for outcome in found] == [Dropped, Failed, Dropped]
    assert store.models() == ()
    begun_digests = {event.digest for event in events if isinstance(event, Started)}
    assert {path.stem for path in store.layout.ingest.glob("*.partial")} <= {
        digest.removeprefix("sha256:") for digest in begun_digests
    }


def test_a_bug_in_one_thread_is_raised_and_not_swallowed(store, registry, models):
    def source_for(_reference):
        raise ZeroDivisionError

    pulling = Puller(store, source_for)
    with pytest.raises(ZeroDivisionError):
        pull_many(pulling, names(registry, "team/a:1", "team/b:1"))
