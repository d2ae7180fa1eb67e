"""The buffers of a projector that reads images, as llama.cpp's mtmd plans them for a first image.

mtmd plans its graph for an image of a size of its own for each kind of projector, which is the
largest that it is sure to hold. The encoder is a transformer over patches:

```
image -> [patches] -> [in order] + positions -> layers -> [merged] -> [projection]
```
"""

import re
from math import prod
from typing import NamedTuple

from modelrunner.gguf.header import Header
from modelrunner.memory.model.hyperparameters import MAX_LAYERS, Hyperparameters
from modelrunner.memory.plan.planner import OUTSIDE, Graph, Tensor

_TOKENS_A_SIDE = {
    "dots3note_v": 46,
    "dots_ocr": 46,
    "exaone4_5": 46,
    "gemma4uv": 16,
    "gemma4v": 16,
    "glm4v": 46,
    "glm5v": 46,
    "hunyuanvl": 32,
    "kimik25": 64,
    "kimivl": 16,
    "lfm2": 16,
    "lightonocr": 16,
    "ling3vl": 46,
    "mimovl": 46,
    "minimax_m3": 16,
    "muse_glimmer": 32,
    "paddleocr": 28,
    "phi4": 16,
    "pixtral": 16,
    "qwen2.5vl_merger": 46,
    "qwen2vl_merger": 46,
    "qwen3vl_merger": 46,
    "youtuvl": 16,
}
"""Tokens on a side of the image that is planned for; others have the image of the header's size."""

_MERGED = {
    "gemma3": 4,
    "gemma4v": 3,
    "glm4v": 2,
    "glm5v": 2,
    "exaone4_5": 2,
    "hunyuanvl": 2,
    "ling3vl": 2,
    "mimovl": 2,
    "minimax_m3": 2,
    "muse_glimmer": 2,
    "paddleocr": 2,
    "qwen2.5vl_merger": 2,
    "qwen2vl_merger": 2,
    "qwen3vl_merger": 2,
    "youtuvl": 2,
}
"""Patches on a side that become one token, where the header does not say."""

_WITH_RMS_NORMS = {"pixtral", "qwen2.5vl_merger", "lightonocr", "gemma4v", "mimovl", "dots_ocr"}
_TURNED_TWICE = {"pixtral", "lightonocr", "kimivl", "llama4"}
_TURNED = {"qwen2vl_merger", "qwen2.5vl_merger", "qwen3vl_merger", "glm4v", "mimovl", "ling3vl"}
_PROJECTION = r"mm\.(?!a\.).*weight$"
_SHUFFLED = {"idefics3", "internvl", "kimivl", "kimik25", "lfm2", "pixtral"}
_COLORS = 3
_IMAGE_AXES = 4
_LARGEST_SIDE = 1 << 14
_HALF = 2


class _Vision(NamedTuple):
    """What the graph depends on.

    Attributes:
        kind: Of the projector.
        pixels: On a side of the image.
        patch: Pixels on a side of a patch.
        merge: Patches on a side that become one token.
        width: Numbers of a patch.
        heads: Attention heads.
        forward: Width of the feed-forward network.
        layers: How many there are.
        out: Numbers of a token for the language model.
        shapes: Those of all tensors.
        window: Every n-th layer sees all patches; 0 where all do.
        norm_in_place: Whether norms are of the kind that works in place.
    """

    kind: str
    pixels: int
    patch: int
    merge: int
    width: int
    heads: int
    forward: int
    layers: int
    out: int
    shapes: dict[str, tuple[int, ...]]
    window: int
    norm_in_place: bool

    @property
    def side(self) -> int:
        """Patches on a side of the image."""
        return self.pixels // self.patch

    @property
    def tokens(self) -> int:
        """Patches, and the class of the image where that has a vector."""
        return self.side**2 + ("v.class_embd" in self.shapes)


def vision_bytes(header: Header) -> int | None:
    """Return the bytes of the buffers beside a projector's weights; None if it reads no images."""
    vision = _read(header)
    return None if vision is None else _graph(vision).peak()


