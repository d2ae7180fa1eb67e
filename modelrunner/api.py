"""The Python library; it uses the same environment and configuration as the command line.

The package `modelrunner` exports these names; everything else in it may change without notice.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modelrunner.config.settings import Settings
from modelrunner.errors import DoesNotFitError, InvalidReferenceError
from modelrunner.events import Listener, ignore
from modelrunner.oci.reference import Reference
from modelrunner.store import store as stores
from modelrunner.workspace import Workspace

# late imports: a script that lists models loads no network, no memory and no runtime
if TYPE_CHECKING:
    from modelrunner.memory.devices.device import Device
    from modelrunner.oci.model.artifact import ModelArtifact
    from modelrunner.oci.model.config import ModelConfig
    from modelrunner.operations.pull.locked import Check


@dataclass(frozen=True, slots=True)
class Model:
    """A model in the local store.

    Attributes:
        digest: Its ID, `sha256:` and 64 hex digits.
        references: Its names.
        path: The weights under their real name, the first shard of several.
        size_bytes: Its size on disk.
        architecture: According to its config; None, as all that follows, if that does not say.
        parameters: Such as `135M`.
        quantization: Such as `Q4_K_M`.
        context_length: The trained context, in tokens.
    """

    digest: str
    references: tuple[str, ...]
    path: Path
    size_bytes: int
    architecture: str | None
    parameters: str | None
    quantization: str | None
    context_length: int | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """The memory that a model needs, and whether it fits.

    Attributes:
        reference: The model.
        source: The basis of the estimate: `header`, `config`, `card` or `measured`.
        context: The context that was assumed, in tokens.
        total_bytes: The bytes needed; between `low_bytes` and `high_bytes`.
        low_bytes: The lower bound.
        high_bytes: The upper bound; None if unknown.
        verdict: Whether it fits.
        budget_bytes: The bytes that it has to fit into; None if unknown.
        gpu_layers: Layers that fit on the GPU; None without a GPU.
        max_context: The longest context that fits; None if unknown.
        notes: Remarks, one sentence each.
    """

    reference: str
    source: str
    context: int
    total_bytes: int
    low_bytes: int
    high_bytes: int | None
    verdict: Literal["fits", "maybe", "partial", "no", "unknown"]
    budget_bytes: int | None
    gpu_layers: int | None
    max_context: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The memory that a pulled model has to fit into.

    Attributes:
        choose: Whether to take the largest variant of the repository that fits.
        require: Whether a model that does not fit is an error; else it is a Python warning.
        budget: The memory to fit into, in bytes; None for that of this machine.
        context: The context in tokens; None for a usual one.
    """

    choose: bool = True
    require: bool = True
    budget: int | None = None
    context: int | None = None


@dataclass(frozen=True, slots=True)
class LockedModel:
    """A model that `modelrunner.lock` pins, as it is in the local store.

    Attributes:
        name: Its name in the project.
        model: The model.
        output: The directory that the project sets for its files, if any. Nothing is put there.
    """

    name: str
    model: "Model"
    output: Path | None


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is missing or damaged.

    Attributes:
        digest: Its digest.
        state: `damaged`, `absent`, `malformed`, `unreadable` or `replaced`.
        models: The models that need it.
    """

    digest: str
    state: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification.

    Attributes:
        blobs: The number of blobs that were verified.
        size_bytes: Their total size.
        damage: The blobs that are missing or damaged.
    """

    blobs: int
    size_bytes: int
    damage: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Server:
    """A model that is served on this machine, for the length of a `with` block.

    Attributes:
        model: The name for requests.
        base_url: The URL of its OpenAI API, such as `http://127.0.0.1:40123/v1`.
        api_key: The key for `Authorization: Bearer ...`.
        context: The context of one conversation, in tokens.
        runtime: The name of the runtime that serves it.
        fit: One sentence: whether and where it fits, and with which context.
    """

    model: str
    base_url: str
    api_key: str = field(repr=False)
    context: int
    runtime: str
    fit: str


class Store:
    """The local store.

    Args:
        home: The base directory of all data; None for that of the command line.
    """

    def __init__(self, home: str | Path | None = None) -> None:
        self._store = _workspace(home).store

    def models(self) -> tuple[Model, ...]:
        """Return every model once, with all its names.

        Raises:
            CorruptStoreError: A model is damaged.
        """
        return tuple(_model(model) for model in self._store.models())

    def find(self, reference: str | Reference) -> Model | None:
        """Return a model by name or ID; None if it is not in the store.

        Raises:
            InvalidReferenceError: The text is neither a name nor an ID.
        """
        found = self._store.lookup(_text(reference))
        return None if found is None else _model(found)


