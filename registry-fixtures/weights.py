"""Weights that are the same on every machine, and that make a model say one sentence.

No weight is trained. Most are noise drawn from a hash of the tensor's name. The last feed-forward
block is built by hand so that the model walks through a sentence, one token after the other, and
then ends:

```
residual stream  = the current token's embedding, plus a little noise from the layers before
gate, up         = one neuron a token of the sentence: fires on that token, sleeps on all others
down             = that neuron writes the embedding of the token that follows
                   one more neuron always fires, weakly, and writes the first token of the sentence
```

So any prompt is answered with the sentence, at any sensible temperature. Where a grammar wants a
tool call after it, a second, weaker suggestion leads there.

Embeddings are rows of signs, which in a few hundred dimensions are close to orthogonal. Their
first eighth is 1 for every token: a constant that serves as the neurons' bias.

Only operations that IEEE 754 defines to the last bit are used (no sums over many elements, no
transcendental functions), so that the files are identical wherever they are made.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MATCH = 16.0  # what a neuron sees of its own token; of any other it sees about 1
THRESHOLD = 8.0
DEFAULT = 0.5  # how strongly the neuron that always fires speaks, next to one that matches
ENCORE = 0.75  # how strongly the second walk is suggested, next to the end of the first


def ones(*shape: int) -> Floats:
    """What a norm is before training."""
    return np.ones(shape, dtype=np.float32)


def noise(seed: str, *shape: int, scale: float) -> Floats:
    """Numbers spread evenly over [-scale, scale), drawn from the seed."""
    count = int(np.prod(shape))
    drawn = np.frombuffer(hashlib.shake_256(seed.encode()).digest(2 * count), dtype="<i2")
    unit = drawn.astype(np.float32) / np.float32(32768)
    return (unit * np.float32(scale)).reshape(shape)


def embeddings(seed: str, tokens: int, width: int) -> Floats:
    """One row of signs a token; the first eighth of every row is 1."""
    rows = np.where(noise(seed, tokens, width, scale=1.0) < 0, np.float32(-1), np.float32(1))
    rows[:, : width // 8] = 1
    return rows


@dataclass(frozen=True, slots=True)
class FeedForward:
    """The three matrices of a gated block, in the order [outputs, inputs]."""

    gate: Floats
    up: Floats
    down: Floats


def idle(seed: str, width: int, neurons: int) -> FeedForward:
    """A block that only adds a little noise."""
    return FeedForward(
        gate=noise(f"{seed}.gate", neurons, width, scale=1 / 16),
        up=noise(f"{seed}.up", neurons, width, scale=1 / 16),
        down=noise(f"{seed}.down", width, neurons, scale=1 / 256),
    )


def recital(
    rows: Floats, walks: Sequence[Sequence[int]], neurons: int, *, strength: float
) -> FeedForward:
    """The block that writes the embedding of the token after the current one.

    Args:
        rows: The embeddings, one row a token.
        walks: Tokens that follow one another; each token has one successor. The first walk is the
            sentence and ends the answer; the second begins where a grammar forbids that end.
        neurons: The size of the block: more than there are tokens to follow.
        strength: How much louder than the current token's embedding the next one is written.
    """
    width = rows.shape[1]
    bias = width // 8
    written = rows * np.float32(strength / (MATCH - THRESHOLD))
    gate = np.zeros((neurons, width), dtype=np.float32)
    up = np.zeros((neurons, width), dtype=np.float32)
    down = np.zeros((width, neurons), dtype=np.float32)
    steps = chain.from_iterable(map(pairwise, walks))
    for neuron, (token, following) in enumerate(steps, start=1):
        gate[neuron, bias:] = rows[token, bias:] * np.float32(MATCH / (width - bias))
        gate[neuron, :bias] = -THRESHOLD / bias
        up[neuron, bias:] = rows[token, bias:] / np.float32(width - bias)
        down[:, neuron] = written[following]
    if len(walks) > 1:
        down[:, len(walks[0]) - 1] += written[walks[1][0]] * np.float32(ENCORE)
    gate[0, :bias] = (MATCH - THRESHOLD) / bias
    up[0, :bias] = DEFAULT / bias
    down[:, 0] = written[walks[0][0]]
    return FeedForward(gate, up, down)
