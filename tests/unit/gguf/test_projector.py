"""Whether a projector goes with a model, by the headers of both."""

# ruff: noqa: E501 - one projector a line

import pytest

from modelrunner.gguf.header import Header, TensorInfo
from modelrunner.gguf.projector import misfit


def header(values: dict[str, object], tensors: dict[str, tuple[int, ...]]) -> Header:
    infos = tuple(TensorInfo(name, shape, 0, 0) for name, shape in tensors.items())
    return Header(3, values, infos, 32, 0, None)  # type: ignore[arg-type]


VISION, AUDIO = "clip.vision.projection_dim", "clip.audio.projection_dim"


@pytest.mark.parametrize(
    ("values", "tensors", "width"),
    [
        ({VISION: 2048, "clip.projector_type": "gemma3"}, {}, 2048),
        ({AUDIO: 2048, "clip.audio.projector_type": "qwen2a"}, {}, 2048),
        ({VISION: 2048, AUDIO: 1024}, {}, 2048),
        # CLIP's own projection, and zero, say nothing of the model
        ({VISION: 768, "clip.projector_type": "mlp"}, {"mm.2.weight": (4096, 4096)}, 4096),
        ({VISION: 768}, {"mm.0.weight": (1024, 4096), "mm.2.weight": (4096, 4096)}, 4096),
        ({VISION: 0, "clip.projector_type": "resampler"}, {"resampler.proj.weight": (3584, 3584)}, 3584),
        ({VISION: 768, "clip.projector_type": "ldpv2"}, {"mm.model.peg.0.bias": (2048,)}, 2048),
        ({"clip.projector_type": "qwen2vl_merger"}, {"mm.2.weight": (5120, 1536)}, 1536),
        # nothing tells
        ({}, {}, 4096),
        ({VISION: 768}, {}, 4096),
        ({VISION: 96, "clip.projector_type": "gemma3"}, {}, None),
    ],
)  # fmt: skip
def test_a_projector_that_fits_or_does_not_say(values, tensors, width) -> None:
    assert misfit(header(values, tensors), width) is None


@pytest.mark.parametrize(
    ("values", "tensors", "made"),
    [
        ({VISION: 96, "clip.projector_type": "gemma3"}, {"mm.input_projection.weight": (96, 64)}, 96),
        ({AUDIO: 96, "clip.audio.projector_type": "ultravox"}, {}, 96),
        ({VISION: 96, AUDIO: 80, "clip.vision.projector_type": "qwen2.5o"}, {}, 96),
        ({VISION: 768, "clip.projector_type": "mlp"}, {"mm.2.weight": (4096, 4096)}, 4096),
        ({"clip.projector_type": "idefics3"}, {"mm.model.fc.weight": (12288, 576)}, 576),
    ],
)  # fmt: skip
def test_a_projector_of_another_width(values, tensors, made) -> None:
    assert misfit(header(values, tensors), 64) == (
        f"its output has {made} dimensions, the model needs 64"
    )
