"""How many CPU cores this process may use: the number of threads that llama.cpp computes with.

Hardware threads of one core share the units that matrices are multiplied with, so cores count, not
threads. A container's limit counts too: threads over it only wait for each other.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from modelrunner.system.cgroups import groups

_CPUS = Path("/sys/devices/system/cpu")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
_V1_CONTROLLER = "cpu"


def usable_cores(
    cpus: Path = _CPUS, cgroups: Path = _CGROUPS, own_cgroup: Path = _OWN_CGROUP
) -> int:
    """Physical cores within this process's affinity and CPU quota; at least one.

    Args:
        cpus: Where Linux describes its CPUs.
        cgroups: Where control groups are mounted.
        own_cgroup: The file that names this process's control groups.
    """
    cores = _physical_cores(_allowed_cpus(), cpus)
    quota = min(_quotas(cgroups, own_cgroup), default=math.inf)
    return max(1, min(cores, math.ceil(quota) if quota < cores else cores))


def _allowed_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _physical_cores(allowed: set[int], cpus: Path) -> int:
    """Distinct cores behind the CPUs; a CPU that says nothing of its siblings is its own core."""
    return len({_siblings(cpus / f"cpu{cpu}" / "topology") or str(cpu) for cpu in allowed})


def _siblings(topology: Path) -> str | None:
    # the first is the newer name
    for name in ("core_cpus_list", "thread_siblings_list"):
        text = _text(topology / name)
        if text:
            return text
    return None


def _quotas(cgroups: Path, own_cgroup: Path) -> Iterator[float]:
    """The CPU limits of this process's control group and of all above it, in cores."""
    for version, group in groups(_text(own_cgroup) or "", cgroups, _V1_CONTROLLER):
        yield from _QUOTAS[version](group)


def _quota_v2(group: Path) -> Iterator[float]:
    quota, _, period = (_text(group / "cpu.max") or "max").partition(" ")
    if quota != "max":
        # bounded: the kernel's
        yield int(quota) / int(period or 100_000)


def _quota_v1(group: Path) -> Iterator[float]:
    quota = int(_text(group / "cpu.cfs_quota_us") or -1)
    period = int(_text(group / "cpu.cfs_period_us") or 0)
    if quota > 0 and period > 0:
        yield quota / period


_QUOTAS = {1: _quota_v1, 2: _quota_v2}


def _text(file: Path) -> str | None:
    try:
        # outside: the kernel's
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return None
