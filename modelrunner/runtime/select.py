"""Which runtime to use, and why not the others."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from modelrunner.errors import RuntimeUnavailableError, UsageError
from modelrunner.frozen import replace
from modelrunner.runtime.backends.docker.runtime import ContainerRuntime
from modelrunner.runtime.backends.external import ExternalRuntime
from modelrunner.runtime.backends.installed import HOW_TO_INSTALL, InstalledRuntime
from modelrunner.runtime.backends.llama_cpp_python import LlamaCppPython
from modelrunner.runtime.backends.llama_server import LlamaServer
from modelrunner.runtime.backends.xllamacpp import XLlamaCpp
from modelrunner.runtime.base import Ability, Availability, Runtime
from modelrunner.runtime.images.library import INSTALLED, Library
from modelrunner.runtime.images.project import LOCKED, locked_runtime, require_locked
from modelrunner.system import installation
from modelrunner.text import sanitize_line, suggest

AUTO = "auto"


def select(
    choice: str,
    *,
    environ: Mapping[str, str],
    api_key: str = "",
    image: str = "",
    library: Path | None = None,
    needs: Collection[Ability] = (),
    origin: str = "--runtime",
) -> Runtime:
    """The runtime that was asked for, if it is there.

    Args:
        choice: `auto`, `locked`, a runtime's name, or the URL of a running OpenAI-compatible
            server. With `auto` the runtime that a lock in the current directory pins comes first,
            if it is installed.
        environ: Our environment: where programs are found, and what children inherit.
        api_key: The key of the server behind a URL.
        image: The image for a container; empty for llama.cpp's own.
        library: The directory of installed runtimes.
        needs: What it has to be able to do: with `auto`, the first that can is taken.
        origin: Where the choice was made, for messages.

    Raises:
        RuntimeUnavailableError: It is not installed; with `auto`, none is that can.
        UsageError: There is no runtime of that name.
    """
    if choice.startswith(("http://", "https://")):
        return ExternalRuntime(choice, api_key)
    name, colon, wanted = choice.partition(":")
    if name == INSTALLED and colon and library is not None:
        return _require(InstalledRuntime(Library(library), environ, wanted))
    if choice == LOCKED and library is not None:
        one = require_locked(Library(library))
        return InstalledRuntime(Library(library), environ, str(one.digest), one.name)
    runtimes_known = known(environ, image, library)
    if choice == AUTO:
        # what a project pins is meant for its models
        pinned = None if library is None else locked_runtime(Library(library))
        if library is not None and pinned is not None:
            first = InstalledRuntime(Library(library), environ, str(pinned.digest), pinned.name)
            runtimes_known = (first, *runtimes_known)
        return _first_available(runtimes_known, needs)
    for runtime in runtimes_known:
        if runtime.name == choice:
            return _require(runtime)
    names = [AUTO, *(runtime.name for runtime in runtimes_known)]
    raise UsageError(
        f"{origin}: unknown runtime {sanitize_line(choice, 80)!r}",
        hint=suggest(choice, [*names, LOCKED]) or f"use {', '.join(names)}, or the URL of a server",
    )


def runtimes(
    environ: Mapping[str, str], image: str = "", library: Path | None = None
) -> list[Availability]:
    """Every runtime that runs here or could, the preferred first, with versions."""
    return [
        replace(runtime.availability(), version=runtime.version())
        for runtime in known(environ, image, library)
    ]


def known(
    environ: Mapping[str, str], image: str = "", library: Path | None = None
) -> tuple[Runtime, ...]:
    """The preferred first: what was chosen or built for this machine before what runs on any."""
    return (
        *([] if library is None else [InstalledRuntime(Library(library), environ)]),
        LlamaServer(environ),
        LlamaCppPython(environ),
        XLlamaCpp(environ),
        ContainerRuntime(environ, image),
    )


def _first_available(known: tuple[Runtime, ...], needs: Collection[Ability]) -> Runtime:
    reasons, repair = [], None
    for runtime in known:
        lacking = [ability for ability in needs if ability not in runtime.abilities]
        found = runtime.availability()
        if found.available and not lacking:
            return runtime
        if found.installed and not found.available and not lacking:
            repair = repair or found.hint
        why = f"does not offer {lacking[0]}" if found.available else found.detail
        reasons.append(f"{found.name}: {why}")
    what = f" with {needs_text}" if (needs_text := " and ".join(map(str, needs))) else ""
    message = f"no runtime found that can run a model{what} ({'; '.join(reasons)})"
    if repair is not None:
        # what is installed needs less than what is not
        raise RuntimeUnavailableError(message, hint=repair)
    hint = _what_to_install(known, needs)
    able = (runtime for runtime in known if _can(runtime, needs))
    helps = any(isinstance(runtime, InstalledRuntime) for runtime in able)
    raise RuntimeUnavailableError(message, hint=hint, installable=_installable(AUTO, helps=helps))


def _can(runtime: Runtime, needs: Collection[Ability]) -> bool:
    return set(needs) <= runtime.abilities


def unable(
    environ: Mapping[str, str], image: str = "", library: Path | None = None
) -> Availability | None:
    """The installed runtime that lacks something to be started, where no other one can be."""
    found = [runtime.availability() for runtime in known(environ, image, library)]
    if any(entry.available for entry in found):
        return None
    return next((entry for entry in found if entry.installed), None)


def quickest() -> str:
    """The command that gives a machine a runtime, in seconds and without a compiler."""
    return installation.add(XLlamaCpp.extra)


def _what_to_install(known: tuple[Runtime, ...], needs: Collection[Ability]) -> str:
    """What gives a runtime that can do all of this, the quickest first."""
    able = [runtime for runtime in known if _can(runtime, needs)]
    if not needs or any(runtime.name == XLlamaCpp.name for runtime in able):
        images = any(runtime.name == INSTALLED for runtime in able)
        return f"`{quickest()}`" + (f", or {HOW_TO_INSTALL} for a GPU" if images else "")
    found = (runtime.availability() for runtime in able)
    hints = (each.install or each.hint for each in found)
    return next(filter(None, hints), "leave out the option: no runtime supports it")


def _require(runtime: Runtime) -> Runtime:
    found = runtime.availability()
    if found.available:
        return runtime
    message = f"{found.name}: {found.detail}"
    helps = isinstance(runtime, InstalledRuntime) and not found.installed
    wanted = runtime.wanted if isinstance(runtime, InstalledRuntime) else ""
    raise RuntimeUnavailableError(
        message, hint=found.hint, installable=_installable(wanted or AUTO, helps=helps)
    )


def _installable(what: str, *, helps: bool) -> str | None:
    # the images are for Linux
    return what if helps and sys.platform == "linux" else None
