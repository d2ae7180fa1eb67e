"""Cores that count."""

import os

import pytest

from modelrunner.runtime.threads import usable_cores

ALLOWED = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


@pytest.fixture
def machine(tmp_path):
    """Folders like Linux's: `machine(siblings, {file: text})` is what usable_cores takes."""

    def build(siblings=None, cgroups=None, own="0::/\n"):
        for number, text in (siblings or {}).items():
            topology = tmp_path / "cpu" / f"cpu{number}" / "topology"
            topology.mkdir(parents=True)
            (topology / "thread_siblings_list").write_text(text + "\n")
        for name, text in (cgroups or {}).items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        (tmp_path / "own").write_text(own)
        return tmp_path / "cpu", tmp_path / "cgroup", tmp_path / "own"

    return build


def test_each_cpu_is_a_core_where_nothing_says_otherwise(machine):
    assert usable_cores(*machine()) == len(ALLOWED)


def test_threads_of_one_core_count_once(machine):
    everyone = ",".join(map(str, ALLOWED))
    assert usable_cores(*machine(dict.fromkeys(ALLOWED, everyone))) == 1


def test_newer_name_of_the_siblings_is_read_first(machine):
    cpus, cgroups, own = machine(dict.fromkeys(ALLOWED, "all"))
    for number in ALLOWED:
        (cpus / f"cpu{number}" / "topology" / "core_cpus_list").write_text(f"{number}\n")
    assert usable_cores(cpus, cgroups, own) == len(ALLOWED)


@pytest.mark.parametrize(
    ("files", "own"),
    [
        ({"cpu.max": "50000 100000"}, "0::/\n"),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "100000 100000"}, "0::/a/b\n"),
        ({"cpu.max": "30000 100000"}, "0::/../../elsewhere\n"),
        (
            {
                "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "100000",
                "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
            },
            "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n",
        ),
        (
            {"cpu/cpu.cfs_quota_us": "20000", "cpu/cpu.cfs_period_us": "100000"},
            "4:cpu:/not/mounted/here\n",
        ),
    ],
)
def test_quota_of_the_group_or_of_one_above_limits(machine, files, own):
    assert usable_cores(*machine(cgroups=files, own=own)) == 1


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "max 100000"},
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        {"cpu.max": "100000000 100000"},
    ],
)
def test_no_quota_or_a_generous_one_changes_nothing(machine, files):
    assert usable_cores(*machine(cgroups=files, own="4:cpu:/\n0::/\n")) == len(ALLOWED)


def test_broken_quota_is_rounded_up(machine):
    quota = int((len(ALLOWED) - 0.5) * 100_000)
    assert usable_cores(*machine(cgroups={"cpu.max": f"{quota} 100000"})) == len(ALLOWED)


def test_this_machine_has_at_least_one():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
