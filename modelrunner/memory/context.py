"""The context of a model when none is requested, and the context that llama.cpp runs.

The packager's context size counts before what the model was trained for and before what is usual:
`run`, `serve`, `estimate` and `export` all take their default from `default_context`.
"""

from typing import Literal, NamedTuple

from modelrunner.memory.plan.load import PADDING, padded

ContextSource = Literal["requested", "packaged", "trained", "usual", "memory"]

DEFAULT_CEILING = 32768
"""Tokens beyond which no model gets a longer context unless somebody asks for it."""

_LONGEST = 1 << 24


class DefaultContext(NamedTuple):
    """The longest context that a model gets by default; memory may allow less.

    Attributes:
        tokens: Tokens of one conversation.
        source: What sets it: the artifact, the header, or neither.
    """

    tokens: int
    source: ContextSource


def default_context(
    trained: int | None, packaged: int | None, usual: int = DEFAULT_CEILING
) -> DefaultContext:
    """The default context of a model, before memory is looked at.

    Args:
        trained: Tokens that the model was trained for, by its header.
        packaged: `context_size` of the artifact's config. Many packagers copy the trained length
            into it: it counts as their choice only where it is shorter.
        usual: The most where the artifact makes no choice of its own.
    """
    if packaged and packaged <= _LONGEST and (not trained or packaged < trained):
        return DefaultContext(packaged, "packaged")
    if trained and trained <= usual:
        return DefaultContext(trained, "trained")
    return DefaultContext(usual, "usual")


def running_context(tokens: int, trained: int | None) -> int:
    """The context that llama.cpp runs for a requested one.

    It rounds up to a multiple of 256, but no server gives a conversation more than was trained for
    when less than that was requested.
    """
    rounded = padded(tokens, PADDING)
    if trained and tokens <= trained:
        return min(rounded, trained)
    return rounded
