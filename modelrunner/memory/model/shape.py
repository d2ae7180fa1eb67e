"""The shape of a model: how many layers of which kind, how wide, and how heavy."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from modelrunner.gguf.header import Header, TensorInfo, padded
from modelrunner.memory.model.architectures import Wiring, is_windowed, wiring_of
from modelrunner.memory.model.hyperparameters import MAX_EXPERTS_USED, MAX_LAYERS, Hyperparameters
from modelrunner.memory.model.parts import Experts, Latent, Layer, StateSpace, Weights

ShapeSource = Literal["header", "config", "card"]

GEMMA3N_CACHED_LAYERS = 20
"""Layers of Gemma 3n after these read the caches of earlier ones."""

_INTERVALS = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
"""Of how many layers one has attention and the others a recurrence, unless the header tells."""

_EXPERTS = re.compile(r"ffn_(?:up|down|gate|gate_up)_(?:ch|)exps")
"""Names of the tensors of experts, as llama.cpp's `--n-cpu-moe` has them."""

_LOOKUPS = ("per_layer_token_embd.weight", "position_embd.weight", "token_types.weight")


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
        extra_layers: Layers that guess tokens ahead (MTP), which are not among its layers.
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
    extra_layers: int = 0
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
                replace(layer, weights=size, experts=experts)
                for layer, (size, experts) in zip(shape.layers, by_layer, strict=True)
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

    def with_adapter(self, size: int) -> "ModelShape":
        """The shape with an adapter (LoRA) beside its weights, whose file has this many bytes."""
        weights = replace(self.weights, total=self.weights.total + size, adapter=size)
        return replace(self, weights=weights)

    @property
    def is_known(self) -> bool:
        """Whether there is enough to say more than what the weights take."""
        return bool(self.layers and self.embedding) and (self.wiring.encoder or self._remembers)

    @property
    def _remembers(self) -> bool:
        """Whether a layer keeps anything of earlier tokens: those of all decoders that tell do."""
        return any(layer.kv_heads or layer.recurrent for layer in self.layers)


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
        extra_layers=min(hyper.count("nextn_predict_layers"), MAX_LAYERS),
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
    cached = count - hyper.count("attention.shared_kv_layers")
    if hyper.architecture == "gemma3n":
        cached = min(count, GEMMA3N_CACHED_LAYERS)
    every = hyper.count("full_attention_interval", _INTERVALS.get(hyper.architecture, 0))
    recurs = _state_space(hyper) is not None
    for i in range(count):
        windowed = is_windowed(hyper, i)
        attends = heads[i] > 0 and kv_heads[i] > 0 and (not every or (i + 1) % every == 0)
        yield Layer(
            heads=heads[i] if attends else 0,
            kv_heads=kv_heads[i] if attends and i < cached else 0,
            reuses_cache=attends and i >= cached,
            key_size=hyper.count("attention.key_length_swa", key_size) if windowed else key_size,
            value_size=(
                hyper.count("attention.value_length_swa", value_size) if windowed else value_size
            ),
            windowed=windowed,
            recurrent=recurs and (not attends or wiring.both),
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


def _state_space(hyper: Hyperparameters) -> StateSpace | None:
    inner, short = hyper.count("ssm.inner_size"), hyper.count("shortconv.l_cache")
    if short:
        return StateSpace(inner=hyper.count("embedding_length"), state=0, conv=short)
    if not inner:
        return None
    return StateSpace(
        inner=inner,
        state=hyper.count("ssm.state_size"),
        conv=hyper.count("ssm.conv_kernel"),
        groups=hyper.count("ssm.group_count"),
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
    length = getattr(tokens, "length", 0)
    return hyper.count("vocab_size", length)


def _weights(parts: Sequence[Header], tensors: Mapping[str, TensorInfo]) -> Weights:
    embedding = tensors.get("token_embd.weight")
    return Weights(
        total=sum(part.data_bytes for part in parts),
        embedding=padded((embedding.size if embedding else 0) or 0, parts[0].alignment),
        lookups=sum(padded(tensors[name].size or 0, 32) for name in _LOOKUPS if name in tensors),
        tied=embedding is not None and "output.weight" not in tensors,
        unknown=sum(tensor.size is None for tensor in tensors.values()),
    )


def _bytes_by_layer(
    tensors: Iterable[TensorInfo], alignment: int, layers: int
) -> list[tuple[int, int]]:
    """Bytes of each layer, and of its experts among them."""
    sizes, experts = [0] * layers, [0] * layers
    for tensor in tensors:
        head, _, rest = tensor.name.partition(".")
        number = rest.partition(".")[0]
        if head == "blk" and number.isdecimal() and int(number) < layers:
            size = padded(tensor.size or 0, alignment)
            sizes[int(number)] += size
            experts[int(number)] += size if _EXPERTS.search(tensor.name) else 0
    return [*zip(sizes, experts, strict=True)]
