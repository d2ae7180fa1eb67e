"""Whether a runtime works here: it starts, and lists devices; where it does not, what it lacks."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelrunner.errors import RuntimeFailedError
from modelrunner.memory.devices.listing import of_llama_server
from modelrunner.oci.image import build_in
from modelrunner.runtime import libraries
from modelrunner.runtime.images import start
from modelrunner.runtime.images.library import Installed, SeenDevice
from modelrunner.text import sanitize_line

DEADLINE_S = 60.0
_VERSION = re.compile(r"^version:\s*(.+)$", re.MULTILINE)
_BUILD_NUMBER = re.compile(r"\bbuild[: ]+(\d{3,7})\b|^(\d{3,7}) \(")
_MOST_PLUGINS = 64
_MOST_CHARACTERS = 1 << 18


@dataclass(frozen=True, slots=True)
class Checked:
    """What a runtime said of itself.

    Attributes:
        version: What `--version` says.
        build: Such as `b11434`, where that says it.
        devices: What `--list-devices` lists.
        lacking: What plug-ins for GPUs lack, a sentence each.
    """

    version: str | None
    build: str | None
    devices: tuple[SeenDevice, ...]
    lacking: tuple[str, ...] = ()


def check(one: Installed, environ: Mapping[str, str]) -> Checked:
    """Start a runtime's server to ask for its version and its devices.

    Raises:
        RuntimeFailedError: It does not start; with the reason, where one is found.
    """
    said = _asked(one, environ, ["--version"])
    match = _VERSION.search(said)
    version = sanitize_line(match[1], 80) if match else None
    number = _BUILD_NUMBER.search(version or "")
    build = f"b{number[1] or number[2]}" if number else build_in(version)
    devices = list_devices(one, environ)
    return Checked(version, build, devices, _lacking(one, environ))


def list_devices(one: Installed, environ: Mapping[str, str]) -> tuple[SeenDevice, ...]:
    """The devices that a runtime lists now.

    Raises:
        RuntimeFailedError: It does not start.
    """
    said = _asked(one, environ, ["--list-devices"])
    return tuple(
        SeenDevice(
            sanitize_line(device.handle, 40),
            sanitize_line(device.name, 120),
            device.total_bytes,
            device.free_bytes,
        )
        for device in of_llama_server(said.splitlines(), one.name)
    )


def fewer(before: Sequence[SeenDevice], now: Sequence[SeenDevice]) -> tuple[str, ...]:
    """The devices that were listed before and are not listed now, by what they are."""
    left = [device.description for device in now]
    gone = []
    for device in before:
        if device.description in left:
            left.remove(device.description)
        else:
            gone.append(device.description)
    # another driver may spell them otherwise: then their number counts
    return tuple(gone) if len(now) < len(before) else ()


def _asked(one: Installed, environ: Mapping[str, str], line: Sequence[str]) -> str:
    made = start.command(one, line, environ)
    begun = time.monotonic()
    try:
        done = subprocess.run(
            made.argv,
            env=dict(made.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        spent = time.monotonic() - begun
        raise _failed(one, f"no answer to {line[0]} within {spent:.0f} s") from exc
    except OSError as exc:
        raise _failed(one, str(exc.strerror)) from exc
    said = done.stdout.decode(errors="replace")[:_MOST_CHARACTERS]
    if done.returncode != 0:
        raise _failed(one, _reason(one, environ, said, done.returncode))
    return said


def _reason(one: Installed, environ: Mapping[str, str], said: str, code: int) -> str:
    missing = _missing(one, one.root / one.program, environ)
    if missing is not None:
        return missing
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = [line for line in said.splitlines() if line.strip()]
    return sanitize_line(lines[-1], 200) if lines else f"exited with code {code}"


def _lacking(one: Installed, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What plug-ins lack that a GPU may need; those for processors are of one kind."""
    program = one.root / one.program
    folders = (program.parent, program.parent.parent / "lib")
    plugins = [
        path
        for folder in folders
        for path in sorted(folder.glob("libggml-*.so"))
        if "-cpu" not in path.name and "-base" not in path.name
    ]
    found = [_missing(one, path, environ) for path in plugins[:_MOST_PLUGINS]]
    return tuple(filter(None, found))


def _missing(one: Installed, file: Path, environ: Mapping[str, str]) -> str | None:
    """What a program or a library of the image lacks, by what a loader lists."""
    made = start.command(one, [], environ, isolate=False)
    # trusted: our own order
    argv = json.loads(made.argv[-1])["outside"]["argv"]
    if "--library-path" not in argv:
        return None
    try:
        done = subprocess.run(
            [*argv[:3], "--list", str(file)],
            env={**made.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lacks = libraries.parsed(done.stdout.decode(errors="replace"))
    if lacks is None:
        return None
    what = ", ".join((*lacks.libraries, *lacks.versions))
    return f"{file.name} needs {what}, which neither the image nor this machine has"


def _failed(one: Installed, why: str) -> RuntimeFailedError:
    return RuntimeFailedError(
        f"the server of {one.name} does not start: {why}",
        hint="install another build with --version, or another image",
        runtime=one.name,
    )
