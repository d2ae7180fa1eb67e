"""Waiting for what another process does."""

import time
from collections.abc import Callable
from pathlib import Path

BLOCK = 512
"""What `st_blocks` counts in."""


def wait_until(happened: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def partial_bytes(ingest: Path) -> int:
    """What the disk holds of blobs that are not whole; one may become whole meanwhile."""
    sizes = 0
    for path in ingest.glob("*.partial"):
        try:
            sizes += path.stat().st_blocks * BLOCK
        except FileNotFoundError:
            continue
    return sizes
