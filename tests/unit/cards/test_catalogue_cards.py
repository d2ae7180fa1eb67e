"""The cards of the catalogue say what their facts say, and own up to what is odd."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from modelrunner.cards.catalog import Catalog
from modelrunner.cards.cells import parse_bytes, parse_parameters
from modelrunner.cards.checks import compare

FOLDER = Path(__file__).parents[3] / "cards"
FACTS = {card["name"]: card for card in json.loads((FOLDER / "facts.json").read_text("utf-8"))}


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make_cards", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def catalog():
    return Catalog(FOLDER)


@pytest.fixture(scope="module")
def cards(catalog):
    return {name: catalog.find(name) for name in catalog.names()}


def test_the_catalog_has_a_card_for_each_model_that_there_are_facts_of(catalog, cards):
    assert sorted(cards) == sorted(FACTS)
    assert [card.name for card in catalog.cards()] == sorted(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_a_card_reads_back_as_its_facts(cards, name):
    card, facts = cards[name], FACTS[name]
    assert card.title == facts["title"]
    assert card.latest == facts["latest"]
    attributes = card.attributes.to_dict()
    assert {key: attributes[key] for key in facts["attributes"]} == facts["attributes"]
    assert [
        (list(v.references), v.parameters_text, v.quantization, v.context_tokens)
        for v in card.variants
    ] == [
        (v["references"], v["parameters"], v["quantization"], v["context"])
        for v in facts["variants"]
    ]
    for variant, row in zip(card.variants, facts["variants"], strict=True):
        assert variant.vram_bytes == parse_bytes(row["vram"], "binary")
        assert variant.size_bytes == parse_bytes(row["size"], "binary")
        assert variant.parameters == parse_parameters(row["parameters"])[0]
    assert card.to_dict()["shapes"] == facts.get("shapes", {})
    assert [link.url for link in card.links] == [link["url"] for link in facts["links"]]


@pytest.mark.parametrize("name", FACTS)
def test_every_oddity_of_a_card_is_said_in_it(cards, name):
    card = cards[name]
    text = card.text.replace("`", "")
    others = (other for other in cards.values() if other.name != name)
    odd = [*card.warnings, *(sentence for other in others for sentence in compare(card, other))]
    assert [sentence for sentence in odd if sentence.replace("`", "") not in text] == []
    assert ("## Doubtful facts" in card.text) == bool(odd)


@pytest.mark.parametrize("name", FACTS)
def test_every_card_has_the_same_form(cards, name):
    text = cards[name].text
    assert cards[name].description
    order = ("## Description", "## Characteristics", "## Available model variants")
    order += ("## Considerations", "<!-- doubts -->", "## Links")
    places = [text.find(heading) for heading in order]
    assert places == sorted(places)
    assert min(places) > 0


def test_the_card_of_granite_micro_is_complete(catalog):
    card = catalog.find("ai/granite-4.0-micro:3B")
    assert len(card.benchmarks) == 27
    assert card.shape["attention_layers"] == (5, 15, 25, 35)
    assert "4,096" in card.text
    assert "ai/granite-4.0-h-micro" in card.text


def test_the_cards_are_what_the_script_makes_of_the_facts(make):
    assert [path.name for path, _ in make.stale(FOLDER)] == []


def test_a_changed_fact_makes_its_card_stale_and_leaves_the_prose(make, tmp_path):
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    facts = tmp_path / "facts.json"
    facts.write_text(facts.read_text("utf-8").replace("98.87 MiB", "99.87 MiB"), "utf-8")
    ((path, text),) = make.stale(tmp_path)
    old = path.read_text("utf-8")
    assert path.name == "smollm2.md"
    assert text == old.replace("98.87 MiB", "99.87 MiB")


# Bits a weight takes in file types that have one tensor type; norms and biases are the rest.
BITS = {"F16": 16, "BF16": 16, "Q8_0": 8.5}
# Dynamic quantizations mix types; gpt-oss keeps its experts at four bits; one file stores its
# embedding twice; the rerankers' sizes are wrong and said to be.
MIXED = ("_XL", "gpt-oss", "ai/qwen3:0.6B-F16", "reranker")

ONE_TYPE = [
    (name, row["references"][-1])
    for name, card in FACTS.items()
    if "shapes" in card
    for row in card["variants"]
    if row["quantization"] in BITS
    and not any(mark in reference for reference in row["references"] for mark in MIXED)
]


def weights(shape):
    """The matrices of a model, in weights."""
    width, heads, kv = shape["embedding"], shape["heads"], shape["kv_heads"]
    attention = 2 * width * shape["head_size"] * (heads + kv)
    inner, state = shape.get("ssm_inner", 0), shape.get("ssm_state", 0)
    mixed_in = 2 * inner + 2 * shape.get("ssm_groups", 0) * state + shape.get("ssm_heads", 0)
    recurrent = width * (mixed_in + inner)
    feed_forward = shape["feed_forward"]
    feed_forward += shape.get("experts", 0) * shape.get("expert_feed_forward", 0)
    embeddings = shape["vocab"] * width * (1 if shape["tied"] else 2)
    layers = shape["layers"]
    attended = len(shape.get("attention_layers", range(layers)))
    mixers = attended * attention + (layers - attended) * recurrent
    return embeddings + mixers + layers * 3 * width * feed_forward


@pytest.mark.parametrize(("name", "reference"), ONE_TYPE)
def test_the_size_of_a_file_with_one_tensor_type_follows_from_the_shape(cards, name, reference):
    card = cards[name]
    variant = card.variant(reference)
    shape = card.shape_of(variant)
    expected = weights(shape) * BITS[variant.quantization] / 8
    assert variant.size_bytes == pytest.approx(expected, rel=0.005)
