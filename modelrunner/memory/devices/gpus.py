"""GPUs by name, for people who ask about a machine that is not this one.

Sizes are in MiB, as drivers show them: a card with error correction in its memory (GDDR6) shows a
sixteenth less than is printed on it, and most show some MiB less than whole GiB. Where a card was
sold with several sizes, the plain name is the usual one, and the others have theirs behind the
name. `SHARED` are those that have the host's memory, in GiB.
"""

_GIB = 1024

FAMILIES: tuple[tuple[str, dict[str, int]], ...] = (
    (
        "cuda",  # GeForce
        {
            "GTX 1050 Ti": 4096, "GTX 1060": 6144, "GTX 1060 3GB": 3072, "GTX 1070": 8192,
            "GTX 1070 Ti": 8192, "GTX 1080": 8192, "GTX 1080 Ti": 11264, "GTX 1650": 4096,
            "GTX 1650 Super": 4096, "GTX 1660": 6144, "GTX 1660 Super": 6144, "GTX 1660 Ti": 6144,
            "TITAN X": 12288, "TITAN V": 12288, "TITAN RTX": 24576,
            "RTX 2060": 6144, "RTX 2060 12GB": 12288, "RTX 2060 Super": 8192, "RTX 2070": 8192,
            "RTX 2070 Super": 8192, "RTX 2080": 8192, "RTX 2080 Super": 8192, "RTX 2080 Ti": 11264,
            "RTX 3050": 8192, "RTX 3050 6GB": 6144, "RTX 3060": 12288, "RTX 3060 8GB": 8192,
            "RTX 3060 Ti": 8192, "RTX 3070": 8192, "RTX 3070 Ti": 8192, "RTX 3080": 10240,
            "RTX 3080 12GB": 12288, "RTX 3080 Ti": 12288, "RTX 3090": 24576, "RTX 3090 Ti": 24564,
            "RTX 4060": 8188, "RTX 4060 Ti": 8188, "RTX 4060 Ti 16GB": 16380, "RTX 4070": 12282,
            "RTX 4070 Super": 12282, "RTX 4070 Ti": 12282, "RTX 4070 Ti Super": 16376,
            "RTX 4080": 16376, "RTX 4080 Super": 16376, "RTX 4090": 24564, "RTX 4090 D": 24564,
            "RTX 5050": 8151, "RTX 5060": 8151, "RTX 5060 Ti": 16311, "RTX 5060 Ti 8GB": 8151,
            "RTX 5070": 12227, "RTX 5070 Ti": 16303, "RTX 5080": 16303, "RTX 5090": 32607,
            "RTX 5090 D": 32607,
        },
    ),
    (
        "cuda",  # GeForce in laptops
        {
            "RTX 2060 Laptop": 6144, "RTX 2070 Laptop": 8192, "RTX 2080 Laptop": 8192,
            "RTX 3050 Laptop": 4096, "RTX 3050 6GB Laptop": 6144, "RTX 3050 Ti Laptop": 4096,
            "RTX 3060 Laptop": 6144, "RTX 3070 Laptop": 8192, "RTX 3070 Ti Laptop": 8192,
            "RTX 3080 Laptop": 8192, "RTX 3080 Laptop 16GB": 16384, "RTX 3080 Ti Laptop": 16384,
            "RTX 4050 Laptop": 6141, "RTX 4060 Laptop": 8188, "RTX 4070 Laptop": 8188,
            "RTX 4080 Laptop": 12282, "RTX 4090 Laptop": 16376, "RTX 5050 Laptop": 8151,
            "RTX 5060 Laptop": 8151, "RTX 5070 Laptop": 8151, "RTX 5070 Ti Laptop": 12227,
            "RTX 5080 Laptop": 16303, "RTX 5090 Laptop": 24463,
        },
    ),
    (
        "cuda",  # data centers
        {
            "P4": 7680, "P40": 24576, "P100": 16384, "V100": 32768, "V100 16GB": 16384, "T4": 15360,
            "A2": 15356, "A10": 23028, "A10G": 23028, "A16": 15356, "A30": 24576, "A40": 46068,
            "A100": 81920, "A100 40GB": 40960, "L4": 23034, "L40": 46068, "L40S": 46068,
            "H20": 97871, "H100": 81559, "H100 94GB": 95830, "H100 NVL": 95830, "H200": 143771,
            "H200 NVL": 143771, "GH200": 97871, "GH200 480GB": 97871, "B200": 183359,
            "GB200": 189471, "B300": 275040, "GB300": 284208,
        },
    ),
    (
        "cuda",  # workstations
        {
            "RTX A2000": 6138, "RTX A2000 12GB": 12282, "RTX A4000": 16376, "RTX A4500": 20470,
            "RTX A5000": 24564, "RTX A5500": 24564, "RTX A6000": 49140, "RTX 2000 Ada": 16380,
            "RTX 4000 Ada": 20475, "RTX 4000 SFF Ada": 20475, "RTX 4500 Ada": 24570,
            "RTX 5000 Ada": 32760, "RTX 5880 Ada": 49140, "RTX 6000 Ada": 49140,
            "Quadro RTX 4000": 8192, "Quadro RTX 5000": 16384, "Quadro RTX 6000": 24576,
            "Quadro RTX 8000": 49152, "RTX PRO 2000 Blackwell": 16311,
            "RTX PRO 4000 Blackwell": 24467, "RTX PRO 4500 Blackwell": 32623,
            "RTX PRO 5000 Blackwell": 48935, "RTX PRO 6000 Blackwell": 97887,
        },
    ),
    (
        "rocm",  # Radeon
        {
            "RX 580": 8 * _GIB, "RX 5700 XT": 8 * _GIB, "RX 6600": 8 * _GIB, "RX 6600 XT": 8 * _GIB,
            "RX 6650 XT": 8 * _GIB, "RX 6700": 10 * _GIB, "RX 6700 XT": 12 * _GIB,
            "RX 6750 XT": 12 * _GIB, "RX 6800": 16 * _GIB, "RX 6800 XT": 16 * _GIB,
            "RX 6900 XT": 16 * _GIB, "RX 6950 XT": 16 * _GIB, "RX 7600": 8 * _GIB,
            "RX 7600 XT": 16 * _GIB, "RX 7700 XT": 12 * _GIB, "RX 7800 XT": 16 * _GIB,
            "RX 7900 GRE": 16 * _GIB, "RX 7900 XT": 20 * _GIB, "RX 7900 XTX": 24 * _GIB,
            "RX 7900M": 16 * _GIB, "RX 9060 XT": 16 * _GIB, "RX 9060 XT 8GB": 8 * _GIB,
            "RX 9070": 16 * _GIB, "RX 9070 GRE": 12 * _GIB, "RX 9070 XT": 16 * _GIB,
            "VII": 16 * _GIB,
        },
    ),
    (
        "rocm",  # Radeon PRO and Instinct; an MI250 is two devices
        {
            "PRO W6800": 32 * _GIB, "PRO W7700": 16 * _GIB, "PRO W7800": 32 * _GIB,
            "PRO W7900": 48 * _GIB, "AI PRO R9700": 32 * _GIB, "MI50": 16 * _GIB,
            "MI50 32GB": 32 * _GIB, "MI60": 32 * _GIB, "MI100": 32 * _GIB, "MI210": 64 * _GIB,
            "MI250": 64 * _GIB, "MI250X": 64 * _GIB, "MI300A": 128 * _GIB, "MI300X": 192 * _GIB,
            "MI325X": 256 * _GIB, "MI350X": 288 * _GIB, "MI355X": 288 * _GIB,
        },
    ),
    (
        "sycl",  # Intel
        {
            "Arc A310": 4 * _GIB, "Arc A380": 6 * _GIB, "Arc A580": 8 * _GIB, "Arc A750": 8 * _GIB,
            "Arc A770": 16 * _GIB, "Arc A770 8GB": 8 * _GIB, "Arc B570": 10 * _GIB,
            "Arc B580": 12 * _GIB, "Arc A550M": 8 * _GIB, "Arc A730M": 12 * _GIB,
            "Arc A770M": 16 * _GIB, "Arc Pro A40": 6 * _GIB, "Arc Pro A60": 12 * _GIB,
            "Arc Pro B50": 16 * _GIB, "Arc Pro B60": 24 * _GIB, "Max 1100": 48 * _GIB,
            "Max 1550": 128 * _GIB, "Flex 170": 16 * _GIB,
        },
    ),
)  # fmt: skip

