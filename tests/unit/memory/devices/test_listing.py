"""Lists of GPUs as tools print them, whole and broken."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.memory.devices.device import Device
from modelrunner.memory.devices.listing import of_driver, of_ggml, of_llama_server, pci_address

MIB = 1024 * 1024
SERVER = """\
ggml_cuda_init: found 1 CUDA devices:
  Device 0: NVIDIA RTX A4000, compute capability 8.6, VMM: yes, VRAM: 16101 MiB
Available devices:
  RPC[10.0.0.7:50052]: RPC[10.0.0.7:50052] (24000 MiB, 23000 MiB free)
  CUDA0: NVIDIA RTX A4000 (16101 MiB, 15900 MiB free)
  Vulkan1: Intel(R) UHD Graphics 770 (ADL-S GT1) (23947 MiB, 21552 MiB free)
  SYCL0: Intel(R) Arc(TM) A770 Graphics (15473 MiB, 15473 MiB free)
  MTL0: Apple M2 Max (22528 MiB, 22527 MiB free)
  BLAS: Accelerate (0 MiB, 0 MiB free)
  (none)
"""


def test_llama_servers_list_is_read_line_by_line():
    found = list(of_llama_server(SERVER.splitlines(), "llama-server"))
    assert [(gpu.backend, gpu.name, gpu.shared) for gpu in found] == [
        ("rpc", "RPC[10.0.0.7:50052]", False),
        ("cuda", "NVIDIA RTX A4000", False),
        ("vulkan", "Intel(R) UHD Graphics 770 (ADL-S GT1)", True),
        ("sycl", "Intel(R) Arc(TM) A770 Graphics", False),
        ("metal", "Apple M2 Max", True),
    ]
    assert (found[1].total_bytes, found[1].free_bytes) == (16101 * MIB, 15900 * MIB)


@pytest.mark.parametrize(
    ("name", "integrated"),
    [
        ("Intel(R) Arc(TM) B580 Graphics (BMG G21)", False),
        ("Intel(R) Arc(TM) 140V Graphics (LNL)", True),
        ("Intel(R) Iris(R) Xe Graphics", True),
        ("Intel(R) Data Center GPU Max 1100", False),
        ("AMD Radeon Graphics (RADV RENOIR)", True),
        ("AMD Radeon 780M Graphics (RADV PHOENIX)", True),
        ("AMD Radeon(TM) 890M", True),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", False),
        ("AMD Radeon PRO W7900", False),
        ("NVIDIA GeForce RTX 4070", False),
    ],
)
def test_gpus_without_memory_of_their_own_are_known_by_name(name, integrated):
    (gpu,) = of_llama_server([f"  Vulkan0: {name} (8192 MiB, 8000 MiB free)"], "llama-server")
    assert gpu.shared is integrated


def test_ggmls_cpu_and_accelerators_are_no_gpus():
    listed = [
        {"name": "CPU", "description": "AMD EPYC", "type": "cpu", "total": 9, "free": 9},
        {"name": "BLAS", "description": "OpenBLAS", "type": "accel", "total": 0, "free": 0},
        {"name": "ROCm1", "description": "MI210", "type": "gpu", "id": "0000:83:00.0"}
        | {"total": 9, "free": 12},
    ]
    assert list(of_ggml(["noise", json.dumps(listed)], "xllamacpp")) == [
        Device(
            "MI210", "gpu", 9, 9, "rocm", pci="0000:83:00.0", sources=("xllamacpp",), handle="ROCm1"
        )
    ]


@pytest.mark.parametrize(
    "line",
    ["", "{}", "[1]", "[" * 100_000, '[{"type": "gpu"}]', '[{"type": "gpu", "total": -1}]'],
)
def test_what_is_no_list_of_ggmls_has_no_devices(line):
    assert list(of_ggml([line], "xllamacpp")) == []


@given(st.lists(st.text(max_size=80), max_size=5))
def test_no_text_breaks_a_reader(lines):
    for device in (
        *of_driver(lines, "cuda", "nvidia-smi"),
        *of_ggml(lines, "xllamacpp"),
        *of_llama_server(lines, "llama-server"),
    ):
        assert 0 <= device.free_bytes <= device.total_bytes


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:0A:00.0", "0000:0a:00.0"),
        ("0000:02:00.0", "0000:02:00.0"),
        ("10000:02:00.0", "10000:02:00.0"),
        ("02:00.0", "0000:02:00.0"),
        ("amdgpu", ""),
    ],
)
def test_a_pci_address_is_one_however_it_is_written(text, address):
    assert pci_address(text) == address
