"""Modules that a test needs and that are for other processes: found, and not imported.

A runtime opens files, starts threads and handles signals when it is imported.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest


def folder_of(module: str, reason: str | None = None) -> Path:
    """Where a module is; without it the test is skipped."""
    found = find_spec(module)
    if found is None or found.origin is None:
        pytest.skip(reason or f"{module} is not installed")
    return Path(found.origin).parent
