"""The command line in forks of one process that has it imported: a command takes milliseconds.

    with Forks() as forks:
        ended = forks.run(["pull", "ai/m:1"], cwd=folder, environ={...})

A fork is what a fresh process would be: it starts with nothing but modules, sees the environment
that it is given and no other, ends as the interpreter ends. It may have a library before the C
library that makes its calls on files fail, see `calls`. What takes longer than its deadline is
told where it stands, ended with everything that it has started, and counts as hung.
"""

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

DEADLINE_S = 60.0
_ROOT = Path(__file__).parents[3]
_HUNG = -1000
_HURRY = [1.0]
_LIBRARIES = (
    "urllib3",
    "oras.provider",
    "rich.console",
    "rich.table",
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; `code` is negative for a signal."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def hung(self) -> bool:
        return self.code == _HUNG

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def in_words(self) -> bool:
        """Whether it is done, or says what is wrong and what to do, as text or as JSON."""
        if "Traceback" in self.stderr or self.hung or self.code < 0:
            return False
        if self.code == 0:
            return True
        if '{"error"' in self.stderr:
            return bool(json.loads(self.stderr.splitlines()[-1])["error"]["hint"])
        return "error: " in self.stderr and "hint: " in self.stderr


class Forks:
    """One process that has the program imported, and forks it for each command.

    Args:
        library: Loaded before the C library.
    """

    def __init__(self, library: Path | None = None) -> None:
        self._library = library
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="forks-")
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT), "LANG": "C.UTF-8"}
        if self._library is not None:
            environ["LD_PRELOAD"] = str(self._library)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            cwd=_ROOT,
        )
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.communicate(timeout=60)
        self._folder.cleanup()

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        stdin: str = "",
        faults: Mapping[str, object] | None = None,
        later_s: float = 0,
        hurry: float = 1,
        deadline_s: float = DEADLINE_S,
    ) -> Ended:
        """Runs a command.

        Args:
            arguments: What follows `modelrunner`.
            cwd: Where.
            environ: All of its environment.
            stdin: What it can read.
            faults: The arguments of the library's `faults_arm`, by name.
            later_s: So many seconds later than now, as far as its clock tells.
            hurry: It waits so many times less, where it waits before it tries again.
            deadline_s: When it counts as hung.
        """
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("a context manager: enter it first")
        files = {name: Path(self._folder.name, name) for name in ("stdin", "stdout", "stderr")}
        files["stdin"].write_text(stdin)
        order = {
            "arguments": list(arguments),
            "cwd": str(cwd),
            "environ": dict(environ),
            "files": {name: str(file) for name, file in files.items()},
            "faults": faults,
            "later_s": later_s,
            "hurry": hurry,
            "deadline_s": deadline_s,
        }
        with self._lock:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
            said = [files[name].read_text(errors="replace") for name in ("stdout", "stderr")]
        return Ended(answer["code"], *said, answer["seconds"])


def _serve() -> None:
    _shorten_waits()
    _import_everything()
    gc.collect()
    gc.freeze()
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    for line in iter(sys.stdin.buffer.readline, b""):
        order = json.loads(line)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            answers.close()
            _become(order)
        code = _end_of(child, order)
        seconds = round(time.monotonic() - began, 3)
        answers.write(json.dumps({"code": code, "seconds": seconds}).encode() + b"\n")


def _import_everything() -> None:
    import modelrunner

    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            __import__(name)
    for module in pkgutil.walk_packages(modelrunner.__path__, "modelrunner."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                __import__(module.name)


def _end_of(child: int, order: dict[str, Any]) -> int:
    handle = os.pidfd_open(child)
    try:
        hung = not select.select([handle], [], [], order["deadline_s"])[0]
        if hung:
            # it writes where each of its threads stands
            os.kill(child, signal.SIGUSR1)
            select.select([handle], [], [], 1)
        # with all that it has started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(handle)
    return _HUNG if hung else status


def _become(order: dict[str, Any]) -> NoReturn:
    """Be the command, to the end of the process."""
    os.setsid()
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        handle = os.open(order["files"][name], flags, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - to the end
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = ["modelrunner", *order["arguments"]]
    os.environ.clear()
    os.environ.update(order["environ"])
    os.chdir(order["cwd"])
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    _pass_time(order["later_s"])
    _HURRY.append(order["hurry"])
    code = 1
    try:
        from modelrunner.cli.app import main

        with _armed(order["faults"]):
            code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _shorten_waits() -> None:
    """Before modules are imported that keep `sleep` under a name of theirs."""
    sleep, wait = time.sleep, threading.Event.wait

    def wait_less(event: threading.Event, timeout: float | None = None) -> bool:
        return wait(event, timeout and timeout / _HURRY[-1])

    time.sleep = lambda seconds: sleep(seconds / _HURRY[-1])
    threading.Event.wait = wait_less  # type: ignore[method-assign]


def _pass_time(seconds: float) -> None:
    if seconds:
        now = time.time
        time.time = lambda: now() + seconds


@contextlib.contextmanager
def _armed(faults: Mapping[str, Any] | None) -> Iterator[None]:
    if faults is None:
        yield
        return
    library = ctypes.CDLL(None)
    log = -1
    if faults["log"]:
        log = os.open(faults["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    library.faults_arm(
        faults["places"].encode(),
        faults["mode"],
        faults["kind"],
        ctypes.c_long(faults["at"]),
        faults["error"],
        ctypes.c_ulong(faults["then"]),
        log,
        int(faults["with_data"]),
    )
    yield


if __name__ == "__main__":
    _serve()
