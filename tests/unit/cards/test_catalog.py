"""Finding a card by reference, by near miss and by search."""

import pytest

from modelrunner.cards.catalog import Catalog, repository_of
from modelrunner.errors import CardNotFoundError


@pytest.fixture
def catalog(tmp_path):
    for name, provider in (("alpha", "Meta"), ("alpha-mini", "IBM"), ("beta2.5", "IBM")):
        (tmp_path / f"{name}.md").write_text(
            f"# {name.title()}\n## Characteristics\n|a|b|\n|-|-|\n|Provider|{provider}|\n"
            f"## Available model variants\n|Model variant|VRAM|Size|\n|-|-|-|\n"
            f"|`ai/{name}:1B`|2 GiB|1 GB|\n"
        )
    (tmp_path / "facts.json").write_text("[]")
    return Catalog(tmp_path)


@pytest.mark.parametrize(
    "reference",
    [
        "ai/alpha",
        "alpha",
        "Alpha",
        "ai/alpha:1B-Q4_0",
        "docker.io/ai/alpha:latest",
        "index.docker.io/ai/alpha",
        "ai/alpha@sha256:" + "0" * 64,
    ],
)
def test_a_card_is_found_whatever_tag_registry_and_case_say(catalog, reference):
    assert catalog.find(reference).name == "alpha"


@pytest.mark.parametrize(
    "reference", ["hf.co/meta/alpha", "localhost:5000/ai/alpha", "me/alpha", "../alpha", "", "ai/"]
)
def test_another_repository_of_the_same_name_has_no_card(catalog, reference):
    assert catalog.get(reference) is None


def test_a_missing_card_names_what_is_spelled_alike(catalog):
    with pytest.raises(CardNotFoundError) as caught:
        catalog.find("ai/alpa-mini:1B")
    assert caught.value.message == "ai/alpa-mini:1B: card not found in the catalog"
    assert caught.value.hint == "did you mean `ai/alpha-mini`?"
    assert caught.value.facts["near_misses"] == ["ai/alpha-mini"]


def test_a_missing_card_like_no_other_hints_at_the_list(catalog):
    with pytest.raises(CardNotFoundError) as caught:
        catalog.find("ai/zzz")
    assert caught.value.hint == "run `modelrunner cards` to see all of them"


def test_search_wants_every_word_and_takes_none_for_all(catalog):
    assert [card.name for card in catalog.search("ibm")] == ["alpha-mini", "beta2.5"]
    assert [card.name for card in catalog.search("IBM alpha")] == ["alpha-mini"]
    assert [card.name for card in catalog.search("")] == ["alpha", "alpha-mini", "beta2.5"]
    assert list(catalog.search("nobody")) == []


def test_a_card_that_names_none_of_the_tags_need_not_be_read(catalog):
    assert catalog.get("ai/alpha", ["nowhere", "1B"]) == catalog.get("ai/alpha") is not None
    assert catalog.get("ai/alpha", ["nowhere"]) is None


def test_finding_one_card_reads_no_other(catalog):
    (catalog.folder / "beta2.5.md").unlink()
    (catalog.folder / "beta2.5.md").mkdir()
    assert catalog.find("alpha").title == "Alpha"


def test_a_repository_is_the_last_part_of_a_name():
    assert repository_of("ai/granite-4.0-micro:3B") == "granite-4.0-micro"
    assert repository_of("docker.io/library/granite") is None


def test_the_catalogue_that_comes_with_the_program_is_found():
    catalog = Catalog.load()
    assert "granite-4.0-micro" in catalog.names()
    assert "smollm2" in catalog.names()
