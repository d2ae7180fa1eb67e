"""Which image serves an exported model: that of the project, or of the installed runtime.

So what is deployed is the build that the model was tried with, by the same digest.
"""

from collections.abc import Callable
from dataclasses import dataclass

from modelrunner.errors import ModelRunnerError
from modelrunner.lockfile.changes import why_other_runtime
from modelrunner.lockfile.project import Project
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.runtime.images.library import INSTALLED, Installed, Library
from modelrunner.runtime.select import AUTO

_NATIVE = "com.docker."
"""Docker's builds for other systems lie in images that no container can be made of."""


@dataclass(frozen=True, slots=True)
class ServerImage:
    """An image that serves.

    Attributes:
        text: As a deployment file names it.
        note: Where it comes from, in words.
    """

    text: str
    note: str


def server_image(
    project: Project, library: Library, runtime: str, warn: Callable[[str], None]
) -> ServerImage | None:
    """Return the image that the project names, or else that of the installed runtime.

    Args:
        project: The project in the current directory.
        library: The installed runtimes.
        runtime: The configured runtime.
        warn: Takes a warning where the project does not pin its runtime.

    Returns:
        The image; None where neither names one.
    """
    found = _of_project(project, warn)
    if found is not None:
        return found
    one = _in_use(library, runtime)
    if one is None or one.program.startswith(_NATIVE):
        return None
    reference = Reference.parse(one.reference)
    if reference.is_local:
        # no other machine can pull it
        return None
    return _pinned(reference, one.index or one.digest, f"the installed runtime {one.name}")


def _of_project(project: Project, warn: Callable[[str], None]) -> ServerImage | None:
    if not project.intent_path.exists():
        return None
    try:
        wanted, locked = project.intent().runtime, project.lock().runtime
    except ModelRunnerError as exc:
        # another model than the project's may be exported
        warn(f"the runtime of the project is not known: {exc.message}")
        return None
    if wanted is None:
        return None
    if locked is not None and why_other_runtime(locked, wanted) is None:
        return _pinned(locked.reference, locked.manifest.digest, str(project.lock_path))
    warn(f"{project.intent_path} names a runtime that is not locked: `modelrunner lock` pins it")
    return ServerImage(wanted.reference.short, str(project.intent_path))


def _in_use(library: Library, runtime: str) -> Installed | None:
    name, _, wanted = runtime.partition(":")
    if name == INSTALLED and wanted:
        return library.find(wanted)
    return library.current() if name in (AUTO, INSTALLED) else None


def _pinned(reference: Reference, digest: Digest, origin: str) -> ServerImage:
    # not every program takes a tag and a digest
    named = reference.short.partition("@")[0]
    return ServerImage(f"{reference.name}@{digest}", f"{named}, from {origin}")
