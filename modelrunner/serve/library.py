"""The local store, as the gateway's APIs see it: what they read of it, and what they change.

What fills it in lies above, in `modelrunner.operations.serve.library`: the operations that the
commands `pull`, `tag`, `rm` and `df` are made of, with the same policies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from modelrunner.events import Listener
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.serve.models import Facts, Served


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model of the local store.

    Attributes:
        digest: Its ID.
        references: All its names.
        aliases: Other spellings of them.
        facts: What lists say of it.
    """

    digest: Digest
    references: tuple[Reference, ...]
    aliases: frozenset[str] = frozenset()
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What removing a name or an ID does.

    Attributes:
        digest: The model.
        names: The names that go.
        last: Whether the model goes with them.
        freed: Bytes that were freed.
    """

    digest: Digest
    names: tuple[Reference, ...]
    last: bool
    freed: int = 0


class PullJob(Protocol):
    """One pull: begun in a thread of its own, called off from any other."""

    @property
    def key(self) -> str:
        """The full name: two pulls with the same one are the same."""
        ...

    def run(self) -> LocalModel:
        """Pull, and return the model.

        Raises:
            ModelRunnerError: It cannot be had, or must not.
        """
        ...

    def cancel(self) -> None:
        """Call it off; what was downloaded is kept for the next one."""
        ...


class Library(Protocol):
    """The local store. All methods but `state` are called in threads."""

    def state(self) -> object:
        """Return a value that differs after every change of the store; takes no time."""
        ...

    def models(self) -> Sequence[LocalModel]:
        """Return all models."""
        ...

    def served(self, digest: Digest) -> Served:
        """Return how a model is served.

        Raises:
            ModelRunnerError: It cannot be.
        """
        ...

    def pulling(self, text: str, listener: Listener) -> PullJob:
        """Return a pull that was not begun.

        Raises:
            InvalidReferenceError: The text is not the name of a model.
        """
        ...

    def tag(self, source: str, target: str) -> LocalModel:
        """Give a model one more name.

        Raises:
            ModelNotFoundError: There is no such model.
            InvalidReferenceError: The name is invalid.
        """
        ...

    def removal(self, text: str, *, force: bool) -> Removal:
        """Return what removing a name or an ID would do.

        Raises:
            ModelNotFoundError: There is no such model.
            UsageError: An ID with several names, without force.
        """
        ...

    def remove(self, text: str, *, force: bool) -> Removal:
        """Remove a name, and with the last one the model; raises what `removal` does."""
        ...

    def disk_usage(self) -> Mapping[str, object]:
        """Return what the store takes, as `df --json` prints it."""
        ...
