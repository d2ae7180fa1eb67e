"""The shape of a model: how many layers of which kind, how wide, and how heavy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from modelrunner.gguf.header import Header, TensorInfo, padded
from modelrunner.memory.hyperparameters import MAX_LAYERS, Hyperparameters, Plain
from modelrunner.memory.wiring import Wiring, is_windowed, wiring_of

ShapeSource = Literal["header", "config", "card"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer; its numbers are 0 for what it does not have.

    Attributes:
        heads: Attention heads.
        kv_heads: Heads that are kept in the cache.
        key_size: Numbers in one head's key.
        value_size: Numbers in one head's value.
        windowed: Whether attention looks only as far back as the model's window.
        recurrent: Whether it keeps a state instead of, or beside, a cache.
        feed_forward: Width of its dense feed-forward network.
        routed: Whether its feed-forward network is a mixture of experts.
        weights: Bytes of its tensors.
    """

    heads: int = 0
    kv_heads: int = 0
    key_size: int = 0
    value_size: int = 0
    windowed: bool = False
    recurrent: bool = False
    feed_forward: int = 0
    routed: bool = False
    weights: int = 0


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts: how many there are, how many a token uses, how wide they are."""

    count: int
    used: int
    feed_forward: int
    shared_feed_forward: int = 0
    groups: int = 0
    groups_used: int = 0


@dataclass(frozen=True, slots=True)
class StateSpace:
    """A Mamba layer's numbers; `heads` is 0 in the first Mamba, `rank` in the second."""

    inner: int
    state: int
    conv: int
    groups: int = 0
    heads: int = 0

    @property
    def convolved(self) -> int:
        """Channels that go through the convolution."""
        return self.inner + 2 * self.groups * self.state

    @property
    def conv_state(self) -> int:
        """Numbers that the convolution keeps for a sequence."""
        return max(self.conv - 1, 0) * self.convolved

    @property
    def scan_state(self) -> int:
        """Numbers that the recurrence keeps for a sequence."""
        return self.inner * self.state


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention: one compressed key for all heads, and no value, is cached."""

    rank: int
    rope: int
    key_size: int
    value_size: int
    query_rank: int = 0


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of the tensors, by where a runtime puts them; the layers know their own.

    Attributes:
        total: Of all tensors, as they lie in the file.
        embedding: Of the token embeddings, which stay in host memory.
        tied: Whether the token embeddings are the output matrix too.
        unknown: How many tensors have a type whose size is not known here, and count nothing.
    """

    total: int
    embedding: int = 0
    tied: bool = False
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a model's need of memory depends on.

    Attributes:
        architecture: As llama.cpp knows it.
        embedding: Numbers per token between the layers.
        vocabulary: Tokens that there are.
        context: Tokens that it was trained for.
        layers: Its layers, in order.
        weights: Its bytes.
        window: Tokens that a windowed layer looks back.
        experts: Of its routed layers.
        state_space: Of its recurrent layers.
        latent: Of its attention, if that is latent.
        wiring: How the parts of a layer are put together.
        source: What this was read from.
    """

    architecture: str
    embedding: int
    vocabulary: int
    context: int
    layers: tuple[Layer, ...]
    weights: Weights
    window: int = 0
    experts: Experts | None = None
    state_space: StateSpace | None = None
    latent: Latent | None = None
    wiring: Wiring = field(default_factory=Wiring)
    source: ShapeSource = "header"

    @classmethod
    def from_header(cls, header: Header, *, shards: Sequence[Header] = ()) -> "ModelShape":
        """From the GGUF header of a model's first file, and those of all its other files."""
        hyper = Hyperparameters.from_metadata(header.metadata)
        parts = (header, *shards)
        tensors = {tensor.name: tensor for part in parts for tensor in part.tensors}
        shape = _from_hyperparameters(hyper, _vocabulary(hyper, header, tensors), tensors)
        by_layer = _bytes_by_layer(tensors.values(), header.alignment, len(shape.layers))
        return replace(
            shape,
            weights=_weights(parts, tensors),
            layers=tuple(
                replace(layer, weights=size)
                for layer, size in zip(shape.layers, by_layer, strict=True)
            ),
        )

    @classmethod
    def from_strings(cls, values: Mapping[str, str], *, weights: int) -> "ModelShape":
        """From the GGUF values that a Docker model's configuration keeps, and the file's size."""
        return cls.from_values(Hyperparameters.from_strings(values), weights=weights)

    @classmethod
    def from_values(
        cls,
        hyper: Hyperparameters,
        *,
        weights: int,
        vocabulary: int = 0,
        tied: bool = False,
        source: ShapeSource = "config",
    ) -> "ModelShape":
        """From hyperparameters and the bytes of all tensors together."""
        vocabulary = vocabulary or hyper.count("vocab_size")
        shape = _from_hyperparameters(hyper, vocabulary, {})
        return replace(shape, weights=Weights(total=weights, tied=tied), source=source)

    @property
    def is_known(self) -> bool:
        """Whether there is enough to say more than what the weights take."""
        return bool(self.layers and self.embedding)


