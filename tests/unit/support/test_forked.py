"""A forked command is to its caller what a fresh process is."""

import subprocess
import sys
from subprocess import TimeoutExpired

import pytest

from tests.support import forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")


@pytest.fixture
def environ(tmp_path):
    return {**forked._environ(), "HOME": str(tmp_path), "MODELRUNNER_HOME": str(tmp_path / "home")}


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


def test_what_lasts_too_long_is_killed(environ):
    with pytest.raises(TimeoutExpired):
        forked.modelrunner(["share", "--port", "0"], environ, b"", 1)
    assert forked.modelrunner(["list"], environ, b"", 60).returncode == 0


def test_more_on_stdin_than_a_pipe_holds_arrives_or_is_left(environ):
    done = forked.modelrunner(["load"], environ, b"x" * 1_000_000, 60)
    assert done.returncode != 0
    assert forked.modelrunner(["list"], environ, b"x" * 1_000_000, 60).returncode == 0


@pytest.mark.parametrize("name", ["PYTHONWARNINGS", "LC_ALL", "LD_LIBRARY_PATH"])
def test_what_is_read_before_a_program_runs_takes_a_fresh_process(environ, monkeypatch, name):
    monkeypatch.setattr(forked, "_parent", None)
    done = forked.modelrunner(["version"], {**environ, name: ""}, b"", 60)
    assert done.returncode == 0
