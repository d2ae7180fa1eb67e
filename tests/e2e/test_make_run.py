"""`make run` and what sets up its environment: the first command that anybody types."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from modelrunner.runtime.libraries import interpreter_of
from tests.conftest import ROOT
from tests.support.fixtures import script
from tests.support.modules import folder_of
from tests.support.waiting import alive, wait_until

pytestmark = pytest.mark.real

RUN = ROOT / "registry-fixtures" / "run.sh"
ENVIRONMENT = ROOT / "registry-fixtures" / "environment.sh"
BIN = Path(sys.executable).parent
TALK = """\
> What is the capital of France? Answer in one sentence.
Hello! I am a tiny model: my weights were made by hand, so this is all they can say.
"""


@pytest.fixture
def folder(tmp_path: Path, tiny_models: Mapping[str, Path | list[Path]]) -> Path:
    """What `make run` works in, with a small model under the name of the real one."""
    folder_of("xllamacpp")
    folder = tmp_path / "a clone with blanks" / ".run"
    folder.mkdir(parents=True)
    done = subprocess.run(
        [BIN / "modelrunner", "package", str(tiny_models["llama"]), "ai/smollm2:135M-Q4_1"],
        env={**os.environ, "MODELRUNNER_HOME": str(folder / "registry")},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return folder


def started(folder: Path, program: Path = BIN) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["sh", RUN, program, folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    return process.returncode, said


def test_it_answers_again_whatever_an_earlier_run_has_left(folder: Path) -> None:
    assert answer(started(folder)) == (0, TALK)
    # of an earlier version, or of one that was killed: an address that nobody listens on
    (folder / "share.address").write_text("http://127.0.0.1:9\n")
    (folder / "run.abcdef").mkdir()
    (folder / "run.abcdef" / "address").write_text("http://127.0.0.1:9\n")
    shutil.rmtree(folder / "home")
    assert answer(started(folder)) == (0, TALK)
    assert sorted(path.name for path in folder.glob("run.*")) == ["run.abcdef"]


def test_two_at_once_both_answer(folder: Path) -> None:
    both = [started(folder), started(folder)]
    assert [answer(process) for process in both] == [(0, TALK)] * 2
    assert list(folder.glob("run.*")) == []


def test_its_registry_ends_with_it_even_after_kill_9(folder: Path, tmp_path: Path) -> None:
    # stays in `run` until it is killed
    program = tmp_path / "bin" / "modelrunner"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\n[ "$1" != run ] || exec cat "{tmp_path}/never"\n'
        f'exec "{BIN}/modelrunner" "$@"\n'
    )
    program.chmod(0o755)
    os.mkfifo(tmp_path / "never")
    process = started(folder, program.parent)
    assert process.stdout is not None
    assert process.stdout.readline() == "> What is the capital of France? Answer in one sentence.\n"
    # `run` has begun once it reads there, and ends with the end of what it reads
    held = os.open(tmp_path / "never", os.O_WRONLY)
    (pid,) = folder.glob("run.*/pid")
    server = int(pid.read_text())
    assert alive(server)
    process.kill()
    process.wait()
    wait_until(lambda: not alive(server) and not list(folder.glob("run.*")))
    os.close(held)
    process.communicate()


def test_a_registry_that_does_not_start_says_why(folder: Path) -> None:
    shutil.rmtree(folder / "registry")
    (folder / "registry").write_text("")
    process = started(folder)
    said, complaint = process.communicate(timeout=120)
    assert (process.returncode, said) == (1, "")
    assert complaint.startswith("error: the local registry did not start:\nerror: ")
    assert list(folder.glob("run.*")) == []


class TestPython:
    """Which Python there has to be, said before anything is installed."""

    @pytest.fixture
    def check(self, tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
        def check(python: object, origin: str = "file") -> "subprocess.CompletedProcess[str]":
            return subprocess.run(
                ["sh", ENVIRONMENT, str(python), origin, tmp_path / ".venv", "run"],
                env={**os.environ, "GOAL": "test"},
                capture_output=True,
                text=True,
                check=False,
            )

        return check

    def stand_in(self, path: Path, *lines: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n" + "".join(f"{line}\n" for line in lines))
        path.chmod(0o755)
        return path

    def test_an_older_one_is_refused(
        self, check: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
    ) -> None:
        old = self.stand_in(
            tmp_path / "python3.10", 'case "$2" in *exit*) exit 1;; *) echo 3.10.13;; esac'
        )
        done = check(old)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"error: modelrunner needs Python 3.11 or later, and {old} is Python 3.10.13\n"
            "hint: name a newer one: make test PYTHON=python3.12\n"
        )
        assert not (tmp_path / ".venv").exists()

    def test_one_that_does_not_start_is_refused(
        self, check: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
    ) -> None:
        shim = self.stand_in(tmp_path / "python3.10", "echo 'command not found' >&2", "exit 127")
        done = check(shim)
        assert (done.returncode, done.stderr) == (
            2,
            (
                f"error: {shim} does not start; modelrunner needs Python 3.11 or later\n"
                f"hint: see what `{shim} --version` says, or name another one:"
                " make test PYTHON=python3.12\n"
            ),
        )

    def test_one_that_is_not_there_is_refused(
        self, check: Callable[..., "subprocess.CompletedProcess[str]"], tmp_path: Path
    ) -> None:
        done = check("python3.99")
        assert (done.returncode, done.stderr) == (
            2,
            (
                "error: python3.99: command not found; modelrunner needs Python 3.11 or later\n"
                "hint: install Python, or name one: make test PYTHON=/path/to/python3.12\n"
            ),
        )

    @pytest.mark.parametrize(("origin", "taken"), [("file", True), ("command", False)])
    def test_the_environments_own_serves_where_none_was_named(
        self,
        check: Callable[..., "subprocess.CompletedProcess[str]"],
        tmp_path: Path,
        origin: str,
        taken: bool,
    ) -> None:
        old = self.stand_in(tmp_path / "python3", "exit 1")
        self.stand_in(
            tmp_path / ".venv" / "bin" / "python", '[ "$1" = -c ] || { echo "$@"; exit 0; }'
        )
        done = check(old, origin)
        expected = f"{ENVIRONMENT.with_suffix('.py')} {tmp_path / '.venv'} run\n"
        assert (done.returncode, done.stdout) == ((0, expected) if taken else (2, ""))

    def test_the_makefile_asks_for_it_before_anything_else(self, tmp_path: Path) -> None:
        clone = tmp_path / "a clone"
        (clone / "registry-fixtures").mkdir(parents=True)
        shutil.copy(ROOT / "Makefile", clone)
        (clone / "modelrunner" / "system").mkdir(parents=True)
        for name in ("__init__.py", "system/__init__.py", "system/packages.py"):
            shutil.copy(ROOT / "modelrunner" / name, clone / "modelrunner" / name)
        for name in ("environment.sh", "environment.py"):
            shutil.copy(ROOT / "registry-fixtures" / name, clone / "registry-fixtures")
        for goal in ("run", "test", "lint", "bench"):
            done = subprocess.run(
                ["make", goal, "PYTHON=python3.99"],
                cwd=clone,
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stdout) == (2, "")
            assert "python3.99: command not found" in done.stderr
            assert f"make {goal} PYTHON=" in done.stderr

    def test_debians_without_the_package_for_it_is_told_which(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        environment = script("environment")
        monkeypatch.setattr(
            environment.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else 1
        )
        system = environment.System
        lacks = f"error: {sys.executable} has no module ensurepip, which makes virtual environments"
        monkeypatch.setattr(system, "current", lambda: system("apt-get", privileged=False))
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        other = "another Python: make PYTHON=/path/to/python3.12"
        assert environment.lacks().splitlines() == [
            lacks,
            f"hint: `sudo apt-get install python{version}-venv`, or use {other}",
        ]
        monkeypatch.setattr(system, "current", lambda: system("dnf"))
        assert environment.lacks().splitlines() == [
            lacks,
            f"hint: use {other}",
        ]

    def test_a_missing_system_library_is_named_before_anything_is_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        environment = script("environment")
        system = environment.System
        monkeypatch.setattr(environment, "loads", lambda name: name != "libgomp.so.1")
        monkeypatch.setattr(environment.sys, "platform", "linux")
        monkeypatch.setattr(system, "current", lambda: system("apt-get", has_lists=False))
        monkeypatch.setattr(environment, "ROOT", tmp_path)
        assert environment.main(tmp_path / ".venv", "run") == 2
        assert capsys.readouterr().err == (
            "error: system library not found: libgomp.so.1\n"
            "hint: `apt-get update && apt-get install libgomp1`\n"
        )
        assert list(tmp_path.iterdir()) == []

    def test_a_clone_that_cannot_be_written_is_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        environment = script("environment")
        (tmp_path / ".run").write_text("in the way")
        monkeypatch.setattr(environment, "ROOT", tmp_path)
        monkeypatch.setattr(environment, "loads", lambda _: True)
        assert environment.main(tmp_path / ".venv", "run") == 2
        assert capsys.readouterr().err == (
            f"error: cannot write to {tmp_path}: file exists\n"
            "hint: use a clone in a directory that you may write to\n"
        )

    def test_every_library_is_asked_for_that_the_runtime_loads(self) -> None:
        package = folder_of("xllamacpp")
        (library,) = package.glob("xllamacpp*.so")
        if sys.platform != "linux":
            pytest.skip("reads ELF")
        c_library = r"lib(?:c|m|dl|rt|pthread|gcc_s|util)\.so.*|ld-linux.*|libc\.musl.*"
        needed = {name for name in needed_by(library) if not re.fullmatch(c_library, name)}
        assert needed == set(script("environment").NEEDED)


def needed_by(library: Path) -> set[str]:
    """The libraries that the loader lists for this one, those of its dependencies too."""
    done = subprocess.run(
        [interpreter_of(Path(sys.executable)) or "", library],
        env={"LD_TRACE_LOADED_OBJECTS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    names = re.findall(r"^\s*(\S+) (?:=>|\()", done.stdout, re.MULTILINE)
    return {Path(name).name for name in names if "vdso" not in name}


class TestEnvironment:
    """What is found in `.venv`, and what is done about it."""

    @pytest.fixture
    def venv(self, tmp_path: Path) -> Path:
        folder = tmp_path / "a clone" / ".venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        return folder

    def installed(self, venv: Path, root: Path = ROOT) -> Path:
        """Files as `pip install --editable` leaves them, and one package beside."""
        (site,) = venv.glob("lib/python*/site-packages")
        (site / "modelrunner.pth").write_text(f"{root}\n")
        for name, files in {
            "modelrunner": ["modelrunner.pth"],
            "dep": ["dep.py", "dep.pyc"],
        }.items():
            info = site / f"{name}-1.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
            (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
        (site / "dep.py").write_text("")
        return site

    def probe(self, venv: Path) -> str:
        found: str = script("environment").probe(venv)
        return found

    def test_nothing_is_absent(self, tmp_path: Path) -> None:
        assert self.probe(tmp_path / ".venv") == "absent"

    def test_one_without_this_program_is_empty(self, venv: Path) -> None:
        assert self.probe(venv) == "empty"

    def test_one_with_all_its_files_is_whole(self, venv: Path) -> None:
        self.installed(venv)
        assert self.probe(venv) == "whole"

    def test_one_that_lacks_a_file_is_broken(self, venv: Path) -> None:
        (self.installed(venv) / "dep.py").unlink()
        assert self.probe(venv) == "broken"

    def test_one_whose_installation_was_killed_is_broken(self, venv: Path) -> None:
        (self.installed(venv) / "dep-1.dist-info" / "RECORD").unlink()
        assert self.probe(venv) == "broken"

    def test_one_whose_python_is_gone_is_broken(self, venv: Path) -> None:
        self.installed(venv)
        python = venv / "bin" / "python"
        python.unlink()
        python.symlink_to("/usr/bin/python3.99")
        assert self.probe(venv) == "broken"

    def test_one_of_another_clone_is_broken(self, venv: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        (other / "modelrunner").mkdir(parents=True)
        (other / "modelrunner" / "__init__.py").write_text("")
        self.installed(venv, other)
        assert self.probe(venv) == "broken"

    def test_a_link_to_nowhere_is_broken(self, tmp_path: Path) -> None:
        (tmp_path / ".venv").symlink_to(tmp_path / "gone")
        assert self.probe(tmp_path / ".venv") == "broken"

    @pytest.fixture
    def done(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """The commands that are run for an environment, instead of running them."""
        commands: list[list[str]] = []

        def run(command: Sequence[object], **_: object) -> "subprocess.CompletedProcess[str]":
            commands.append([Path(str(command[0])).name, *map(str, command[1:])])
            return subprocess.CompletedProcess(command, 0)

        environment = script("environment")
        monkeypatch.setattr(environment, "ROOT", tmp_path)
        monkeypatch.setattr(environment.subprocess, "run", run)
        (tmp_path / "pyproject.toml").write_text("")
        (tmp_path / ".venv").mkdir()
        return commands

    def main(self, tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch) -> int:
        environment = script("environment")
        monkeypatch.setattr(environment, "probe", lambda _: state)
        code: int = environment.main(tmp_path / ".venv", "run")
        return code

    def test_a_whole_one_is_left_alone(
        self, done: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.main(tmp_path, "empty", monkeypatch) == 0
        assert [command[2] for command in done] == ["pip", "pip"]
        done.clear()
        assert self.main(tmp_path, "whole", monkeypatch) == 0
        assert done == []
        os.utime(tmp_path / ".venv" / ".run", (1, 1))
        assert self.main(tmp_path, "whole", monkeypatch) == 0
        assert done[-1][2:6] == ["pip", "--disable-pip-version-check", "--quiet", "install"]

    def test_a_broken_one_is_made_again(
        self, done: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.main(tmp_path, "broken", monkeypatch) == 0
        assert done[0][1:] == ["-m", "venv", "--clear", str(tmp_path / ".venv")]
        assert re.fullmatch(r"python[\d.]*", done[0][0])

    def test_one_whose_installation_was_interrupted_is_made_again(
        self, done: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".run").mkdir()
        (tmp_path / ".run" / "installing").touch()
        assert self.main(tmp_path, "whole", monkeypatch) == 0
        assert done[0][1:4] == ["-m", "venv", "--clear"]
        assert not (tmp_path / ".run" / "installing").exists()
