"""The layers of a model, from its hyperparameters: what each attends to, keeps and computes."""

from collections.abc import Iterator, Mapping

from modelrunner.gguf.header import TensorInfo
from modelrunner.memory.model import derived
from modelrunner.memory.model.architectures import windowed_layers
from modelrunner.memory.model.hyperparameters import MAX_EXPERTS_USED, MAX_LAYERS, Hyperparameters
from modelrunner.memory.model.parts import Experts, Indexer, Latent, Layer, StateSpace
from modelrunner.memory.model.wiring import Wiring

GEMMA3N_CACHED_LAYERS = 20
"""Layers of Gemma 3n after these read the caches of earlier ones."""

_INTERVALS = {"minimax-01": 8, "qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4}
"""Of how many layers one has attention and the others a recurrence, unless the header says."""

_DELTA = frozenset(_INTERVALS) - {"minimax-01"}
_KDA_CONV = 4

_FULL_INDEXERS_BELOW = 1048576
"""GLM-DSA: models of a longer context have an indexer in every fourth layer only."""

_FIRST_INDEXERS = (0, 1, 2)

_COMPRESSED_WITH_INDEXER = 4
"""DeepSeek 4: layers that compress this many tokens into one choose among them by an indexer."""


def layer_count(hyper: Hyperparameters) -> int:
    """How many layers are computed: those that guess ahead are not, those that repeat are."""
    layers = max(hyper.count("block_count") - hyper.count("nextn_predict_layers"), 0)
    layers *= max(hyper.count("num_loops"), 1)
    return layers if layers <= MAX_LAYERS else 0


def layers_of(
    hyper: Hyperparameters, count: int, wiring: Wiring, tensors: Mapping[str, TensorInfo]
) -> Iterator[Layer]:
    """All layers; tensors, where they are known, say which have experts."""
    loops = max(hyper.count("num_loops"), 1)
    yield from [*_once(hyper, count // loops, wiring, tensors)] * loops


def _once(
    hyper: Hyperparameters, count: int, wiring: Wiring, tensors: Mapping[str, TensorInfo]
) -> Iterator[Layer]:
    heads = hyper.per_layer("attention.head_count", count)
    kv_heads = hyper.per_layer("attention.head_count_kv", count, max(heads, default=0))
    feed_forward = hyper.per_layer("feed_forward_length", count)
    head_size = hyper.count("embedding_length") // max(1, *heads, 1)
    key_size = hyper.count("attention.key_length", head_size)
    value_size = hyper.count("attention.value_length", head_size)
    dense = hyper.count("leading_dense_block_count")
    cached = count - hyper.count("attention.shared_kv_layers")
    if hyper.architecture == "gemma3n":
        cached = min(count, GEMMA3N_CACHED_LAYERS)
    space = state_space(hyper, tensors)
    windows = windowed_layers(hyper, count, tensors)
    attending = [heads[i] * kv_heads[i] > 0 for i in range(count)]
    recurs = _recurrent_layers(hyper, attending, tensors)
    for i in range(count):
        windowed = windows[i]
        attends = heads[i] > 0 and kv_heads[i] > 0 and (wiring.both or not recurs[i])
        recurrent = space is not None and (recurs[i] or wiring.both)
        keys = hyper.count("attention.key_length_swa", key_size) if windowed else key_size
        values = hyper.count("attention.value_length_swa", value_size) if windowed else value_size
        latent = latent_of(hyper, windowed=windowed) if attends else None
        indexer = _indexer(hyper, i, dense, tensors) if attends and not windowed else None
        width = kv_heads[i] * keys, kv_heads[i] * values
        keeps = attends and i < cached and wiring.cached
        ratio = _ratio(hyper, i)
        yield Layer(
            heads=heads[i] if attends else 0,
            kv_heads=kv_heads[i] if attends and i < cached else 0,
            reuses_cache=attends and i >= cached,
            key_size=keys,
            value_size=values,
            windowed=windowed,
            recurrent=recurrent,
            cached=_cached(hyper, width, latent, indexer) if keeps else (),
            compressed=_compressed(hyper, width[0], ratio) if ratio else (),
            ratio=ratio or 1,
            state=(space.conv_state + space.scan_state if space and recurrent else 0)
            + _compressor_state(hyper, width[0], ratio),
            latent=latent,
            indexer=indexer,
            gate=_side(tensors, f"blk.{i}.attn_gate.weight", -1) if attends else 0,
            feed_forward=_side(tensors, f"blk.{i}.ffn_down.weight", 0) or feed_forward[i],
            routed=_is_routed(hyper, tensors, i, dense),
        )


def _side(tensors: Mapping[str, TensorInfo], name: str, side: int) -> int:
    """A side of a matrix; 0 if it is missing."""
    tensor = tensors.get(name)
    return tensor.shape[side] if tensor and tensor.shape else 0


def _recurrent_layers(
    hyper: Hyperparameters, attends: list[bool], tensors: Mapping[str, TensorInfo]
) -> list[bool]:
    """Which layers have a recurrence: as listed, or by tensors, or, without these, by numbers."""
    count = len(attends)
    listed = hyper.get("attention.recurrent_layers")
    if isinstance(listed, tuple):
        return [i < len(listed) and bool(listed[i]) for i in range(count)]
    if found := derived.recurrent_layers(tensors):
        return [i in found for i in range(count)]
    every = hyper.count("full_attention_interval", _INTERVALS.get(hyper.architecture, 0))
    if every:
        return [(i + 1) % every != 0 for i in range(count)]
    wide = hyper.get("feed_forward_length")
    if isinstance(wide, tuple) and not all(wide):
        # a layer is a mixer or a feed-forward network, not both
        forward = hyper.per_layer("feed_forward_length", count)
        return [not attends[i] and not forward[i] for i in range(count)]
    return [not each for each in attends]


def _cached(
    hyper: Hyperparameters, width: tuple[int, int], latent: Latent | None, indexer: Indexer | None
) -> tuple[int, ...]:
    """Numbers kept for each token."""
    kept: tuple[int, ...] = (latent.rank + latent.rope,) if latent else width
    if hyper.architecture == "deepseek4":
        return width[:1]
    if indexer is None:
        return kept
    if hyper.count("attention.indexer.kpool"):
        return (*kept, 3 * indexer.key_size)  # a gate and a pooled key beside each key
    if latent or hyper.architecture == "qwen4exp":
        return (*kept, indexer.key_size)
    return (*kept, indexer.key_size, hyper.count("attention.value_length", indexer.key_size))


def _indexer(
    hyper: Hyperparameters, layer: int, dense: int, tensors: Mapping[str, TensorInfo]
) -> Indexer | None:
    size, top = hyper.count("attention.indexer.key_length"), hyper.count("attention.indexer.top_k")
    if not size or not top:
        return None
    types = hyper.get("attention.indexer.types")
    if isinstance(types, tuple):
        has_one = layer < len(types) and bool(types[layer])
    elif hyper.architecture == "glm-dsa" and hyper.count("context_length") >= _FULL_INDEXERS_BELOW:
        has_one = layer in _FIRST_INDEXERS or layer % 4 == max(_FIRST_INDEXERS)
    elif tensors:
        has_one = derived.has_indexer(tensors, layer)
    else:
        has_one = hyper.architecture != "minimax-m3" or layer >= dense
    return Indexer(hyper.count("attention.indexer.head_count"), size, top) if has_one else None


def _ratio(hyper: Hyperparameters, layer: int) -> int:
    """How many tokens a layer compresses into one; 0 where it does not."""
    listed = hyper.get("attention.compress_ratios")
    if not isinstance(listed, tuple) or layer >= len(listed):
        return 0
    return int(listed[layer]) if listed[layer] > 1 else 0


def _compressed(hyper: Hyperparameters, width: int, ratio: int) -> tuple[int, ...]:
    if ratio == _COMPRESSED_WITH_INDEXER:
        return width, hyper.count("attention.indexer.key_length")
    return (width,)


def _compressor_state(hyper: Hyperparameters, width: int, ratio: int) -> int:
    """Numbers kept of the tokens that are not compressed yet: a vector and a score of each."""
    if ratio == _COMPRESSED_WITH_INDEXER:  # overlapping: twice the tokens, twice the width
        return 8 * ratio * (width + hyper.count("attention.indexer.key_length"))
    return 2 * ratio * width


def _is_routed(
    hyper: Hyperparameters, tensors: Mapping[str, TensorInfo], layer: int, dense: int
) -> bool:
    if tensors:
        return f"blk.{layer}.ffn_gate_inp.weight" in tensors
    return hyper.count("expert_count") > 0 and layer >= dense


def experts_of(hyper: Hyperparameters, tensors: Mapping[str, TensorInfo]) -> Experts | None:
    """The mixture of experts of a model's routed layers."""
    count, used = hyper.count("expert_count"), hyper.count("expert_used_count")
    if not count or used > MAX_EXPERTS_USED:
        return None
    width = hyper.count("expert_feed_forward_length", hyper.count("feed_forward_length"))
    shared = hyper.count("expert_shared_feed_forward_length")
    shared = shared or hyper.count("expert_shared_count") * width
    for name, tensor in tensors.items():
        if name.endswith("ffn_down_exps.weight") and tensor.shape:
            width = tensor.shape[0]
        elif name.endswith("ffn_down_shexp.weight") and tensor.shape:
            shared = tensor.shape[0]
    return Experts(
        count=count,
        used=max(1, used),
        feed_forward=width,
        shared_feed_forward=shared,
        groups=hyper.count("expert_group_count"),
        groups_used=hyper.count("expert_group_used_count"),
    )


def state_space(hyper: Hyperparameters, tensors: Mapping[str, TensorInfo]) -> StateSpace | None:
    """The recurrence of a model's recurrent layers."""
    embedding, conv = hyper.count("embedding_length"), hyper.count("ssm.conv_kernel")
    heads = hyper.per_layer("attention.head_count", 1)[0]
    if head := hyper.count("wkv.head_size"):
        shifts = hyper.count("token_shift_count", 2)
        return StateSpace(inner=embedding, state=head, conv=shifts + 1, kind="rwkv")
    if short := hyper.count("shortconv.l_cache"):
        return StateSpace(inner=embedding, state=0, conv=short, kind="short")
    if head := hyper.count("kda.head_dim"):
        return StateSpace(
            inner=heads * head, state=head, conv=conv or _KDA_CONV, heads=heads, kind="kda"
        )
    if hyper.architecture == "minimax-01" or derived.lightning_layers(tensors):
        head = hyper.count("attention.key_length", embedding // max(heads, 1))
        return StateSpace(inner=heads * head, state=head, conv=0, heads=heads, kind="lightning")
    if not hyper.count("ssm.inner_size"):
        return None
    is_delta = hyper.architecture in _DELTA or derived.has_delta_gates(tensors)
    return StateSpace(
        inner=hyper.count("ssm.inner_size"),
        state=hyper.count("ssm.state_size"),
        conv=conv,
        groups=hyper.count("ssm.group_count"),
        heads=hyper.count("ssm.time_step_rank"),
        kind="delta" if is_delta else "mamba",
    )


def latent_of(hyper: Hyperparameters, *, windowed: bool = False) -> Latent | None:
    """The numbers of latent attention; windowed layers may have others."""
    rank, key_size = hyper.count("attention.kv_lora_rank"), hyper.count("attention.key_length_mla")
    if not rank or not key_size:
        return None
    value_size = hyper.count("attention.value_length_mla", key_size)
    if windowed:
        rank = hyper.count("attention.kv_lora_rank_swa", rank)
        key_size = hyper.count("attention.key_length_mla_swa", key_size)
        value_size = hyper.count("attention.value_length_mla_swa", value_size)
    return Latent(
        rank=rank,
        rope=hyper.count("rope.dimension_count"),
        key_size=key_size,
        value_size=value_size,
        query_rank=hyper.count("attention.q_lora_rank"),
    )
