"""The runtime of a lock: fetched by digest, unpacked, and started once.

Where it is installed this reads a record, and imports nothing that knows a network. It becomes the
one in use only where none is: another project of this machine may want another one.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelrunner.errors import (
    DiskFullError,
    ManifestNotFoundError,
    ModelRunnerError,
    NotInStoreError,
    StoreAccessError,
)
from modelrunner.lockfile.lock import Lock
from modelrunner.lockfile.project import Project
from modelrunner.lockfile.runtime import RUNTIME, LockedImage, LockedRuntime
from modelrunner.oci.image import Platform
from modelrunner.oci.runtime_name import Named
from modelrunner.runtime.images.library import Installed, Library
from modelrunner.runtime.images.tree import deviations
from modelrunner.store.store import Store
from modelrunner.units import format_size

if TYPE_CHECKING:
    from modelrunner.operations.runtimes.install import Installer


@dataclass(frozen=True, slots=True)
class RuntimePulled:
    """What became of the runtime of a lock.

    Attributes:
        locked: What the lock pins.
        status: `unsupported` where it has no image for this platform.
        platform: That of this machine.
        runtime: What is installed; None where it is unsupported.
        in_use: Whether it is the one in use.
        downloaded_bytes: What came over the network.
        duration_s: Seconds.
        lacking: What its plug-ins lack, a sentence each.
    """

    locked: LockedRuntime
    status: Literal["pulled", "up-to-date", "unsupported"]
    platform: Platform
    runtime: Installed | None = None
    in_use: bool = False
    downloaded_bytes: int = 0
    duration_s: float = 0.0
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimePuller:
    """Installs the runtime that a lock pins.

    Attributes:
        store: Where its image goes.
        library: Where it is unpacked.
        platform: That of this machine.
        offline: Whether the network is ruled out.
        installer: Returns what fetches and unpacks it; called only if it is not installed.
    """

    store: Store
    library: Library
    platform: Platform
    offline: bool
    installer: "Callable[[], Installer]"

    def pull(self, project: Project, names: Sequence[str] = ()) -> RuntimePulled | None:
        """Install the runtime of a project.

        Args:
            project: The two files.
            names: What to pull of the project; everything where nothing is named.

        Returns:
            What became of it; None if the project has none, or it is not among the names.

        Raises:
            LockError: The lock does not satisfy the intent, or something is missing and the
                network is ruled out.
            ModelRunnerError: As with `Installer.install`.
        """
        begun = time.monotonic()
        intent, lock = project.agreed()
        wanted, locked = intent.runtime, lock.runtime
        if wanted is None or locked is None or (names and RUNTIME not in names):
            return None
        settled = self.look(locked)
        image = locked.image_for(self.platform)
        if settled is not None or image is None:
            return settled
        current = self.library.current()
        self._require_stored(lock, locked, image)
        try:
            installer = self.installer()
            index = locked.manifest.digest if locked.is_index else None
            named = Named(locked.reference, wanted.backend)
            plan = installer.plan_pinned(named, image.manifest.digest, index)
            done = installer.install(plan, use=current is None)
        except ModelRunnerError as exc:
            raise _located(exc, lock, locked) from exc
        return RuntimePulled(
            locked,
            "pulled",
            self.platform,
            done.runtime,
            done.in_use,
            plan.download_bytes,
            time.monotonic() - begun,
            done.lacking,
        )

    def look(self, locked: LockedRuntime) -> RuntimePulled | None:
        """Return what became of a runtime where nothing is to be done; None where it is."""
        image = locked.image_for(self.platform)
        if image is None:
            return RuntimePulled(locked, "unsupported", self.platform)
        found = self.library.by_digest(image.manifest.digest)
        if found is None or deviations(found.folder):
            return None
        current = self.library.current()
        if current is None:
            # in the project it is used all the same where that cannot be written
            with suppress(StoreAccessError, DiskFullError):
                self.library.use(found)
                current = found
        in_use = current is not None and current.digest == found.digest
        return RuntimePulled(locked, "up-to-date", self.platform, found, in_use)

    def _require_stored(self, lock: Lock, locked: LockedRuntime, image: LockedImage) -> None:
        """Refuse to go on without what is missing where the network is ruled out."""
        if not self.offline:
            return
        there = self.store.find_image(locked.reference.with_digest(image.manifest.digest))
        if there is not None and all(
            self.store.blobs.state(blob) == "good" for blob in there.manifest.blobs
        ):
            return
        raise not_stored(lock, locked, image)


def not_stored(lock: Lock, locked: LockedRuntime, image: LockedImage) -> NotInStoreError:
    """Return the error for the image of a locked runtime that the local store lacks."""
    size = format_size(image.download_bytes)
    return NotInStoreError(
        f"locked, but not in the local store: {RUNTIME} ({locked.reference.short}, {size})",
        hint="run `modelrunner pull --locked`",
        file=lock.file,
        line=locked.line,
        missing=[f"{RUNTIME} {image.manifest.digest}"],
    )


def _located(error: ModelRunnerError, lock: Lock, locked: LockedRuntime) -> ModelRunnerError:
    """The error with the line of the lock, and with what helps if its content is gone."""
    error.facts = {**error.facts, "model": RUNTIME, "file": lock.file, "line": locked.line}
    if isinstance(error, ManifestNotFoundError):
        error.hint = (
            f"the registry no longer has what {lock.file} pins: `modelrunner lock --update"
            f" {RUNTIME}` pins the current {locked.reference.short}"
        )
    return error
