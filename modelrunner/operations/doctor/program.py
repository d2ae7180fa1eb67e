"""This program itself: its version, what it runs on, and the libraries that it needs."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from modelrunner.errors import ExitStatus
from modelrunner.operations.doctor.finding import Finding, broken, well
from modelrunner.system.installation import Installation
from modelrunner.version import __version__

_NEEDED = ("docker", "oras", "prompt-toolkit", "requests", "rich", "typer")
_BELOW = ("urllib3",)


def program() -> Iterator[Finding]:
    """Versions, and libraries that are gone."""
    yield well(
        "version",
        f"modelrunner {__version__}, Python {platform.python_version()}, {platform.platform()}",
    )
    found = {name: _version(name) for name in (*_NEEDED, *_BELOW)}
    gone = [name for name, there in found.items() if there is None]
    if gone:
        message = f"not installed: {', '.join(gone)}"
        yield broken("libraries", message, Installation.current().reinstall(), ExitStatus.FAILURE)
        return
    yield well("libraries", ", ".join(f"{name} {there}" for name, there in found.items()))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
