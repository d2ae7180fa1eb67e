"""The tensors of a language model's blocks, under the names that GGUF gives them.

Shapes are [outputs, inputs], as numpy has them; the file lists them the other way round.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from weights import FeedForward, Floats, noise, ones

Named = Iterator[tuple[str, Floats]]


@dataclass(frozen=True, slots=True)
class Attention:
    """The sizes of an attention layer with grouped queries."""

    heads: int
    kv_heads: int
    head_size: int

    def tensors(self, prefix: str, seed: str, width: int) -> Named:
        """Queries, keys, values and the way back."""
        inner, shared = self.heads * self.head_size, self.kv_heads * self.head_size
        yield f"{prefix}.attn_q.weight", noise(f"{seed}.q", inner, width, scale=1 / 16)
        yield f"{prefix}.attn_k.weight", noise(f"{seed}.k", shared, width, scale=1 / 16)
        yield f"{prefix}.attn_v.weight", noise(f"{seed}.v", shared, width, scale=1 / 16)
        yield f"{prefix}.attn_output.weight", noise(f"{seed}.o", width, inner, scale=1 / 256)


@dataclass(frozen=True, slots=True)
class Recurrent:
    """The sizes of a Mamba-2 layer."""

    inner: int
    heads: int
    state: int
    groups: int
    kernel: int

    def tensors(self, prefix: str, seed: str, width: int) -> Named:
        """Projection, convolution, state space, norm and the way back."""
        convolved = self.inner + 2 * self.groups * self.state  # x, B and C
        projected = self.inner + convolved + self.heads  # z and dt as well
        kernel = noise(f"{seed}.conv", convolved, self.kernel, scale=1 / 2)
        pace = np.arange(1, self.heads + 1, dtype=np.float32).reshape(self.heads, 1)
        yield f"{prefix}.ssm_in.weight", noise(f"{seed}.in", projected, width, scale=1 / 16)
        yield f"{prefix}.ssm_conv1d.weight", kernel
        yield f"{prefix}.ssm_conv1d.bias", noise(f"{seed}.bias", convolved, scale=1 / 16)
        yield f"{prefix}.ssm_dt.bias", noise(f"{seed}.dt", self.heads, scale=1.0)
        yield f"{prefix}.ssm_a", -pace
        yield f"{prefix}.ssm_d", ones(self.heads, 1)
        yield f"{prefix}.ssm_norm.weight", ones(self.groups, self.inner // self.groups)
        yield f"{prefix}.ssm_out.weight", noise(f"{seed}.out", width, self.inner, scale=1 / 256)


def feed_forward(prefix: str, block: FeedForward) -> Named:
    """A gated feed-forward block."""
    yield f"{prefix}.ffn_gate.weight", block.gate
    yield f"{prefix}.ffn_up.weight", block.up
    yield f"{prefix}.ffn_down.weight", block.down
