"""The host's memory as the kernel's files tell of it, and what control groups leave."""

import sys
from pathlib import Path

import pytest

from modelrunner.memory.devices.host import host_memory

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


def test_who_limits_it_is_said(root):
    assert host_memory(root).sources == ("meminfo",)
    write(root / "proc/self/cgroup", "0::/\n")
    write(root / "sys/fs/cgroup/memory.max", f"{2 * GIB}\n")
    write(root / "sys/fs/cgroup/memory.current", f"{GIB}\n")
    assert host_memory(root).sources == ("control group",)


def test_nothing_is_said_where_nothing_can_be_read(tmp_path):
    assert host_memory(tmp_path) is None


def test_this_machine_has_memory():
    found = host_memory()
    assert 0 < found.free_bytes <= found.total_bytes
