"""What models of the store can do, and that it is found out once."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelrunner.oci.reference import Reference
from modelrunner.operations.model.capabilities import capabilities_of, capabilities_of_one
from modelrunner.operations.model.rows import rows, with_capabilities
from modelrunner.operations.package.package import Ingredients, package
from modelrunner.runtime.capabilities.facts import Capabilities, TemplateFacts, Thinking
from modelrunner.store.store import Store, StoredModel
from tests.support.gguf import tiny_gguf, tiny_projector

pytest.importorskip("jinja2", reason="templates are rendered with jinja2")

PLAIN = "{% for m in messages %}{{ m.content }}{% endfor %}"
TOOLS = PLAIN + "{{ tools if tools }}"
THINKS = PLAIN + "{{ '<think>' if enable_thinking else '' }}"


def stored(
    store: Store, folder: Path, name: str = "ai/x:1", *, beside: str | None = None,
    projector: bool = False, **header: object,
) -> StoredModel:  # fmt: skip
    file = tiny_gguf(folder / f"{name.replace('/', '-')}.gguf", metadata=header)
    template = None
    if beside is not None:
        template = folder / "t.jinja"
        template.write_text(beside)
    mmproj = tiny_projector(folder / "mmproj.gguf") if projector else None
    ingredients = Ingredients(file, projector=mmproj, template=template)
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    return package(store, ingredients, Reference.parse(name), family="docker", created=moment)


def test_the_headers_template_and_its_own_for_tools_are_tried(store: Store, tmp_path: Path) -> None:
    header = {"tokenizer.chat_template": THINKS, "tokenizer.chat_template.tool_use": TOOLS}
    thinking = Thinking(switch="enable_thinking", on=True, off=False, default=False, opens=True)
    assert capabilities_of_one(stored(store, tmp_path, **header)) == Capabilities(
        template=TemplateFacts(tools=True, thinking=thinking)
    )


def test_the_template_beside_the_weights_counts_instead(store: Store, tmp_path: Path) -> None:
    model = stored(store, tmp_path, beside=TOOLS, **{"tokenizer.chat_template": THINKS})
    assert capabilities_of_one(model) == Capabilities(template=TemplateFacts(tools=True))


def test_header_and_projector_say_the_rest(store: Store, tmp_path: Path) -> None:
    header = {"tokenizer.chat_template": None, "llama.nextn_predict_layers": 1}
    model = stored(store, tmp_path, projector=True, **header)
    found = capabilities_of_one(model)
    assert found == Capabilities(images=True, draft_heads=1)
    assert found.words == ("images", "drafts")
    assert not found.chat


@pytest.mark.parametrize(("pooling", "words"), [(1, ("embeddings",)), (4, ("reranking",)), (0, ())])
def test_a_model_that_does_not_write_has_neither_tools_nor_thoughts(
    store: Store, tmp_path: Path, pooling: int, words: tuple[str, ...]
) -> None:
    header = {"tokenizer.chat_template": PLAIN, "llama.pooling_type": pooling}
    found = capabilities_of_one(stored(store, tmp_path, **header))
    assert found is not None
    assert found.words == words


def test_what_was_found_out_once_is_read_from_beside_the_stamp(
    store: Store, tmp_path: Path
) -> None:
    model = stored(store, tmp_path, **{"tokenizer.chat_template": TOOLS})
    known = capabilities_of_one(model)
    kept = store.layout.capabilities(model.digest)
    value = json.loads(kept.read_text())
    value["template"]["tools"] = False
    kept.write_text(json.dumps(value))
    assert capabilities_of_one(model) == Capabilities(template=TemplateFacts())
    for damaged in ("", "[]", '{"version": 1}', json.dumps({**value, "version": 0})):
        kept.write_text(damaged)
        assert capabilities_of_one(model) == known


def test_many_models_are_looked_at_together_and_a_damaged_one_is_unknown(
    store: Store, tmp_path: Path
) -> None:
    models = [
        stored(store, tmp_path, f"ai/m:{number}", **{"tokenizer.chat_template": template})
        for number, template in enumerate((TOOLS, THINKS, PLAIN))
    ]
    weights = models[1].blob(models[1].artifact.weights[0].descriptor)
    weights.chmod(0o644)
    weights.write_bytes(b"GGUF")
    words = [known and known.words for known in capabilities_of(models)]
    assert words == [("tools",), None, ()]
    listed = with_capabilities(store, rows(store))
    assert {row.short_names[0]: row.capabilities and row.capabilities.listed for row in listed} == {
        "ai/m:0": "tools",
        "ai/m:1": None,
        "ai/m:2": "",
    }
