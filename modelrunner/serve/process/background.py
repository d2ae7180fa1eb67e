"""A server without a terminal: a child in a session of its own, which outlives us.

It is forked when everything that can fail in front of people has been done: models are there, the
port is ours, the plan is made.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from modelrunner.disk.inside import open_inside
from modelrunner.errors import RuntimeFailedError
from modelrunner.runtime.child import probe

_HEALTHY_WITHIN_S = 30.0
_ENDS_WITHIN_S = 20.0
_TICK_S = 0.05
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


def end_with_parent(held: int) -> None:
    """Have this server end when the other end of a pipe is closed.

    Args:
        held: The end of the pipe that can be read; nothing is ever written to the other.
    """

    def watch() -> None:
        os.read(held, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


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
