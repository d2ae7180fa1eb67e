"""How the program begins and ends, and where it cannot run."""

import json
import subprocess
import sys

WINDOWS = """
import sys
sys.platform = "win32"
# it has neither
sys.modules["fcntl"] = sys.modules["pwd"] = None
from modelrunner.__main__ import main
main()
"""


def on_windows(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", WINDOWS, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_windows_outside_of_wsl_is_refused_in_one_sentence() -> None:
    done = on_windows("pull", "ai/smollm2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: Windows is supported in WSL 2 only\n"
        "hint: run `wsl --install`, open the Linux that it brings, and install modelrunner there\n"
    )


def test_windows_outside_of_wsl_is_an_error_in_json_where_that_was_asked_for() -> None:
    done = on_windows("list", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    error = json.loads(done.stderr)["error"]
    assert error["message"] == "Windows is supported in WSL 2 only"
    assert error["retryable"] is False


def ended(program: str, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    program += "\nfrom modelrunner.__main__ import main\nmain()\n"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=False, capture_output=True)


def test_the_end_is_quick_where_nobody_waits_for_it() -> None:
    program = "class Late:\n    def __del__(self): print('taken apart')\nlate = Late()"
    done = ended(program, "--version")
    assert (done.returncode, done.stdout.startswith(b"modelrunner ")) == (0, True)
    assert b"taken apart" not in done.stdout


def test_what_is_registered_for_the_end_is_done() -> None:
    done = ended("import atexit; atexit.register(print, 'the end')", "--version")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, b"the end")


def test_threads_are_waited_for() -> None:
    program = (
        "import threading\n"
        "threading.Thread(\n"
        "    target=lambda: (threading.main_thread().join(), print('the end'))\n"
        ").start()"
    )
    done = ended(program, "--version")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, b"the end")


def test_the_exit_code_is_that_of_the_command() -> None:
    done = ended("", "lst")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: unknown command `lst`")