def _read(header: Header) -> _Vision | None:
    values = Hyperparameters("clip.vision", Hyperparameters.from_metadata(header.metadata).values)
    kind = str(values.get("projector_type") or header.metadata.get("clip.projector_type", ""))
    patch, width = values.count("patch_size"), values.count("embedding_length")
    layers = values.count("block_count")
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    merge = values.count("spatial_merge_size", values.count("projector.scale_factor"))
    merge = merge or _MERGED.get(kind, 1)
    pixels = values.count("image_size")
    if kind in _TOKENS_A_SIDE:
        pixels = _TOKENS_A_SIDE[kind] * patch * merge
    if not patch or not width or not 0 < layers <= MAX_LAYERS:
        return None
    if not patch <= pixels <= _LARGEST_SIDE:
        return None
    return _Vision(
        kind=kind,
        pixels=pixels,
        patch=patch,
        merge=merge,
        width=width,
        heads=max(values.count("attention.head_count"), 1),
        forward=values.count("feed_forward_length"),
        layers=layers,
        out=values.count("projection_dim"),
        shapes=shapes,
        window=values.count("n_wa_pattern"),
        norm_in_place=kind in _WITH_RMS_NORMS,
    )


def _graph(vision: _Vision) -> Graph:
    graph = Graph()
    image = graph.leaf(vision.pixels, vision.pixels, _COLORS)
    current = _patches(graph, vision, image)
    mask = _mask(graph, vision)
    if mask is not None:
        rows = graph.reshape(current, 4 * vision.width, vision.tokens // 4)
        current = graph.new(rows.shape, rows, graph.leaf(vision.tokens // 4))
        current = graph.reshape(current, vision.width, vision.tokens)
    if "v.pre_ln.weight" in vision.shapes:
        current = _normed(graph, vision, current)
    positions = [graph.leaf(_IMAGE_AXES * vision.tokens)]
    if vision.kind in _TURNED_TWICE:
        positions = [graph.leaf(vision.tokens) for _ in range(2)]
    stacked = None
    for i in range(vision.layers):
        whole = not vision.window or (i + 1) % vision.window == 0
        current = _layer(graph, vision, i, current, positions, None if whole else mask)
        if sizes := _deepstack(vision, i):
            feature = _merged(graph, vision, current, *sizes)
            stacked = feature if stacked is None else _joined(graph, stacked, feature)
    if "v.post_ln.weight" in vision.shapes:
        current = _normed(graph, vision, current)
    current = _projected(graph, vision, current)
    if stacked is not None:
        current = _joined(graph, current, stacked)
    graph.expand(current)
    return graph


def _joined(graph: Graph, first: Tensor, second: Tensor) -> Tensor:
    return graph.new((first.shape[0] + second.shape[0], first.shape[1]), first, second)


def _normed(graph: Graph, vision: _Vision, tensor: Tensor) -> Tensor:
    return graph.same(tensor) if vision.norm_in_place else graph.new(tensor.shape, tensor)


def _convolved(graph: Graph, vision: _Vision, image: Tensor) -> Tensor:
    side = vision.side
    columns = graph.new((vision.patch**2 * _COLORS, side, side), image)
    made = graph.reshape(
        graph.new((side * side, vision.width), columns), side, side, 1, vision.width
    )
    return graph.new((side, side, vision.width), graph.permute(made, 0, 1, 3, 2))


def _patches(graph: Graph, vision: _Vision, image: Tensor) -> Tensor:
    """The patches of an image, one after the other, with their positions."""
    side, width, count = vision.side, vision.width, vision.side**2
    made = _convolved(graph, vision, image)
    if "v.patch_embd.weight.1" in vision.shapes:
        # those that become one token lie beside each other
        made = graph.same(made, _convolved(graph, vision, image))
        made = _beside(graph, vision, graph.permute(made, 1, 2, 0, 3))
    else:
        flat = graph.permute(graph.reshape(made, count, width), 1, 0, 2, 3)
        made = graph.new((width, count), flat)
    if "v.patch_embd.bias" in vision.shapes:
        made = graph.same(made)
    if "v.class_embd" in vision.shapes:
        whole = graph.new((width, 1), OUTSIDE) if vision.kind == "internvl" else OUTSIDE
        made = graph.new((width, count + 1), made, whole)
    places = vision.shapes.get("v.position_embd.weight")
    if places is None:
        return made
    if "v.patch_embd.weight.1" in vision.shapes:
        resized = graph.new((side, side, width), graph.leaf(1))
        turned = graph.new((width, side, side), graph.permute(resized, 2, 0, 1, 3))
        return graph.same(made, _beside(graph, vision, turned))
    if vision.kind == "mlp":
        return graph.same(made, graph.new((width, vision.tokens), graph.leaf(vision.tokens)))
    return graph.same(made)


def _beside(graph: Graph, vision: _Vision, tensor: Tensor) -> Tensor:
    side, width = vision.side, vision.width
    pairs = graph.new((2 * width, side // 2, side), tensor)
    pairs = graph.reshape(pairs, 2 * width, side // 2, 2, side // 2)
    return graph.new((width, side * side), graph.permute(pairs, 0, 2, 1, 3))


def _mask(graph: Graph, vision: _Vision) -> Tensor | None:
    """What patches outside a window are masked with; None where all see all."""
    if not vision.window:
        return None
    size = vision.tokens, vision.tokens
    return graph.new(size, graph.leaf(*size), unit=_HALF)


def _layer(
    graph: Graph,
    vision: _Vision,
    i: int,
    given: Tensor,
    positions: list[Tensor],
    mask: Tensor | None,
) -> Tensor:
    normed = _normed(graph, vision, given)
    out = graph.same(_attend(graph, vision, i, normed, positions, mask), given)
    normed = _normed(graph, vision, out)
    wide = _forward(graph, vision, f"v.blk.{i}", normed)
    return graph.same(out, wide)


def _attend(
    graph: Graph,
    vision: _Vision,
    i: int,
    current: Tensor,
    positions: list[Tensor],
    mask: Tensor | None,
) -> Tensor:
    tokens, width, heads = vision.tokens, vision.width, vision.heads
    size = (width // heads, heads, tokens)
    if f"v.blk.{i}.attn_qkv.weight" in vision.shapes:
        fused = graph.same(graph.new((3 * width, tokens), current))
        parts = [graph.view(fused, size, 4 * size[0], fused.strides[1]) for _ in range(3)]
    else:
        parts = [
            graph.reshape(graph.same(graph.new((width, tokens), current)), *size) for _ in range(3)
        ]
    query, key, value = parts
    if vision.kind in _TURNED:
        query, key = (graph.same(x, *positions[:1]) for x in (query, key))
    elif vision.kind in _TURNED_TWICE:
        query, key = (graph.same(graph.same(x, positions[0]), positions[1]) for x in (query, key))
    for tensor in (query, key, value):
        graph.expand(tensor)
    halves = [
        graph.new((size[0], tokens, heads), graph.permute(x, 0, 2, 1, 3), unit=_HALF)
        for x in (key, value)
    ]
    if mask is not None:
        halves.append(graph.new(mask.shape[:2], mask, unit=_HALF))
    out = graph.new((size[0], heads, tokens), graph.permute(query, 0, 2, 1, 3), *halves)
    out = graph.new((width, tokens), graph.reshape(out, width, tokens))
    return graph.same(out)


def _forward(graph: Graph, vision: _Vision, name: str, current: Tensor) -> Tensor:
    tokens = current.shape[1]
    up = graph.same(graph.new((vision.forward, tokens), current))
    if f"{name}.ffn_gate.weight" in vision.shapes:
        gate = graph.same(graph.new((vision.forward, tokens), current))
        up = graph.new((vision.forward, tokens), gate, up)
    else:
        up = graph.same(up)
    return graph.same(graph.new((vision.width, tokens), up))


def _deepstack(vision: _Vision, layer: int) -> list[int]:
    """Widths of the two matrices that a layer's patches go through; empty without them."""
    shapes = [vision.shapes.get(f"v.deepstack.{layer}.fc{n}.weight", ()) for n in (1, 2)]
    return [shape[1] for shape in shapes] if all(len(shape) > 1 for shape in shapes) else []


def _merged(graph: Graph, vision: _Vision, current: Tensor, first: int, second: int) -> Tensor:
    """Several patches as one token, normalized, through two matrices of these widths."""
    count = vision.merge**2
    wide = graph.reshape(current, count * vision.width, vision.side**2 // count)
    wide = graph.new(wide.shape, wide)
    wide = graph.same(graph.same(graph.new((first, wide.shape[1]), wide)))
    return graph.same(graph.new((second, wide.shape[1]), wide))


def _projected(graph: Graph, vision: _Vision, current: Tensor) -> Tensor:
    """Tokens for the language model: several patches make one in most models."""
    if "v.class_embd" in vision.shapes:  # that of the whole image is left out
        patches = [] if vision.kind == "internvl" else [graph.leaf(vision.side**2)]
        current = graph.new((vision.width, vision.side**2), current, *patches)
    if vision.kind in _SHUFFLED:
        current = graph.new(current.shape, graph.new(current.shape, current))
    for name, shape in vision.shapes.items():
        count = prod(current.shape)
        if not re.match(_PROJECTION, name) or not shape[1:] or not shape[0] or count % shape[0]:
            continue
        rows = graph.reshape(current, shape[0], count // shape[0])
        current = graph.same(graph.same(graph.new((shape[1], count // shape[0]), rows)))
    if vision.window:  # back in the order of the image
        current = graph.new(current.shape, current, graph.leaf(vision.tokens // 4))
    return current
