"""The two files of a project, side by side: in the working directory, unless named."""

from pathlib import Path

from modelrunner.errors import LockOutdatedError, UsageError
from modelrunner.frozen import frozen
from modelrunner.lockfile.changes import disagreements
from modelrunner.lockfile.intent import Intent, read_intent
from modelrunner.lockfile.lock import Lock
from modelrunner.lockfile.reader import read_lock, require_lock

INTENT_NAME = "modelrunner.toml"
LOCK_NAME = "modelrunner.lock"
_SHOWN = 8


@frozen
class Project:
    """Where intent and lock are."""

    intent_path: Path
    lock_path: Path

    @classmethod
    def at(cls, file: Path | None) -> "Project":
        """The project of a `modelrunner.toml`; of the one in this directory where none is named.

        Raises:
            UsageError: The lock was named instead.
        """
        path = file if file is not None else Path(INTENT_NAME)
        if path.suffix == ".lock":
            raise UsageError(
                f"{path} is the lock file: expected modelrunner.toml",
                hint=f"use {path.with_suffix('.toml')}",
            )
        return cls(path, path.with_suffix(".lock"))

    def intent(self) -> Intent:
        """What is wanted.

        Raises:
            UsageError: The file does not exist, or something in it is invalid.
        """
        return read_intent(self.intent_path)

    def lock(self) -> Lock:
        """What is locked: nothing where there is no lock yet.

        Raises:
            LockError: It says something wrong.
        """
        return read_lock(self.lock_path) or Lock(file=str(self.lock_path))

    def agreed(self) -> tuple[Intent, Lock]:
        """Both, where the lock satisfies the intent.

        Raises:
            LockOutdatedError: It does not, or is not there; each disagreement is named.
            LockError, UsageError: One of them says something wrong.
        """
        intent, lock = self.intent(), require_lock(self.lock_path)
        found = disagreements(intent, lock)
        if not found:
            return intent, lock
        names = "; ".join(map(str, found[:_SHOWN]))
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise LockOutdatedError(
            f"{lock.file} does not satisfy {intent.file}: {names}{more}",
            hint="run `modelrunner lock` and commit modelrunner.lock",
            file=found[0].file,
            line=found[0].line,
            disagreements=[f"{entry.file}:{entry.line}: {entry}" for entry in found],
        )
