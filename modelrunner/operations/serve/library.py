"""The local store for the APIs of a server: what `pull`, `tag`, `rm` and `df` do, over HTTP.

The policies are those of the commands: `verify.toml`, `--offline`, registries and mirrors, room on
the disk. A text from a client is a name or an ID, never a path: no file is looked at.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from modelrunner.errors import CanceledByUserError, InvalidReferenceError, ModelNotFoundError
from modelrunner.events import Finished, Listener
from modelrunner.gguf.header import Array, Value
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.layers import Layer, Role
from modelrunner.oci.reference import Reference, match_id
from modelrunner.operations.disk_space import Room
from modelrunner.operations.disk_usage import usage
from modelrunner.operations.model import headers
from modelrunner.operations.package.derive import Differences, derive
from modelrunner.operations.pull.outcome import stored
from modelrunner.operations.pull.pull import Puller
from modelrunner.operations.remove import RemovalPlan, plan_removal, remove
from modelrunner.operations.serve.plan import ServePlan, facts_of
from modelrunner.runtime import settings
from modelrunner.runtime.images.library import Library as Runtimes
from modelrunner.runtime.packaged import Packaged
from modelrunner.serve.library import Description, LocalModel, Recipe, Removal
from modelrunner.serve.models import Served
from modelrunner.store.store import Store, StoredModel
from modelrunner.transfer.budget import CancelledError

_TEXT_LIMIT = 4 * 1024 * 1024
_log = logging.getLogger("modelrunner.serve.library")


@dataclass(frozen=True, slots=True)
class StoreLibrary:
    """The store, and what fills it.

    Attributes:
        store: The local store.
        puller: Makes what pulls one model, with what takes its events.
        plan: Decides how a model is served, with settings that count more than all others.
        runtimes: The installed runtimes, which take room on the disk too.
        offline: Whether the network is ruled out.
        room: What all pulls together expect of the disk.
    """

    store: Store
    puller: Callable[[Listener], Puller]
    plan: Callable[[StoredModel, str, Mapping[str, str]], ServePlan]
    runtimes: Runtimes | None = None
    offline: bool = False
    room: Room = field(default_factory=Room)

    def state(self) -> object:
        """Return a value that differs after every change of the store."""
        try:
            found = self.store.layout.index.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def models(self) -> Sequence[LocalModel]:
        """Return all models."""
        return [_local(model) for model in self.store.models()]

    def served(self, digest: Digest) -> Served:
        """Return how a model is served, and log the plan.

        Raises:
            ModelRunnerError: It cannot be served.
        """
        model = self.store.resolve(str(digest))
        if not model.references:
            raise ModelNotFoundError(f"{digest.short} has no name")
        name = model.references[0].short
        return self._planned(model, name, {})

    def reconfigured(self, served: Served, changed: Mapping[str, str]) -> Served:
        """Return a model as it is served with other settings, and log the plan.

        Raises:
            UsageError: A setting is invalid, or the runtime does not support it.
            ModelRunnerError: It cannot be served so.
        """
        model = self.store.resolve(str(served.digest))
        found = self._planned(model, served.name, changed)
        return replace(served, spec=found.spec, memory=found.memory, on_gpus=found.on_gpus)

    def _planned(self, model: StoredModel, name: str, changed: Mapping[str, str]) -> Served:
        plan = self.plan(model, name, changed)
        _log.info("%s", plan.line)
        if plan.warning is not None:
            _log.warning("%s: %s", name, plan.warning)
        return plan.served

    def pulling(self, text: str, listener: Listener) -> "StorePull":
        """Return a pull that was not begun.

        Raises:
            InvalidReferenceError: The text is not the name of a model.
            ModelNotFoundError: A name under `local/` is not in the store.
        """
        reference = self._reference(text)
        puller = replace(self.puller(listener), room=self.room)
        return StorePull(str(reference), self.store, reference, puller, listener, self.offline)

    def tag(self, source: str, target: str) -> LocalModel:
        """Give a model one more name.

        Raises:
            ModelNotFoundError: The model is not in the store.
            InvalidReferenceError: The name is invalid, or has a digest.
        """
        model = self.store.resolve(source)
        self.store.tag(model, new_name(target))
        return _local(self.store.resolve(str(model.digest)))

    def describe(self, digest: Digest) -> Description:
        """Return everything that is known of a model.

        Raises:
            ModelRunnerError: It cannot be read.
        """
        model = self.store.resolve(str(digest))
        found = headers.of_stored(model)
        advised = Packaged.read(model.config.settings).with_context(model.config.context_size)
        values = advised.to_dict()
        system = values.pop("system", None)
        artifact = model.artifact
        template = found.metadata.chat_template
        if artifact.template is not None:
            template = self._text(artifact.template)
        return Description(
            values=_plain(found.metadata.values),
            parameters=found.metadata.parameters,
            projector=None if found.projector is None else _plain(found.projector.metadata),
            template=template,
            system=None if system is None else str(system),
            settings=values,
            licenses=[self._text(layer) for layer in artifact.layers if layer.role is Role.LICENSE],
        )

    def create(self, source: str, target: str, recipe: Recipe) -> LocalModel:
        """Make a model of one that is stored, with the same weights.

        Raises:
            ModelNotFoundError: The model is not in the store.
            UsageError: What is to be different cannot be.
        """
        model = self.store.resolve(source)
        chosen = settings.parse(f"{key}={value}" for key, value in recipe.settings.items())
        differences = Differences(
            settings=chosen, template=recipe.template, licenses=recipe.licenses
        )
        made = derive(self.store, model, new_name(target), differences, datetime.now(UTC))
        return _local(self.store.resolve(str(made.digest)))

    def _text(self, layer: Layer) -> str:
        return self.store.blobs.read(layer.descriptor, _TEXT_LIMIT).decode(errors="replace")

    def removal(self, text: str, *, force: bool) -> Removal:
        """Return what removing a name or an ID would do.

        Raises:
            ModelNotFoundError: The model is not in the store.
            UsageError: An ID with several names, without force.
        """
        return _removal(plan_removal(self.store, text, force=force))

    def remove(self, text: str, *, force: bool) -> Removal:
        """Remove a name, and with the last one the model; raises what `removal` does."""
        done = remove(self.store, plan_removal(self.store, text, force=force))
        return _removal(done.plan, done.freed)

    def disk_usage(self) -> Mapping[str, object]:
        """Return what the store takes, as `df --json` prints it."""
        return usage(self.store, self.runtimes).to_dict()

    def _reference(self, text: str) -> Reference:
        """What a text stands for; an ID only for what is in the store."""
        if match_id(text):
            model = self.store.lookup(text)
            if model is not None and model.references:
                return model.references[0].with_digest(model.digest)
        reference = Reference.parse(text)
        if reference.is_local and self.store.lookup(text) is None:
            raise self.store.not_found(text)
        return self.store.only_name(text) or reference


@dataclass(frozen=True, slots=True)
class StorePull:
    """One pull into the store."""

    key: str
    store: Store
    reference: Reference
    puller: Puller
    listener: Listener
    offline: bool

    def run(self) -> LocalModel:
        """Pull, and return the model.

        Raises:
            ModelRunnerError: See `Puller.pull`.
            CanceledByUserError: It was called off.
        """
        found = stored(self.store, self.reference) if self.offline else None
        try:
            pulled = found or self.puller.pull(self.reference)
        except CancelledError as exc:
            raise CanceledByUserError(
                f"the pull of {self.reference.short} was canceled",
                hint="pull it again to resume: the partial download is kept",
            ) from exc
        model = self.store.resolve(str(pulled.model.digest))
        if pulled.status == "up-to-date":
            # nothing was transferred, and no event has said so
            total = model.manifest.total_bytes
            self.listener(Finished(self.reference.short, str(model.digest), total))
        return _local(model)

    def cancel(self) -> None:
        """Call it off."""
        self.puller.budget.cancel()


def new_name(text: str) -> Reference:
    """A name to give to a model.

    Raises:
        InvalidReferenceError: It is invalid, or has a digest.
    """
    name = Reference.parse(text)
    if name.digest is not None:
        raise InvalidReferenceError(
            f"{text[:200]}: a new name must have a tag, not a digest", hint="remove @sha256:..."
        )
    return name


def _plain(values: Mapping[str, Value]) -> dict[str, str | int | float | bool | None]:
    return {key: None if isinstance(value, Array) else value for key, value in values.items()}


def _local(model: StoredModel) -> LocalModel:
    return LocalModel(
        digest=model.digest,
        references=model.references,
        aliases=frozenset(model.aliases),
        facts=facts_of(model, None),
    )


def _removal(plan: RemovalPlan, freed: int = 0) -> Removal:
    return Removal(digest=plan.model.digest, names=plan.names, last=plan.last, freed=freed)