def _from_hyperparameters(
    hyper: Hyperparameters, vocabulary: int, tensors: Mapping[str, TensorInfo]
) -> ModelShape:
    layers = max(hyper.count("block_count") - hyper.count("nextn_predict_layers"), 0)
    if layers > MAX_LAYERS:
        layers = 0
    wiring = wiring_of(hyper, tensors)
    return ModelShape(
        architecture=hyper.architecture,
        embedding=hyper.count("embedding_length"),
        vocabulary=vocabulary,
        context=hyper.count("context_length"),
        layers=tuple(_layers(hyper, layers, wiring, tensors)),
        weights=Weights(total=0),
        window=hyper.count("attention.sliding_window"),
        experts=_experts(hyper, tensors),
        state_space=_state_space(hyper),
        latent=_latent(hyper),
        wiring=wiring,
    )


def _layers(
    hyper: Hyperparameters, count: int, wiring: Wiring, tensors: Mapping[str, TensorInfo]
) -> Iterable[Layer]:
    heads = hyper.per_layer("attention.head_count", count)
    kv_heads = hyper.per_layer("attention.head_count_kv", count, max(heads, default=0))
    feed_forward = hyper.per_layer("feed_forward_length", count)
    head_size = hyper.count("embedding_length") // max(1, *heads, 1)
    key_size = hyper.count("attention.key_length", head_size)
    value_size = hyper.count("attention.value_length", head_size)
    dense = hyper.count("leading_dense_block_count")
    for i in range(count):
        windowed = is_windowed(hyper, i)
        attends = heads[i] > 0 and kv_heads[i] > 0
        yield Layer(
            heads=heads[i] if attends else 0,
            kv_heads=kv_heads[i] if attends else 0,
            key_size=hyper.count("attention.key_length_swa", key_size) if windowed else key_size,
            value_size=(
                hyper.count("attention.value_length_swa", value_size) if windowed else value_size
            ),
            windowed=windowed,
            recurrent=hyper.count("ssm.inner_size") > 0 and (not attends or wiring.both),
            feed_forward=feed_forward[i],
            routed=_is_routed(hyper, tensors, i, dense),
        )


def _is_routed(
    hyper: Hyperparameters, tensors: Mapping[str, TensorInfo], layer: int, dense: int
) -> bool:
    if tensors:
        return f"blk.{layer}.ffn_gate_inp.weight" in tensors
    return hyper.count("expert_count") > 0 and layer >= dense


def _experts(hyper: Hyperparameters, tensors: Mapping[str, TensorInfo]) -> Experts | None:
    count = hyper.count("expert_count")
    if not count:
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
        used=max(1, hyper.count("expert_used_count")),
        feed_forward=width,
        shared_feed_forward=shared,
        groups=hyper.count("expert_group_count"),
        groups_used=hyper.count("expert_group_used_count"),
    )


def _state_space(hyper: Hyperparameters) -> StateSpace | None:
    inner = hyper.count("ssm.inner_size")
    if not inner:
        return None
    groups = hyper.count("ssm.group_count")
    return StateSpace(
        inner=inner,
        state=hyper.count("ssm.state_size"),
        conv=hyper.count("ssm.conv_kernel"),
        groups=groups,
        heads=hyper.count("ssm.time_step_rank"),
    )


def _latent(hyper: Hyperparameters) -> Latent | None:
    rank, key_size = hyper.count("attention.kv_lora_rank"), hyper.count("attention.key_length_mla")
    if not rank or not key_size:
        return None
    return Latent(
        rank=rank,
        rope=hyper.count("rope.dimension_count"),
        key_size=key_size,
        value_size=hyper.count("attention.value_length_mla", key_size),
        query_rank=hyper.count("attention.q_lora_rank"),
    )


def _vocabulary(hyper: Hyperparameters, header: Header, tensors: Mapping[str, TensorInfo]) -> int:
    """From the embedding matrix: what keys say of it may be missing or rounded."""
    for name in ("token_embd.weight", "output.weight"):
        if name in tensors and len(tensors[name].shape) > 1:
            return tensors[name].shape[1]
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    told = getattr(tokens, "length", 0)
    return hyper.count("vocab_size", told)


def _weights(parts: Sequence[Header], tensors: Mapping[str, TensorInfo]) -> Weights:
    embedding = tensors.get("token_embd.weight")
    return Weights(
        total=sum(part.data_bytes for part in parts),
        embedding=padded((embedding.size if embedding else 0) or 0, parts[0].alignment),
        tied=embedding is not None and "output.weight" not in tensors,
        unknown=sum(tensor.size is None for tensor in tensors.values()),
    )


def _bytes_by_layer(tensors: Iterable[TensorInfo], alignment: int, layers: int) -> list[int]:
    sizes = [0] * layers
    for tensor in tensors:
        head, _, rest = tensor.name.partition(".")
        number = rest.partition(".")[0]
        if head == "blk" and number.isdecimal() and int(number) < layers:
            sizes[int(number)] += padded(tensor.size or 0, alignment)
    return sizes


__all__ = [
    "Experts", "Latent", "Layer", "ModelShape", "Plain", "ShapeSource", "StateSpace", "Weights",
]  # fmt: skip
