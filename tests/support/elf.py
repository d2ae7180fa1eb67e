"""Shared libraries that lack another one, made without a compiler: a copy of one of this system's.

The name of a library that it needs is overwritten with the name of one that does not exist.
"""

import sys
from pathlib import Path

import pytest

_NEEDED = b"\0libc.so.6\0"


def library_that_needs(name: str, target: Path) -> Path:
    """A library that the loader refuses, since it needs `name`, of nine characters.

    Args:
        name: Such as `libq.so.6`.
        target: The file to make.
    """
    changed = b"\0" + name.encode() + b"\0"
    assert len(changed) == len(_NEEDED)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_any_library().replace(_NEEDED, changed))
    return target


def _any_library() -> bytes:
    """A small library that this process has loaded, and that needs the C library."""
    if sys.platform != "linux":
        pytest.skip("reads ELF")
    maps = Path("/proc/self/maps").read_text().split()
    loaded = {Path(text) for text in maps if text.startswith("/") and ".so" in text}
    for file in sorted(loaded, key=lambda file: file.stat().st_size):
        content = file.read_bytes()
        if _NEEDED in content:
            return content
    pytest.skip("no library of this process needs glibc")
