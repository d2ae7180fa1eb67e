"""A server without a terminal: a child in a session of its own, which outlives us.

It is forked when everything that can fail in front of people has been done: models are there, the
port is ours, the plan is made.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelrunner.disk.inside import open_inside
from modelrunner.errors import RuntimeFailedError
from modelrunner.runtime.child import probe
from modelrunner.system.processes import process_start

_log = logging.getLogger(__name__)
_HEALTHY_WITHIN_S = 30.0
_ENDS_WITHIN_S = 20.0
_TICK_S = 0.05
_APP_TICK_S = 0.5
_LONGEST_LINE = 256
_PROBE_S = 5.0
_OK = 200


def detach(log: Path, serve: Callable[[], int]) -> int:
    """Runs `serve` in the background; the process ID.

    Args:
        log: What takes the place of its stdout and stderr.
        serve: The server; its exit code.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        _redirect(log)
        code = serve()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # not sys.exit: what the parent has open and on its stack is not ours to end
        os._exit(code)


def wait_until_healthy(pid: int, url: str, log: Path, fingerprint: str | None) -> None:
    """Returns when a server answers that was started with `detach`.

    Raises:
        RuntimeFailedError: It ended, or does not answer.
    """
    end = time.monotonic() + _HEALTHY_WITHIN_S
    while True:
        answer = probe.get(f"{url}/health", api_key="", timeout_s=_PROBE_S, fingerprint=fingerprint)
        if answer is not None and answer.status == _OK:
            return
        ended, _status = os.waitpid(pid, os.WNOHANG)
        if ended or time.monotonic() > end:
            what = "ended at once" if ended else "does not answer"
            raise RuntimeFailedError(f"the server {what}", hint=f"see the log: {log}", log=str(log))
        time.sleep(_TICK_S)


@dataclass(frozen=True, slots=True)
class Lifeline:
    """What a server beside this process sees of it: whether it lives, and which app it has started.

    Attributes:
        end: The end of a pipe that is written to; closed when this process ends, however it does.
    """

    end: int

    def app_started(self, pid: int) -> None:
        """Have the server outlive this process, should it be killed, for as long as an app lives.

        Args:
            pid: The app, a child of this process.
        """
        self._say(f"{pid} {process_start(pid) or ''}")

    def app_ended(self) -> None:
        """Have the server end with this process again."""
        self._say("")

    def _say(self, line: str) -> None:
        # a server that has ended needs to know nothing
        with suppress(BrokenPipeError):
            os.write(self.end, f"{line}\n".encode())


def end_with_parent(held: int) -> None:
    """Have this server end when the other end of a pipe is closed, and no app needs it any more.

    Args:
        held: The end of the pipe that is read; a `Lifeline` has the other.
    """

    def watch() -> None:
        said = b""
        while piece := os.read(held, 4096):
            said = (said + piece)[-_LONGEST_LINE:]
        pid, _, start = said.removesuffix(b"\n").rpartition(b"\n")[2].decode().partition(" ")
        if start:
            # bounded: a line of our own
            _wait_for_app(int(pid), start)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _wait_for_app(pid: int, start: str) -> None:
    """Return when an app has ended whose parent was killed: it may have work to complete."""
    if process_start(pid) == start:
        _log.warning("launch was killed: this server ends with its app, process %d", pid)
    while process_start(pid) == start:
        time.sleep(_APP_TICK_S)


def wait_for_end(pid: int) -> None:
    """Return when a server has ended that was started with `detach`; one that does not is made to.

    Its answers under way and its runtimes take some seconds.
    """
    end = time.monotonic() + _ENDS_WITHIN_S
    while True:
        try:
            ended, _status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return
        if ended:
            return
        if time.monotonic() > end:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            end = float("inf")
        time.sleep(_TICK_S)


def _redirect(log: Path) -> None:
    with open_inside(log, "append", private=True) as output:
        # outside: a device
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        os.close(nothing)
