"""Which model of a store an agent gets, told by headers alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from modelrunner.agents.known import APPS
from modelrunner.cards.catalog import Catalog
from modelrunner.errors import DoesNotFitError, ModelNotFoundError
from modelrunner.memory.devices.devices import Device
from modelrunner.oci.reference import Reference
from modelrunner.operations.agents.advice import Advised, advised
from modelrunner.operations.agents.choose import Choice, choose
from modelrunner.operations.agents.sizing import Sized, sized
from modelrunner.operations.devices import Usable
from modelrunner.operations.estimate.estimate import Estimator
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.store.store import Store, StoredModel
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.stores import put

pytest.importorskip("jinja2", reason="templates are rendered with jinja2")

GIB = 1 << 30
WITH_TOOLS = "{{ messages[0].content }}{{ tools if tools }}"
WITHOUT = "{{ messages[0].content }}"


def host(free: int) -> Usable:
    return Usable((Device("RAM", "host", free, free, "cpu"),))


@pytest.fixture
def add(store: Store, tmp_path: Path) -> Callable[..., None]:
    """Puts a model into the store, of tiny weights whose header says what is wanted."""

    def put_in(
        name: str,
        *,
        template: str = WITH_TOOLS,
        trained: int = 131072,
        layers: int = 2,
        **more: object,
    ) -> None:
        metadata = {"tokenizer.chat_template": template, "llama.context_length": trained, **more}
        file = tiny_gguf(tmp_path / "m.gguf", metadata=metadata, layers=layers)
        put(store, docker_artifact(file.read_bytes(), license=name.encode()), name)

    return put_in


def size_in(store: Store, usable: Usable) -> Callable[[StoredModel, str], Sized]:
    return lambda model, name: sized(store, model, name, LaunchRequest(), usable)


def chosen(store: Store, app: str = "claude", free: int = 64 * GIB) -> Choice:
    return choose(store, APPS[app], size_in(store, host(free)), lambda: "pull one")


def test_the_largest_that_calls_tools_and_fits_is_taken(
    store: Store, add: Callable[..., None]
) -> None:
    add("ai/small:1", layers=2)
    add("ai/large:1", layers=6)
    add("ai/mute:1", layers=8, template=WITHOUT)
    add("ai/short:1", layers=8, trained=32768)
    found = chosen(store)
    assert found.best.name == "ai/large:1"
    assert [each.name for each in found.others] == ["ai/small:1"]
    assert found.why(APPS["claude"]) == (
        "using ai/large:1: it calls tools and fits with a context of 131072, the largest of 2"
        " that do"
    )
    assert {each.name: each.reason for each in found.refused} == {
        "ai/mute:1": "its chat template has no tools",
        "ai/short:1": "it was trained for a context of 32768",
    }
    assert [each.name for each in found.better] == ["ai/short:1"]


def test_an_app_that_calls_no_tools_takes_what_an_agent_cannot(
    store: Store, add: Callable[..., None]
) -> None:
    add("ai/mute:1", template=WITHOUT, trained=16384)
    found = chosen(store, "aider")
    assert found.why(APPS["aider"]) == "using ai/mute:1: it fits with a context of 16384"


def test_a_store_without_such_a_model_says_why_of_each(
    store: Store, add: Callable[..., None]
) -> None:
    with pytest.raises(ModelNotFoundError) as empty:
        chosen(store)
    assert (empty.value.message, empty.value.hint) == ("no models in the local store", "pull one")
    add("ai/mute:1", template=WITHOUT)
    with pytest.raises(ModelNotFoundError) as mute:
        chosen(store)
    assert mute.value.message == (
        "no local model calls tools and fits with a context of 65536"
        " (ai/mute:1: its chat template has no tools)"
    )


def test_memory_that_is_short_is_its_own_error(store: Store, add: Callable[..., None]) -> None:
    add("ai/one:1", layers=6)
    with pytest.raises(DoesNotFitError) as short:
        chosen(store, free=16 << 20)
    assert short.value.message == (
        "no local model calls tools and fits with a context of 65536"
        " (ai/one:1: it does not fit into 16.00 MiB with a context of 65536)"
    )


def test_two_requests_and_two_conversations_are_planned_where_there_is_room(
    store: Store, add: Callable[..., None]
) -> None:
    add("ai/one:1", layers=6)
    (model,) = store.models()
    wide = sized(store, model, "ai/one:1", LaunchRequest(), host(64 * GIB))
    assert (wide.context, wide.request.parallel) == (131072, 2)
    assert (wide.request.cache_ram or 0) >= 512
    # what is said counts
    asked = LaunchRequest(context=4096, parallel=1, cache_ram=7)
    kept = sized(store, model, "ai/one:1", asked, host(64 * GIB))
    assert (kept.context, kept.request.parallel, kept.request.cache_ram) == (4096, 1, 7)
    alone = sized(store, model, "ai/one:1", LaunchRequest(), host(64 * GIB), several=False)
    assert alone.request.parallel == 1


def test_the_cache_is_packed_where_that_makes_a_context_for_agents_fit(
    store: Store, add: Callable[..., None]
) -> None:
    # keys and values of 64 take a packed cache
    heads = {"llama.embedding_length": 256, "llama.attention.head_count": 4}
    add("ai/one:1", layers=24, **heads)
    (model,) = store.models()
    size = partial(sized, store, model, "ai/one:1", LaunchRequest(parallel=1))
    free = next(
        free for free in range(64 << 20, 4 * GIB, 64 << 20) if size(host(free)).context >= 65536
    )
    assert size(host(free)).request.kv_type == "q8_0"
    assert size(host(64 * GIB)).request.kv_type is None


def estimator(store: Store, free: int) -> Estimator:
    def nowhere(_name: Reference) -> None:
        raise AssertionError("no registry is asked")

    return Estimator(store, nowhere, Catalog.load, lambda: host(free).devices)  # type: ignore[arg-type]


def test_cards_name_the_largest_variant_that_calls_tools_and_fits(store: Store) -> None:
    found = advised(Catalog.load().cards(), estimator(store, 16 * GIB), 65536)
    assert found is not None
    assert found.size < 16 * GIB
    smaller = advised(Catalog.load().cards(), estimator(store, 8 * GIB), 65536)
    assert smaller is not None
    assert smaller.size < found.size
    card = Catalog.load().find(smaller.name)
    assert card.attributes.tool_calling is True
    assert advised(Catalog.load().cards(), estimator(store, 1 << 20), 65536) is None
    none = advised(
        Catalog.load().cards(), estimator(store, 8 * GIB), 65536, larger_than=smaller.size
    )
    assert none is None
    assert isinstance(smaller, Advised)
