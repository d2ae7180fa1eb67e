"""A runtime that is a Python package: our own small program serves with it, in a child.

The package is never imported here: a native library that crashes, blocks or fills the memory does
so in the child.
"""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime import abilities, libraries
from modelrunner.runtime.base import Ability, Availability, DeviceQuery, LaunchSpec
from modelrunner.runtime.child import environment, handshake, ports
from modelrunner.runtime.child.process import Command
from modelrunner.runtime.child.server import AnnouncedServer
from modelrunner.system import installation

_LISTER = "modelrunner.runtime.backends.ggml_devices"


def utf8_path(path: Path) -> str:
    """Return a path for a package that encodes it as UTF-8, whatever the locale is: the same file.

    Raises:
        SystemExit: Its name is not UTF-8, and a package cannot open it.
    """
    try:
        return os.fsencode(path).decode()
    except UnicodeDecodeError:
        sys.exit(f"the file name is not UTF-8, rename the file: {path}")


class PythonRuntime:
    """Finds a package and starts the program that serves with it.

    Args:
        environ: Our environment, of which the child inherits a part.

    Attributes:
        name: What `--runtime` calls it; also the distribution that has the version.
        program: The module to run in the child.
        modules: The top-level modules that must be there.
        loads: Patterns of the shared libraries that the first module loads, in its directory.
        extra: The extra of this project that installs them.
        abilities: What it can do beyond answering.
    """

    name: ClassVar[str]
    program: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]
    loads: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]
    abilities: ClassVar[frozenset[Ability]]
    external: ClassVar[bool] = False

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def availability(self) -> Availability:
        """Whether the modules and the system's libraries are there; nothing is imported."""
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if missing:
            return Availability(
                self.name,
                available=False,
                detail=f"no Python module {missing[0]}",
                hint=f"`{installation.add(self.extra)}`",
            )
        lacking = libraries.missing_for_module(self._libraries(), self._environ)
        return libraries.judged(self.name, f"Python module {self.modules[0]}", lacking)

    def _libraries(self, *more: str) -> list[Path]:
        spec = importlib.util.find_spec(self.modules[0])
        folders = (spec.submodule_search_locations if spec is not None else None) or ()
        return [
            file
            for folder in folders
            for pattern in (*self.loads, *more)
            for file in sorted(Path(folder).glob(pattern))
        ]

    def version(self) -> str | None:
        """The installed distribution's version."""
        import importlib.metadata

        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return None

    def build(self) -> str | None:
        """Return the installed distribution's version."""
        return self.version()

    def image(self) -> None:
        """Return None: it is a package."""
        return

    def device_query(self) -> DeviceQuery | None:
        """Return the command that lists the devices of the package's ggml."""
        if importlib.util.find_spec(self.modules[0]) is None:
            return None
        stats = [(file, file.stat()) for file in self._libraries("lib/libggml*")]
        files = [f"{file}: {stat.st_size} bytes of {stat.st_mtime_ns}" for file, stat in stats]
        return DeviceQuery(
            (sys.executable, "-P", "-m", _LISTER, self.modules[0]),
            "json",
            environment.for_child(self._environ),
            "; ".join([str(self.version()), *files]),
        )

    def start(self, spec: LaunchSpec, log: Path) -> AnnouncedServer:
        """Start the program with the spec on its stdin."""
        found = self.availability()
        if not found.available:
            raise RuntimeUnavailableError(f"{self.name}: {found.detail}", hint=found.hint)
        abilities.require_for(self, spec)
        ports.require_free(spec.port)
        command = Command(
            # -P: nothing of the folder that we were started in is to be imported
            argv=(sys.executable, "-P", "-m", self.program),
            environ=environment.for_child(self._environ),
            stdin=handshake.dump(spec),
            announces=True,
        )
        return AnnouncedServer(self.name, spec, command, log)