def pull(
    reference: str | Reference,
    *,
    home: str | Path | None = None,
    listener: Listener = ignore,
    connections: int | None = None,
    rate: int | None = None,
    timeout: float | None = None,
    offline: bool = False,
    fit: Fit | None = None,
) -> Model:
    """Pull a model and verify it; what is in the local store is not downloaded again.

    Args:
        reference: The model, as for the command line.
        home: The base directory of all data; None for that of the command line.
        listener: Called with each event, see `modelrunner.events`.
        connections: The number of connections; None to adapt it.
        rate: The limit in bytes per second.
        timeout: The limit for the whole call, in seconds; what was downloaded is kept.
        offline: Whether to use the local store only.
        fit: The memory to fit into, and whether to choose a variant that does.

    Raises:
        InvalidReferenceError: The text is not a reference.
        ManifestNotFoundError: No such tag; the message names similar ones.
        UnsupportedArtifactError, IntegrityError: The artifact cannot be used.
        AccessError, TransferError: The download failed; what was downloaded is kept.
        UnverifiedError: The policy in `verify.toml` refuses the model.
        DiskFullError, StoreAccessError: The model cannot be stored.
        DoesNotFitError: It does not fit, and `fit` requires it.
        NotInStoreError: The model is not in the local store, and `offline` is set.
    """
    workspace = _workspace(home, offline=offline)
    wanted = Reference.parse(_text(reference))
    if timeout is not None:
        workspace = workspace.within(timeout)
    if fit is not None:
        wanted = Reference.parse(_fitted(workspace, _text(reference), fit))
    if offline:
        found = _here(workspace.store, wanted)
        if workspace.guarded:
            workspace.check(wanted, found.manifest)
        return _model(found)
    from modelrunner.transfer.limits import Limits

    return _model(workspace.puller(listener, Limits(connections, rate)).pull(wanted).model)


def _fitted(workspace: Workspace, text: str, fit: Fit) -> str:
    from modelrunner.operations.pull.fit import Fitted, Fitting, request_for

    request = request_for(budget=fit.budget, context=fit.context)
    # a model that is named is looked at in either case
    fitting = Fitting(fit.choose, fit.require or not fit.choose, request=request)
    try:
        found = workspace.fitted(text, fitting)
    except DoesNotFitError as exc:
        if fit.require or fit.choose:
            raise
        found = Fitted(text, warning=exc.message)
    if found.warning is not None:
        warnings.warn(found.warning, stacklevel=3)
    return found.text


def pull_locked(
    names: Sequence[str] = (),
    *,
    file: str | Path | None = None,
    home: str | Path | None = None,
    listener: Listener = ignore,
    connections: int | None = None,
    rate: int | None = None,
    timeout: float | None = None,
    frozen: bool = False,
) -> tuple[LockedModel, ...]:
    """Pull exactly what `modelrunner.lock` pins, by digest, and install its runtime.

    Args:
        names: The models, by their names in the project, and `runtime`; empty for all.
        file: The project's `modelrunner.toml`; None for the one in the working directory.
        home: The base directory of all data; None for that of the command line.
        listener: Called with each event, see `modelrunner.events`.
        connections: The number of connections; None to adapt it.
        rate: The limit in bytes per second.
        timeout: The limit for the whole call, in seconds; what was downloaded is kept.
        frozen: Whether to use the local store only.

    Raises:
        LockError: The lock does not satisfy the project's file, or is malformed.
        NotInStoreError: Something is missing in the local store, and `frozen` is set.
        UnverifiedError: A signer that the lock records, or the policy asks for, has not signed.
        ModelRunnerError: The first failure of a pull, see `pull`.
    """
    from modelrunner.lockfile.project import Project
    from modelrunner.operations.pull.outcome import Failed, Outcome, Pulled

    workspace = _workspace(home, offline=frozen)
    if timeout is not None:
        workspace = workspace.within(timeout)

    def fetch(references: Sequence[Reference], also: "Check | None") -> Sequence[Outcome]:
        from modelrunner.operations.pull.many import pull_many
        from modelrunner.transfer.limits import Limits

        checking = workspace if also is None else workspace.checking(also)
        puller = checking.puller(listener, Limits(connections, rate))
        return pull_many(puller, references, fail_fast=False, on_outcome=lambda _: None)

    project = Project.at(None if file is None else Path(file))
    found = workspace.locked_puller(fetch).pull(project, tuple(names))
    for entry in found:
        if isinstance(entry.outcome, Failed):
            raise entry.outcome.error
    if project.lock().runtime is not None:
        from modelrunner.transfer.limits import Limits

        workspace.runtime_puller(listener, Limits(connections, rate)).pull(project, tuple(names))
    return tuple(
        LockedModel(entry.locked.name, _model(entry.outcome.model), entry.output)
        for entry in found
        if isinstance(entry.outcome, Pulled)
    )


