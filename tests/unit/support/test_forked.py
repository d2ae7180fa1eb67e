"""A forked command is to its caller what a fresh process is."""

import os
import subprocess
import sys
from subprocess import Popen, TimeoutExpired

import pytest

from modelrunner.store.store import Store
from tests.support import forked
from tests.support.artifacts import docker_artifact
from tests.support.stores import put
from tests.support.terminal import in_terminal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")


@pytest.fixture
def environ(tmp_path):
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(tmp_path), "MODELRUNNER_HOME": str(tmp_path / "home")}


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["--version"],
        ["nonesuch"],
        ["inspect", "ai/nothing", "--json"],
        ["load"],
        ["estimate", "ai/nothing", "--offline"],
        ["tag", "\udcff", "x"],
    ],
)
def test_it_says_and_ends_as_a_fresh_process_does(environ, arguments):
    fresh = subprocess.run(
        [sys.executable, "-m", "modelrunner", *arguments],
        input=b"no archive",
        capture_output=True,
        env=environ,
        check=False,
    )
    done = forked.modelrunner(arguments, environ, b"no archive", 60)
    assert (done.returncode, done.stdout, done.stderr) == (
        fresh.returncode,
        fresh.stdout,
        fresh.stderr,
    )


def test_it_runs_in_the_folder_of_its_caller(environ, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "modelrunner.toml").write_text("nonsense")
    done = forked.modelrunner(["lock"], environ, b"", 60)
    assert b"modelrunner.toml" in done.stderr
    assert (done.returncode, done.stdout) == (2, b"")


def test_one_has_nothing_of_the_environment_of_another(environ, tmp_path):
    there = {**environ, "MODELRUNNER_HOME": str(tmp_path / "there"), "MODELRUNNER_OFFLINE": "1"}
    before = forked.modelrunner(["config", "--json"], environ, b"", 60).stdout
    other = forked.modelrunner(["config", "--json"], there, b"", 60).stdout
    assert b"there" in other
    assert forked.modelrunner(["config", "--json"], environ, b"", 60).stdout == before != other


def test_it_has_the_cores_of_its_caller(environ):
    every = os.sched_getaffinity(0)
    # from a process that had all of them when it began
    assert forked.modelrunner(["version"], environ, b"", 60).returncode == 0
    os.sched_setaffinity(0, {max(every)})
    try:
        with in_terminal([*forked.COMMAND, "share", "--port", "0"], environ) as (terminal, process):
            terminal.wait_for("http://127.0.0.1:")
            assert os.sched_getaffinity(process.pid) == {max(every)}
    finally:
        os.sched_setaffinity(0, every)


def test_others_may_do_with_its_files_what_its_caller_lets_them(environ, tmp_path):
    put(Store(tmp_path / "home" / "store"), docker_artifact(b"GGUF"), "ai/m:1")
    modes = []
    for umask in (0o022, 0o077):
        archive = tmp_path / f"{umask}.tar"
        before = os.umask(umask)
        try:
            done = forked.modelrunner(["save", "ai/m:1", "-o", str(archive)], environ, b"", 60)
        finally:
            os.umask(before)
        assert done.returncode == 0, done.stderr
        modes.append(archive.stat().st_mode & 0o777)
    assert modes == [0o644, 0o600]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_what_it_writes_is_encoded_as_its_locale_says(environ, tmp_path, locale):
    (tmp_path / "card.md").write_text("# Modèle\n", "utf-8")
    there = {**environ, "LC_ALL": locale, "TERM": "dumb"}
    command = ["card", str(tmp_path / "card.md")]
    fresh = subprocess.run(
        [sys.executable, "-m", "modelrunner", *command], capture_output=True, env=there, check=True
    )
    assert forked.modelrunner(command, there, b"", 60).stdout == fresh.stdout


@pytest.mark.parametrize(
    ("arguments", "typed", "code"),
    [
        (["list"], {}, 0),
        (["nonesuch"], {}, 2),
        (["login", "127.0.0.1:1"], {"Username: ": "me\n", "token: ": "\x04"}, 130),
        (["completion", "bash"], {}, 0),
    ],
)
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_in_a_terminal_it_is_what_a_fresh_process_is(
    environ, monkeypatch, term, arguments, typed, code
):
    def shown():
        with in_terminal([*forked.COMMAND, *arguments], environ, term=term) as (terminal, process):
            for asked, answer in typed.items():
                terminal.wait_for(asked)
                terminal.type(answer)
            terminal.drain()
            assert process.wait(60) == process.poll() == code
            return type(process), terminal.raw

    kind, found = shown()
    monkeypatch.setattr(forked, "in_terminal", lambda *_: None)
    fresh, expected = shown()
    assert (kind, fresh) == (forked.InTerminal, Popen)
    assert found == expected


def test_a_command_in_a_terminal_can_be_signalled_and_waited_for(environ):
    with in_terminal([*forked.COMMAND, "share", "--port", "0"], environ) as (terminal, process):
        terminal.wait_for("http://127.0.0.1:")
        assert process.poll() is None
        with pytest.raises(TimeoutExpired):
            process.wait(0.01)
        process.terminate()
        assert process.wait(60) == 143
        # that there is none any more is no error
        process.kill()


def test_ctrl_c_in_its_terminal_is_for_it(environ):
    with in_terminal([*forked.COMMAND, "share", "--port", "0"], environ) as (terminal, process):
        terminal.wait_for("http://127.0.0.1:")
        terminal.type("\x03")
        assert process.wait(60) == 130


def test_what_lasts_too_long_is_killed(environ):
    with pytest.raises(TimeoutExpired):
        forked.modelrunner(["share", "--port", "0"], environ, b"", 1)
    assert forked.modelrunner(["list"], environ, b"", 60).returncode == 0


def test_more_on_stdin_than_a_pipe_holds_arrives_or_is_left(environ):
    done = forked.modelrunner(["load"], environ, b"x" * 1_000_000, 60)
    assert done.returncode != 0
    assert forked.modelrunner(["list"], environ, b"x" * 1_000_000, 60).returncode == 0


@pytest.mark.parametrize("name", ["PYTHONWARNINGS", "LD_LIBRARY_PATH"])
def test_what_is_read_before_a_program_runs_takes_a_fresh_process(environ, monkeypatch, name):
    monkeypatch.setattr(forked, "_parent", None)
    done = forked.modelrunner(["version"], {**environ, name: ""}, b"", 60)
    assert done.returncode == 0
