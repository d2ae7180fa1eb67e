"""Makes the virtual environment of a clone, brings it up to date, and rebuilds a broken one.

    python registry-fixtures/environment.py .venv run|dev

`run` has what a user installs, `dev` what the tests need too. Does nothing where that is installed
and whole. What `kill -9` or a removed Python left behind is noticed and built again. Two at once
wait for each other. Called by `environment.sh`, which has checked the version of Python.
"""

import ctypes
import fcntl
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from modelrunner.system.packages import System, advice  # noqa: E402 - found from here on

EXTRAS = {"run": "embedded", "dev": "embedded,dev"}
NEEDED = ("libgomp.so.1", "libstdc++.so.6")
"""Libraries of the system that the runtime of `embedded` loads, and that no wheel brings."""

State = Literal["absent", "broken", "empty", "whole"]

# runs in the environment: is all there that pip recorded, and is the program that of this clone?
PROBE = """
import csv, importlib.metadata, importlib.util, os, sys
if sys.version_info < (3, 11):
    sys.exit("broken")
found = set()
own = [path for path in sys.path if path.startswith(sys.prefix)]
for dist in importlib.metadata.distributions(path=own):
    # RECORD is the last thing that pip writes
    record, name = dist.read_text("RECORD"), dist.metadata["Name"]
    if not record or not name:
        sys.exit("broken")
    for path, *_ in csv.reader(record.splitlines()):
        if not path.endswith(".pyc") and not os.path.exists(dist.locate_file(path)):
            sys.exit("broken")
    found.add(name.lower())
if "modelrunner" not in found:
    print("empty")
else:
    spec = importlib.util.find_spec("modelrunner")
    here = spec is not None and os.path.realpath(spec.origin).startswith(sys.argv[1] + os.sep)
    print("whole" if here else "broken")
"""


def main(venv: Path, kind: str) -> int:
    """Has the environment ready; the exit code."""
    missing = [name for name in NEEDED if sys.platform == "linux" and not loads(name)]
    if missing:
        print(f"error: system library not found: {', '.join(missing)}", file=sys.stderr)
        print(f"hint: {advice(missing)}", file=sys.stderr)
        return 2
    run = ROOT / ".run"
    try:
        run.mkdir(exist_ok=True)
        (run / "installing.lock").touch()
    except OSError as exc:
        reason = (exc.strerror or str(exc)).lower()
        print(f"error: cannot write to {ROOT}: {reason}", file=sys.stderr)
        print("hint: use a clone in a directory that you may write to", file=sys.stderr)
        return 2
    interrupted = run / "installing"
    with only_one(run / "installing.lock"):
        state = "broken" if interrupted.exists() else probe(venv)
        if state == "whole" and is_fresh(venv / f".{kind}"):
            return 0
        problem = lacks()
        if problem is not None and state in {"absent", "broken"}:
            print(problem, file=sys.stderr)
            return 2
        interrupted.touch()
        done = install(venv, kind, state)
        if done == 0:
            # whoever has the tools of `dev` has all of `run`
            for name in ("run", kind):
                (venv / f".{name}").touch()
        if done == 0 or (done > 0 and state in {"empty", "whole"}):
            # an update that pip refuses leaves what was there
            interrupted.unlink()
        return done


def probe(venv: Path) -> State:
    """What there is; `empty` has a Python that works, and not this program."""
    if not venv.is_symlink() and not venv.exists():
        return "absent"
    command = [venv / "bin" / "python", "-I", "-c", PROBE, str(ROOT)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "broken"
    said = done.stdout.strip()
    return "whole" if said == "whole" else "empty" if said == "empty" else "broken"


def is_fresh(stamp: Path) -> bool:
    """Whether the last installation is newer than what says what to install."""
    return stamp.exists() and stamp.stat().st_mtime >= (ROOT / "pyproject.toml").stat().st_mtime


def loads(library: str) -> bool:
    """Whether this Python finds a library of the system."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def lacks() -> str | None:
    """What this Python lacks to make an environment, in words; Debian has it in another package."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    system = System.current()
    command = system.install_packages([f"python{version}-venv"])
    install = f"`{command}`, or use" if command and system.manager == "apt-get" else "use"
    return (
        f"error: {sys.executable} has no module {missing[0]}, which makes virtual environments\n"
        f"hint: {install} another Python: make PYTHON=/path/to/python3.12"
    )


def install(venv: Path, kind: str, state: State) -> int:
    """Makes or updates the environment; the exit code of what failed."""
    # a virtual environment may run this, and is not to build itself
    python = getattr(sys, "_base_executable", None) or sys.executable
    why = "broken: building it again" if state == "broken" else "setting it up"
    print(f"{venv}: {why}; this takes a minute or two", file=sys.stderr, flush=True)
    if state in {"absent", "broken"}:
        done = subprocess.run([python, "-m", "venv", "--clear", venv], check=False).returncode
        if done != 0:
            return done
    own = [venv / "bin" / "python", "-m"]
    if subprocess.run([*own, "pip", "--version"], capture_output=True, check=False).returncode:
        # made by another tool, such as uv
        subprocess.run([*own, "ensurepip"], capture_output=True, check=False)
    options = ["--disable-pip-version-check", "--quiet", "install", "--editable"]
    what = f"{ROOT}[{EXTRAS[kind]}]"
    return subprocess.run([*own, "pip", *options, what], check=False).returncode


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Waits for another process that does the same; ended with the process, however it ends."""
    with path.open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
