"""Layers that repeat: a graph of a few of them has the same peak as one of them all.

A walk through a graph is in the same state after every repetition of what it has seen before, so
what is left out of the middle of a long run changes nothing.
"""

from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache

from modelrunner.frozen import replace
from modelrunner.memory.model.parts import Layer
from modelrunner.memory.model.shape import ModelShape

_LONGEST_PERIOD = 12
_KEPT = 3
"""Repetitions that are kept: one to come into step, one in step, and one to fall out of it."""


def kept(keys: Sequence[Hashable]) -> list[int]:
    """Return the places of what is left of a sequence without the middle of its repetitions."""
    found: list[int] = []
    at = 0
    while at < len(keys):
        period, length = _run(keys, at)
        left = length - max(length // period - _KEPT, 0) * period
        found += range(at, at + left)
        at += length
    return found


def _run(keys: Sequence[Hashable], at: int) -> tuple[int, int]:
    """The period and the length of the run that saves most from a place on."""
    best, saved = (1, 1), 0
    for period in range(1, _LONGEST_PERIOD + 1):
        end = at + period
        while end < len(keys) and keys[end] == keys[end - period]:
            end += 1
        spared = ((end - at) // period - _KEPT) * period
        if spared > saved:
            best, saved = (period, end - at), spared
    return best


@lru_cache(maxsize=16)
def layer_kinds(shape: ModelShape) -> tuple[tuple[int, ...], tuple[int, ...], tuple[Layer, ...]]:
    """Return the kinds of layers by their graph, and by their weights too; and the layers bare."""
    bare = tuple(
        replace(x, weights=0, experts=0, largest_expert=0, matrices=()) for x in shape.layers
    )
    by_graph = _numbered(list(_keys(shape, bare)))
    weighed = [(x.weights, x.experts, x.largest_expert, x.matrices) for x in shape.layers]
    return by_graph, _numbered(list(zip(by_graph, weighed, strict=True))), bare


def _numbered(keys: Sequence[Hashable]) -> tuple[int, ...]:
    numbers: dict[Hashable, int] = {}
    return tuple(numbers.setdefault(key, len(numbers)) for key in keys)


def _keys(shape: ModelShape, bare: Sequence[Layer]) -> Iterator[Hashable]:
    """What tells a layer from others in the graph.

    Layers with an input of their own, or with something by their number, are all different.
    """
    wiring, space = shape.wiring, shape.state_space
    own = wiring.own_input or wiring.pictures or shape.architecture == "gemma3n"
    own = (
        own or any(x.indexer for x in shape.layers) or (space is not None and space.kind == "rwkv")
    )
    for i, layer in enumerate(bare):
        yield i if own else (i % (wiring.rope_skips or 1), layer)


@lru_cache(maxsize=16)
def shortened(shape: ModelShape) -> ModelShape:
    """Return the shape with fewer layers, and the same graph but for repetitions."""
    places = kept(layer_kinds(shape)[0])
    if len(places) == len(shape.layers):
        return shape
    return replace(shape, layers=tuple(shape.layers[i] for i in places))
