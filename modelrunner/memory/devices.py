"""What memory there is: the GPUs and the host's own, total and free."""

import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DEADLINE = 5.0
"""Seconds after which a probe that hangs is given up."""

_NVIDIA_MARKS = ("dev/nvidiactl", "dev/nvidia0", "dev/dxg")
_NVIDIA_QUERY = ("--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits")
_MIB = 1024 * 1024
_UNLIMITED = 1 << 60
_METAL_SHARE = ((36 << 30, 3, 4), (0, 2, 3))
"""What macOS lets the GPU have: of this much memory and more, this fraction."""


@dataclass(frozen=True, slots=True)
class Device:
    """Memory that a model could be put into.

    Attributes:
        name: As its maker calls it.
        kind: Whether it is a GPU's or the host's.
        total_bytes: All of it.
        free_bytes: What nobody uses at the moment.
        backend: `cuda`, `rocm`, `metal` or `cpu`.
        shared: Whether a GPU's memory is the host's too.
    """

    name: str
    kind: Literal["gpu", "host"]
    total_bytes: int
    free_bytes: int
    backend: str
    shared: bool = False


def devices(root: Path = Path("/"), *, deadline: float = DEADLINE) -> tuple[Device, ...]:
    """GPUs first, then the host. What cannot be asked, or does not answer, is left out.

    Args:
        root: Where `dev`, `proc` and `sys` are.
        deadline: Seconds that one probe may take.
    """
    host = host_memory(root, deadline=deadline)
    gpus = [*_nvidia(root, deadline), *_amd(root)]
    if sys.platform == "darwin" and host:
        gpus.extend(_metal(host, deadline))
    return (*gpus, *([host] if host else []))


def host_memory(root: Path = Path("/"), *, deadline: float = DEADLINE) -> Device | None:
    """The host's memory, or what control groups leave of it."""
    if sys.platform == "darwin":
        return _mac_memory(deadline)
    total, free = _proc_memory(root / "proc/meminfo")
    if not total:
        return None
    for limit, used in _group_limits(root):
        total = min(total, limit)
        free = min(free, max(limit - used, 0))
    return Device(platform.machine() or "host", "host", total, min(free, total), "cpu")


def _proc_memory(path: Path) -> tuple[int, int]:
    """Total and available memory in bytes, from Linux's `meminfo`; 0 where it does not tell."""
    text = _read(path)
    found = {
        name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)
    }
    return found.get("MemTotal", 0), found.get("MemAvailable", found.get("MemFree", 0))


def _group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of every control group that this process is in, versions 1 and 2."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            folder, names = mount, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            folder = mount / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        yield from _limits_upwards(folder, path.strip("/"), names)


def _limits_upwards(
    mount: Path, path: str, names: tuple[str, str, str]
) -> Iterator[tuple[int, int]]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        folder = mount.joinpath(*parts[:depth])
        limit, used = _number(folder / names[0]), _number(folder / names[1])
        if limit is None or used is None or limit >= _UNLIMITED:
            continue
        match = re.search(rf"^{names[2]} (\d+)$", _read(folder / "memory.stat"), re.MULTILINE)
        cached = int(match[1]) if match else 0  # file contents that will be given up when asked
        yield limit, max(used - cached, 0)


def _nvidia(root: Path, deadline: float) -> Iterator[Device]:
    if not any((root / mark).exists() for mark in _NVIDIA_MARKS):
        return
    import shutil

    program = shutil.which("nvidia-smi")
    if program:
        lines = _answer([program, *_NVIDIA_QUERY], deadline)
    else:
        lines = _answer([sys.executable, "-m", "modelrunner.memory.nvml"], deadline)
    for line in lines:
        name, *sizes = (part.strip() for part in line.rsplit(",", 2))
        if len(sizes) == 2 and all(size.isdecimal() for size in sizes):  # noqa: PLR2004
            total, free = (int(size) * _MIB for size in sizes)
            yield Device(name, "gpu", total, free, "cuda")


def _amd(root: Path) -> Iterator[Device]:
    """The kernel's driver tells: no library is asked."""
    if not (root / "dev/kfd").exists():
        return
    for folder in sorted((root / "sys/class/drm").glob("card[0-9]*/device")):
        total = _number(folder / "mem_info_vram_total")
        used = _number(folder / "mem_info_vram_used")
        if total and used is not None:
            name = _read(folder / "product_name").strip() or "AMD GPU"
            yield Device(name, "gpu", total, max(total - used, 0), "rocm")


def _mac_memory(deadline: float) -> Device | None:
    names = ("hw.memsize", "vm.page_free_count", "vm.page_purgeable_count", "hw.pagesize")
    answers = _answer(["/usr/sbin/sysctl", "-n", *names], deadline)
    if len(answers) != len(names) or not all(line.isdecimal() for line in answers):
        return None
    total, free, purgeable, page = map(int, answers)
    inactive = sum(
        int(match[1])
        for line in _answer(["/usr/bin/vm_stat"], deadline)
        if (match := re.match(r"Pages (?:inactive|speculative):\s+(\d+)", line))
    )
    available = (free + purgeable + inactive) * page
    return Device(platform.machine(), "host", total, min(available, total), "cpu")


def _metal(host: Device, deadline: float) -> Iterator[Device]:
    if platform.machine() != "arm64":
        return
    told = _answer(["/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb"], deadline)
    limit = int(told[0]) * _MIB if told and told[0].isdecimal() else 0
    if not limit:
        limit = next(
            host.total_bytes * part // whole
            for least, part, whole in _METAL_SHARE
            if host.total_bytes >= least
        )
    yield Device("Apple GPU", "gpu", limit, min(limit, host.free_bytes), "metal", shared=True)


def _answer(command: Sequence[str], deadline: float) -> list[str]:
    """Lines that a probe printed; none where it is not there, fails, crashes or hangs."""
    import subprocess

    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=deadline,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode != 0:
        return []
    return [line for line in done.stdout.decode(errors="replace").splitlines() if line]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    if text == "max":
        return _UNLIMITED
    return int(text) if text.isdecimal() else None
