"""What is decided before a model is started."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelrunner.errors import CorruptStoreError, UnsupportedArtifactError, UsageError
from modelrunner.memory.devices.devices import Device
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate.observations import Circumstances, Observation
from modelrunner.operations.launch.plan import LaunchPlan, plan_launch
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.runtime.backends import arguments
from modelrunner.store.store import Store, StoredModel
from tests.support.gguf import tiny_gguf, tiny_projector, write_gguf

GIB = 1024**3
HOST = Device(name="x86_64", kind="host", backend="cpu", total_bytes=16 * GIB, free_bytes=8 * GIB)
WISH = LaunchRequest(threads=4)


def stored(
    store: Store,
    folder: Path,
    name: str = "ai/x:1",
    *,
    packaged: int | None = None,
    **fields: object,
) -> StoredModel:
    file = tiny_gguf(folder / "x.gguf", **fields)  # type: ignore[arg-type]
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    ingredients = Ingredients(file, context_length=packaged)
    return package(store, ingredients, Reference.parse(name), family="docker", created=moment)


def plan(
    store: Store, model: StoredModel, request: LaunchRequest = WISH, name: str = "ai/x:1"
) -> LaunchPlan:
    return plan_launch(store, model, name, request, [HOST])


@pytest.mark.parametrize(
    ("trained", "asked", "given"),
    [(2048, None, 2048), (1048576, None, 32768), (2048, 512, 512), (2048, 8192, 8192)],
)
def test_the_context_is_what_was_asked_for_or_trained_and_usual(
    store: Store, tmp_path: Path, trained: int, asked: int | None, given: int
) -> None:
    model = stored(store, tmp_path, context_length=trained)
    found = plan(store, model, LaunchRequest(context=asked, threads=4))
    assert (found.spec.context, found.trained_context) == (given, trained)


@pytest.mark.parametrize(
    ("trained", "packaged", "given", "source"),
    [
        (8192, 1024, 1024, "packaged"),
        (131072, 65536, 65536, "packaged"),
        (2048, 2048, 2048, "trained"),
        (2048, 4096, 2048, "trained"),
        (131072, 131072, 32768, "usual"),
    ],
)
def test_the_packaged_context_is_the_default_up_to_the_trained_one(
    store: Store, tmp_path: Path, trained: int, packaged: int, given: int, source: str
) -> None:
    model = stored(store, tmp_path, context_length=trained, packaged=packaged)
    found = plan(store, model)
    assert (found.spec.context, found.context_source) == (given, source)
    assert found.load.context == given


def test_the_runtime_gets_what_fits_of_earlier_prompts(store: Store, tmp_path: Path) -> None:
    model = stored(store, tmp_path, context_length=8192)
    plenty = plan(store, model)
    assert (plenty.spec.planned_cache_ram, plenty.spec.planned_checkpoints) == (512, 8)
    assert arguments.environment(plenty.spec)["LLAMA_ARG_CACHE_RAM"] == "512"
    assert "prompts" not in plenty.line()
    left = replace(HOST, free_bytes=plenty.estimate.total + 3 * 1024 * 1024)
    tight = plan_launch(store, model, "ai/x:1", replace(WISH, context=8192), [left])
    assert tight.spec.planned_cache_ram == 1
    assert arguments.environment(tight.spec)["LLAMA_ARG_CACHE_RAM"] == "1"
    assert ", earlier prompts kept up to 4096 tokens, 4 threads" in tight.line()
    asked = plan(store, model, replace(WISH, cache_ram=7, checkpoints=2))
    assert (asked.spec.planned_cache_ram, asked.spec.planned_checkpoints) == (7, 2)


def test_what_is_asked_for_beats_the_packaged_context(store: Store, tmp_path: Path) -> None:
    model = stored(store, tmp_path, context_length=8192, packaged=1024)
    found = plan(store, model, LaunchRequest(context=4096, threads=4))
    assert (found.spec.context, found.context_source) == (4096, "requested")
    assert found.line().endswith("; context 4096 of 8192, 4 threads")


def test_a_packaged_context_is_shortened_until_it_fits(store: Store, tmp_path: Path) -> None:
    model = stored(store, tmp_path, context_length=1048576, packaged=524288)
    small = replace(HOST, free_bytes=24 * 1024**2)
    found = plan_launch(store, model, "ai/x:1", LaunchRequest(kv_type="f16"), [small])
    assert found.spec.context < 524288
    assert (found.context_source, found.fit.verdict) == ("memory", "fits")


def test_a_packaged_context_is_that_of_each_conversation(store: Store, tmp_path: Path) -> None:
    model = stored(store, tmp_path, context_length=8192, packaged=4096)
    found = plan(store, model, LaunchRequest(threads=4, parallel=4))
    assert (found.spec.context, found.spec.parallel, found.load.context) == (4096, 4, 16384)


def test_the_sentence_says_that_the_context_is_the_packaged_one(
    store: Store, tmp_path: Path
) -> None:
    line = plan(store, stored(store, tmp_path, context_length=8192, packaged=1024)).line()
    assert line.endswith("; context 1024 of 8192, as packaged, 4 threads")


@pytest.mark.parametrize(
    ("trained", "asked", "given", "told"),
    [
        (8192, 300, 512, "context rounded up to 512 of 8192, 4 threads"),
        (8192, 1, 256, "context rounded up to 256 of 8192, 4 threads"),
        (8192, 512, 512, "context 512 of 8192, 4 threads"),
        # a conversation gets no more than was trained for, however the cache is rounded
        (300, 300, 300, "context 300, 4 threads"),
        (300, 280, 300, "context rounded up to 300, 4 threads"),
    ],
)
def test_the_context_is_told_as_it_will_run(
    store: Store, tmp_path: Path, trained: int, asked: int, given: int, told: str
) -> None:
    model = stored(store, tmp_path, context_length=trained)
    found = plan(store, model, LaunchRequest(context=asked, threads=4))
    assert found.spec.context == given
    assert found.line().endswith(f"; {told}")


def test_one_sentence_says_whether_and_how_it_fits(store: Store, tmp_path: Path) -> None:
    model = stored(store, tmp_path, context_length=1048576)
    line = plan(store, model).line()
    assert line.startswith("ai/x:1 Q4_0: fits, needs ")
    assert line.endswith(" of 8.00 GiB memory; context 32768 of 1048576, 4 threads")


def test_an_unknown_architecture_fits_where_the_most_that_it_can_need_does(
    store: Store, tmp_path: Path
) -> None:
    found = plan(store, stored(store, tmp_path, architecture="nonesuch"))
    assert found.estimate.high < 8 * GIB
    assert found.fit.verdict == "fits"


@pytest.mark.parametrize(("took", "said"), [(GIB, "fits, needs 1.00"), (9 * GIB, "does not fit")])
def test_a_measurement_says_whether_an_unknown_architecture_fits(
    store: Store, tmp_path: Path, took: int, said: str
) -> None:
    found = plan(store, stored(store, tmp_path, architecture="nonesuch"))
    usual = Circumstances("cpu")
    before = Observation("sha256:1", "one", "1.0", found.spec.context, usual, GIB, took)
    assert found.as_seen(before).line().startswith(f"ai/x:1 Q4_0: {said}")


@pytest.mark.parametrize("name", ["ai/x:1-Q4_0", "ai/x:1-q4_0"])
def test_a_quantisation_that_the_name_says_is_not_said_twice(
    store: Store, tmp_path: Path, name: str
) -> None:
    assert plan(store, stored(store, tmp_path, name), name=name).line().startswith(f"{name}: fits")


def test_a_plan_warns_of_a_context_that_is_too_long_and_of_memory_that_is_short(
    store: Store, tmp_path: Path
) -> None:
    model = stored(store, tmp_path, context_length=2048)
    usual = plan(store, model)
    assert (usual.shortage, usual.warnings) == (None, ())
    long = plan(store, model, LaunchRequest(context=8192, threads=4))
    assert long.warnings == ("a context of 8192 exceeds the trained context of 2048",)
    tight = replace(usual, fit=replace(usual.fit, verdict="no", max_context=1024))
    assert tight.shortage == ("memory is short, this may fail or be slow; --context 1024 would fit")


def test_an_embedding_model_does_not_chat(store: Store, tmp_path: Path) -> None:
    model = stored(store, tmp_path, architecture="bert", metadata={"bert.pooling_type": 1})
    with pytest.raises(UnsupportedArtifactError, match="is an embedding model"):
        plan(store, model)


def test_a_missing_blob_is_found_before_the_start(store: Store, tmp_path: Path) -> None:
    model = stored(store, tmp_path)
    store.blobs.path(model.manifest.layers[0].digest).unlink()
    with pytest.raises(CorruptStoreError) as raised:
        plan(store, model)
    assert raised.value.hint == (
        "import or load it again, or run `modelrunner pull ai/x:1` if a registry has it"
    )
    store.note_published(model)
    with pytest.raises(CorruptStoreError) as raised:
        plan(store, store.resolve("ai/x:1"))
    assert raised.value.hint == "run `modelrunner pull ai/x:1`: only missing blobs are downloaded"


def test_every_start_has_a_key_of_its_own_that_is_not_shown(store: Store, tmp_path: Path) -> None:
    model = stored(store, tmp_path)
    one, other = plan(store, model), plan(store, model)
    assert one.spec.api_key != other.spec.api_key
    assert one.spec.api_key not in repr(one)


def with_projector(store: Store, folder: Path, content: bytes) -> StoredModel:
    """A model in the store whose artifact brings any bytes as its projector."""
    manifest = stored(store, folder).manifest
    layer = Descriptor(
        media_types.DOCKER_PROJECTOR,
        Digest.of(content),
        len(content),
        {media_types.ANNOTATION_PATH: "mmproj-F16.gguf"},
    )
    store.blobs.put(layer, content)
    made = Manifest.build(manifest.config, [*manifest.layers, layer])
    return store.add(made, [Reference.parse("ai/x:1")])


def test_a_projector_that_fits_is_used(store: Store, tmp_path: Path) -> None:
    content = tiny_projector(tmp_path / "p.gguf", width=32).read_bytes()
    found = plan(store, with_projector(store, tmp_path, content))
    assert found.projector_problem is None
    assert found.spec.mmproj is not None
    assert found.spec.mmproj.name == "mmproj-F16.gguf"


def test_the_buffers_for_an_image_are_in_the_plan_beside_the_projector(
    store: Store, tmp_path: Path
) -> None:
    numbers = {
        "image_size": 28,
        "patch_size": 14,
        "embedding_length": 64,
        "feed_forward_length": 128,
        "block_count": 2,
        "attention.head_count": 2,
    }
    path = write_gguf(
        tmp_path / "p.gguf",
        architecture="clip",
        metadata={
            "general.type": "mmproj",
            "clip.has_vision_encoder": True,
            "clip.projector_type": "gemma3",
            "clip.vision.projection_dim": 32,
            **{f"clip.vision.{key}": value for key, value in numbers.items()},
        },
        tensors=[("mm.input_projection.weight", (32, 64), 0)],
    )
    found = plan(store, with_projector(store, tmp_path, path.read_bytes()))
    # an image of 28 x 28 x 3 numbers, and the same as four patches
    assert found.estimate.projector == path.stat().st_size + 2 * (28 * 28 * 3 * 4)


@pytest.mark.parametrize(
    ("width", "problem"),
    [
        (96, "its output has 96 dimensions, the model needs 32"),
        (None, "expected a projector, got a model"),
        (0, "mmproj-F16.gguf"),
    ],
)
def test_a_projector_that_does_not_fit_is_left_out_with_a_reason(
    store: Store, tmp_path: Path, width: int | None, problem: str
) -> None:
    content = (
        tiny_gguf(tmp_path / "p.gguf", seed=7).read_bytes()
        if width is None
        else tiny_projector(tmp_path / "p.gguf", width=width).read_bytes()
        if width
        else b"no GGUF"
    )
    model = with_projector(store, tmp_path, content)
    found = plan(store, model)
    assert found.spec.mmproj is None
    assert found.projector_problem is not None
    assert found.projector_problem.startswith("mmproj-F16.gguf is not used: ")
    assert problem in found.projector_problem
    assert found.estimate.projector is None


def test_a_projector_of_another_model_is_not_packaged(store: Store, tmp_path: Path) -> None:
    weights = tiny_gguf(tmp_path / "x.gguf")
    projector = tiny_projector(tmp_path / "mmproj-y.gguf", width=96)
    with pytest.raises(UsageError) as caught:
        package(
            store,
            Ingredients(weights, projector=projector),
            Reference.parse("ai/x:1"),
            family="docker",
            created=datetime(2025, 1, 1, tzinfo=UTC),
        )
    assert caught.value.message == (
        "mmproj-y.gguf does not match x.gguf: its output has 96 dimensions, the model needs 32"
    )


SWITCHED = "{{ messages[0].content }}{{ '<think>' if enable_thinking else '' }}"


@pytest.mark.parametrize(
    ("think", "limits", "arguments", "budget", "note"),
    [
        (None, True, None, None, None),
        ("off", True, '{"enable_thinking": false}', None, None),
        ("300", True, '{"enable_thinking": true}', 300, None),
        (
            "300",
            False,
            '{"enable_thinking": true}',
            None,
            "ai/x:1 cannot limit its thoughts to 300 tokens with this runtime",
        ),
    ],
)
def test_a_launch_says_how_much_to_think_in_the_templates_words(
    store: Store,
    tmp_path: Path,
    think: str | None,
    limits: bool,
    arguments: str | None,
    budget: int | None,
    note: str | None,
) -> None:
    pytest.importorskip("jinja2", reason="templates are rendered with jinja2")
    model = stored(store, tmp_path, metadata={"tokenizer.chat_template": SWITCHED})
    found = plan(store, model, replace(WISH, think=think, limits_thoughts=limits))
    told = (found.spec.template_arguments, found.spec.thinking_budget, found.think_note)
    assert told == (arguments, budget, note)


def test_a_model_that_does_not_think_is_not_told_to(store: Store, tmp_path: Path) -> None:
    found = plan(store, stored(store, tmp_path), replace(WISH, think="low"))
    assert (found.spec.template_arguments, found.spec.thinking_budget) == (None, None)
    assert found.think_note == (
        "the chat template of ai/x:1 has no thinking: `think` has no effect"
    )
