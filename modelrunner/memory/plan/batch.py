"""The inputs of a micro batch: what is filled before the graph runs and read by many layers."""

from modelrunner.frozen import field, frozen
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.kv_cache import window_cells
from modelrunner.memory.plan.load import Load, is_packed
from modelrunner.memory.plan.planner import Graph, Tensor

ROTATION = 64
"""Quantized caches rotate heads in groups of this many numbers, or of more where they divide."""

_MASK = {True: 2, False: 4}
_INDEX = 8


@frozen
class Batch:
    """The inputs that all layers share.

    Attributes:
        load: What is asked.
        tokens: In the micro batch.
        positions: Of the tokens.
        rows: Which tokens' logits are wanted.
        places: Where in the caches keys and values go: cache, then windowed cache.
        masks: Which cells a token sees: of the cache, then of the windowed cache.
        rotations: What quantized keys and values are rotated by: of the cache, then windowed.
        states: Which recurrent state belongs to which sequence.
        distances: Which bias the distance between two tokens has.
        encoded: The result of an encoder.
        across: Which of its tokens a token sees.
        decays: How tokens of the batch fade for each other, by head.
        index_places: Where in the indexer's cache keys go.
        index_mask: Which cells of it a token sees.
        index_rotation: What its keys and queries are rotated by.
        chosen: The tokens that the last indexer chose: layers without one attend to them too.
        given: What the first layer gets, with an image's vectors for later layers beside it.
    """

    load: Load
    tokens: int
    positions: Tensor
    rows: Tensor
    places: tuple[tuple[Tensor, Tensor], ...]
    masks: tuple[Tensor, ...]
    rotations: tuple[tuple[Tensor | None, Tensor | None], ...]
    states: Tensor
    distances: Tensor
    encoded: Tensor
    across: Tensor
    decays: Tensor
    index_places: Tensor
    index_mask: Tensor
    index_rotation: Tensor
    given: Tensor
    chosen: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph, shape: ModelShape, load: Load) -> "Batch":
        """The inputs of a micro batch of `load`."""
        tokens, sequences = load.tokens, load.parallel
        streams = 1 if shape.wiring.encoder else load.streams
        cells = (load.cells, window_cells(shape, load))
        if shape.wiring.encoder:
            cells = (tokens, tokens)
        widest = max((x.kv_heads * x.value_size for x in shape.layers), default=0)
        values = 1 if load.flash_attention else widest
        return cls(
            load=load,
            tokens=tokens,
            positions=graph.leaf(tokens * shape.wiring.axes),
            rows=graph.leaf(load.rows),
            places=tuple(
                (graph.leaf(tokens, unit=_INDEX), graph.leaf(tokens * values, unit=_INDEX))
                for _ in cells
            ),
            masks=tuple(
                graph.leaf(count, tokens // streams, 1, streams, unit=_MASK[load.flash_attention])
                for count in cells
            ),
            rotations=tuple(_rotations(graph, shape, load, windowed=w) for w in (False, True)),
            states=graph.leaf(sequences),
            distances=graph.leaf(cells[0], tokens),
            encoded=graph.leaf(shape.embedding, tokens),
            across=graph.leaf(tokens, tokens, unit=_MASK[load.flash_attention]),
            decays=graph.leaf(*_fading(shape, tokens // sequences)),
            index_places=graph.leaf(tokens, unit=_INDEX),
            index_mask=graph.leaf(
                load.cells, tokens // streams, 1, streams, unit=_MASK[load.flash_attention]
            ),
            index_rotation=graph.leaf(_index_side(shape), _index_side(shape)),
            given=_embedded(graph, shape, tokens),
        )


def _fading(shape: ModelShape, each: int) -> tuple[int, int, int]:
    space = shape.state_space
    return each, each, space.heads if space else 0


def _index_side(shape: ModelShape) -> int:
    """Numbers in the key of an indexer."""
    return next((layer.indexer.key_size for layer in shape.layers if layer.indexer), 0)


def _embedded(graph: Graph, shape: ModelShape, tokens: int) -> Tensor:
    """The tokens' vectors; an image's could come in their place, and have their own room."""
    width = shape.embedding * (1 + shape.wiring.pictures)
    ids, vectors = graph.leaf(tokens), graph.leaf(width, tokens)
    given = graph.new((shape.embedding, tokens), ids)
    if shape.wiring.pictures:
        given = graph.new((width, tokens), given)
    graph.expand(given)
    graph.expand(vectors)
    return given


def _rotations(
    graph: Graph, shape: ModelShape, load: Load, *, windowed: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Quantized caches keep keys and values rotated: by what, where sizes allow it."""
    layers = [x for x in shape.layers if x.kv_heads and x.windowed == windowed]
    if not layers or shape.latent or shape.wiring.encoder:
        return None, None
    key, value = layers[0].key_size, layers[0].value_size
    packed = [is_packed(kind) for kind in load.kv_types]
    largest = ROTATION
    while key and key % (2 * largest) == 0:
        largest *= 2
    return (
        graph.leaf(largest, largest) if packed[0] and key % ROTATION == 0 else None,
        graph.leaf(ROTATION, ROTATION) if packed[1] and value % ROTATION == 0 else None,
    )
