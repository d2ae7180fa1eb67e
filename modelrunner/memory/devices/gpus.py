"""GPUs by name, for people who ask about a machine that is not this one.

Sizes are in GiB and are the makers' own figures, from the page that stands above each family. A
maker prints GB and means GiB, save for the largest: an H200 with its 141 GB reports 140.4 GiB, and
a B200 179 of its 180. Where a card was sold with several sizes, the plain name is the usual one,
and the others have theirs behind the name.
"""

from modelrunner.memory.devices.device import Device

_GIB = 1024**3

_FAMILIES: tuple[tuple[str, str, dict[str, int]], ...] = (
    (
        "cuda",
        "https://www.nvidia.com/en-us/geforce/graphics-cards/compare/",
        {
            "RTX 2060": 6, "RTX 2070": 8, "RTX 2080": 8, "RTX 2080 Ti": 11,
            "RTX 3050": 8, "RTX 3050 6GB": 6, "RTX 3060": 12, "RTX 3060 8GB": 8, "RTX 3060 Ti": 8,
            "RTX 3070": 8, "RTX 3070 Ti": 8, "RTX 3080": 10, "RTX 3080 12GB": 12,
            "RTX 3080 Ti": 12, "RTX 3090": 24, "RTX 3090 Ti": 24,
            "RTX 4060": 8, "RTX 4060 Ti": 8, "RTX 4060 Ti 16GB": 16, "RTX 4070": 12,
            "RTX 4070 Super": 12, "RTX 4070 Ti": 12, "RTX 4070 Ti Super": 16, "RTX 4080": 16,
            "RTX 4080 Super": 16, "RTX 4090": 24,
            "RTX 5050": 8, "RTX 5060": 8, "RTX 5060 Ti": 16, "RTX 5060 Ti 8GB": 8,
            "RTX 5070": 12, "RTX 5070 Ti": 16, "RTX 5080": 16, "RTX 5090": 32,
        },
    ),
    (
        "cuda",
        "https://docs.nvidia.com/datacenter/tesla/mig-user-guide/supported-gpus.html",
        {
            "A30": 24, "A100": 80, "A100 40GB": 40, "H20": 96, "H100": 80, "H100 94GB": 94,
            "GH200": 96, "H200": 141, "B200": 180, "GB200": 186, "RTX PRO 4500 Blackwell": 32,
            "RTX PRO 5000 Blackwell": 48, "RTX PRO 6000 Blackwell": 96,
        },
    ),
    (
        "cuda",
        "https://www.nvidia.com/en-us/data-center/",
        {"V100": 32, "V100 16GB": 16, "T4": 16, "A10": 24, "A40": 48, "L4": 24, "L40S": 48},
    ),
    (
        "cuda",
        "https://www.nvidia.com/en-us/products/workstations/",
        {"RTX A4000": 16, "RTX A5000": 24, "RTX A6000": 48, "RTX 6000 Ada": 48},
    ),
    (
        "rocm",
        "https://rocm.docs.amd.com/en/latest/reference/gpu-specs.html",
        {
            "RX 6600": 8, "RX 6600 XT": 8, "RX 6650 XT": 8, "RX 6700": 10, "RX 6700 XT": 12,
            "RX 6750 XT": 12, "RX 6800": 16, "RX 6800 XT": 16, "RX 6900 XT": 16, "RX 6950 XT": 16,
            "RX 7600": 8, "RX 7700 XT": 12, "RX 7800 XT": 16, "RX 7900 GRE": 16,
            "RX 7900 XT": 20, "RX 7900 XTX": 24, "VII": 16,
            "PRO W6800": 32, "PRO W7700": 16, "PRO W7800": 32, "PRO W7900": 48,
            "MI50": 16, "MI50 32GB": 32, "MI60": 32, "MI100": 32, "MI210": 64, "MI250": 128,
            "MI250X": 128, "MI300A": 128, "MI300X": 192, "MI325X": 256, "MI350X": 288,
            "MI355X": 288,
        },
    ),
    (
        "rocm",
        "https://www.amd.com/en/products/graphics/desktops/radeon.html",
        {"RX 7600 XT": 16, "RX 9060 XT": 16, "RX 9060 XT 8GB": 8, "RX 9070": 16, "RX 9070 XT": 16},
    ),
)  # fmt: skip

_KNOWN = {
    name.casefold().replace(" ", ""): (name, size, backend)
    for backend, _, sizes in _FAMILIES
    for name, size in sizes.items()
}
_BRANDS = ("nvidia", "geforce", "amd", "radeon", "instinct", "tesla")


def known_gpus() -> tuple[str, ...]:
    """The names that `gpu_by_name` understands."""
    return tuple(name for name, _, _ in _KNOWN.values())


def gpu_by_name(name: str) -> Device | None:
    """A GPU with all of its memory free, or None for a name that is not known.

    Brands, case and spaces do not matter: `NVIDIA GeForce RTX 4070`, `rtx4070`, `A100-40GB`.
    """
    words = [word for word in name.casefold().split() if word not in _BRANDS]
    found = _KNOWN.get("".join(words).replace("-", ""))
    if found is None:
        return None
    shown, size, backend = found
    return Device(shown, "gpu", size * _GIB, size * _GIB, backend, sources=("the vendors' table",))
