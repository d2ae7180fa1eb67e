"""What memory there is: the GPUs and the host's own, total and free.

Drivers are asked by their tools, their libraries or the kernel's files; what runtimes list comes
from their callers, as further probes.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from modelrunner.frozen import replace
from modelrunner.memory.devices.device import Device, metal_share
from modelrunner.memory.devices.host import host_memory
from modelrunner.memory.devices.listing import of_driver, pci_address
from modelrunner.memory.devices.merge import NAMELESS, merged
from modelrunner.memory.devices.probe import DEADLINE, ask, number_in, text_of

__all__ = ["Device", "Probe", "Survey", "devices", "may_have_gpu", "survey"]

_NVIDIA_MARKS = ("dev/nvidiactl", "dev/nvidia0", "dev/dxg")
_AMD_MARK = "dev/kfd"
_RENDERERS = "dev/dri/renderD*"
_NVIDIA_QUERY = (
    "--query-gpu=name,memory.total,memory.free,pci.bus_id",
    "--format=csv,noheader,nounits",
)
_MIB = 1024 * 1024


class Probe(NamedTuple):
    """A program that lists GPUs.

    Attributes:
        name: The driver's tool or the runtime.
        command: How to ask it.
        read: What its lines mean.
        environ: Its environment; None for ours.
    """

    name: str
    command: Sequence[str]
    read: Callable[[Sequence[str]], Iterator[Device]]
    environ: Mapping[str, str] | None = None


class Survey(NamedTuple):
    """All that was found.

    Attributes:
        devices: GPUs first, then the host.
        notes: Who was asked and did not answer, for people.
    """

    devices: tuple[Device, ...]
    notes: tuple[str, ...] = ()


def devices(root: Path = Path("/"), *, deadline: float = DEADLINE) -> tuple[Device, ...]:
    """Return what drivers and the kernel list: GPUs first, then the host.

    What cannot be asked, or does not answer, is left out. An integrated GPU counts only where
    no other exists, as in llama.cpp.

    Args:
        root: Where `dev`, `proc` and `sys` are.
        deadline: Seconds that all probes may take together.
    """
    return preferred(survey(root, deadline=deadline).devices)


def preferred(found: Sequence[Device]) -> tuple[Device, ...]:
    """Return the devices without integrated GPUs, where there is one of its own memory."""
    if any(device.kind == "gpu" and not device.shared for device in found):
        return tuple(device for device in found if not device.shared)
    return tuple(found)


def survey(
    root: Path = Path("/"), probes: Sequence[Probe] = (), *, deadline: float = DEADLINE
) -> Survey:
    """Every device that the drivers or these probes know, whether it would be used or not."""
    host = host_memory(root, deadline=deadline)
    probes = [*_driver_probes(root), *probes]
    answers = ask(
        [probe.command for probe in probes], deadline, [probe.environ for probe in probes]
    )
    listed = [list(probe.read(answer.lines)) for probe, answer in zip(probes, answers, strict=True)]
    gpus = merged([_amd(root), *listed])
    if sys.platform == "darwin" and host:
        gpus = merged([gpus, list(_metal(host, deadline))])
    notes = tuple(
        f"{probe.name} {answer.failure}: its GPUs are not listed"
        for probe, answer in zip(probes, answers, strict=True)
        if answer.failure
    )
    return Survey((*(_bounded(gpu, host) for gpu in gpus), *([host] if host else [])), notes)


def _driver_probes(root: Path) -> Iterator[Probe]:
    if any((root / mark).exists() for mark in _NVIDIA_MARKS):
        import shutil

        program = shutil.which("nvidia-smi")
        name = "nvidia-smi" if program else "nvml"
        command = (program, *_NVIDIA_QUERY) if program else _child("nvml")
        yield Probe(name, command, partial(of_driver, backend="cuda", source=name))
    if (root / _AMD_MARK).exists():
        from importlib.util import find_spec

        if find_spec("amdsmi"):
            read = partial(of_driver, backend="rocm", source="amdsmi")
            yield Probe("amdsmi", _child("amd_smi"), read)


def _child(module: str, *arguments: str) -> Sequence[str]:
    # -P: the folder that people are in is no place to import from
    return (sys.executable, "-P", "-m", f"modelrunner.memory.devices.probes.{module}", *arguments)


def may_have_gpu(root: Path = Path("/")) -> bool:
    """Whether the kernel has a driver for a GPU: without one, no runtime has a device either."""
    if sys.platform == "darwin":
        return True
    marks = (*_NVIDIA_MARKS, _AMD_MARK)
    return any((root / mark).exists() for mark in marks) or any(root.glob(_RENDERERS))


def _amd(root: Path) -> list[Device]:
    """Return what the kernel's driver lists: no library is asked."""
    # without it ROCm has no device, and Vulkan has
    backend = "rocm" if (root / _AMD_MARK).exists() else "vulkan"
    found = []
    for folder in sorted((root / "sys/class/drm").glob("card[0-9]*/device")):
        total = number_in(folder / "mem_info_vram_total")
        used = number_in(folder / "mem_info_vram_used")
        if total and used is not None:
            name = text_of(folder / "product_name").strip() or NAMELESS["rocm"]
            free, pci = max(total - used, 0), pci_address(folder.resolve().name)
            found.append(Device(name, "gpu", total, free, backend, pci=pci, sources=("kernel",)))
    return found


def _metal(host: Device, deadline: float) -> Iterator[Device]:
    if os.uname().machine != "arm64":
        return
    (answer,) = ask([("/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb")], deadline)
    lines = answer.lines
    limit = int(lines[0]) * _MIB if lines and lines[0].isdecimal() else 0
    if not limit:
        limit = metal_share(host.total_bytes)
    free = min(limit, host.free_bytes)
    yield Device(NAMELESS["metal"], "gpu", limit, free, "metal", shared=True, sources=("sysctl",))


def _bounded(gpu: Device, host: Device | None) -> Device:
    """A GPU with the host's memory cannot have more of it than the host."""
    if not gpu.shared or host is None:
        return gpu
    free, total = min(gpu.free_bytes, host.free_bytes), min(gpu.total_bytes, host.total_bytes)
    return replace(gpu, total_bytes=total, free_bytes=free)
