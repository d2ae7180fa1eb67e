"""The local store for the APIs of a server: what `pull`, `tag`, `rm` and `df` do, over HTTP.

The policies are those of the commands: `verify.toml`, `--offline`, registries and mirrors, room on
the disk. A text from a client is a name or an ID, never a path: no file is looked at.
"""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from modelrunner.errors import InvalidReferenceError, ModelNotFoundError
from modelrunner.events import Listener, ignore
from modelrunner.gguf.header import Array, Value
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.config import Family
from modelrunner.oci.model.layers import Layer, Role
from modelrunner.oci.reference import Reference, match_id
from modelrunner.oci.tar import Readable
from modelrunner.operations.archive.docker import DockerArchive
from modelrunner.operations.archive.load import CheckCarried, Loader
from modelrunner.operations.derive.derive import Differences, derive
from modelrunner.operations.disk_space import Room
from modelrunner.operations.disk_usage import usage
from modelrunner.operations.model import headers
from modelrunner.operations.package.parts import Part
from modelrunner.operations.package.push import Pusher, to_push
from modelrunner.operations.pull.pull import Puller
from modelrunner.operations.remove import RemovalPlan, plan_removal, remove
from modelrunner.operations.serve.plan import ServePlan
from modelrunner.operations.serve.remote import remote_model
from modelrunner.operations.serve.transfers import StorePull, StorePush, local_model
from modelrunner.runtime import settings
from modelrunner.runtime.images.library import Library as Runtimes
from modelrunner.runtime.packaged import Packaged
from modelrunner.serve.library import Description, LocalModel, Recipe, RemoteModel, Removal
from modelrunner.serve.models import Served
from modelrunner.store.store import Store, StoredModel

_TEXT_LIMIT = 4 * 1024 * 1024
_log = logging.getLogger("modelrunner.serve.library")


@dataclass(frozen=True, slots=True)
class StoreLibrary:
    """The store, and what fills it.

    Attributes:
        store: The local store.
        puller: Makes what pulls one model, with what takes its events.
        pusher: Makes what pushes to the registry of a name, with the token that it wants to see,
            empty for our login, and with what takes its events.
        plan: Decides how a model is served, with settings that count more than all others.
        runtimes: The installed runtimes, which take room on the disk too.
        offline: Whether the network is ruled out.
        room: What all pulls together expect of the disk.
        check: Refuses a model of an archive that the policy keeps out; None without a policy.
    """

    store: Store
    puller: Callable[[Listener], Puller]
    pusher: Callable[[Reference, str, Listener], Pusher]
    plan: Callable[[StoredModel, str, Mapping[str, str]], ServePlan]
    runtimes: Runtimes | None = None
    offline: bool = False
    room: Room = field(default_factory=Room)
    check: CheckCarried | None = None

    def state(self) -> object:
        """Return a value that differs after every change of the store."""
        try:
            found = self.store.layout.index.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def models(self) -> Sequence[LocalModel]:
        """Return all models."""
        return [local_model(model) for model in self.store.models()]

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

    def pulling(self, text: str, listener: Listener) -> StorePull:
        """Return a pull that was not begun.

        Raises:
            InvalidReferenceError: The text is not the name of a model.
            ModelNotFoundError: A name under `local/` is not in the store.
        """
        reference = self._reference(text)
        puller = replace(self.puller(listener), room=self.room)
        return StorePull(str(reference), self.store, reference, puller, listener, self.offline)

    def pushing(self, text: str, token: str, listener: Listener) -> StorePush:
        """Return a push that was not begun.

        Args:
            text: The name of the model, which says where it goes.
            token: What the registry wants to see; empty for our login.
            listener: Called with the events of the push.

        Raises:
            ModelNotFoundError: The model is not in the store, or its name is a local one.
            NotInStoreError: The network is ruled out.
            UnsupportedArtifactError: The place takes no models.
            UsageError: An ID says nothing of where to push to.
        """
        model, name, _ = to_push(self.store, text)
        # of two tokens one may be refused, and the other not: such pushes are not shared
        key = f"push {name} {model.digest} {secrets.token_hex(8) if token else ''}".rstrip()
        # refused now where the place takes none
        self.pusher(name, token, ignore)
        return StorePush(key, model, name, partial(self.pusher, name, token), listener)

    def load(self, archive: Readable) -> Sequence[LocalModel]:
        """Take all models of an archive, or none; a model without a name is stored without one.

        Raises:
            IntegrityError: The archive is damaged, cut or hostile, or lacks something.
            UnsupportedArtifactError: It is not an archive of models.
            CapacityError: It does not fit on the disk.
            UnverifiedError: The policy keeps one of them out.
        """
        loaded = Loader(self.store, nameless=True, check=self.check).load(archive)
        return [local_model(one.model) for one in loaded if not one.model.is_image]

    def export(self, text: str) -> DockerArchive:
        """Return a model as an archive in the form of Docker Model Runner.

        Raises:
            ModelNotFoundError: The model is not in the store.
            CorruptStoreError: It is not complete.
        """
        return DockerArchive.of(self.store, self.store.resolve(text))

    def remote(self, text: str) -> RemoteModel:
        """Return what a registry says of a model; no weights are downloaded.

        Raises:
            InvalidReferenceError: The text is not the name of a model.
            ModelRunnerError: The registry does not have it, or does not answer.
        """
        reference = self._reference(text)
        return remote_model(self.puller(ignore).source_for(reference), reference)

    def tag(self, source: str, target: str) -> LocalModel:
        """Give a model one more name.

        Raises:
            ModelNotFoundError: The model is not in the store.
            InvalidReferenceError: The name is invalid, or has a digest.
        """
        model = self.store.resolve(source)
        self.store.tag(model, new_name(target))
        return local_model(self.store.resolve(str(model.digest)))

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
        texts = [text.encode() for text in recipe.licenses]
        # the other model may have a LICENSE
        parts = [Part("license", f"LICENSE-{Digest.of(text).short}", text) for text in texts]
        if recipe.template is not None:
            parts.insert(0, Part("template", "chat_template.jinja", recipe.template.encode()))
        # the ModelPack format has no place for settings
        family: Family | None = "docker" if chosen else None
        differences = Differences(
            settings=chosen, parts=parts, family=family, created=datetime.now(UTC)
        )
        made = derive(self.store, model, new_name(target), differences)
        return local_model(self.store.resolve(str(made.digest)))

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


def _removal(plan: RemovalPlan, freed: int = 0) -> Removal:
    return Removal(digest=plan.model.digest, names=plan.names, last=plan.last, freed=freed)
