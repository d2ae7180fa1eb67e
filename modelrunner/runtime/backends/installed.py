"""The runtime `installed`: a `llama-server` out of an image that was unpacked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime.abilities import ABILITIES
from modelrunner.runtime.backends.llama_server import PolledServer
from modelrunner.runtime.base import PATHS, Availability, DeviceQuery, LaunchSpec, RuntimeImage
from modelrunner.runtime.child import ports
from modelrunner.runtime.child.process import Command
from modelrunner.runtime.images import start
from modelrunner.runtime.images.library import INSTALLED, Installed, Library

HOW_TO_INSTALL = "`modelrunner runtimes install`"


class InstalledRuntime:
    """Finds and starts a runtime that is installed.

    Args:
        library: The installed runtimes.
        environ: Our environment, of which the child inherits a part.
        wanted: Which one; empty for the one in use.
        called: What it is called, where that is not `wanted`.
    """

    external = False
    abilities = ABILITIES[INSTALLED]

    def __init__(
        self, library: Library, environ: Mapping[str, str], wanted: str = "", called: str = ""
    ) -> None:
        self.name = f"{INSTALLED}:{called or wanted}" if wanted else INSTALLED
        self._library = library
        self._environ = environ
        self.wanted = wanted

    def chosen(self) -> Installed | None:
        """The runtime that a start would use."""
        return self._library.find(self.wanted) if self.wanted else self._library.current()

    def availability(self) -> Availability:
        """Whether it is installed."""
        one = self.chosen()
        if one is not None:
            return Availability(self.name, available=True, detail=one.name, installed=True)
        every = [one.name for one in self._library.all()]
        if every and not self.wanted:
            return Availability(
                self.name,
                available=False,
                detail=f"none is in use: {', '.join(every)}",
                hint=f"`modelrunner runtimes use {every[0]}`",
                installed=True,
            )
        named = f"{self.wanted} is not installed" if self.wanted else "none is installed"
        hint = HOW_TO_INSTALL.rstrip("`") + (f" {self.wanted}`" if self.wanted else "`")
        return Availability(self.name, available=False, detail=named, hint=hint)

    def version(self) -> str | None:
        """What the server said of itself when it was installed."""
        one = self.chosen()
        return None if one is None else one.version or one.build

    def build(self) -> str | None:
        """Return the digest of its image."""
        one = self.chosen()
        return None if one is None else f"{one.name} {one.digest}"

    def image(self) -> RuntimeImage | None:
        """Return the image that it was unpacked from."""
        one = self.chosen()
        if one is None:
            return None
        index = None if one.index is None else str(one.index)
        return RuntimeImage(one.name, one.reference, str(one.digest), index, one.build)

    def device_query(self) -> DeviceQuery | None:
        """Return the command that lists its devices."""
        one = self.chosen()
        if one is None:
            return None
        made = start.command(one, ["--list-devices"], self._environ)
        return DeviceQuery(made.argv, "lines", made.environ, f"{one.name} {one.digest}")

    def start(self, spec: LaunchSpec, log: Path) -> PolledServer:
        """Start the server of the image with the spec's options."""
        one = self.chosen()
        if one is None:
            missing = self.availability()
            raise RuntimeUnavailableError(f"{self.name}: {missing.detail}", hint=missing.hint)
        ports.require_free(spec.port)
        files = _files_of(spec)

        def command(line: Sequence[str], secrets: Mapping[str, str]) -> Command:
            made = start.command(one, line, self._environ, files, connects=spec.rpc is not None)
            return Command(argv=made.argv, environ={**made.environ, **secrets}, stdin=made.stdin)

        return PolledServer(self.name, command, spec, log)


def _files_of(spec: LaunchSpec) -> list[Path]:
    """The files that a server is told to read."""
    named = [getattr(spec, name) for name in PATHS]
    written = [Path(flag.partition("=")[2] or flag) for flag in spec.raw_flags]
    return [
        *(Path(path) for path in named if path is not None),
        *(adapter.path for adapter in spec.adapters),
        *(path for path in written if path.is_absolute() and path.is_file()),
    ]
