"""Asks NVIDIA's management library for GPUs; run as a child, since a driver may hang or crash.

Prints a line for each: name, total MiB, free MiB.
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
        handle, memory = ctypes.c_void_p(), _Memory()
        name = ctypes.create_string_buffer(96)
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            continue
        if library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
            continue
        library.nvmlDeviceGetName(handle, name, len(name))
        shown = name.value.decode(errors="replace") or "NVIDIA GPU"
        sys.stdout.write(f"{shown}, {memory.total // _MIB}, {memory.free // _MIB}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
