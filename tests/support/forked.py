"""Commands that start at once: forked from a process which has imported the program already.

Most of what a short command takes is its imports. Each command here is still a process of its own,
with its own streams or terminal, environment, exit code and end; what it does not show is how the
interpreter starts. Where that can matter (variables that Python or the system's loader read)
nothing is forked, and tests of signals and start-up start their own processes anyway.
"""

import atexit
import functools
import json
import os
import re
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "modelrunner"]
"""How a fresh process is started."""
PARENT = Path(__file__).with_name("forked_parent.py")
_READ_AT_START = ("PYTHON", "LD_")
"""What only a fresh process takes notice of."""
_LOCALE = ("LC_", "LANG")
"""What a process takes notice of when it starts; there is a process to fork from for each."""
_CHUNK = 1 << 16


def modelrunner(
    arguments: Sequence[str], environ: Mapping[str, str], stdin: bytes, timeout: float
) -> "CompletedProcess[bytes]":
    """Runs `modelrunner` with these arguments, in this folder: as `subprocess.run` would."""
    if sys.platform != "linux" or _needs_a_fresh_start(environ):
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            env=environ,
            timeout=timeout,
            check=False,
        )
    parent = _parent_for(environ)
    pipes = [os.pipe() for _ in range(3)]
    theirs = [pipes[0][0], *(write for _, write in pipes[1:])]
    give, *take = [pipes[0][1], *(read for read, _ in pipes[1:])]
    try:
        told = parent.start(arguments, environ, theirs)
    finally:
        for each in theirs:
            os.close(each)
    writer = threading.Thread(target=_write, args=(give, stdin))
    writer.start()
    try:
        return _finish(arguments, [*take, told], timeout)
    finally:
        writer.join()
        for each in (*take, told):
            os.close(each)


def in_terminal(
    command: Sequence[str], environ: Mapping[str, str], terminal: int, folder: Path | None = None
) -> "InTerminal | None":
    """Runs a command in a terminal; None where only a fresh process is what is asked for."""
    if (
        sys.platform != "linux"
        or list(command[: len(COMMAND)]) != COMMAND
        or _needs_a_fresh_start(environ)
    ):
        return None
    parent = _parent_for(environ)
    arguments = command[len(COMMAND) :]
    return InTerminal(parent.start(arguments, environ, [terminal] * 3, folder, terminal=True))


class InTerminal:
    """A command that runs in a terminal: what `subprocess.Popen` has of one."""

    def __init__(self, told: int) -> None:
        self.returncode: int | None = None
        self._told = os.fdopen(told, "rb", buffering=0)
        self.pid = int(self._said(None))

    def __enter__(self) -> "InTerminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._told.close()

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        with suppress(TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, as soon as there is one."""
        if self.returncode is None:
            self.returncode = int(self._said(timeout))
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            # nobody reaps it but the parent, which says so at once
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _said(self, timeout: float | None) -> bytes:
        """The next line of what the parent tells."""
        ready, _, _ = select.select([self._told], [], [], timeout)
        if not ready:
            raise TimeoutExpired("modelrunner", timeout or 0)
        return self._told.readline()


def _needs_a_fresh_start(environ: Mapping[str, str]) -> bool:
    names = {name for name in environ if name.startswith(_READ_AT_START)}
    if names == {"PYTHONPATH"}:
        # what says how something was installed is looked for when it is asked for
        found = [
            path for place in environ["PYTHONPATH"].split(":") for path in Path(place).iterdir()
        ]
        return any(path.suffix != ".dist-info" for path in found)
    return bool(names)


def _locale(environ: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environ.items() if key.startswith(_LOCALE)}


def _parent_for(environ: Mapping[str, str]) -> "_Parent":
    return _parent(tuple(sorted(_locale(environ).items())))


@functools.cache
def _parent(locale: tuple[tuple[str, str], ...]) -> "_Parent":
    parent = _Parent(dict(locale))
    atexit.register(parent.close)
    return parent


class _Parent:
    """The process that has imported everything; it forks whenever it is asked."""

    def __init__(self, locale: Mapping[str, str]) -> None:
        self._asked, theirs = socket.socketpair()
        self._lock = threading.Lock()
        with theirs:
            # pipes, as the commands will have them: what Python knows of its streams stays true
            self._process = subprocess.Popen(
                [sys.executable, str(PARENT), str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env={"PATH": os.environ.get("PATH", os.defpath), **locale},
                cwd=ROOT,
            )

    def close(self) -> None:
        self._asked.close()
        with self._process:
            pass

    def start(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        streams: Sequence[int],
        folder: Path | None = None,
        *,
        terminal: bool = False,
    ) -> int:
        """Where the ID of a command comes, and its exit code at its end; these are its streams."""
        request = {
            "arguments": arguments,
            "environ": dict(environ),
            "folder": str(folder or Path.cwd()),
            "umask": _umask(),
            "cores": sorted(os.sched_getaffinity(0)),
            "terminal": terminal,
        }
        raw = json.dumps(request).encode(errors="surrogateescape")
        told, tell = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._asked, [len(raw).to_bytes(4, "big")], [*streams, tell])
                self._asked.sendall(raw)
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tell)
        return told


def _umask() -> int:
    """That of this process: to ask for it otherwise is to change it."""
    (line,) = re.findall(r"^Umask:\s*(\d+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(line, 8)


def _write(pipe: int, content: bytes) -> None:
    with suppress(BrokenPipeError), open(pipe, "wb", buffering=0) as stream:
        rest = memoryview(content)
        while rest:
            rest = rest[stream.write(rest) :]


def _finish(
    arguments: Sequence[str], pipes: Sequence[int], timeout: float
) -> "CompletedProcess[bytes]":
    """Reads everything that comes, to the end; what lasts too long is killed."""
    out, err, state = (bytearray() for _ in pipes)
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for pipe, found in zip(pipes, (out, err, state), strict=True):
            selector.register(pipe, selectors.EVENT_READ, found)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                with suppress(ProcessLookupError, IndexError):
                    os.kill(int(state.split()[0]), signal.SIGKILL)
                raise TimeoutExpired(list(arguments), timeout, bytes(out), bytes(err))
            for key, _ in ready:
                if piece := os.read(key.fd, _CHUNK):
                    key.data.extend(piece)
                else:
                    selector.unregister(key.fd)
    _, code = state.split()
    return CompletedProcess(["modelrunner", *arguments], int(code), bytes(out), bytes(err))
