"""The two files of a project: written first, brought up to date, and compared with registries."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modelrunner.disk.files import disk_errors, flush, sync_directory, write_atomically
from modelrunner.errors import UsageError
from modelrunner.lockfile.changes import Change, changes
from modelrunner.lockfile.intent import first_intent, parse_intent
from modelrunner.lockfile.lock import Lock
from modelrunner.lockfile.project import Project
from modelrunner.lockfile.runtime import RUNTIME
from modelrunner.operations.lock.lock import Gone, Locker, write_lock


@dataclass(frozen=True, slots=True)
class Locked:
    """A lock that was made.

    Attributes:
        lock: What it pins.
        changes: How it differs from the one before.
        written: Whether the file had to be written.
    """

    lock: Lock
    changes: tuple[Change, ...]
    written: bool


def update(
    project: Project, locker: Locker, names: Sequence[str] = (), *, upgrade: bool = False
) -> Locked:
    """Bring a project's lock up to date.

    Args:
        project: The project.
        locker: Pins its models.
        names: Models to pin again; `runtime` is the runtime.
        upgrade: Whether to pin all models, and the runtime, again.

    Raises:
        UsageError: The project has no such model, or its file is malformed.
        LockError: The lock is malformed.
        ModelRunnerError: A model could not be pinned, see `Locker.lock`.
    """
    intent, before = project.intent(), project.lock()
    renew = [*(wanted.name for wanted in intent.models), RUNTIME] if upgrade else list(names)
    for name in names:
        intent.require(name)
    after = locker.lock(intent, before, renew)
    written = write_lock(project.lock_path, after)
    return Locked(after, tuple(changes(before, after)), written)


def init(project: Project, locker: Locker, references: Sequence[str]) -> Locked | None:
    """Write a project's first `modelrunner.toml`, and lock it if it names models.

    Nothing is written where a model cannot be pinned. Where an earlier call with the same models
    was killed between the two files, or in the middle of the first, this one completes it.

    Returns:
        The lock; None if no model was named.

    Raises:
        UsageError: One of the two files exists.
        ModelRunnerError: A model could not be pinned, see `Locker.lock`.
    """
    text = first_intent(references)
    begun = _is_begun(project, text, whole=bool(references))
    for path in (project.intent_path, project.lock_path):
        if not begun and (path.exists() or path.is_symlink()):
            raise UsageError(
                f"{path} already exists",
                hint=f"add models to {project.intent_path}, then run `modelrunner lock`"
                if path == project.intent_path
                else f"remove it, or restore the {project.intent_path} that it was made from",
            )
    if not references:
        _write_new(project.intent_path, text, begun=begun)
        return None
    intent = parse_intent(text.encode(), str(project.intent_path))
    before = Lock(file=str(project.lock_path))
    after = locker.lock(intent, before)
    _write_new(project.intent_path, text, begun=begun)
    write_lock(project.lock_path, after)
    return Locked(after, tuple(changes(before, after)), written=True)


def differences(project: Project, locker: Locker) -> tuple[Lock, tuple[Change | Gone, ...]]:
    """Return the lock, and what the registries have now that differs from it; write nothing.

    Raises:
        ModelRunnerError: A registry could not be asked, see `Locker.diff`.
    """
    intent, before = project.intent(), project.lock()
    found = [
        entry
        for entry in locker.diff(intent, before)
        if isinstance(entry, Gone) or entry.before != entry.after
    ]
    wanted = {model.name for model in intent.models}
    found += [
        Change(model.name, model, None) for model in before.models if model.name not in wanted
    ]
    if intent.runtime is None and before.runtime is not None:
        found.append(Change(RUNTIME, before.runtime, None))
    return before, tuple(found)


def _is_begun(project: Project, text: str, *, whole: bool) -> bool:
    """Whether the file is the beginning of what is to be written, or all of it, and not locked."""
    intent, lock = project.intent_path, project.lock_path
    if intent.is_symlink() or not intent.is_file() or lock.exists() or lock.is_symlink():
        return False
    written = text.encode()
    # outside: a file of the project
    with disk_errors(intent), intent.open("rb") as file:
        found = file.read(len(written) + 1)
    return written.startswith(found) and (whole or found != written)


def _write_new(path: Path, text: str, *, begun: bool) -> None:
    with disk_errors(path.parent):
        if begun:
            write_atomically(path, text.encode())
            return
        try:
            # outside: a file of the project
            file = path.open("xb")
        except FileExistsError as exc:
            raise UsageError(
                f"{path} already exists",
                hint="another process created it: check it, then run `modelrunner lock`",
            ) from exc
        try:
            with file:
                file.write(text.encode())
                file.flush()
                flush(file.fileno())
            sync_directory(path.parent)
        except OSError:
            with suppress(OSError):
                path.unlink()
            raise
