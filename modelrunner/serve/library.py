"""The local store, as the gateway's APIs see it: what they read of it, and what they change.

What fills it in lies above, in `modelrunner.operations.serve.library`: the operations that the
commands `pull`, `tag`, `rm`, `df`, `inspect` and `package` are made of, with the same policies.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Everything that is known of a model.

    Attributes:
        values: The key-values of its header; None in place of a list.
        parameters: How many it has.
        projector: The key-values of its projector's header, where it has one.
        template: The chat template.
        system: The system prompt that it brings.
        settings: What it advises for a launch, by the names of `configure --set`.
        licenses: Their texts.
    """

    values: Mapping[str, str | int | float | bool | None]
    parameters: int
    projector: Mapping[str, str | int | float | bool | None] | None = None
    template: str | None = None
    system: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    licenses: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a new model has that the one it is made of has not.

    Attributes:
        settings: Settings that are advised for a launch, as text by the names of `configure --set`.
        template: The chat template; None is as there.
        licenses: Texts of licenses, beside those that there are.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    licenses: Sequence[str] = ()


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

    def reconfigured(self, served: Served, changed: Mapping[str, str]) -> Served:
        """Return a model as it is served with other settings, by the names of `configure --set`.

        Raises:
            UsageError: A setting is invalid, or the runtime does not support it.
            ModelRunnerError: It cannot be served so.
        """
        ...

    def pulling(self, text: str, listener: Listener) -> PullJob:
        """Return a pull that was not begun.

        Raises:
            InvalidReferenceError: The text is not the name of a model.
            ModelNotFoundError: A name under `local/` is not in the store.
        """
        ...

    def tag(self, source: str, target: str) -> LocalModel:
        """Give a model one more name.

        Raises:
            ModelNotFoundError: The model is not in the store.
            InvalidReferenceError: The name is invalid.
        """
        ...

    def describe(self, digest: Digest) -> Description:
        """Return everything that is known of a model.

        Raises:
            ModelRunnerError: It cannot be read.
        """
        ...

    def create(self, source: str, target: str, recipe: Recipe) -> LocalModel:
        """Make a model of one that is stored, with the same weights.

        Raises:
            ModelNotFoundError: The model is not in the store.
            UsageError: What is to be different cannot be.
        """
        ...

    def removal(self, text: str, *, force: bool) -> Removal:
        """Return what removing a name or an ID would do.

        Raises:
            ModelNotFoundError: The model is not in the store.
            UsageError: An ID with several names, without force.
        """
        ...

    def remove(self, text: str, *, force: bool) -> Removal:
        """Remove a name, and with the last one the model; raises what `removal` does."""
        ...

    def disk_usage(self) -> Mapping[str, object]:
        """Return what the store takes, as `df --json` prints it."""
        ...
