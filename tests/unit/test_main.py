"""The program where it cannot run."""

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
