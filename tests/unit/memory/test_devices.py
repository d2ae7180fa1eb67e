"""Devices as the kernel and the drivers' tools tell of them, and as they do not."""

import os
import sys
import time
from pathlib import Path

import pytest

from modelrunner.memory.devices import Device, devices, host_memory
from modelrunner.memory.gpus import gpu_by_name, known_gpus

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are Linux's files")

GIB = 1024**3
MEMINFO = "MemTotal:       67108864 kB\nMemFree:         1048576 kB\nMemAvailable:   33554432 kB\n"


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "proc/meminfo", MEMINFO)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def sizes(root):
    found = host_memory(root)
    return found.total_bytes, found.free_bytes


def test_the_host_has_what_is_available_not_what_is_free(root):
    assert sizes(root) == (64 * GIB, 32 * GIB)


def test_a_version_2_control_group_limits_it(root):
    write(root / "proc/self/cgroup", "0::/user/pod\n")
    group = root / "sys/fs/cgroup/user/pod"
    write(group / "memory.max", f"{8 * GIB}\n")
    write(group / "memory.current", f"{3 * GIB}\n")
    write(group / "memory.stat", f"anon 5\ninactive_file {GIB}\n")
    assert sizes(root) == (8 * GIB, 6 * GIB)


def test_the_limit_of_a_group_above_counts_too(root):
    write(root / "proc/self/cgroup", "0::/user/pod\n")
    write(root / "sys/fs/cgroup/user/pod/memory.max", "max\n")
    write(root / "sys/fs/cgroup/user/pod/memory.current", "1000\n")
    write(root / "sys/fs/cgroup/user/memory.max", f"{4 * GIB}\n")
    write(root / "sys/fs/cgroup/user/memory.current", f"{GIB}\n")
    assert sizes(root) == (4 * GIB, 3 * GIB)


def test_a_container_sees_its_own_group_at_the_top(root):
    write(root / "proc/self/cgroup", "0::/../../elsewhere\n")
    write(root / "sys/fs/cgroup/memory.max", f"{2 * GIB}\n")
    write(root / "sys/fs/cgroup/memory.current", f"{GIB}\n")
    assert sizes(root) == (2 * GIB, GIB)


def test_a_version_1_control_group_limits_it(root):
    write(root / "proc/self/cgroup", "3:cpu:/a\n7:memory:/docker/abc\n")
    group = root / "sys/fs/cgroup/memory/docker/abc"
    write(group / "memory.limit_in_bytes", f"{16 * GIB}\n")
    write(group / "memory.usage_in_bytes", f"{20 * GIB}\n")
    assert sizes(root) == (16 * GIB, 0)


def test_a_version_1_group_without_a_limit_does_not(root):
    write(root / "proc/self/cgroup", "7:memory:/\n")
    write(root / "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    write(root / "sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n")
    assert sizes(root) == (64 * GIB, 32 * GIB)


def test_nothing_is_said_where_nothing_can_be_read(tmp_path):
    assert host_memory(tmp_path) is None
    assert devices(tmp_path) == ()


def test_amd_gpus_come_from_the_kernel(root):
    write(root / "dev/kfd", "")
    for name, total, used in (("card1", 16 * GIB, 2 * GIB), ("card2", 0, 0)):
        card = root / "sys/class/drm" / name / "device"
        write(card / "mem_info_vram_total", f"{total}\n")
        write(card / "mem_info_vram_used", f"{used}\n")
    write(root / "sys/class/drm/card1/device/product_name", "Radeon RX 7800 XT\n")
    first, last = devices(root)
    assert first == Device("Radeon RX 7800 XT", "gpu", 16 * GIB, 14 * GIB, "rocm")
    assert last.kind == "host"


@pytest.fixture
def nvidia_smi(root, monkeypatch):
    """Makes a driver's mark and a tool that does as told."""

    def make(script: str) -> Path:
        write(root / "dev/nvidiactl", "")
        tool = root / "bin/nvidia-smi"
        write(tool, f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
        return root

    return make


def test_nvidia_gpus_come_from_the_drivers_tool(nvidia_smi):
    root = nvidia_smi(
        'echo "NVIDIA GeForce RTX 4070, 12282, 11000"; echo "Odd, name, 24564, 20"; echo garbage'
    )
    first, second, _ = devices(root)
    assert first == Device("NVIDIA GeForce RTX 4070", "gpu", 12282 << 20, 11000 << 20, "cuda")
    assert second.name == "Odd, name"


@pytest.mark.parametrize(
    "script",
    ["kill -SEGV $$", "exit 9", 'echo "a, [N/A], [N/A]"', "printf '\\377\\376'"],
    ids=["crashes", "fails", "does not know", "babbles"],
)
def test_a_tool_that_misbehaves_costs_only_its_answer(nvidia_smi, script):
    assert [device.kind for device in devices(nvidia_smi(script))] == ["host"]


def test_a_tool_that_hangs_is_given_up(nvidia_smi):
    root = nvidia_smi("exec sleep 60")
    start = time.monotonic()
    assert [device.kind for device in devices(root, deadline=0.3)] == ["host"]
    assert time.monotonic() - start < 5


def test_no_tool_is_started_where_there_is_no_driver(root, nvidia_smi):
    nvidia_smi("exec sleep 60")
    (root / "dev/nvidiactl").unlink()
    start = time.monotonic()
    assert [device.kind for device in devices(root)] == ["host"]
    assert time.monotonic() - start < 2


def test_without_the_tool_the_library_is_asked_by_a_child(root, monkeypatch):
    write(root / "dev/nvidiactl", "")
    monkeypatch.setenv("PATH", "")
    assert [device.kind for device in devices(root)] == ["host"]  # no such library here


def test_this_machine_has_memory():
    found = devices()
    assert found[-1].kind == "host"
    assert 0 < found[-1].free_bytes <= found[-1].total_bytes


def test_gpus_are_known_by_name_whatever_the_brand_and_case():
    expected = Device("RTX 4070", "gpu", 12 * GIB, 12 * GIB, "cuda")
    assert gpu_by_name("rtx 4070") == gpu_by_name("NVIDIA GeForce RTX 4070") == expected
    assert gpu_by_name("Radeon RX 7900 XTX").backend == "rocm"
    assert gpu_by_name("RTX 9999") is None
    assert all(gpu_by_name(name) for name in known_gpus())
