"""An app as a child: it has the terminal, its exit code is ours, and it ends with us."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from modelrunner.agents.app import App, Setup
from modelrunner.disk.files import disk_errors
from modelrunner.disk.inside import open_inside
from modelrunner.errors import AppNotFoundError
from modelrunner.serve.process.background import Lifeline
from modelrunner.text import os_reason, sanitize_line

_NO_PROXY = ("127.0.0.1", "localhost")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SIGNALLED = 128


def find_program(app: App, environ: Mapping[str, str]) -> Path | None:
    """Return the executable of an app: on PATH, or where its installer puts it."""
    found = shutil.which(app.program, path=environ.get("PATH"))
    if found is not None:
        return Path(found)
    home = environ.get("HOME")
    places = [Path(home) / place for place in app.elsewhere] if home else []
    return next((place for place in places if os.access(place, os.X_OK)), None)


def require_program(app: App, environ: Mapping[str, str]) -> Path:
    """Return the executable of an app.

    Raises:
        AppNotFoundError: It is not installed.
    """
    found = find_program(app, environ)
    if found is None:
        raise AppNotFoundError(
            f"{app.title} not found: no `{app.program}` on PATH",
            hint=f"install it: `{app.install}`",
            app=app.name,
        )
    return found


@contextmanager
def private_folder() -> Iterator[Path]:
    """The block in which a directory exists that only this user can read."""
    with tempfile.TemporaryDirectory(prefix="modelrunner-launch-") as folder:
        yield Path(folder)


def write_files(setup: Setup, folder: Path) -> None:
    """Write the files of a setup into the private directory.

    Raises:
        StoreAccessError, DiskFullError: They cannot be written.
    """
    with disk_errors(folder):
        for name, text in setup.files.items():
            with open_inside(folder / name, "new", private=True) as file:
                file.write(text.encode())


def environment(setup: Setup, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an app: with its own variables, and a way around proxies."""
    kept = {key: value for key, value in environ.items() if key not in setup.removed}
    if any(kept.get(name) or kept.get(name.lower()) for name in _PROXIES):
        said = kept.get("NO_PROXY") or kept.get("no_proxy") or ""
        hosts = ",".join([*filter(None, [said]), *_NO_PROXY])
        kept |= {"NO_PROXY": hosts, "no_proxy": hosts}
    return {**kept, **setup.environment}


def run_app(
    program: Path | str, setup: Setup, environ: Mapping[str, str], lifeline: Lifeline
) -> int:
    """Run an app to its end, and return its exit code; 128 and the number of a signal.

    It stays in our group of processes, so that it has the terminal: Ctrl-C and Ctrl-Z are for it.
    What ends us ends it. Where we are killed, it continues, and its server with it.

    Raises:
        AppNotFoundError: It cannot be started.
    """
    with _terminal_as_it_was(), _signals_for_child() as child:
        try:
            # the word of the command stays: some programs look at how they are called
            process = subprocess.Popen(
                [str(program), *setup.command[1:]], env=environment(setup, environ)
            )
        except (OSError, ValueError) as exc:
            reason = os_reason(exc) if isinstance(exc, OSError) else str(exc)
            raise AppNotFoundError(
                f"cannot start {sanitize_line(str(program), 200)}: {reason}",
                hint="check that it is a program for this machine, and may be executed",
            ) from exc
        child.append(process)
        lifeline.app_started(process.pid)
        status = process.wait()
        lifeline.app_ended()
    return status if status >= 0 else _SIGNALLED - status


@contextmanager
def _signals_for_child() -> "Iterator[list[subprocess.Popen[bytes]]]":
    """The block in which signals end a child instead of this process."""
    child: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        for process in child:
            with suppress(ProcessLookupError):
                process.send_signal(number)

    def leave(_number: int, _frame: FrameType | None) -> None:
        # the terminal has sent it to the app, too
        return

    before = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGINT, leave),
            (signal.SIGQUIT, leave),
            (signal.SIGTERM, pass_on),
            (signal.SIGHUP, pass_on),
        )
        # what was ignored from the start, as by `nohup`, is for the app to ignore
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield child
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _terminal_as_it_was() -> Iterator[None]:
    """The block after which the terminal is as before: an app that is killed leaves it raw."""
    try:
        before = termios.tcgetattr(sys.stdin.fileno())
    except (termios.error, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        usual = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        with suppress(termios.error, OSError):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, before)
        signal.signal(signal.SIGTTOU, usual)
