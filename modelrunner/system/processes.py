"""Telling one process from a later one that was given the same ID."""

import re
import subprocess
from contextlib import suppress
from pathlib import Path

_LONGEST_S = 10.0
_ARGUMENTS_START = 45
_LONGEST_ARGUMENTS = 4 * 1024 * 1024
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


def hide_argument(text: str) -> None:
    """Overwrite a text in this process's arguments, as others see them; does what it can.

    Whoever lists processes sees the arguments of all of them, for as long as they live. They lie in
    memory of our own, whose place Linux shows (`arg_start` and `arg_end` of proc(5)); elsewhere
    nothing happens.
    """
    wanted = text.encode(errors="surrogateescape")
    if not wanted:
        return
    # most commands have nothing to hide, and this library takes its time
    import ctypes

    with suppress(OSError, ValueError, IndexError):
        # outside: the kernel's
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[_ARGUMENTS_START]), int(fields[_ARGUMENTS_START + 1])
        if 0 < start < end <= start + _LONGEST_ARGUMENTS:
            found = ctypes.string_at(start, end - start)
            for match in re.finditer(rb"(?<=[\0=])%s(?=\0)" % re.escape(wanted), found):
                ctypes.memset(start + match.start(), ord("*"), len(wanted))


def _start_in(stat: Path) -> str | None:
    try:
        # outside: the kernel's
        fields = stat.read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # whoever is dead and not yet buried does not run
    return None if fields[0] in "ZX" else fields[_START_TIME]
