"""One device once: by address, by name, and by what is left."""

from modelrunner.memory.devices.device import Device
from modelrunner.memory.devices.merge import merged

GIB = 1024**3


def gpu(name: str, backend: str, total: float = 16, *, pci: str = "", source: str = "") -> Device:
    size = round(total * GIB)
    return Device(name, "gpu", size, size, backend, pci=pci, sources=(source or backend,))


def names(devices: list[Device]) -> list[str]:
    return [f"{device.name}: {' '.join(device.sources)}" for device in devices]


def test_the_address_decides_whatever_the_names():
    kernel = [gpu("A", "rocm", pci="0000:03:00.0"), gpu("A", "rocm", pci="0000:04:00.0")]
    runtime = [gpu("other", "vulkan", 9, pci="0000:04:00.0")]
    assert names(merged([kernel, runtime])) == ["A: rocm", "A: rocm vulkan"]


def test_two_cards_of_one_kind_stay_two():
    driver = [gpu("NVIDIA H100", "cuda", 80, pci=f"0000:0{i}:00.0") for i in (1, 2)]
    runtime = [gpu("NVIDIA H100", "cuda", 79, source="llama-server")] * 2
    assert names(merged([driver, runtime])) == ["NVIDIA H100: cuda llama-server"] * 2
    assert len(merged([runtime])) == 2


def test_one_card_of_two_backends_of_a_list_is_one():
    runtime = [gpu("NVIDIA RTX A4000", "cuda"), gpu("NVIDIA RTX A4000", "vulkan", 15.8)]
    assert names(merged([runtime])) == ["NVIDIA RTX A4000: cuda vulkan"]


def test_a_name_is_the_same_without_brand_and_driver():
    kernel = [gpu("Radeon RX 7800 XT", "rocm")]
    runtime = [gpu("AMD Radeon RX 7800 XT (RADV NAVI32)", "vulkan")]
    assert names(merged([kernel, runtime])) == ["Radeon RX 7800 XT: rocm vulkan"]


def test_a_nameless_card_gets_its_name_from_who_knows_it():
    kernel = [gpu("AMD GPU", "rocm", 0.5)]
    runtime = [gpu("NVIDIA T4", "vulkan"), gpu("AMD Radeon Graphics (RADV RENOIR)", "vulkan")]
    assert names(merged([kernel, runtime])) == [
        "AMD Radeon Graphics (RADV RENOIR): rocm vulkan",
        "NVIDIA T4: vulkan",
    ]


def test_what_is_nameless_may_come_last_too():
    runtime = [gpu("Apple M2 Max", "metal", 22, source="llama-server")]
    system = [gpu("Apple GPU", "metal", 24, source="sysctl")]
    (found,) = merged([runtime, system])
    assert (found.name, found.total_bytes) == ("Apple M2 Max", 22 * GIB)
    assert found.sources == ("llama-server", "sysctl")


def test_of_two_nameless_cards_the_one_of_this_size_is_meant():
    kernel = [gpu("AMD GPU", "rocm", 0.5), gpu("AMD GPU", "rocm", 16)]
    runtime = [gpu("AMD Radeon RX 7800 XT", "vulkan", 15.9)]
    assert names(merged([kernel, runtime])) == [
        *("AMD GPU: rocm", "AMD Radeon RX 7800 XT: rocm vulkan")
    ]


def test_cards_with_names_that_begin_alike_are_not_mixed_up():
    driver = [gpu("NVIDIA RTX 4070", "cuda", 12), gpu("NVIDIA RTX 4070 Ti", "cuda", 12)]
    runtime = [gpu("NVIDIA RTX 4070 Ti", "vulkan", 12), gpu("NVIDIA RTX 4070", "vulkan", 12)]
    assert names(merged([driver, runtime])) == [
        *("NVIDIA RTX 4070: cuda vulkan", "NVIDIA RTX 4070 Ti: cuda vulkan")
    ]


def test_cards_of_other_size_or_maker_are_others():
    driver = [gpu("NVIDIA A100", "cuda", 80)]
    runtime = [gpu("NVIDIA A100", "vulkan", 40), gpu("Intel Arc A770", "vulkan", 80)]
    assert len(merged([driver, runtime])) == 3


def test_nobody_tells_of_nothing():
    assert merged([[], []]) == []
