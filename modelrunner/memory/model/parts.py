"""What the shape of a model is made of: layers, experts, recurrences, weights."""

from typing import Literal, NamedTuple

from modelrunner.frozen import frozen

Matrices = tuple[tuple[str, tuple[int, ...], int, int], ...]
"""Names of tensors within a layer, their shapes, and the bytes of each and of its bias."""


@frozen
class Layer:
    """One layer; its numbers are 0 for what it does not have.

    Attributes:
        heads: Attention heads.
        kv_heads: Heads that are kept in the cache.
        key_size: Numbers in one head's key.
        value_size: Numbers in one head's value.
        reuses_cache: Whether it reads an earlier layer's cache and has none of its own.
        windowed: Whether attention looks only as far back as the model's window.
        recurrent: Whether it keeps a state instead of, or beside, a cache.
        cached: Numbers kept for each token, one entry for each matrix of the cache.
        compressed: Numbers kept for each `ratio` tokens, one entry for each matrix.
        ratio: How many tokens are compressed into one.
        state: Numbers of 4 bytes kept for each sequence, whatever its length.
        latent: Its attention, if that is latent.
        indexer: What chooses the tokens that attention reads, if anything does.
        gate: Numbers of a gate on its attention's result: one a head, or one for each number.
        feed_forward: Width of its dense feed-forward network.
        routed: Whether its feed-forward network is a mixture of experts.
        weights: Bytes of its tensors.
        experts: Bytes of the tensors of its experts, which are part of them.
        largest_expert: Bytes of the largest of these tensors, which has all experts in it.
        matrices: Its tensors with more than one dimension.
    """

    heads: int = 0
    kv_heads: int = 0
    key_size: int = 0
    value_size: int = 0
    reuses_cache: bool = False
    windowed: bool = False
    recurrent: bool = False
    cached: tuple[int, ...] = ()
    compressed: tuple[int, ...] = ()
    ratio: int = 1
    state: int = 0
    latent: "Latent | None" = None
    indexer: "Indexer | None" = None
    gate: int = 0
    feed_forward: int = 0
    routed: bool = False
    weights: int = 0
    experts: int = 0
    largest_expert: int = 0
    matrices: Matrices = ()


@frozen
class Experts:
    """A mixture of experts: how many there are, how many a token uses, how wide they are."""

    count: int
    used: int
    feed_forward: int
    shared_feed_forward: int = 0
    groups: int = 0
    groups_used: int = 0


RecurrenceKind = Literal["mamba", "short", "delta", "kda", "lightning", "rwkv"]


class StateSpace(NamedTuple):
    """A recurrent layer's numbers; the first Mamba has no groups, and a rank for heads.

    Attributes:
        kind: Mamba, a short convolution, a gated delta net, Kimi's delta attention, MiniMax's
            lightning attention, or RWKV.
        inner: Channels, or what all heads together are wide.
        state: Numbers of a channel's state, or the width of a head.
        conv: Tokens that the convolution sees; of RWKV, tokens kept to mix with, and one.
        groups: Groups of Mamba 2, or key heads of a delta net.
        heads: Its heads, or the rank of the step sizes.
    """

    inner: int
    state: int
    conv: int
    groups: int = 0
    heads: int = 0
    kind: RecurrenceKind = "mamba"

    @property
    def convolved(self) -> int:
        """Channels that go through the convolution."""
        if self.kind == "kda":
            return 3 * self.inner
        return self.inner + 2 * self.groups * self.state

    @property
    def conv_state(self) -> int:
        """Numbers that the convolution keeps for a sequence."""
        return max(self.conv - 1, 0) * self.convolved

    @property
    def scan_state(self) -> int:
        """Numbers that the recurrence keeps for a sequence."""
        return self.inner * self.state


class Latent(NamedTuple):
    """Multi-head latent attention: one compressed key for all heads, and no value, is cached."""

    rank: int
    rope: int
    key_size: int
    value_size: int
    query_rank: int = 0


class Indexer(NamedTuple):
    """What scores all cached tokens, so that attention reads the best of them only.

    Attributes:
        heads: Its query heads; it has one key.
        key_size: Numbers in that key.
        top: Tokens that attention reads.
    """

    heads: int
    key_size: int
    top: int


class Weights(NamedTuple):
    """Bytes of the tensors, by where a runtime puts them; the layers know their own.

    Attributes:
        total: Of all tensors that are loaded, as they lie in the file.
        embedding: Of the token embeddings, which stay in host memory.
        lookups: Of other tables that are only looked up in, and stay there too.
        tied: Whether the token embeddings are the output matrix too.
        unknown: How many tensors have a type whose size is not known here, and count nothing.
        adapter: Of an adapter's file, which is part of the total.
        ahead: Of layers that guess tokens ahead (MTP). They are not part of the total: they are
            loaded only where they are used.
    """

    total: int
    embedding: int = 0
    lookups: int = 0
    tied: bool = False
    unknown: int = 0
    adapter: int = 0
    ahead: int = 0
