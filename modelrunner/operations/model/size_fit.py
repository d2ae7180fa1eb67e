"""Whether a model would fit of which nothing but the size is known."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelrunner.memory.card_estimate import CARD_CONTEXT, estimate_from_card
from modelrunner.memory.devices.device import Device
from modelrunner.memory.fit import Budget, Verdict, verdict_in

if TYPE_CHECKING:
    # an estimate of what is here knows nothing of the Hub
    from modelrunner.huggingface.files import VariantNotFoundError


def size_verdict(size: int, budget: int) -> Verdict:
    """Whether weights of this many bytes fit, with all that a short context needs beside them."""
    return verdict_in(estimate_from_card(None, size, context=CARD_CONTEXT), budget)


def with_fit(error: "VariantNotFoundError", devices: Sequence[Device]) -> "VariantNotFoundError":
    """The error that lists models and their sizes, with what of them fits here."""
    budget = Budget.of(devices).together
    if not budget:
        return error
    verdicts = [size_verdict(size, budget) for _, size in error.choices]
    return type(error)(error.message, error.choices, verdicts, error.repository)