def verify(
    reference: str | Reference | None = None,
    *,
    home: str | Path | None = None,
    deep: bool = False,
    listener: Listener = ignore,
) -> Verification:
    """Verify that blobs in the local store match their digests; nothing is moved or removed.

    Args:
        reference: The model; None for the whole store.
        home: The base directory of all data; None for that of the command line.
        deep: Whether to read every byte, instead of only what has changed since it was verified.
        listener: Called with each event, see `modelrunner.events`.

    Raises:
        ModelNotFoundError: The model is not in the local store.
        CorruptStoreError: The index of the store is damaged.
    """
    from modelrunner.operations.verify import verify_models, verify_store

    store = _workspace(home).store
    if reference is None:
        findings = verify_store(store, deep=deep, listener=listener).findings
    else:
        model = store.resolve(_text(reference))
        findings = verify_models(store, [model], deep=deep, listener=listener)
    damage = [
        Damage(entry.digest, entry.state, entry.models)
        for entry in findings
        if entry.state != "good"
    ]
    return Verification(len(findings), sum(entry.size for entry in findings), tuple(damage))


@contextmanager
def launch(
    reference: str | Reference | Path,
    *,
    home: str | Path | None = None,
    runtime: str | None = None,
    settings: Mapping[str, int | float | bool | str] | None = None,
    offline: bool = False,
    listener: Listener = ignore,
) -> Iterator[Server]:
    """Serve a model while a `with` block runs; pull it first if it is not in the local store.

        with modelrunner.launch("ai/smollm2", settings={"context": 4096}) as server:
            ...  # any client of the OpenAI API, with server.base_url and server.api_key

    Args:
        reference: A model, or the path of a GGUF file.
        home: The base directory of all data; None for that of the command line.
        runtime: A name such as `llama-server`, or the URL of a running server; None for the
            configured runtime.
        settings: Values by the names that `modelrunner configure --help` lists; they take
            precedence over configured ones.
        offline: Whether to use the local store only.
        listener: Called with each event of a pull, see `modelrunner.events`.

    Raises:
        RuntimeUnavailableError: The runtime is not installed.
        RuntimeFailedError: The runtime refused the model, or ended.
        UsageError: An unknown setting, or an invalid value.
        ModelRunnerError: The pull failed, see `pull`.
    """
    from modelrunner.operations.devices import narrowed
    from modelrunner.operations.estimate.observations import weights_key
    from modelrunner.operations.launch.find import find_or_pull
    from modelrunner.operations.launch.learn import as_seen, learn
    from modelrunner.operations.launch.plan import line_for, plan_launch
    from modelrunner.operations.launch.precedence import LaunchOptions
    from modelrunner.operations.launch.session import started
    from modelrunner.operations.pull.outcome import Pulled
    from modelrunner.operations.pull.reference import reference_to_pull
    from modelrunner.runtime.settings import as_text

    workspace = _workspace(home, offline=offline)

    def fetch(text: str) -> Pulled:
        wanted = reference_to_pull(workspace.store, text)
        if offline:
            _here(workspace.store, wanted)

        def on_config(reference: Reference, artifact: "ModelArtifact", _: "ModelConfig") -> None:
            artifact.require_runnable(reference.short)

        return workspace.puller(listener, on_config=on_config).pull(wanted)

    text = _path(reference) if isinstance(reference, Path) else _text(reference)
    said = [f"{key}={as_text(value)}" for key, value in (settings or {}).items()]
    options = LaunchOptions(assignments=said)
    precedence, experience = workspace.precedence(), workspace.experience()
    chosen = workspace.runtime(runtime, precedence.needs(text, options))
    model, name = find_or_pull(workspace.store, text, fetch, say=lambda _: None)
    request = precedence.request(chosen, model, name, options)
    usable, request = narrowed(workspace.usable(chosen), request)
    plan = plan_launch(workspace.store, model, name, request, usable.devices)
    plan = as_seen(experience, chosen, model, plan)
    for text in () if chosen.external else filter(None, (plan.shortage, *plan.warnings)):
        # past the context manager, to who opens the block
        warnings.warn(text, stacklevel=3)
    remembered = (workspace.builds(), weights_key(model.artifact))
    logs = workspace.settings.state / "logs"
    with started(chosen, plan, logs, remembered=remembered) as server:
        learn(experience, server, model, plan)
        yield Server(
            plan.spec.name,
            server.base_url,
            server.api_key,
            server.context or plan.spec.context,
            chosen.name,
            line_for(chosen, plan),
        )


