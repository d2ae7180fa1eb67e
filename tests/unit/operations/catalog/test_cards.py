"""What the catalogue offers, filtered, sorted and held against memory."""

import pytest

from modelrunner.cards.catalog import Catalog
from modelrunner.cards.parser import parse_card
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.fit import choose_context, fit
from modelrunner.memory.model.card_shape import shape_from_card
from modelrunner.memory.plan.load import Load
from modelrunner.operations.catalog.cards import (
    CardFilter,
    Order,
    marks,
    offers,
    to_dicts,
    verdict_of,
)

GIB = 1 << 30
HEAD = "| Model variant | Parameters | Quantization | Context window | VRAM | Size |\n"
RULE = "|---|---|---|---|---|---|\n"


def card(name, *rows, tools="✅", license_="Apache 2.0"):
    facts = f"| Attribute | Details |\n|---|---|\n| Tool calling | {tools} |\n"
    facts += f"| License | {license_} |\n"
    table = f"## Available model variants\n{HEAD}{RULE}" + "\n".join(rows) if rows else ""
    return parse_card(f"# {name}\n## Characteristics\n{facts}\n{table}\n", name=name)


SMALL = "| `ai/a:1B` | 1B | Q8_0 | 131K tokens | 2 GiB | 1 GiB |"
LARGE = "| `ai/a:8B` | 8B | Q8_0 | 131K tokens | 10 GiB | 8 GiB |"
BARE = "| `ai/b:?` | - | Q8_0 | - | - | - |"
A, B = card("a", LARGE, SMALL), card("b", BARE, tools="❌", license_="MIT")
EMPTY = card("c")


def names(found):
    return [offer.name for offer in found]


def test_everything_is_offered_in_the_order_of_the_cards():
    assert names(offers([A, B, EMPTY], CardFilter())) == ["ai/a:8B", "ai/a:1B", "ai/b:?", "ai/c"]


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (CardFilter(tools=True), ["ai/a:8B", "ai/a:1B", "ai/c"]),
        (CardFilter(license="mit"), ["ai/b:?"]),
        (CardFilter(license="apache", tools=True, max_size=GIB), ["ai/a:1B"]),
        (CardFilter(max_size=8 * GIB), ["ai/a:8B", "ai/a:1B"]),
        (CardFilter(max_size=GIB - 1), []),
        (CardFilter(room=3 * GIB, fits=True), ["ai/a:1B"]),
        (CardFilter(room=0, fits=True), []),
        (CardFilter(room=3 * GIB), ["ai/a:8B", "ai/a:1B", "ai/b:?", "ai/c"]),
    ],
)
def test_all_that_is_wanted_has_to_hold(wanted, left):
    assert names(offers([A, B, EMPTY], wanted)) == left


@pytest.mark.parametrize("order", [Order.SIZE, Order.VRAM, Order.PARAMETERS])
def test_what_is_not_known_comes_last(order):
    found = names(offers([B, EMPTY, A], CardFilter(order=order)))
    assert found == ["ai/a:1B", "ai/a:8B", "ai/b:?", "ai/c"]


def test_a_row_alone_fits_from_its_vram_and_does_not_below_its_size():
    (small,) = offers([card("a", SMALL)], CardFilter())
    verdicts = [
        verdict_of(small.card, small.variant, budget)
        for budget in (3 * GIB, 2 * GIB, GIB, GIB // 2)
    ]
    assert verdicts == ["fits", "maybe", "maybe", "no"]


def test_what_is_not_known_to_fit_is_neither_yes_nor_no():
    assert [offer.fits for offer in offers([A, B], CardFilter(room=2 * GIB))] == [False, None, None]
    assert [offer.fits for offer in offers([A], CardFilter())] == [None, None]


def test_json_has_only_the_variants_that_are_left():
    assert [
        key for key in to_dicts(offers([A], CardFilter()))[0]["variants"][0] if key == "fits"
    ] == []
    (found,) = to_dicts(offers([A, B], CardFilter(room=3 * GIB, fits=True)))
    assert found["name"] == "a"
    assert [(row["references"], row["fits"]) for row in found["variants"]] == [(["ai/a:1B"], True)]


def test_json_keeps_a_card_in_one_piece_in_the_order_of_its_first_variant():
    middle = card("b", "| `ai/b:3B` | 3B | Q8_0 | 131K tokens | 4 GiB | 3 GiB |")
    found = to_dicts(offers([middle, A], CardFilter(order=Order.SIZE)))
    assert [(entry["name"], len(entry["variants"])) for entry in found] == [("a", 2), ("b", 1)]


def test_a_gpu_that_holds_some_layers_is_better_than_none():
    (offer,) = offers([Catalog.load().get("ai/phi4")], CardFilter(max_size=9 * GIB, license=""))[:1]
    host = Device("host", "host", 64 * GIB, 64 * GIB, "cpu")
    gpu = Device("gpu", "gpu", 4 * GIB, 4 * GIB, "cuda")
    large = Device("gpu", "gpu", 24 * GIB, 24 * GIB, "cuda")
    rooms = ((host,), (gpu, host), (large, host), ())
    assert [verdict_of(offer.card, offer.variant, room) for room in rooms] == [
        *("fits", "partial", "fits", "no")
    ]


@pytest.mark.parametrize(
    "room",
    [
        4 * GIB,
        16 * GIB,
        (
            Device("gpu", "gpu", 8 * GIB, 8 * GIB, "cuda"),
            Device("host", "host", 16 * GIB, 16 * GIB, "cpu"),
        ),
    ],
)
def test_the_verdict_is_that_of_the_context_that_would_be_chosen(room):
    compared = 0
    for offer in offers(Catalog.load().search("llama3.2"), CardFilter(room=room)):
        facts = offer.card.shape_of(offer.variant)
        shape = shape_from_card(facts, offer.variant.size_bytes)
        context = choose_context(shape, room)
        if context >= 4096:
            compared += 1
            assert fit(shape, Load(context), room).verdict == offer.verdict
    assert compared > 1


def test_marks_are_words_for_people():
    assert dict(marks(A, 3 * GIB)) == {"ai/a:8B": "too large", "ai/a:1B": "fits"}
    assert dict(marks(A, 2 * GIB)) == {"ai/a:8B": "too large", "ai/a:1B": "may fit"}
