"""GPUs by name, for people who ask about a machine that is not this one."""

from modelrunner.memory.devices import Device

_GIB = 1024**3

# Memory in GiB, as the makers print it: NVIDIA's "Compare GeForce graphics cards" page and its
# data sheets of the RTX, L, A, H and B series; AMD's specification pages of the Radeon RX and
# Instinct series. Where a card was sold with several sizes, the common one.
_NVIDIA = {
    "RTX 3050": 8, "RTX 3060": 12, "RTX 3060 Ti": 8, "RTX 3070": 8, "RTX 3080": 10,
    "RTX 3080 Ti": 12, "RTX 3090": 24, "RTX 4060": 8, "RTX 4060 Ti": 8, "RTX 4070": 12,
    "RTX 4070 Super": 12, "RTX 4070 Ti": 12, "RTX 4070 Ti Super": 16, "RTX 4080": 16,
    "RTX 4080 Super": 16, "RTX 4090": 24, "RTX 5060": 8, "RTX 5060 Ti": 16, "RTX 5070": 12,
    "RTX 5070 Ti": 16, "RTX 5080": 16, "RTX 5090": 32, "RTX A4000": 16, "RTX A5000": 24,
    "RTX A6000": 48, "RTX 6000 Ada": 48, "T4": 16, "L4": 24, "L40S": 48, "V100": 32,
    "A10": 24, "A40": 48, "A100": 80, "A100 40GB": 40, "H100": 80, "H200": 141, "B200": 180,
}  # fmt: skip
_AMD = {
    "RX 6700 XT": 12, "RX 6800 XT": 16, "RX 7600": 8, "RX 7700 XT": 12, "RX 7800 XT": 16,
    "RX 7900 XT": 20, "RX 7900 XTX": 24, "RX 9060 XT": 16, "RX 9070": 16, "RX 9070 XT": 16,
    "MI210": 64, "MI250X": 128, "MI300X": 192,
}  # fmt: skip

_KNOWN = {
    **{name.casefold(): (name, size, "cuda") for name, size in _NVIDIA.items()},
    **{name.casefold(): (name, size, "rocm") for name, size in _AMD.items()},
}
_BRANDS = ("nvidia", "geforce", "amd", "radeon", "instinct", "tesla")


def known_gpus() -> tuple[str, ...]:
    """The names that `gpu_by_name` understands."""
    return tuple(name for name, _, _ in _KNOWN.values())


def gpu_by_name(name: str) -> Device | None:
    """A GPU with all of its memory free, or None for a name that is not known.

    Brands and case do not matter: `NVIDIA GeForce RTX 4070`, `rtx 4070`.
    """
    words = [word for word in name.casefold().split() if word not in _BRANDS]
    found = _KNOWN.get(" ".join(words))
    if found is None:
        return None
    shown, size, backend = found
    return Device(shown, "gpu", size * _GIB, size * _GIB, backend)
