"""Telling one process from a later one that was given the same ID."""

import subprocess
from pathlib import Path

_LONGEST_S = 10.0
_START_TIME = 19
"""The field of /proc/PID/stat, counted from behind the program's name."""


def process_start(pid: int) -> str | None:
    """When a process was started, in whatever form; None where there is none."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        return _start_in(stat)
    done = subprocess.run(
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        check=False,
    )
    return done.stdout.strip() or None


def _start_in(stat: Path) -> str | None:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # whoever is dead and not yet buried does not run
    return None if fields[0] in "ZX" else fields[_START_TIME]
