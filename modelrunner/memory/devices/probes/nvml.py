"""Asks NVIDIA's management library for GPUs; run as a child, since a driver may hang or crash.

Prints a line for each, as `nvidia-smi` does: name, total MiB, free MiB, PCI address.
"""

import ctypes
import sys

_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_MIB = 1024 * 1024


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Place(ctypes.Structure):
    """`nvmlPciInfo_t`."""

    _fields_ = (
        ("old_address", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("device_id", ctypes.c_uint),
        ("subsystem_id", ctypes.c_uint),
        ("address", ctypes.c_char * 32),
    )


def main() -> int:
    """Prints what there is; 0 where the library answered."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return 1
    count = ctypes.c_uint()
    if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return 1
    for index in range(count.value):
        handle, memory, place = ctypes.c_void_p(), _Memory(), _Place()
        name = ctypes.create_string_buffer(96)
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            continue
        if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
            continue
        library.nvmlDeviceGetName(handle, name, len(name))
        shown = name.value.decode(errors="replace") or "NVIDIA GPU"
        line = f"{shown}, {memory.total // _MIB}, {memory.free // _MIB}"
        ask_place = getattr(library, "nvmlDeviceGetPciInfo_v3", None)  # drivers since 2018
        if ask_place and not ask_place(handle, ctypes.byref(place)):
            line += f", {place.address.decode(errors='replace')}"
        sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
