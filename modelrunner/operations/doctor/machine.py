"""What could run a model here: the runtimes, and the devices that they would use."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from modelrunner.errors import ExitStatus, ModelRunnerError
from modelrunner.operations.devices import Usable, look_at
from modelrunner.operations.doctor.finding import Finding, broken, doubtful, well
from modelrunner.runtime.backends.installed import InstalledRuntime
from modelrunner.runtime.base import Availability
from modelrunner.runtime.images.library import INSTALLED, Library
from modelrunner.runtime.images.project import LOCKED, require_locked
from modelrunner.runtime.select import AUTO, quickest, runtimes
from modelrunner.units import format_size

_COMMAND = re.compile(r"`([^`]+)`")


def installed(
    environ: Mapping[str, str], choice: str, image: str, library: Path | None = None
) -> Iterator[Finding]:
    """The runtimes; one that is configured has to be there."""
    found = runtimes(environ, image, library)
    broken_here = [entry for entry in found if entry.installed and not entry.available]
    here = [entry for entry in found if entry.available]
    named = next((entry for entry in found if entry.name == choice), None)
    if library is not None:
        named = named or _among_installed(Library(library), environ, choice)
    said = ", ".join(f"{entry.name} {entry.version or ''}".strip() for entry in here)
    if choice.startswith(("http://", "https://")):
        yield well("runtime", f"the server at {_without_login(choice)}")
    elif choice != AUTO and named is None:
        message = f"unknown runtime {choice} in the configuration"
        yield broken("runtime", message, "modelrunner runtimes", ExitStatus.USAGE)
    elif named is not None and not named.available:
        message = f"the configured runtime {choice} is not usable: {named.detail}"
        yield broken("runtime", message, "modelrunner runtimes", ExitStatus.RUNTIME)
    elif not here and broken_here:
        message = f"{broken_here[0].name} is installed, and cannot run"
        yield broken("runtime", message, "modelrunner runtimes", ExitStatus.RUNTIME)
    elif not here:
        yield doubtful("runtime", "none: models can be pulled, but not run", quickest())
    else:
        yield well("runtime", said)
    for entry in broken_here:
        # what only a sentence explains is shown there
        command = _COMMAND.fullmatch(entry.hint or "")
        fix = command[1] if command else "modelrunner runtimes"
        message = f"{entry.name}: {entry.detail}"
        if here and entry is not named:
            # another one is used instead
            yield doubtful("system", message, fix)
        else:
            yield broken("system", message, fix, ExitStatus.RUNTIME)
    whole = [entry.name for entry in here if entry.installed]
    if whole:
        yield well("system", f"all libraries found that {', '.join(whole)} needs")


def _among_installed(
    library: Library, environ: Mapping[str, str], choice: str
) -> Availability | None:
    """The runtime that `installed:NAME` or `locked` means; None for another choice."""
    name, _, wanted = choice.partition(":")
    if name == INSTALLED and wanted:
        return InstalledRuntime(library, environ, wanted).availability()
    if choice != LOCKED:
        return None
    try:
        one = require_locked(library)
    except ModelRunnerError as exc:
        return Availability(LOCKED, available=False, detail=exc.message, hint=exc.hint)
    return Availability(LOCKED, available=True, detail=one.name, installed=True)


def devices(
    environ: Mapping[str, str],
    image: str,
    usable: Callable[[], Usable],
    library: Path | None = None,
) -> Iterator[Finding]:
    """The devices, those that the runtime cannot use, and who did not list theirs."""
    found = look_at(environ, image, library)
    for device in found.devices:
        size = f"{format_size(device.free_bytes)} free of {format_size(device.total_bytes)}"
        yield well("device", f"{device.name} ({device.backend or device.kind}), {size}")
    for note in found.notes:
        yield doubtful("device", note, "modelrunner devices")
    used = usable()
    if used.warning is not None:
        yield doubtful("device", used.warning, used.command)


def _without_login(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