def estimate(
    subject: str | Reference | Path,
    *,
    home: str | Path | None = None,
    context: int | None = None,
    kv_type: str | None = None,
    kv_type_v: str | None = None,
    parallel: int = 1,
    budget: int | None = None,
    devices: "Sequence[Device] | None" = None,
) -> Estimate:
    """Estimate how much memory a model or a GGUF file needs, and whether it fits.

    Args:
        subject: A model, in the local store or its registry, or the path of a GGUF file.
        home: The base directory of all data; None for that of the command line.
        context: The context in tokens; None for the one that `modelrunner run` would choose.
        kv_type: The type of the KV cache; None for the one that the artifact sets, or else f16.
        kv_type_v: The type of its values; None for that of `kv_type`.
        parallel: The number of concurrent conversations; each has a whole context.
        budget: The memory to fit into, in bytes; None for that of the devices.
        devices: The devices to fit into, as `modelrunner.devices()` lists them; None for those of
            this machine, corrected by measurements of earlier runs.

    Raises:
        MalformedGGUFError, UsageError: The file is not GGUF, or not found.
        ManifestNotFoundError: Unknown model.
        AccessError, TransferError: The registry does not answer, and no card is known.
    """
    from modelrunner.operations.estimate.report import EstimateRequest

    estimator = _workspace(home).estimator(devices)
    request = EstimateRequest(context, kv_type, parallel, budget=budget, kv_type_v=kv_type_v)
    if isinstance(subject, Path):
        report = estimator.of_file(subject, request)
    else:
        report = estimator.of_model(str(subject), request)
    found, fit = report.estimate, report.fit
    return Estimate(
        report.name,
        found.source,
        report.context,
        found.total,
        found.low,
        found.high,
        fit.verdict,
        fit.budget_bytes,
        fit.gpu_layers,
        fit.max_context,
        tuple(found.notes),
    )


def _text(reference: str | Reference) -> str:
    """Return a reference as text, or raise InvalidReferenceError for any other type."""
    if not isinstance(reference, str | Reference):
        raise InvalidReferenceError(
            f"expected a model reference, got {reference!r}", hint="pass a name like 'ai/smollm2'"
        )
    return str(reference)


def _path(path: Path) -> str:
    """Return a path with a directory before it, which is never the name of a model."""
    return str(path) if path.is_absolute() else f"./{path}"


def _workspace(home: str | Path | None, *, offline: bool = False) -> Workspace:
    named: Mapping[str, str] = {} if home is None else {"MODELRUNNER_HOME": str(home)}
    environ = {**os.environ, **named}
    settings = Settings.load(environ)
    return Workspace(lambda: settings, environ, offline)


def _here(store: stores.Store, reference: Reference) -> stores.StoredModel:
    model = store.complete(reference)
    if model is None:
        raise store.unreachable(reference, "`offline`", "pull it once without `offline`")
    return model


def _model(model: stores.StoredModel) -> Model:
    config = model.config
    return Model(
        str(model.digest),
        tuple(str(reference) for reference in model.references),
        model.weights(),
        model.size,
        config.architecture,
        config.parameters,
        config.quantization,
        config.context_length,
    )


def devices() -> "tuple[Device, ...]":
    """Return the memory that the configured runtime can use: GPUs and the host."""
    return _workspace(None).machine.devices
