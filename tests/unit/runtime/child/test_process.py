"""Children: heard, ended, and never left behind."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from modelrunner.runtime.child.process import Child, Command
from tests.support.processes import processes
from tests.support.waiting import until

HOLD = """
import fcntl, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = open(sys.argv[1], "w")
fcntl.flock(held, fcntl.LOCK_EX)
os.write(3, b"held\\n")
time.sleep(600)
"""


def python(code, *arguments, **rest):
    return Command(
        argv=(sys.executable, "-I", "-S", "-c", textwrap.dedent(code), *map(str, arguments)),
        environ=rest.pop("environ", {}),
        announces=True,
        **rest,
    )


@pytest.fixture
def start(tmp_path):
    """Starts a command whose log is `server.log`; what is left at the end of the test is ended."""
    children = []

    def start(command):
        children.append(Child(command, tmp_path / "server.log"))
        return children[-1]

    yield start
    for child in children:
        child.stop(grace_s=0)


def is_released(file):
    """Whether the process that locked a file is gone: a lock does not outlive it, a zombie may."""
    with file.open() as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def finished(child):
    assert until(lambda: not child.alive())
    return child.exit_code


def test_line_is_heard_and_everything_else_goes_to_the_log(start, tmp_path):
    child = start(
        python("""
        import os, sys
        print("to stdout", flush=True)
        print("to stderr", file=sys.stderr)
        os.write(3, b"hello\\n")
        """)
    )
    assert child.listen(60) == "hello"
    assert finished(child) == 0
    assert (tmp_path / "server.log").read_text() == "to stdout\nto stderr\n"


def test_line_that_does_not_come_is_not_waited_for(start):
    assert start(python("import time; time.sleep(60)")).listen(0.05) is None


def test_end_of_the_child_ends_the_listening(start):
    child = start(python("raise SystemExit(3)"))
    assert child.listen(30) is None
    assert child.exit_code == 3


def test_log_is_for_its_owner_only_and_starts_empty(start, tmp_path):
    log = tmp_path / "server.log"
    log.write_text("of an earlier server")
    log.chmod(0o644)
    assert finished(start(python("pass"))) == 0
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.read_text() == ""


def test_log_that_is_a_link_is_not_followed(start, tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "server.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="it is a symbolic link"):
        start(python("pass"))
    assert (tmp_path / "precious").read_text() == "mine"


def test_child_gets_its_stdin_its_environment_and_nothing_of_ours(start, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    child = start(
        python(
            """
            import json, os, sys
            seen = [sys.stdin.read(), "HF_TOKEN" in os.environ, os.environ["GIVEN"], os.getcwd()]
            os.write(3, json.dumps(seen).encode() + b"\\n")
            """,
            stdin="a secret",
            environ={"GIVEN": "value"},
        )
    )
    assert child.listen(60) == '["a secret", false, "value", "/"]'


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_secrets_are_in_no_command_line(start):
    child = start(python("import time; time.sleep(60)", stdin="s3cret", environ={"K": "s3cret"}))
    assert until(lambda: children_of(child.pid))
    for pid in (child.pid, *children_of(child.pid)):
        assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def children_of(pid):
    return [process.pid for process in processes() if process.parent == pid]


def test_child_without_an_announcement_has_no_way_to_make_one(start, tmp_path):
    child = start(
        Command(argv=(sys.executable, "-I", "-S", "-c", "import os; os.write(3, b'x')"), environ={})
    )
    assert finished(child) == 1
    assert "Bad file descriptor" in (tmp_path / "server.log").read_text()


def test_child_that_dies_of_a_signal_ends_with_128_and_its_number(start):
    child = start(python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    assert finished(child) == 128 + signal.SIGSEGV


def test_program_that_is_not_there_is_named_in_the_log(start, tmp_path):
    child = start(Command(argv=("/no/such/program",), environ={}))
    assert finished(child) == 127
    assert (tmp_path / "server.log").read_text() == (
        "error: cannot start /no/such/program: No such file or directory\n"
    )


def test_stop_asks_the_child_to_end(start, tmp_path):
    child = start(
        python("""
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: (print("asked"), sys.exit(0)))
        os.write(3, b"ready\\n")
        time.sleep(600)
        """)
    )
    assert child.listen(60) == "ready"
    child.stop()
    assert child.exit_code == 0
    assert (tmp_path / "server.log").read_text() == "asked\n"


def test_child_that_does_not_listen_is_killed(start, tmp_path):
    held = tmp_path / "held"
    child = start(python(HOLD, held))
    assert child.listen(60) == "held"
    child.stop(grace_s=0.1)
    assert not child.alive()
    assert until(lambda: is_released(held))


def test_stopping_twice_does_no_harm(start):
    child = start(python("pass"))
    child.stop()
    child.stop()
    assert not child.alive()
    assert child.listen(0) is None


def test_child_outlives_the_thread_that_started_it(start, tmp_path):
    held, started = tmp_path / "held", []
    thread = threading.Thread(target=lambda: started.append(start(python(HOLD, held))))
    thread.start()
    thread.join()
    assert started[0].listen(60) == "held"
    time.sleep(0.2)
    assert started[0].alive()
    assert not is_released(held)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_child_does_not_outlive_its_guard(start, tmp_path):
    held = tmp_path / "held"
    child = start(python(HOLD, held))
    assert child.listen(60) == "held"
    os.kill(child.pid, signal.SIGKILL)
    assert until(lambda: is_released(held))


def test_child_does_not_outlive_a_parent_that_is_killed(tmp_path):
    held = tmp_path / "held"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""if True:
            import sys, time
            from pathlib import Path
            from modelrunner.runtime.child.process import Child, Command
            argv = (sys.executable, "-I", "-S", "-c", {HOLD!r}, {str(held)!r})
            command = Command(argv=argv, environ={{}}, announces=True)
            child = Child(command, Path({str(tmp_path)!r}, "log"))
            print(child.listen(60), flush=True)
            time.sleep(600)
            """,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout.readline() == "held\n"
        assert not is_released(held)
        parent.kill()
    assert until(lambda: is_released(held))


def test_a_second_name_of_another_file_is_not_emptied_as_a_log(start, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "server.log").hardlink_to(precious)
    with pytest.raises(OSError, match="hard link to another file"):
        start(python("pass"))
    assert precious.read_text() == "mine"
