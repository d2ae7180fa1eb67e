"""Child processes that run a piece of Python: waited for, listened to, or killed.

    with child("from modelrunner.store.store import Store\n...", store_folder) as writer:
        writer.hear("begun")
        writer.kill()

A child that is still there at the end of the block is killed.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine, as /proc has it: no `ps` is needed."""

    pid: int
    parent: int
    group: int
    state: str

    @property
    def arguments(self) -> bytes:
        """Its command line, each argument with a zero behind it; empty where it is gone."""
        try:
            return Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return b""


def processes() -> list[Process]:
    """Every process there is, dead ones that nobody has reaped yet too."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            # the name before it may have blanks and parentheses
            state, parent, group, *_ = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found.append(Process(int(file.parent.name), int(parent), int(group), state))
    return found


class Child:
    """One process; made by `child`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def hear(self, expected: str) -> None:
        """Wait until the child prints this line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.rstrip("\n") != expected:
            raise AssertionError(f"expected {expected!r}, heard {line!r}; {self._complaint()}")

    def tell(self, line: str) -> None:
        """Give the child a line on its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """kill -9: no clean-up, no last word."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def finish(self, timeout: float = 120) -> str:
        """Wait for a good end; what the child printed."""
        out, complaint = self.process.communicate(timeout=timeout)
        if self.process.returncode != 0:
            raise AssertionError(f"exit code {self.process.returncode}: {complaint}")
        return out

    def _complaint(self) -> str:
        self.kill()
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextmanager
def child(
    code: str,
    *arguments: object,
    env: Mapping[str, str] | None = None,
) -> Iterator[Child]:
    """Start Python on this code; it imports the program and `tests.support`.

    Args:
        code: What to run; `sys` is imported, `sys.argv[1:]` are the arguments.
        arguments: Given as text.
        env: More environment.
    """
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys\n{code}", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
    ) as process:
        try:
            yield Child(process)
        finally:
            process.kill()


def run_together(code: str, arguments: Sequence[Sequence[object]]) -> list[str]:
    """One child for each list of arguments, all at once; what each printed."""
    with ExitStack() as stack:
        children = [stack.enter_context(child(code, *each)) for each in arguments]
        return [each.finish() for each in children]
