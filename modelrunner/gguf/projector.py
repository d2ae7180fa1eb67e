"""Whether a projector goes with a model: it must make vectors of the model's own width.

llama.cpp ends with an error where they differ. The converter of llama.cpp writes the width as
`clip.vision.projection_dim` and `clip.audio.projection_dim`. Older converters wrote there what
CLIP's own projection has, or zero; of their types the last tensor of the projection decides.
"""

from modelrunner.gguf.header import Header

_DECLARED = ("clip.vision.projection_dim", "clip.audio.projection_dim")
_TYPES = ("clip.projector_type", "clip.vision.projector_type", "clip.audio.projector_type")
_BY_TENSOR = frozenset({"mlp", "mlp_norm", "ldp", "ldpv2", "resampler", "adapter", None})
"""Types from before the width was declared; one that is not said is `mlp`."""

_OUTPUTS = (
    ("mm.model.mb_block.1.block.2.1.bias", 0),
    ("mm.model.peg.0.bias", 0),
    ("resampler.proj.weight", 0),
    ("adapter.linear.dense_4h_to_h.weight", 1),
    ("mm.input_projection.weight", 0),
    ("mm.model.fc.weight", 1),
    ("mm.a.fc.weight", 1),
    ("mm.a.mlp.2.weight", 1),
    ("mm.3.weight", 1),
    ("mm.2.weight", 1),
    ("mm.0.weight", 1),
)
"""The last tensor of a projection, by its name, and the dimension that is its output's."""


def misfit(projector: Header, width: int | None) -> str | None:
    """Why a projector does not go with a model; None where it does, or that is unknown.

    Args:
        projector: The projector's header.
        width: The `embedding_length` of the model.
    """
    if width is None:
        return None
    declared = [_count(projector.metadata.get(key)) for key in _DECLARED]
    if width in declared:
        return None
    said = {projector.metadata.get(key) for key in _TYPES} - {None}
    # of a newer type the declaration counts, where there is one
    older = not said or bool(said & _BY_TENSOR)
    made = _output(projector) if older or not any(declared) else max(declared)
    if made is None or made == width:
        return None
    return f"its output has {made} dimensions, the model needs {width}"


def _output(projector: Header) -> int | None:
    shapes = {tensor.name: tensor.shape for tensor in projector.tensors}
    for name, axis in _OUTPUTS:
        shape = shapes.get(name, ())
        if len(shape) > axis:
            return shape[axis]
    return None


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
