"""Which runtime to use, and why not the others."""

import dataclasses
from collections.abc import Mapping

from modelrunner.errors import RuntimeUnavailableError, UsageError
from modelrunner.runtime.llama_cpp_python import LlamaCppPython
from modelrunner.runtime.llama_server import LlamaServer
from modelrunner.runtime.runtime import Availability, Runtime
from modelrunner.runtime.url import ExternalRuntime
from modelrunner.runtime.xllamacpp_server import XLlamaCpp
from modelrunner.text import sanitize_line

AUTO = "auto"
QUICKEST = "pip install 'modelrunner[embedded]'"
"""What gives a machine without a runtime one, in seconds and without a compiler."""


def select(choice: str, *, environ: Mapping[str, str], api_key: str = "") -> Runtime:
    """The runtime that was asked for, if it is there.

    Args:
        choice: `auto`, a runtime's name, or the URL of a running OpenAI-compatible server.
        environ: Our environment: where programs are found, and what children inherit.
        api_key: The key of the server behind a URL.

    Raises:
        RuntimeUnavailableError: It is not installed; with `auto`, none is.
        UsageError: There is no runtime of that name.
    """
    if choice.startswith(("http://", "https://")):
        return ExternalRuntime(choice, api_key)
    known = _known(environ)
    if choice == AUTO:
        return _first_available(known)
    for runtime in known:
        if runtime.name == choice:
            return _require(runtime)
    names = ", ".join(runtime.name for runtime in known)
    raise UsageError(
        f"{sanitize_line(choice, 80)}: no such runtime", hint=f"choose {AUTO}, {names}, or a URL"
    )


def runtimes(environ: Mapping[str, str]) -> list[Availability]:
    """Every runtime that runs here or could, the preferred first, with versions."""
    return [
        dataclasses.replace(runtime.availability(), version=runtime.version())
        for runtime in _known(environ)
    ]


def _known(environ: Mapping[str, str]) -> tuple[Runtime, ...]:
    """The preferred first: what was built for this machine before what runs on any."""
    return (LlamaServer(environ), LlamaCppPython(environ), XLlamaCpp(environ))


def _first_available(known: tuple[Runtime, ...]) -> Runtime:
    reasons = []
    for runtime in known:
        found = runtime.availability()
        if found.available:
            return runtime
        reasons.append(f"{found.name}: {found.detail}")
    raise RuntimeUnavailableError(
        f"nothing here can run a model ({'; '.join(reasons)})", hint=QUICKEST
    )


def _require(runtime: Runtime) -> Runtime:
    found = runtime.availability()
    if not found.available:
        raise RuntimeUnavailableError(f"{found.name}: {found.detail}", hint=found.hint)
    return runtime
