"""Running a tool: a child with a deadline, of whose output only a part is kept."""

import json
import os
import resource
import secrets
import selectors
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from modelrunner.frozen import field, record
from modelrunner.text import os_reason
from modelrunner.tools.tool import Result, Tool
from modelrunner.wire import parse_json

DEADLINE_S = 60.0
MEMORY_BYTES = 4 * 1024**3
"""Address space of a tool."""

MARK = "MODELRUNNER_TOOL_CALL"
"""The variable by which what a tool has started is found."""

_ROUNDS = 5
_LIMIT = 32 * 1024
_ERROR_LIMIT = 2000
_CHUNK = 64 * 1024
_GRACE_S = 0.2


def call(tool: Tool, arguments: str, *, deadline_s: float = DEADLINE_S) -> Result:
    """What the tool answers.

    Args:
        tool: What to run; it has a command.
        arguments: JSON as the model wrote it; what is not an object is refused.
        deadline_s: Seconds after which the tool and what it started are killed.
    """
    try:
        given = parse_json(arguments)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        return Result.failed("the arguments are not a JSON object")
    try:
        done = run_bounded(tool.command, json.dumps(given).encode(), deadline_s)
    except (OSError, ValueError) as exc:
        reason = os_reason(exc) if isinstance(exc, OSError) else exc
        return Result.failed(f"cannot run {tool.command[0]}: {reason}")
    if done.status is None and done.cut:
        return Result(f"{done.text}\n[cut: only {_LIMIT} bytes of the result are kept]")
    if done.status is None:
        return Result.failed(f"timed out after {deadline_s:g} s")
    if done.status:
        said = done.said[-_ERROR_LIMIT:].strip() or done.text[-_ERROR_LIMIT:].strip()
        return Result.failed(f"exit code {done.status}" + (f": {said}" if said else ""))
    return Result(done.text.removesuffix("\n"))


@record
class Ended:
    """A child that has ended.

    Attributes:
        status: Its exit status; None if it was killed, for its time or for what it printed.
        output: The beginning of what it printed.
        errors: The end of what it said on stderr.
        cut: Whether it printed more than is kept.
    """

    status: int | None = None
    output: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)
    cut: bool = False

    @property
    def text(self) -> str:
        """What it printed."""
        return self.output.decode(errors="replace")

    @property
    def said(self) -> str:
        """What it said on stderr."""
        return self.errors.decode(errors="replace")


def run_bounded(
    command: tuple[str, ...], given: bytes, deadline_s: float, limit: int = _LIMIT
) -> Ended:
    """Runs a program in a group of its own, of which nothing is left when this returns.

    Raises:
        OSError: It cannot be started.
        ValueError: The command has a zero byte in it.
    """
    ended, mark = Ended(), secrets.token_hex(16)
    # a file and no pipe: a program that does not read cannot hold us up
    with tempfile.TemporaryFile() as stdin:
        stdin.write(given)
        stdin.seek(0)
        child = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, MARK: mark},
        )
    with child:
        _limit_memory(child.pid)
        try:
            _listen(child, ended, time.monotonic() + deadline_s, limit)
        finally:
            _kill(child)
            kill_marked(mark)
    return ended


def _listen(child: subprocess.Popen[bytes], ended: Ended, deadline: float, limit: int) -> None:
    with selectors.DefaultSelector() as pipes:
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipes.register(pipe, selectors.EVENT_READ)
        while pipes.get_map() and time.monotonic() < deadline and not ended.cut:
            ready = pipes.select(min(_GRACE_S, max(0.0, deadline - time.monotonic())))
            for key, _ in ready:
                piece = os.read(key.fd, _CHUNK)
                if not piece:
                    pipes.unregister(key.fileobj)
                elif key.fileobj is child.stdout:
                    ended.output += piece[: limit - len(ended.output) + 1]
                    ended.cut = len(ended.output) > limit
                    del ended.output[limit:]
                else:
                    ended.errors += piece
                    del ended.errors[:-limit]
            if not ready and child.poll() is not None:
                # something that it left behind holds the pipes open
                break
    if not ended.cut:
        with suppress(subprocess.TimeoutExpired):
            ended.status = child.wait(max(0.0, deadline - time.monotonic()))


def _kill(child: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    for pipe in (child.stdout, child.stderr):
        _close(pipe)
    child.wait()


def _limit_memory(pid: int) -> None:
    """Bound the memory that a child and what it starts can each ask for; Linux only."""
    if hasattr(resource, "prlimit"):
        with suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def kill_marked(mark: str) -> None:
    """Kill what a tool has started in another session, as daemons are; Linux only.

    It is known by its environment, which it has from the tool.
    """
    wanted = f"{MARK}={mark}".encode()
    for _round in range(_ROUNDS):
        found = False
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                # outside: the kernel's
                if wanted in (place / "environ").read_bytes().split(b"\0"):
                    # bounded: the kernel's
                    os.kill(int(place.name), signal.SIGKILL)
                    found = True
        if not found:
            return


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        pipe.close()
