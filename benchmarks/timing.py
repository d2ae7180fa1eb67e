"""What a command costs: seconds, processor time and memory of a child; medians of rounds."""

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_LONGEST_S = 120.0


class CommandFailedError(Exception):
    """A command of a benchmark did not do what it should."""


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Command:
    """One side of a comparison.

    Attributes:
        name: For people.
        words: What to run.
        environ: What it finds in its environment besides ours.
        before: Clears away what an earlier run has left.
        check: Raises where the run did not bring what it should.
    """

    name: str
    words: Sequence[str]
    environ: Mapping[str, str]
    before: Callable[[], None]
    check: Callable[[], None]


def start(command: Command, log: Path) -> "subprocess.Popen[bytes]":
    """Runs a command without waiting for it; its output goes to a file."""
    with log.open("wb") as out:
        return subprocess.Popen(
            command.words,
            env={**os.environ, **command.environ},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def measure(command: Command, log: Path) -> Cost:
    """Runs a command to its end.

    Raises:
        CommandFailedError: It fails, or takes for ever.
    """
    command.before()
    begun = time.monotonic()
    process = start(command, log)
    previous = signal.signal(signal.SIGALRM, lambda _number, _frame: process.kill())
    signal.setitimer(signal.ITIMER_REAL, _LONGEST_S)
    try:
        # what this child alone has used: only wait4 tells
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        if process.returncode is None:
            process.kill()
            process.wait()
    seconds = time.monotonic() - begun
    if process.returncode:
        text = log.read_text(errors="replace")[-1000:]
        raise CommandFailedError(f"{command.name} ends with {process.returncode}: {text}")
    command.check()
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def alternate(
    commands: Sequence[Command], rounds: int, log: Path, enough: Callable[[], bool]
) -> dict[str, list[Cost]]:
    """Runs all commands in turn, round after round, so that whatever else runs here hits all.

    Args:
        commands: The sides.
        rounds: How often.
        log: Where their output goes.
        enough: Whether to stop after a round; the first is always run.
    """
    found: dict[str, list[Cost]] = {command.name: [] for command in commands}
    for _round in range(rounds):
        for command in commands:
            found[command.name].append(measure(command, log))
            command.before()
        if enough():
            break
    return found


def median_s(costs: Sequence[Cost]) -> float:
    """The median of the seconds."""
    return statistics.median(cost.seconds for cost in costs)


def median_cpu_s(costs: Sequence[Cost]) -> float:
    """The median of the processor seconds."""
    return statistics.median(cost.cpu_seconds for cost in costs)
