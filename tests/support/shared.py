"""What is made once for all workers of a run: the first one makes it, the others wait for it."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

_MADE = ".made"


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` has filled, in this worker or in another one."""
    base = factory.getbasetemp()
    # each worker of pytest-xdist has a folder of its own in the run's
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "shared" / name
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder.with_name(f"{name}{_MADE}")
        if not made.exists():
            make(folder)
            made.touch()
    return folder
