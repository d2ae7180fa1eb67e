"""Devices in words: names, sizes and counts."""

import pytest

from modelrunner.memory.devices.named import (
    UnknownDeviceError,
    devices_by_name,
    gpu_by_name,
    known_gpus,
)

MIB = 1024 * 1024


def said(text):
    return [(x.name, x.kind, x.total_bytes // MIB) for x in devices_by_name(text)]


def gpu(name, size):
    return (name, "gpu", size)


def host(size):
    return ("host memory", "host", size)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RTX 4090", [gpu("RTX 4090", 24564)]),
        ("2x RTX 4090", [gpu("RTX 4090", 24564)] * 2),
        ("2xrtx4090 + 1x 3060", [*([gpu("RTX 4090", 24564)] * 2), gpu("RTX 3060", 12288)]),
        ("RTX 4090 x2", [gpu("RTX 4090", 24564)] * 2),
        ("24GiB+8GiB", [gpu("GPU of 24GiB", 24576), gpu("GPU of 8GiB", 8192)]),
        ("2x24GiB", [gpu("GPU of 24GiB", 24576)] * 2),
        ("24GiB+ram:64GiB", [gpu("GPU of 24GiB", 24576), host(65536)]),
        ("ram:64GiB", [host(65536)]),
        ("M4 Max 64GB", [gpu("M4 Max", 49152), host(65536)]),
        ("Apple M2", [gpu("M2", 5461), host(8192)]),
        ("GB10", [gpu("GB10", 122502), host(122502)]),
        ("Ryzen AI Max+ 395 + ram:64GiB", [gpu("Ryzen AI Max 395", 65536), host(65536)]),
        ("MI250", [gpu("MI250", 65536)] * 2),
        ("RTX 4090 48GB", [gpu("RTX 4090", 49152)]),
    ],
)
def test_devices_are_named_by_names_sizes_and_counts(text, found):
    assert said(text) == found


@pytest.mark.parametrize(
    ("printed", "name", "size"),
    [
        ("NVIDIA GeForce RTX 4070", "RTX 4070", 12282),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop", 16376),
        ("NVIDIA H100 80GB HBM3", "H100", 81559),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB", 40960),
        ("NVIDIA A100 80GB PCIe", "A100", 81920),
        ("Tesla V100-SXM2-16GB", "V100 16GB", 16384),
        ("Tesla T4", "T4", 15360),
        ("NVIDIA L4", "L4", 23034),
        ("NVIDIA L40S", "L40S", 46068),
        ("NVIDIA GH200 480GB", "GH200 480GB", 97871),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", 49140),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell", 97887),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", "RX 7900 XTX", 24576),
        ("AMD Instinct MI300X", "MI300X", 196608),
        ("Intel(R) Arc(TM) A770 Graphics", "Arc A770", 16384),
        ("Apple M3 Max", "M3 Max", 27648),
        ("NVIDIA GB10", "GB10", 122502),
    ],
)
def test_names_that_drivers_print_are_known(printed, name, size):
    found = gpu_by_name(printed)
    assert (found.name, found.free_bytes // MIB) == (name, size)


def test_every_name_is_its_own():
    assert all(gpu_by_name(name).name == name for name in known_gpus())


@pytest.mark.parametrize(
    "text", ["", "RTX 9999", "24GiB+", "0x RTX 4090", "ram:much", "ram:", "65x RTX 4090", "2x"]
)
def test_what_is_neither_a_name_nor_a_size_is_refused(text):
    with pytest.raises(UnknownDeviceError):
        devices_by_name(text)


def test_a_near_name_is_suggested():
    with pytest.raises(UnknownDeviceError) as caught:
        devices_by_name("2x RTX 4071 + ram:64GiB")
    assert (caught.value.part, caught.value.near) == (
        "RTX 4071",
        "did you mean `RTX 4070`?",
    )
