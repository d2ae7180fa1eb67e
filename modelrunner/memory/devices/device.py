"""A place that a model could be put into: a GPU's memory or the host's."""

from typing import Literal

from modelrunner.frozen import frozen

NO_DEVICE = "none"
"""The name for no GPU at all."""


@frozen
class Device:
    """Memory that a model could be put into.

    Attributes:
        name: As its maker calls it.
        kind: Whether it is a GPU's or the host's.
        total_bytes: All of it.
        free_bytes: The part that is unused at the moment.
        backend: `cuda`, `rocm`, `metal`, `vulkan`, `sycl` …, or `cpu`.
        shared: Whether a GPU's memory is the host's too.
        pci: Where a GPU is plugged in, like `0000:02:00.0`; empty if unknown.
        sources: Who listed it: drivers' tools, and runtimes that would use it.
        handle: What the runtime that lists it calls it, such as `CUDA0`; empty for a driver's.
    """

    name: str
    kind: Literal["gpu", "host"]
    total_bytes: int
    free_bytes: int
    backend: str
    shared: bool = False
    pci: str = ""
    sources: tuple[str, ...] = ()
    handle: str = ""


_METAL_SHARE = ((36 << 30, 3, 4), (0, 2, 3))
"""What macOS lets the GPU have: of this much memory and more, this fraction."""


def metal_share(memory: int) -> int:
    """Bytes of a Mac's memory that macOS lets its GPU have."""
    return next(memory * part // whole for least, part, whole in _METAL_SHARE if memory >= least)
