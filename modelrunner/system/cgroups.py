"""The control groups of Linux that a process is in, versions 1 and 2."""

from collections.abc import Iterator
from pathlib import Path


def groups(membership: str, mount: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Return the version and the directory of each group, from a process's own up to the root.

    Args:
        membership: What `/proc/self/cgroup` says.
        mount: Where control groups are mounted, `/sys/fs/cgroup`.
        controller: What the groups limit: `cpu` or `memory`.
    """
    for line in membership.splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            version, folder = 2, mount
        elif controller in controllers.split(","):
            version, folder = 1, mount / controllers
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield version, folder.joinpath(*parts[:depth])
