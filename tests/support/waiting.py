"""Waiting for what another process does."""

import time
from collections.abc import Callable
from pathlib import Path

BLOCK = 512
"""What `st_blocks` counts in."""


def wait_until(happened: Callable[[], object], seconds: float = 60) -> None:
    """Returns when something has happened; where it does not in time, the test fails."""
    assert until(happened, seconds), "it never happened"


def until(happened: Callable[[], object], seconds: float = 60) -> bool:
    """Whether something happens in time."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def partial_bytes(ingest: Path) -> int:
    """What the disk holds of blobs that are not whole; one may become whole meanwhile."""
    sizes = 0
    for path in ingest.glob("*.partial"):
        try:
            sizes += path.stat().st_blocks * BLOCK
        except FileNotFoundError:
            continue
    return sizes


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its end to be noticed does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
