"""The runtime `llama-server`: llama.cpp's own program, wherever PATH has it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime import libraries
from modelrunner.runtime.abilities import ABILITIES
from modelrunner.runtime.backends import arguments
from modelrunner.runtime.base import Availability, DeviceQuery, LaunchSpec
from modelrunner.runtime.child import environment, failure, ports, probe
from modelrunner.runtime.child.process import Child, Command
from modelrunner.runtime.child.server import PROBE_S, TICK_S, ChildServer
from modelrunner.system import installation
from modelrunner.text import sanitize_line

_PROGRAM = "llama-server"
_VERSION = re.compile(r"version:\s*(.+)")
_TRIES = 3
_OK = 200
_STRANGER = (401, 403)


def how_to_install(platform: str, environ: Mapping[str, str]) -> str:
    """How people get the program on this system."""
    if platform == "darwin" or shutil.which("brew", path=environ.get("PATH", "")):
        return "`brew install llama.cpp`"
    if platform == "win32":
        return "`winget install llama.cpp`"
    return (
        "unpack a build from https://github.com/ggml-org/llama.cpp/releases and add its "
        "directory to PATH"
    )


class LlamaServer:
    """Finds and starts `llama-server`.

    Args:
        environ: Our environment: PATH says where to look, and the child inherits a part of it.
        version_deadline_s: How long `--version` may take.
    """

    name = "llama-server"
    external = False
    abilities = ABILITIES[name]

    def __init__(self, environ: Mapping[str, str], version_deadline_s: float = 10.0) -> None:
        self._environ = environ
        self._version_deadline_s = version_deadline_s

    def availability(self) -> Availability:
        """Whether PATH has it, with the system's libraries that it needs."""
        program = self._find()
        if program is None:
            install = how_to_install(sys.platform, self._environ)
            return Availability(
                self.name,
                available=False,
                detail=f"no {_PROGRAM} on PATH",
                hint=f"{install}; for the CPU only, `{installation.add('embedded')}` brings the"
                " same code",
                install=install,
            )
        lacking = libraries.missing_for_program(Path(program), self._environ)
        return libraries.judged(self.name, program, lacking)

    def version(self) -> str | None:
        """What `llama-server --version` says."""
        program = self._find()
        if program is None:
            return None
        try:
            said = subprocess.run(
                [program, "--version"],
                env=environment.for_child(self._environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self._version_deadline_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        match = _VERSION.search(said.stdout.decode(errors="replace"))
        return (sanitize_line(match[1], 80) or None) if match else None

    def build(self) -> str | None:
        """Return the size and time of its file; its version would start its GPU."""
        program = self._find()
        return None if program is None else _stamp(Path(program))

    def image(self) -> None:
        """Return None: it is a file of this machine."""
        return

    def device_query(self) -> DeviceQuery | None:
        """Return the command that lists its devices."""
        program, build = self._find(), self.build()
        if program is None or build is None:
            return None
        # plug-ins that lie beside it bring devices
        beside = Path(program).resolve().parent.glob("libggml*")
        files = "; ".join(f"{path}: {stamp}" for path in sorted(beside) if (stamp := _stamp(path)))
        environ = environment.for_child(self._environ)
        build = f"{program}: {build}; {files}"
        return DeviceQuery((program, "--list-devices"), "lines", environ, build)

    def start(self, spec: LaunchSpec, log: Path) -> ChildServer:
        """Start `llama-server` with the spec's options."""
        program = self._find()
        if program is None:
            missing = self.availability()
            raise RuntimeUnavailableError(f"{self.name}: {missing.detail}", hint=missing.hint)
        ports.require_free(spec.port)

        def command(line: Sequence[str], secrets: Mapping[str, str]) -> Command:
            environ = {**environment.for_child(self._environ), **secrets}
            return Command(argv=(program, *line), environ=environ)

        return PolledServer(self.name, command, spec, log)

    def _find(self) -> str | None:
        program = shutil.which(_PROGRAM, path=self._environ.get("PATH", ""))
        return str(Path(program).absolute()) if program else None


def _stamp(file: Path) -> str | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return f"{found.st_size} bytes of {found.st_mtime_ns}"


Launcher = Callable[[Sequence[str], Mapping[str, str]], Command]
"""Makes the command of a server out of its arguments and of what is for its environment alone."""


class PolledServer(ChildServer):
    """A child that has to be asked whether it is ready, on a port that was chosen for it."""

    def __init__(self, name: str, launcher: Launcher, spec: LaunchSpec, log: Path) -> None:
        self._launcher = launcher
        self._tries = 1
        self._port = spec.port or ports.free_port()
        super().__init__(name, spec, self._command(spec), log)

    def _command(self, spec: LaunchSpec) -> Command:
        line = arguments.arguments(spec, self._port)
        return self._launcher(line, arguments.environment(spec))

    def _became_ready(self) -> bool:
        self._child.listen(TICK_S)
        url = f"http://{ports.LOOPBACK}:{self._port}"
        health = probe.get(f"{url}/health", api_key="", timeout_s=PROBE_S)
        if health is None or health.status != _OK or not self._child.alive():
            return False
        # only ours takes our key: another may have been faster on a port that was free
        props = probe.get(f"{url}/props", api_key=self.api_key, timeout_s=PROBE_S)
        if props is None:
            return False
        if props.status in _STRANGER:
            self._port_taken()
            return False
        self._url = url
        self.context = props.number("default_generation_settings", "n_ctx")
        return True

    def _ended(self) -> None:
        if failure.failed_to_bind(self.log):
            self._port_taken()
        else:
            super()._ended()

    def _port_taken(self) -> None:
        """Try again on another port, where any will do."""
        self._child.stop()
        if self._spec.port or self._tries == _TRIES:
            raise ports.port_in_use(self._port)
        self._tries += 1
        self._port = ports.free_port()
        self._child = Child(self._command(self._spec), self.log)
