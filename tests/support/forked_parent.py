"""The process that `forked` forks commands from: `forked_parent.py SOCKET`.

A request comes with four descriptors, a command's three streams and a pipe that is told its ID, and
its exit code at its end.
"""

import atexit
import fcntl
import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import sysconfig
import termios
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

# beside the commands, what nearly all of them import when they run
_LIBRARIES = (
    *("urllib3", "prompt_toolkit", "rich.console", "rich.markdown", "rich.progress"),
    *("encodings.idna", "encodings.utf_8_sig", "zoneinfo", "_strptime"),
    *("modelrunner.cli.terminal.table", "modelrunner.cli.progress.plain"),
    *("modelrunner.operations.lock.lock", "modelrunner.operations.pull.referrers"),
    *("modelrunner.operations.pull.keeping", "modelrunner.operations.trust.gate"),
    *("modelrunner.cli.terminal.status_line", "modelrunner.operations.lock.project"),
    # what the Hub's package imports, without the package: that looks at the environment once
    *("httpx2", "httpcore2", "anyio.to_thread", "truststore", "yaml", "filelock", "tqdm.auto"),
    *("urllib.request", "http.cookiejar", "idna", "configparser"),
)
_OPTIONAL = (
    *("cryptography.x509", "cryptography.hazmat.primitives.serialization"),
    # private: where they are gone, each command finds what it needs
    *("typer._adapters", "typer._click.decorators", "typer._click._textwrap"),
)
"""Extras, and what commands do without."""


def load() -> None:
    """Imports the program as its commands would."""
    # of this script's folder nothing is wanted; `-m` would have the folder of the command there
    del sys.path[0]
    sys.path.insert(0, str(Path.cwd()))
    # tests of documents have it; where it is, oras makes a grammar of addresses for a second
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    table = import_module("modelrunner.cli.parser.command_table")
    import_module("modelrunner.cli.app")
    import_module("modelrunner.cli.by_typer")
    for entry in table.COMMANDS.values():
        module, _, _ = entry.place.partition(":")
        import_module(f"modelrunner.cli.commands.{module}")
    for name in _LIBRARIES:
        import_module(name)
    for name in _OPTIONAL:
        with suppress(ImportError):
            import_module(name)
    # read from a file of hundreds of names
    sysconfig.get_config_vars()
    hurry()
    gc.collect()
    gc.freeze()


def hurry() -> None:
    """Has commands wait a fraction of what they would before they try again, or give up, and not
    for the disk.

    How long they wait is tested where the clock is a test's own.
    """
    retry = import_module("modelrunner.registry.http.retry")
    delay = retry.Backoff.delay

    def soon(backoff: object, attempt: int, error: object) -> float | None:
        found: float | None = delay(backoff, attempt, error)
        # a registry that names a time means it
        named = found is None or "retry_after_s" in error.facts  # type: ignore[attr-defined]
        return found if named else found / 50

    retry.Backoff.delay = soon
    import_module("modelrunner.runtime.backends.external")._PATIENCE_S = 1.0
    os.fsync = import_module("tests.support.haste").flushed


def serve(asked: socket.socket) -> bool:
    """Forks for every request; returns True in each child, and False in the end."""
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # whoever presses Ctrl-C at the tests means the tests
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    waited: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([asked, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            bury(waited)
        if asked not in ready:
            continue
        header, streams, _, _ = socket.recv_fds(asked, 4, 4)
        if not header:
            return False
        request = json.loads(received(asked, int.from_bytes(header, "big")))
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for each in (woken, wake, *waited.values()):
                os.close(each)
            asked.close()
            become(request, streams)
            return True
        *rest, told = streams
        for each in rest:
            os.close(each)
        os.write(told, b"%d\n" % pid)
        waited[pid] = told


def received(asked: socket.socket, size: int) -> bytes:
    """So many bytes."""
    found = b""
    while len(found) < size:
        found += asked.recv(size - len(found))
    return found


def bury(waited: dict[int, int]) -> None:
    """Tells the end of every child that has ended."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            told = waited.pop(pid)
            # nobody may wait any more
            with suppress(BrokenPipeError):
                os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
            os.close(told)


def become(request: dict[str, object], streams: list[int]) -> None:
    """Makes this process what a fresh one would be."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, stream in enumerate(streams[:3]):
        os.dup2(stream, target)
    for stream in streams:
        os.close(stream)
    if request["terminal"]:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # as Python does where it finds one at its start
        sys.stdin.reconfigure(line_buffering=True)
        sys.stdout.reconfigure(line_buffering=True)
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    os.umask(request["umask"])
    os.sched_setaffinity(0, request["cores"])
    os.chdir(request["folder"])
    named = request["environ"].get("PYTHONPATH")
    sys.path[:1] = [request["folder"], *(named.split(os.pathsep) if named else ())]
    if "TESTED_MACHINE" in os.environ:
        # its drivers and devices, instead of those of this one
        import_module("modelrunner.operations.devices").MACHINE = Path(
            os.environ.pop("TESTED_MACHINE")
        )
    sys.argv = ["modelrunner", *request["arguments"]]


def leave(code: object) -> None:
    """Ends as the interpreter would, but takes nothing apart: all that it would touch is copied."""
    if isinstance(code, int):
        threading._shutdown()
        atexit._run_exitfuncs()
        # what cannot be written is left to the interpreter, and to its exit code
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code & 0xFF)


if __name__ == "__main__":
    load()
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        forked = serve(listening)
    if forked:
        try:
            runpy.run_module("modelrunner", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            leave(end.code)
            raise
