"""The shape of a model: how many layers of which kind, how wide, and how heavy."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from modelrunner.frozen import field, frozen, replace
from modelrunner.gguf.header import Header, TensorInfo
from modelrunner.memory.model.architectures import window_of, wiring_of
from modelrunner.memory.model.hyperparameters import MAX_LAYERS, Hyperparameters
from modelrunner.memory.model.layers import (
    experts_of,
    latent_of,
    layer_count,
    layers_of,
    state_space,
)
from modelrunner.memory.model.parts import (
    Experts,
    Latent,
    Layer,
    Matrices,
    StateSpace,
    Weights,
)
from modelrunner.memory.model.wiring import Wiring

ShapeSource = Literal["header", "config", "card"]

_EXPERTS = r"ffn_(?:up|down|gate|gate_up)_(?:ch|)exps"
"""Names of the tensors of experts, as llama.cpp's `--n-cpu-moe` has them."""

_LOOKUPS = ("per_layer_token_embd.weight", "position_embd.weight", "token_types.weight")


@frozen
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
        of_parts = [part.sizes for part in parts]
        sizes = {name: size for found in of_parts for name, size in found.items()}
        by_layer = _bytes_by_layer(sizes, len(shape.layers))
        matrices = _matrices(tensors, sizes, len(shape.layers))
        return replace(
            shape,
            weights=_weights(parts, of_parts, sizes, _first_ahead(hyper)),
            layers=tuple(
                replace(
                    layer, weights=size, experts=experts, largest_expert=largest, matrices=found
                )
                for layer, (size, experts, largest), found in zip(
                    shape.layers, by_layer, matrices, strict=True
                )
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
        weights = self.weights._replace(total=self.weights.total + size, adapter=size)
        return replace(self, weights=weights)

    @property
    def is_known(self) -> bool:
        """Whether there is enough to say more than what the weights take."""
        return bool(self.layers and self.embedding) and (self.wiring.encoder or self._remembers)

    @property
    def _remembers(self) -> bool:
        """Whether a layer keeps anything of earlier tokens: those of all decoders that tell do."""
        return any(layer.cached or layer.state for layer in self.layers)


def _from_hyperparameters(
    hyper: Hyperparameters, vocabulary: int, tensors: Mapping[str, TensorInfo]
) -> ModelShape:
    layers = layer_count(hyper)
    wiring = wiring_of(hyper, tensors)
    return ModelShape(
        architecture=hyper.architecture,
        embedding=hyper.count("embedding_length"),
        vocabulary=vocabulary,
        context=hyper.count("context_length"),
        layers=tuple(layers_of(hyper, layers, wiring, tensors)),
        weights=Weights(total=0),
        window=window_of(hyper),
        experts=experts_of(hyper, tensors),
        state_space=state_space(hyper, tensors),
        latent=latent_of(hyper),
        extra_layers=min(hyper.count("nextn_predict_layers"), MAX_LAYERS),
        wiring=wiring,
    )


def _vocabulary(hyper: Hyperparameters, header: Header, tensors: Mapping[str, TensorInfo]) -> int:
    """From the embedding matrix: what keys say of it may be missing or rounded."""
    for name in ("token_embd.weight", "output.weight"):
        if name in tensors and len(tensors[name].shape) > 1:
            return tensors[name].shape[1]
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    length = getattr(tokens, "length", 0)
    return hyper.count("vocab_size", length)


def _first_ahead(hyper: Hyperparameters) -> int:
    """The number of the first layer for multi-token prediction; 0 without such layers."""
    extra = hyper.count("nextn_predict_layers")
    return max(hyper.count("block_count") - extra, 0) if extra else 0


def _weights(
    parts: Sequence[Header],
    of_parts: Sequence[Mapping[str, int]],
    sizes: Mapping[str, int],
    first_ahead: int,
) -> Weights:
    ahead = 0
    if first_ahead:
        ahead = sum(size for name, size in sizes.items() if (_number(name) or 0) >= first_ahead)
    return Weights(
        total=sum(sum(found.values()) for found in of_parts) - ahead,
        ahead=ahead,
        embedding=sizes.get("token_embd.weight", 0),
        lookups=sum(sizes.get(name, 0) for name in _LOOKUPS),
        tied="token_embd.weight" in sizes and "output.weight" not in sizes,
        unknown=sum(len(part.tensors) for part in parts) - sum(map(len, of_parts)),
    )


def _bytes_by_layer(sizes: Mapping[str, int], layers: int) -> list[tuple[int, int, int]]:
    """Bytes of each layer, of its experts among them, and of the largest tensor of experts."""
    whole, experts, largest = [0] * layers, [0] * layers, [0] * layers
    for name, size in sizes.items():
        number = _number(name)
        if number is not None and number < layers:
            whole[number] += size
            if re.search(_EXPERTS, name):
                experts[number] += size
                largest[number] = max(largest[number], size)
    return [*zip(whole, experts, largest, strict=True)]


def _matrices(
    tensors: Mapping[str, TensorInfo], sizes: Mapping[str, int], layers: int
) -> list[Matrices]:
    """Each layer's tensors with more than one dimension."""
    found: list[list[tuple[str, tuple[int, ...], int, int]]] = [[] for _ in range(layers)]
    for name, size in sizes.items():
        number, shape = _number(name), tensors[name].shape
        if number is not None and number < layers and len(shape) > 1:
            whole = name.removesuffix(".weight")
            bias = sizes.get(whole + ".bias", 0)
            found[number].append((whole.split(".", 2)[2], shape, size, bias))
    return [tuple(each) for each in found]


def _number(name: str) -> int | None:
    """The number of the layer that a tensor belongs to."""
    head, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return int(number) if head == "blk" and number.isdecimal() else None
