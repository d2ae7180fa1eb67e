"""A file system that says no: a library that is loaded before the C library, and fails its calls.

Only calls on files below one directory fail, so that a program can still say what is wrong.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_suffix(".c")


def build(folder: Path) -> Path:
    """Compiles the library into a directory; skips the test where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not Path("/proc/self/fd").is_dir():
        pytest.skip("needs a C compiler and Linux")
    library = folder / "failing_calls.so"
    how = ("-shared", "-fPIC", "-w", "-o", library, _SOURCE, "-ldl")
    subprocess.run([compiler, *how], check=True, timeout=60)
    return library


def environment(library: Path, below: Path, **calls: int) -> dict[str, str]:
    """The variables with which calls on files below a directory fail, each with its error."""
    mode = ",".join(f"{name}:{error}" for name, error in calls.items())
    return {"LD_PRELOAD": str(library), "FAILING_BELOW": str(below), "FAILING_CALLS": mode}
