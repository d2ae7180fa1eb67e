"""A tool gets arguments on stdin and answers on stdout, whatever it does otherwise."""

import json
import sys
from pathlib import Path

import pytest

from modelrunner.tools.call import call
from modelrunner.tools.tool import Tool
from tests.support.waiting import alive, until


def tool(program: str) -> Tool:
    return Tool("t", "", {}, (sys.executable, "-c", program))


def test_arguments_come_on_stdin_and_the_result_is_what_is_printed() -> None:
    done = call(tool("import sys; print(sys.stdin.read())"), '{"city": "Zürich"}')
    assert done.succeeded
    assert json.loads(done.text) == {"city": "Zürich"}


@pytest.mark.parametrize("arguments", ["", "[1]", '"x"', "{", "[" * 100_000])
def test_arguments_that_are_no_object_never_reach_the_tool(arguments, tmp_path: Path) -> None:
    trace = tmp_path / "called"
    done = call(tool(f"open({str(trace)!r}, 'w')"), arguments)
    assert (done.succeeded, done.text) == (
        False,
        '{"error": "the arguments are not a JSON object"}',
    )
    assert not trace.exists()


def test_a_failure_is_told_with_the_end_of_what_it_said() -> None:
    done = call(tool("import sys; sys.exit('no such city')"), "{}")
    assert (done.succeeded, done.text) == (False, '{"error": "exit code 1: no such city"}')


def test_a_program_that_is_not_there_is_a_failed_call() -> None:
    done = call(Tool("t", "", {}, ("/nowhere/program",)), "{}")
    assert not done.succeeded
    assert "cannot run /nowhere/program: no such file or directory" in done.text


def test_a_tool_that_hangs_is_killed_with_what_it_started(tmp_path: Path) -> None:
    heir = tmp_path / "pid"
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(heir)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    done = call(tool(program), "{}", deadline_s=2)
    assert (done.succeeded, done.text) == (
        False,
        '{"error": "timed out after 2 s"}',
    )
    assert _ends(int(heir.read_text()))


def test_a_child_left_behind_does_not_hold_the_answer_up() -> None:
    program = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('done')"
    )
    assert call(tool(program), "{}", deadline_s=60).text == "done"


def test_of_a_gigabyte_the_beginning_is_kept() -> None:
    done = call(tool("while True: print('x' * 1023)"), "{}", deadline_s=60)
    assert done.succeeded
    assert len(done.text) < 33_000
    assert done.text.endswith("[cut: only 32768 bytes of the result are kept]")


def test_what_a_tool_says_on_stderr_for_ever_is_not_kept_and_not_shown(capfd) -> None:
    program = "import sys\nfor _ in range(20000): sys.stderr.write('y' * 100)\nprint('done')"
    assert call(tool(program), "{}").text == "done"
    assert capfd.readouterr() == ("", "")


def _ends(pid: int) -> bool:
    return until(lambda: not alive(pid), 20)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_a_tool_that_takes_memory_is_refused_it() -> None:
    # what calls it sets the limit as soon as it has started it
    program = (
        "import mmap, resource\n"
        "while resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY: pass\n"
        "try:\n mmap.mmap(-1, 5 << 30)\nexcept (OSError, MemoryError):\n print('no')"
    )
    done = call(tool(program), "{}", deadline_s=60)
    assert (done.succeeded, done.text) == (True, "no")


@pytest.mark.skipif(sys.platform != "linux", reason="what it has started is found in /proc")
def test_a_daemon_that_a_tool_starts_ends_with_the_call(tmp_path: Path) -> None:
    heir = tmp_path / "pid"
    program = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        f"        open({str(heir)!r}, 'w').write(str(os.getpid()))\n"
        "        os.closerange(0, 3)\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        f"while not os.path.exists({str(heir)!r}) or not open({str(heir)!r}).read(): pass\n"
    )
    assert call(tool(program), "{}").succeeded
    assert _ends(int(heir.read_text()))