TWO_DEVICES = ("MI250", "MI250X")
"""Cards that are two GPUs for a runtime."""

SHARED: tuple[tuple[str, dict[str, int]], ...] = (
    (
        "metal",  # memory of the smallest machine that was sold, where none is given
        {
            "M1": 8, "M1 Pro": 16, "M1 Max": 32, "M1 Ultra": 64, "M2": 8, "M2 Pro": 16,
            "M2 Max": 32, "M2 Ultra": 64, "M3": 8, "M3 Pro": 18, "M3 Max": 36, "M3 Ultra": 96,
            "M4": 16, "M4 Pro": 24, "M4 Max": 36, "M5": 16, "M5 Pro": 24, "M5 Max": 36,
        },
    ),
    (
        "cuda",
        {
            "GB10": 128, "DGX Spark": 128, "AGX Orin": 64, "AGX Orin 32GB": 32, "Orin NX": 16,
            "Orin NX 8GB": 8, "Orin Nano": 8, "Orin Nano 4GB": 4, "AGX Thor": 128,
        },
    ),
    (
        "rocm",
        {
            "Ryzen AI Max 395": 128, "Ryzen AI Max 390": 64, "Ryzen AI Max 385": 32,
            "8060S": 128, "8050S": 32, "780M": 32, "890M": 32,
        },
    ),
    ("sycl", {"Arc 140V": 32, "Arc 140T": 32, "Iris Xe": 16}),
)  # fmt: skip

SEEN_OF_SHARED = {"GB10": 122502, "DGX Spark": 122502}
"""MiB that a driver shows, where that is not all of the memory."""
