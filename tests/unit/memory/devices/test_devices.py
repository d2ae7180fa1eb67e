"""Devices as the kernel and the drivers' tools tell of them, and as they do not."""

import fcntl
import json
import os
import sys
from pathlib import Path

import pytest

from modelrunner.memory.devices.devices import Device, Probe, devices, survey
from modelrunner.memory.devices.listing import of_ggml

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


def test_nothing_is_said_where_nothing_can_be_read(tmp_path):
    assert devices(tmp_path) == ()


def test_amd_gpus_come_from_the_kernel(root):
    write(root / "dev/kfd", "")
    for name, place, total, used in (("card1", "03:00.0", 16, 2), ("card2", "04:00.0", 0, 0)):
        card = root / "sys/devices" / f"0000:{place}"
        write(card / "mem_info_vram_total", f"{total * GIB}\n")
        write(card / "mem_info_vram_used", f"{used * GIB}\n")
        link = root / "sys/class/drm" / name / "device"
        link.parent.mkdir(parents=True)
        link.symlink_to(card)
    write(root / "sys/class/drm/card1/device/product_name", "Radeon RX 7800 XT\n")
    first, last = devices(root)
    assert first == Device(
        *("Radeon RX 7800 XT", "gpu", 16 * GIB, 14 * GIB, "rocm"),
        pci="0000:03:00.0",
        sources=("kernel",),
    )
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
        'echo "NVIDIA GeForce RTX 4070, 12282, 11000, 00000000:0A:00.0";'
        'echo "Odd, name, 24564, 20"; echo garbage'
    )
    first, second, _ = devices(root)
    assert first == Device(
        *("NVIDIA GeForce RTX 4070", "gpu", 12282 << 20, 11000 << 20, "cuda"),
        pci="0000:0a:00.0",
        sources=("nvidia-smi",),
    )
    assert second == Device(
        "Odd, name", "gpu", 24564 << 20, 20 << 20, "cuda", sources=("nvidia-smi",)
    )


@pytest.mark.parametrize(
    "script",
    ["kill -SEGV $$", "exit 9", 'echo "a, [N/A], [N/A]"', "printf '\\377\\376'"],
    ids=["crashes", "fails", "does not know", "babbles"],
)
def test_a_tool_that_misbehaves_costs_only_its_answer(nvidia_smi, script):
    assert [device.kind for device in devices(nvidia_smi(script))] == ["host"]


def test_a_tool_that_hangs_is_given_up(nvidia_smi):
    root = nvidia_smi("exec sleep 600")
    assert [device.kind for device in devices(root, deadline=0.3)] == ["host"]


def test_no_tool_is_started_where_there_is_no_driver(root, nvidia_smi):
    started = root / "started"
    nvidia_smi(f"touch {started}")
    (root / "dev/nvidiactl").unlink()
    assert [device.kind for device in devices(root)] == ["host"]
    assert not started.exists()


def test_without_the_tool_the_library_is_asked_by_a_child(root, monkeypatch):
    write(root / "dev/nvidiactl", "")
    monkeypatch.setenv("PATH", "")
    assert [device.kind for device in devices(root)] == ["host"]  # no such library here


def saying(printed: str, *, name: str = "runtime") -> Probe:
    """A stand-in for ggml's child that prints, and whatever it printed before stays unread."""
    code = f"print('ggml says hello'); print({printed!r})"
    return Probe(name, (sys.executable, "-c", code), lambda lines: of_ggml(lines, name))


def listing(**device: object) -> str:
    entry = {"name": "Vulkan0", "description": "A GPU", "type": "gpu", "id": ""} | device
    return json.dumps([entry])


def test_a_gpu_that_only_a_runtime_knows_is_listed(root):
    probe = saying(listing(description="Arc A770", total=16 * GIB, free=15 * GIB))
    first, host = survey(root, [probe]).devices
    assert first == Device(
        "Arc A770", "gpu", 16 * GIB, 15 * GIB, "vulkan", sources=("runtime",), handle="Vulkan0"
    )
    assert host.kind == "host"


def test_a_gpu_that_driver_and_runtimes_know_is_listed_once(nvidia_smi):
    root = nvidia_smi('echo "NVIDIA GeForce RTX 4070, 12282, 11000, 00000000:01:00.0"')
    device = {"description": "NVIDIA GeForce RTX 4070", "total": 12 * GIB, "free": 5 * GIB}
    probes = [
        saying(listing(name="CUDA0", id="0000:01:00.0", **device), name="one"),
        saying(listing(name="Vulkan0", **device), name="other"),
    ]
    found = survey(root, probes)
    assert [device.name for device in found.devices if device.kind == "gpu"] == [
        "NVIDIA GeForce RTX 4070"
    ]
    assert found.devices[0].sources == ("nvidia-smi", "one", "other")
    assert found.devices[0].free_bytes == 11000 << 20
    assert found.notes == ()


