"""Which shared libraries of the system a runtime's files lack, as the dynamic loader says.

Images for containers have neither `ldd` nor `readelf`; the loader itself is always there, since
Python was started by it, and lists what it would load without loading it.
"""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelrunner.frozen import frozen
from modelrunner.runtime.base import Availability
from modelrunner.runtime.child import environment
from modelrunner.system.packages import advice
from modelrunner.text import sanitize_line

_DEADLINE_S = 10.0
_MISSING = re.compile(
    # glibc, and musl
    r"^\s*(?P<listed>[^\s=>]+) => not found"
    r"|Error loading shared library (?P<named>[^\s:]+): No such file"
    r"|error while loading shared libraries: (?P<first>[^\s:]+): cannot open",
    re.MULTILINE,
)
_OLDER = re.compile(r"version [`'](?P<version>[A-Za-z0-9_.+]+)' not found")
_ELF = b"\x7fELF"
_INTERPRETER = 3
_LONGEST_PATH = 4096
_MOST = 20


@frozen
class Missing:
    """What the loader did not find.

    Attributes:
        libraries: Names of libraries, such as `libgomp.so.1`.
        versions: Versions of libraries that are there and older, such as `GLIBC_2.38`.
    """

    libraries: Sequence[str] = ()
    versions: Sequence[str] = ()

    @property
    def message(self) -> str:
        """What is missing, in words."""
        if self.libraries:
            return f"system library not found: {', '.join(self.libraries)}"
        return f"needs a newer system: {', '.join(self.versions)} not found"

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self.libraries:
            return advice(self.libraries)
        return "use a build for this system, or a newer release of the system"


def missing_for_module(files: Sequence[Path], environ: Mapping[str, str]) -> Missing | None:
    """What a Python package's libraries lack to be loaded; None where nothing is known to.

    Args:
        files: The libraries that the package loads.
        environ: Our environment, of which the process that loads them inherits a part.
    """
    loader = interpreter_of(Path(sys.executable))
    if loader is None:
        return None
    found = [_asked(loader, file, environ) for file in files]
    lacking = [(file, each) for file, each in zip(files, found, strict=True) if each is not None]
    # the interpreter may know more directories than the loader alone, as conda's does
    if not any(_fails_to_load(file, environ) for file, _ in lacking):
        return None
    return _merged([each for _, each in lacking])


def missing_for_program(file: Path, environ: Mapping[str, str]) -> Missing | None:
    """What a program lacks to be started; None where nothing is known to, as of a script."""
    loader = interpreter_of(file)
    if loader is None:
        return None
    # a program for another C library, as glibc's on Alpine
    return _asked(loader, file, environ) if loader.exists() else Missing((loader.name,))


def judged(name: str, where: str, missing: Missing | None) -> Availability:
    """An installed runtime's availability, by what it lacks."""
    if missing is None:
        return Availability(name, available=True, detail=where, installed=True)
    return Availability(
        name, available=False, detail=missing.message, hint=missing.hint, installed=True
    )


def interpreter_of(file: Path) -> Path | None:
    """The loader that an ELF program names; None for anything else."""
    try:
        # outside: a library of the system
        with file.open("rb") as opened:
            head = opened.read(64)
            if head[:4] != _ELF or len(head) < 64:  # noqa: PLR2004 - the size of its header
                return None
            wide = head[4] == 2  # noqa: PLR2004 - ELFCLASS64
            little = head[5] == 1

            def number(raw: bytes) -> int:
                return int.from_bytes(raw, "little" if little else "big")

            table = number(head[32:40] if wide else head[28:32])
            size, count = (number(head[at : at + 2]) for at in ((54, 56) if wide else (42, 44)))
            for index in range(count):
                opened.seek(table + index * size)
                entry = opened.read(size)
                if number(entry[:4]) == _INTERPRETER:
                    offset = number(entry[8:16] if wide else entry[4:8])
                    length = number(entry[32:40] if wide else entry[16:20])
                    opened.seek(offset)
                    path = opened.read(min(length, _LONGEST_PATH)).rstrip(b"\0")
                    return Path(path.decode())
    except (OSError, ValueError, OverflowError):
        return None
    return None


def _asked(loader: Path, file: Path, environ: Mapping[str, str]) -> Missing | None:
    # musl lists by an option; glibc's option stops at the first one, its variable does not
    options = ["--list"] if "musl" in loader.name else []
    try:
        done = subprocess.run(
            [str(loader), *options, str(file)],
            env={**environment.for_child(environ), "LC_ALL": "C", "LD_TRACE_LOADED_OBJECTS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parsed(done.stdout.decode(errors="replace"))


def parsed(said: str) -> Missing | None:
    """What the loader's list says is missing; None where nothing is."""
    libraries = [match[match.lastgroup or 0] for match in _MISSING.finditer(said)]
    versions = [match["version"] for match in _OLDER.finditer(said)]
    return _merged([Missing(libraries, versions)]) if libraries or versions else None


def _fails_to_load(file: Path, environ: Mapping[str, str]) -> bool:
    load = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", load, str(file)],
            env=environment.for_child(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode != 0 and b"OSError" in done.stderr


def _merged(found: Sequence[Missing]) -> Missing:
    libraries = dict.fromkeys(
        Path(sanitize_line(name, 200)).name for each in found for name in each.libraries
    )
    versions = dict.fromkeys(version for each in found for version in each.versions)
    return Missing(tuple(libraries)[:_MOST], tuple(versions)[:_MOST])
