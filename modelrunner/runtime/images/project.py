"""The runtime that the lock in the current directory pins, where it is installed."""

from pathlib import Path

from modelrunner.errors import LockError, RuntimeUnavailableError
from modelrunner.lockfile.project import LOCK_NAME
from modelrunner.lockfile.reader import require_lock
from modelrunner.oci.image import Platform
from modelrunner.runtime.images.library import Installed, Library

LOCKED = "locked"
"""What `--runtime` calls it."""

_HINT = "`modelrunner pull --locked` installs it"


def locked_runtime(library: Library, lock: Path = Path(LOCK_NAME)) -> Installed | None:
    """Return the locked runtime; None if there is no lock, no runtime in it, or none installed."""
    if not lock.is_file():
        return None
    try:
        return require_locked(library, lock)
    except RuntimeUnavailableError:
        # whoever did not ask for it is not stopped by it
        return None


def missing_note(library: Library, lock: Path = Path(LOCK_NAME)) -> str | None:
    """Return what to say of a locked runtime that could be installed, and is not; else None."""
    if not lock.is_file():
        return None
    try:
        require_locked(library, lock)
    except RuntimeUnavailableError as exc:
        return None if exc.installable is None else f"{exc.message}: {exc.hint}"
    return None


def require_locked(library: Library, lock: Path = Path(LOCK_NAME)) -> Installed:
    """Like `locked_runtime`.

    Raises:
        RuntimeUnavailableError: There is no lock, or it is malformed; it pins no runtime, none for
            this platform, or one that is not installed.
    """
    try:
        pinned = require_lock(lock).runtime
    except LockError as exc:
        raise RuntimeUnavailableError(f"{LOCKED}: {exc.message}", hint=exc.hint) from exc
    if pinned is None:
        raise RuntimeUnavailableError(
            f"{lock} pins no runtime",
            hint='add [runtime] image = "vulkan" to modelrunner.toml, then run `modelrunner lock`',
        )
    platform = Platform.of_machine()
    image = pinned.image_for(platform)
    if image is None:
        raise RuntimeUnavailableError(
            f"the runtime of {lock} has no image for {platform}, only for {pinned.platforms}",
            hint="use another one with --runtime: `modelrunner runtimes` lists them",
        )
    found = library.by_digest(image.manifest.digest)
    if found is None:
        name = pinned.reference.short
        exact = pinned.reference.with_digest(pinned.manifest.digest)
        message = f"{name}, which {lock} pins, is not installed"
        raise RuntimeUnavailableError(message, installable=str(exact), hint=_HINT)
    return found
