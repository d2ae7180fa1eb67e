"""Asks programs under a deadline: one that crashes, hangs or babbles costs its answer only."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from subprocess import Popen

DEADLINE = 5.0
"""Seconds after which a program that hangs is given up."""

_MOST = 1 << 20
"""Bytes of an answer; more is babble."""


class Answer(NamedTuple):
    """What a program printed, or why there is nothing to go by.

    Attributes:
        lines: Those that are not empty; none where it failed.
        failure: What became of it, like `was ended by signal 11`; None where it answered.
    """

    lines: tuple[str, ...] = ()
    failure: str | None = None


def ask(
    commands: Sequence[Sequence[str]],
    deadline: float,
    environs: Sequence[Mapping[str, str] | None] = (),
) -> list[Answer]:
    """Run all at once; every answer is there when the deadline is over, if not before.

    Args:
        commands: The programs.
        deadline: Seconds that all may take together.
        environs: The environment of each; None, or one that is missing, for ours.
    """
    end = time.monotonic() + deadline
    given = [*environs, *([None] * (len(commands) - len(environs)))]
    started = [_start(*each) for each in zip(commands, given, strict=True)]
    try:
        return [
            Answer(failure="cannot be started") if process is None else _finish(process, end)
            for process in started
        ]
    finally:
        for process in filter(None, started):
            _close(process)


def text_of(path: Path) -> str:
    """A file of the kernel's; empty where there is none."""
    try:
        # outside: the kernel's
        return path.read_text(errors="replace")
    except OSError:
        return ""


def number_in(path: Path) -> int | None:
    """The number that is all of a file of the kernel's."""
    text = text_of(path).strip()
    return int(text) if text.isdecimal() else None


def child_path() -> str:
    """PYTHONPATH with which a child finds this package, and whatever its parent finds."""
    path = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]
    return os.pathsep.join(filter(None, path))


def _start(command: Sequence[str], environ: Mapping[str, str] | None) -> "Popen[bytes] | None":
    import subprocess

    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # what it starts ends with it
            start_new_session=True,
            env={
                **(os.environ if environ is None else environ),
                "LC_ALL": "C",
                "PYTHONPATH": child_path(),
            },
        )
    except OSError:
        return None


def _finish(process: "Popen[bytes]", end: float) -> Answer:
    import subprocess

    late = Answer(failure="did not answer in time")
    printed = _printed(process, end)
    if printed is None:
        return late
    if len(printed) > _MOST:
        return Answer(failure="printed more than a list of devices")
    try:
        code = process.wait(max(end - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        return late
    if code < 0:
        return Answer(failure=f"was ended by signal {-code}")
    if code:
        return Answer(failure=f"failed with exit code {code}")
    lines = printed.decode(errors="replace").splitlines()
    return Answer(tuple(line for line in lines if line))


def _printed(process: "Popen[bytes]", end: float) -> bytes | None:
    """All of it, or the first of too much; None where the deadline is over."""
    import select

    found = bytearray()
    if process.stdout is None:  # it is a pipe, as `_start` wants it
        return bytes(found)
    handle = process.stdout.fileno()
    while len(found) <= _MOST:
        ready, _, _ = select.select([handle], [], [], max(end - time.monotonic(), 0))
        if not ready:
            return None
        chunk = os.read(handle, 1 << 16)
        if not chunk:
            break
        found += chunk
    return bytes(found)


def _close(process: "Popen[bytes]") -> None:
    import signal

    # not `poll`: one that has ended may have left others, and its number is safe until then
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
    with process:
        pass
