"""What changes when a driver does: another version, another GPU, another right to use it."""

import os
from collections.abc import Iterator
from pathlib import Path

from modelrunner.memory.devices.probe import text_of

_VERSIONS = (
    "proc/driver/nvidia/version",
    *(f"sys/module/{name}/version" for name in ("nvidia", "amdgpu", "i915", "xe")),
    *(f"sys/module/{name}/srcversion" for name in ("nvidia", "amdgpu", "i915", "xe")),
)
_NODES = ("dev/nvidia*", "dev/dri/*", "dev/kfd", "dev/dxg")
_DRIVERS = ("usr/share/vulkan/icd.d/*", "usr/local/share/vulkan/icd.d/*", "etc/vulkan/icd.d/*")


def fingerprint(root: Path = Path("/")) -> str:
    """Return a text that is another one after what could change the devices of a runtime."""
    # late: most machines have no GPU to remember
    from hashlib import sha256

    return sha256("\n".join(_facts(root)).encode()).hexdigest()


def _facts(root: Path) -> Iterator[str]:
    yield os.uname().release
    for name in _VERSIONS:
        yield f"{name}: {text_of(root / name)}"
    for pattern in _NODES:
        for node in sorted(root.glob(pattern)):
            yield f"{node} {os.access(node, os.R_OK | os.W_OK)}"
    for pattern in _DRIVERS:
        for file in sorted(root.glob(pattern)):
            # the driver itself is replaced with its manifest
            yield f"{file} {text_of(file)} {file.stat().st_mtime_ns}"
