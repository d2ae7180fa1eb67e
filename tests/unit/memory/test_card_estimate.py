"""What a card's row says, and its figures recomputed."""

import pytest

from benchmarks.accuracy import DATA, cases
from modelrunner.memory.card_estimate import CARD_CONTEXT, card_figures, estimate_from_card

GIB = 1024**3


def test_the_seeds_row_is_recomputed_from_its_header(headers):
    found = card_figures(headers["granite-4.0-h-micro"])
    assert found.vram_bytes / GIB == pytest.approx(2.32, rel=0.005)
    assert found.size_bytes / GIB == pytest.approx(1.81, rel=0.005)


def test_a_row_gives_a_range_and_a_guess_within_for_its_own_context():
    found = estimate_from_card(round(2.32 * GIB), round(1.81 * GIB), context=4096)
    assert found.low < found.total < found.high
    assert found.total / GIB == pytest.approx(1.81 + 0.6 * 0.51, abs=0.01)
    assert (found.source, found.weights, found.is_complete) == ("card", None, False)
    assert found.notes == ("from a card, which is for a context of 4096",)


def test_a_row_says_nothing_of_a_longer_context():
    found = estimate_from_card(round(2.32 * GIB), round(1.81 * GIB), context=131072)
    assert found.high is None
    assert "unknown beyond a context of 4096: a longer context needs more memory" in found.notes


def test_a_row_whose_vram_is_below_its_size_says_little():
    found = estimate_from_card(GIB, 2 * GIB, context=4096)
    assert found.low < GIB
    assert found.high > 2 * GIB
    assert "unreliable: the VRAM in the card is not above the size" in found.notes


def test_a_row_without_vram_gives_its_size():
    assert estimate_from_card(None, GIB, context=4096).total == GIB


def test_the_truth_is_in_the_range_of_nearly_every_row():
    own = [
        case
        for case in cases(DATA / "models.json", DATA / "truth.json")
        if case.is_plain and case.load.context == CARD_CONTEXT
    ]
    inside = 0
    for case in own:
        printed = card_figures(case.header)
        found = estimate_from_card(printed.vram_bytes, printed.size_bytes, context=CARD_CONTEXT)
        inside += found.low <= case.truth <= found.high
    assert inside >= 0.95 * len(own) > 20
