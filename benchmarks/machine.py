"""What a run of a benchmark ran on, and what else it is to have beside it."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelrunner.units import format_size


def state() -> str:
    """One line: cores, processor, memory, kernel, Python, and the load of the last minute."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (
        f"{cores} cores ({_processor()}), {format_size(memory)}, {platform.system()}"
        f" {platform.release()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


@contextmanager
def busy(count: int) -> Iterator[None]:
    """The block beside which so many processes compute without end."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
