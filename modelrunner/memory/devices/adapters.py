"""GPUs that the kernel has a driver for, whether anybody knows their memory or not."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from modelrunner.memory.devices.listing import pci_address
from modelrunner.memory.devices.probe import number_in, text_of

Maker = Literal["nvidia", "amd", "intel"]

_MAKERS: dict[str, Maker] = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
"""PCI's numbers; a display of a virtual machine has another one, and computes nothing."""

_BOARD = "0000:00:"
"""Where what is part of the processor is plugged in, as Intel has it."""

_CARVED_OUT = 4 << 30
"""Bytes of host memory that AMD's integrated GPUs have at most as their own."""


class Adapter(NamedTuple):
    """A GPU by its node in `/dev/dri`.

    Attributes:
        maker: Who has made it.
        pci: Where it is plugged in.
        node: The file that programs compute with.
        accessible: Whether this user may open it.
        integrated: Whether it is part of the processor.
    """

    maker: Maker
    pci: str
    node: Path
    accessible: bool
    integrated: bool


def adapters(root: Path = Path("/")) -> Iterator[Adapter]:
    """Return the GPUs that programs could compute with."""
    for node in sorted((root / "dev/dri").glob("renderD*")):
        device = root / "sys/class/drm" / node.name / "device"
        maker = _MAKERS.get(text_of(device / "vendor").strip())
        if maker is None:
            continue
        pci = pci_address(device.resolve().name)
        own = number_in(device / "mem_info_vram_total")
        integrated = pci.startswith(_BOARD) or (own is not None and own < _CARVED_OUT)
        yield Adapter(maker, pci, node, os.access(node, os.R_OK | os.W_OK), integrated)