def test_an_integrated_gpu_has_no_more_than_the_host(root):
    probe = saying(listing(type="igpu", total=96 * GIB, free=90 * GIB))
    gpu, host = survey(root, [probe]).devices
    assert gpu.shared
    assert (gpu.total_bytes, gpu.free_bytes) == (host.total_bytes, host.free_bytes)


def bad(code, name="runtime"):
    return Probe(name, (sys.executable, "-c", code), lambda lines: of_ggml(lines, name))


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("import os; os.kill(os.getpid(), 11)", "was ended by signal 11"),
        ("raise SystemExit(3)", "failed with exit code 3"),
        ("while True: print('garbage' * 1000)", "printed more than a list of devices"),
    ],
    ids=["crashes", "fails", "babbles"],
)
def test_a_runtime_that_misbehaves_costs_only_its_answer_and_is_named(root, code, note):
    good = saying(listing(total=GIB, free=GIB), name="good")
    found = survey(root, [bad(code), good], deadline=60)
    assert [device.sources for device in found.devices] == [("good",), ("meminfo",)]
    assert found.notes == (f"runtime {note}: its GPUs are not listed",)


def test_runtimes_that_hang_cost_only_their_answers_and_are_named(root):
    # locked as long as the child lives
    held = root / "held"
    held.touch()
    child = f"import fcntl, os; f = open({str(held)!r}); fcntl.flock(f, fcntl.LOCK_EX); "
    # together, so that they are waited for once
    hanging = [
        bad("import time; time.sleep(600)", "hangs"),
        bad("import os; os.close(1); import time; time.sleep(600)", "hushes"),
        bad(child + "os.fork() or __import__('time').sleep(600)", "leaves a child"),
    ]
    # what starts at once, however much there is to do
    good = Probe(
        "good",
        ("echo", listing(total=GIB, free=GIB)),
        lambda lines: of_ggml(lines, "good"),
    )
    found = survey(root, [good, *hanging], deadline=5)
    assert [device.sources for device in found.devices] == [("good",), ("meminfo",)]
    assert found.notes == tuple(
        f"{probe.name} did not answer in time: its GPUs are not listed" for probe in hanging
    )
    # the child has ended, too: nobody holds its lock any more
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def test_a_runtime_that_cannot_be_started_is_named(root):
    found = survey(root, [Probe("runtime", (str(root / "nothing"),), lambda _: iter(()))])
    assert found.notes == ("runtime cannot be started: its GPUs are not listed",)


def test_the_probes_run_at_the_same_time(root):
    code = """if True:
        import pathlib, sys, time
        here, me = map(pathlib.Path, sys.argv[1:])
        (here / me).touch()
        while len([*here.glob("probe-*")]) < 3:
            time.sleep(0.01)
    """
    names = [f"probe-{number}" for number in range(3)]
    probes = [
        Probe(name, (sys.executable, "-c", code, str(root), name), lambda _: iter(()))
        for name in names
    ]
    assert survey(root, probes, deadline=60).notes == ()


def test_amds_library_is_asked_by_a_child_and_names_what_the_kernel_does_not(root, monkeypatch):
    write(root / "dev/kfd", "")
    card = root / "sys/class/drm/card0/device"
    write(card / "mem_info_vram_total", f"{192 * GIB}\n")
    write(card / "mem_info_vram_used", "0\n")
    library = (
        "def amdsmi_init(): pass\n"
        "def amdsmi_get_processor_handles(): return [7]\n"
        "def amdsmi_get_gpu_asic_info(handle): return {'market_name': 'AMD Instinct MI300X'}\n"
        "def amdsmi_get_gpu_vram_usage(handle): return {'vram_total': 196608, 'vram_used': 283}\n"
        "def amdsmi_get_gpu_device_bdf(handle): return '0000:0C:00.0'\n"
    )
    write(root / "library/amdsmi.py", library)
    monkeypatch.syspath_prepend(str(root / "library"))
    monkeypatch.setenv("PYTHONPATH", str(root / "library"))
    (gpu, _) = survey(root).devices
    assert gpu == Device(
        *("AMD Instinct MI300X", "gpu", 192 * GIB, 192 * GIB, "rocm"),
        pci="0000:0c:00.0",
        sources=("kernel", "amdsmi"),
    )
