"""Asks AMD's management library for GPUs; run as a child, since a driver may hang or crash.

Prints a line for each, as `nvml` does: name, total MiB, free MiB, PCI address.
"""

import sys
from importlib import import_module


def main() -> int:
    """Prints what there is; 0 where the library answered."""
    library = import_module("amdsmi")
    library.amdsmi_init()
    for handle in library.amdsmi_get_processor_handles():
        name = library.amdsmi_get_gpu_asic_info(handle)["market_name"]
        use = library.amdsmi_get_gpu_vram_usage(handle)
        total, used = int(use["vram_total"]), int(use["vram_used"])
        place = library.amdsmi_get_gpu_device_bdf(handle)
        sys.stdout.write(f"{name}, {total}, {max(total - used, 0)}, {place}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
