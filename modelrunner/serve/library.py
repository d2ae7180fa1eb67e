"""The local store, as the gateway's APIs see it: what they read of it, and what they change.

What fills it in lies above, in `modelrunner.operations.serve.library`: the operations that the
commands `pull`, `tag`, `rm`, `df`, `inspect` and `package` are made of, with the same policies.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from modelrunner.events import Listener
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.oci.tar import Readable
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """What a registry says of a model.

    Attributes:
        digest: Its ID.
        facts: What lists say of it.
        format: The format of its weights.
        context: The context that its config sets, or for which it was trained.
        gguf: The key-values of the GGUF header that its config repeats.
    """

    digest: Digest
    facts: Facts
    format: str
    context: int | None
    gguf: Mapping[str, str] = field(default_factory=dict)


class Export(Protocol):
    """A model as an archive in the form of Docker Model Runner."""

    @property
    def size(self) -> int:
        """Bytes of the whole archive."""
        ...

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Its bytes; each chunk is valid until the next.

        Raises:
            CorruptStoreError: A blob is missing or damaged: the archive is not complete.
        """
        ...


class TransferJob(Protocol):
    """One pull or push: begun in a thread of its own, called off from any other."""

    @property
    def key(self) -> str:
        """What it is known by: two jobs with the same key are the same."""
        ...

    def run(self) -> LocalModel:
        """Pull or push, and return the model.

        Raises:
            ModelRunnerError: It cannot be had or sent, or must not.
        """
        ...

    def cancel(self) -> None:
        """Call it off; what was transferred is kept for the next one."""
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

    def pulling(self, text: str, listener: Listener) -> TransferJob:
        """Return a pull that was not begun.

        Raises:
            InvalidReferenceError: The text is not the name of a model.
            ModelNotFoundError: A name under `local/` is not in the store.
        """
        ...

    def pushing(self, text: str, token: str, listener: Listener) -> TransferJob:
        """Return a push that was not begun.

        Args:
            text: The name of the model, which says where it goes.
            token: What the registry wants to see, instead of our login; empty for our login.
            listener: Called with the events of the push.

        Raises:
            ModelNotFoundError: The model is not in the store, or its name is a local one.
            NotInStoreError: The network is ruled out.
            UnsupportedArtifactError: The place takes no models.
            UsageError: An ID says nothing of where to push to.
        """
        ...

    def load(self, archive: Readable) -> Sequence[LocalModel]:
        """Take all models of an archive, or none; a model without a name is stored without one.

        Raises:
            IntegrityError: The archive is damaged, cut or hostile, or lacks something.
            UnsupportedArtifactError: It is not an archive of models.
            CapacityError: It does not fit on the disk.
        """
        ...

    def export(self, text: str) -> Export:
        """Return a model as an archive.

        Raises:
            ModelNotFoundError: The model is not in the store.
            CorruptStoreError: It is not complete.
        """
        ...

    def remote(self, text: str) -> RemoteModel:
        """Return what a registry says of a model; no weights are downloaded.

        Raises:
            InvalidReferenceError: The text is not the name of a model.
            ModelRunnerError: The registry does not have it, or does not answer.
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
