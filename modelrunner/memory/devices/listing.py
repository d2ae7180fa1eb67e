"""Lists of GPUs as drivers' tools and runtimes print them, read into devices.

```
nvidia-smi, nvml, amdsmi   NVIDIA GeForce RTX 4070, 12282, 11000, 00000000:01:00.0
ggml's child               [{"name": "Vulkan0", "type": "igpu", "total": 1073741824, ...}]
llama-server               Available devices:
                             Vulkan0: AMD Radeon RX 7800 XT (16384 MiB, 15800 MiB free)
```

What is not understood is left out: a list may have lines about other things.
"""

import re
from collections.abc import Iterator, Sequence

from modelrunner.memory.devices.device import Device
from modelrunner.wire import parse_json

_MIB = 1024 * 1024
_NAME = 200
_DRIVER_LINE = r"(.+?)\s*,\s*(\d{1,12})\s*,\s*(\d{1,12})\s*(?:,\s*([0-9A-Fa-f:.]+))?\s*"
_SERVER_LINE = r"\s+(\w+\[.*?\]|[^:]+): (.*) \((\d{1,12}) MiB, (\d{1,12}) MiB free\)\s*"
_PCI = r"(?:([0-9a-f]+):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-9a-f])"
_BACKENDS = {"mtl": "metal"}
_INTEGRATED = (
    r"(?i)intel(?!.*(?:\b[ab]\d{2,3}m?\b|data center))"
    r"|radeon(?:\(tm\))? (?:vega )?(?:\d+ )?(?:graphics|\d{3}m)\b"
)
"""Names of GPUs without memory of their own, for lists that do not answer."""


def of_driver(lines: Sequence[str], backend: str, source: str) -> Iterator[Device]:
    """Lines of name, total MiB, free MiB, and a PCI address or none."""
    for line in lines:
        match = re.fullmatch(_DRIVER_LINE, line)
        if match and int(match[2]):
            total, free = int(match[2]) * _MIB, int(match[3]) * _MIB
            yield _gpu(match[1], backend, total, free, source, pci=match[4] or "")


def of_ggml(lines: Sequence[str], source: str) -> Iterator[Device]:
    """The JSON that `modelrunner.runtime.backends.ggml_devices` printed last."""
    try:
        listed = parse_json(lines[-1]) if lines else []
    except ValueError:
        return
    for entry in listed if isinstance(listed, list) else ():
        if not isinstance(entry, dict) or entry.get("type") not in ("gpu", "igpu"):
            continue
        total, free = entry.get("total"), entry.get("free")
        if not isinstance(total, int) or not isinstance(free, int) or total <= 0 or free < 0:
            continue
        handle = str(entry.get("name"))
        name, backend = str(entry.get("description")), _backend(handle)
        shared = entry["type"] == "igpu" or backend == "metal"
        pci = str(entry.get("id") or "")
        yield _gpu(name, backend, total, free, source, pci=pci, shared=shared, handle=handle)


def of_llama_server(lines: Sequence[str], source: str) -> Iterator[Device]:
    """What `llama-server --list-devices` prints."""
    for line in lines:
        match = re.fullmatch(_SERVER_LINE, line)
        if match and int(match[3]):
            total, free = int(match[3]) * _MIB, int(match[4]) * _MIB
            backend = _backend(match[1])
            shared = backend == "metal" or re.search(_INTEGRATED, match[2]) is not None
            yield _gpu(match[2], backend, total, free, source, shared=shared, handle=match[1])


def pci_address(text: str) -> str:
    """A PCI address as Linux writes it, in lower case; empty for another text."""
    match = re.fullmatch(_PCI, text.strip().lower())
    if match is None:
        return ""
    return f"{int(match[1] or '0', 16):04x}:{match[2]}:{match[3]}.{match[4]}"


def _gpu(
    name: str,
    backend: str,
    total: int,
    free: int,
    source: str,
    *,
    pci: str = "",
    shared: bool = False,
    handle: str = "",
) -> Device:
    free = min(free, total)
    pci = pci_address(pci)
    return Device(name[:_NAME], "gpu", total, free, backend, shared, pci, (source,), handle[:_NAME])


def _backend(name: str) -> str:
    """`Vulkan0` is a device of `vulkan`."""
    found = re.match(r"[A-Za-z]+", name)
    backend = found[0].lower() if found else "other"
    return _BACKENDS.get(backend, backend)
