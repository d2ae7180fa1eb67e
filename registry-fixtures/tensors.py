"""Floats into a GGUF file, as the type that each tensor shall have."""

import kquants
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, quants
from weights import Floats


def add(writer: GGUFWriter, name: str, values: Floats, kind: Type = Type.F32) -> None:
    """Adds a tensor to what the writer will write."""
    if kind is Type.F32:
        writer.add_tensor(name, values.astype("<f4"))
    elif kind is Type.F16:
        writer.add_tensor(name, values.astype("<f2"))
    else:
        writer.add_tensor(name, _quantised(values, kind), raw_dtype=kind)


def is_quantised(name: str) -> bool:
    """Whether a tensor is one of those that quantisation is for: not a norm, bias or kernel."""
    part = name.removesuffix(".weight")
    return part != name and not part.endswith(("norm", "conv1d"))


def _quantised(values: Floats, kind: Type) -> kquants.Bytes:
    match kind:
        case Type.Q4_K:
            return kquants.q4_k(values)
        case Type.Q6_K:
            return kquants.q6_k(values)
        case _:
            return np.asarray(quants.quantize(values, kind), dtype=np.uint8)
