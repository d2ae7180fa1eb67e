"""The host's own memory, and what control groups leave of it."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from modelrunner.memory.devices.device import Device
from modelrunner.memory.devices.probe import DEADLINE, ask, number_in, text_of
from modelrunner.system.cgroups import groups

_UNLIMITED = 1 << 60
_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}
"""Where a control group of each version has its limit, its use, and what is only a cache."""
_MAC_NAMES = ("hw.memsize", "vm.page_free_count", "vm.page_purgeable_count", "hw.pagesize")


def host_memory(root: Path = Path("/"), *, deadline: float = DEADLINE) -> Device | None:
    """The host's memory, or what control groups leave of it; None if unknown.

    Args:
        root: Where `proc` and `sys` are.
        deadline: Seconds that a program may take to answer, where one is asked.
    """
    if sys.platform == "darwin":
        return _mac_memory(deadline)
    total, free = _proc_memory(root / "proc/meminfo")
    if not total:
        return None
    source = "meminfo"
    for limit, used in _group_limits(root):
        if limit < total:
            total, source = limit, "control group"
        free = min(free, max(limit - used, 0))
    name = os.uname().machine or "host"
    return Device(name, "host", total, min(free, total), "cpu", sources=(source,))


def _proc_memory(path: Path) -> tuple[int, int]:
    """Total and available memory in bytes, from Linux's `meminfo`; 0 where it does not answer."""
    found = {
        name: int(kib) * 1024
        for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", text_of(path), re.MULTILINE)
    }
    return found.get("MemTotal", 0), found.get("MemAvailable", found.get("MemFree", 0))


def _group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of every control group that this process is in."""
    membership = text_of(root / "proc/self/cgroup")
    for version, folder in groups(membership, root / "sys/fs/cgroup", "memory"):
        limit_name, used_name, cached_name = _FILES[version]
        limit, used = number_in(folder / limit_name), number_in(folder / used_name)
        # version 2 says `max`, version 1 a number that no machine has
        if limit is None or used is None or limit >= _UNLIMITED:
            continue
        match = re.search(rf"^{cached_name} (\d+)$", text_of(folder / "memory.stat"), re.MULTILINE)
        cached = int(match[1]) if match else 0  # file contents that will be given up when asked
        yield limit, max(used - cached, 0)


def _mac_memory(deadline: float) -> Device | None:
    asked = (["/usr/sbin/sysctl", "-n", *_MAC_NAMES], ["/usr/bin/vm_stat"])
    lines, pages = (answer.lines for answer in ask(asked, deadline))
    if len(lines) != len(_MAC_NAMES) or not all(line.isdecimal() for line in lines):
        return None
    total, free, purgeable, page = map(int, lines)
    inactive = sum(
        int(match[1])
        for line in pages
        if (match := re.match(r"Pages (?:inactive|speculative):\s+(\d+)", line))
    )
    available = (free + purgeable + inactive) * page
    return Device(
        os.uname().machine, "host", total, min(available, total), "cpu", sources=("sysctl",)
    )
