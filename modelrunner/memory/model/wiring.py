"""How the parts of a layer are put together, as far as memory depends on it."""

from typing import Literal

from modelrunner.frozen import frozen

Gate = Literal["separate", "fused", "none"]
Gating = Literal["softmax", "chosen", "sigmoid"]
ChannelMix = Literal["gated", "plain", "none"]
Parallel = Literal["no", "same", "first", "own", "sum", "last"]


@frozen
class Wiring:
    """What differs between transformers as far as memory is concerned.

    Scales, biases and most norms work in place on a value that nothing else reads: they cost
    nothing and are not here.

    Attributes:
        known: Whether this architecture is one whose wiring is known, and not guessed.
        exact: Whether the whole graph of this architecture is replayed.
        fused_qkv: One matrix makes query, key and value.
        attention_norm: Attention reads a normalized copy of the layer's input.
        feed_forward_norm: So does the feed-forward network.
        bare_norms: Norms have no weights: that there are none says nothing.
        parallel: Whether attention and the feed-forward network work side by side: on the same
            normalized input, so with attention added first, on an input normalized again, or
            adding to the sum of input and attention, or with attention added to it.
        layer_norm: Norms subtract the mean too, and do not work in place.
        gate: Whether the gate is a matrix of its own, half of the up matrix, or not there.
        expert_gate: The same of experts.
        shared_expert_gate: The same of the shared expert.
        query_gate: The matrix of queries makes a gate for the attention's result too.
        inner_norms: A norm precedes the last matrix of attention and of the feed-forward network.
        flash: Flash attention is used where it is asked for; otherwise never.
        learned_positions: Positions are looked up and added to the embeddings.
        entry_norm: The embeddings are normalized before the first layer.
        entry_kept: What the first layer gets is added in every later one.
        settled: The input of a recurrence is computed before its states are fetched.
        state_norms: What a recurrence gets its steps and turns from is normalized.
        own_input: Numbers of an input of its own that each layer gets for a token.
        early_router: Experts are chosen by the layer's input, before attention.
        dense_beside: Experts work beside attention and a dense network, on a norm of their own.
        head_norm: Queries and keys are normalized head by head.
        value_norm: So are values.
        rope: Positions are rotated into queries and keys.
        rope_skips: Every n-th layer skips RoPE.
        rope_windowed_only: Only windowed layers do it.
        windows: A second cache is kept for windowed layers.
        both: Every layer has attention and a recurrence side by side.
        gating: How experts are weighed: by softmax over all or over the chosen, or by sigmoid.
        normalized: The weights of the chosen experts are made to add up to one.
        scored_bias: A bias is added to the scores to choose experts.
        shared_gate: The shared expert has a gate.
        residual_first: The feed-forward result is added to the residual, not that to it.
        residual_normed: Residuals begin after the norms.
        late_rows: The rows that matter are picked after the last layer, not within it.
        all_rows: Logits are made for every token, whichever are wanted.
        axes: Positions a token: one, or one for each axis of an image.
        pictures: Layers that an image adds vectors of its own to.
        encoder: It reads the whole text at once, without a cache, and makes no logits.
        cached: There is a cache nevertheless.
        relative: Attention adds a bias by distance, and never is flash attention.
        crossed: Every layer attends to the result of an encoder too.
        norms_after: Norms follow the additions instead of preceding attention.
        seventh: Whether tokens are mixed as in RWKV 7, not as in RWKV 6.
        channel_mix: Whether channels are mixed behind a gate, without one, or by a feed-forward
            network instead.
    """

    known: bool = True
    exact: bool = True
    fused_qkv: bool = False
    attention_norm: bool = True
    feed_forward_norm: bool = True
    bare_norms: bool = False
    parallel: Parallel = "no"
    layer_norm: bool = False
    gate: Gate = "separate"
    expert_gate: Gate = "separate"
    shared_expert_gate: Gate = "separate"
    query_gate: bool = False
    inner_norms: bool = False
    flash: bool = True
    learned_positions: bool = False
    entry_norm: bool = False
    entry_kept: bool = False
    settled: bool = False
    state_norms: bool = False
    own_input: int = 0
    early_router: bool = False
    dense_beside: bool = False
    head_norm: bool = False
    value_norm: bool = False
    rope: bool = True
    rope_skips: int = 0
    rope_windowed_only: bool = False
    windows: bool = False
    both: bool = False
    gating: Gating = "softmax"
    normalized: bool = True
    scored_bias: bool = False
    shared_gate: bool = False
    residual_first: bool = False
    residual_normed: bool = False
    late_rows: bool = False
    all_rows: bool = False
    axes: int = 1
    pictures: int = 0
    encoder: bool = False
    cached: bool = True
    relative: bool = False
    crossed: bool = False
    norms_after: bool = False
    seventh: bool = False
    channel_mix: ChannelMix = "none"
