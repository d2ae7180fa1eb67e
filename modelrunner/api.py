"""The library: what scripts in Python may use, with the environment and configuration of a user.

`modelrunner` itself offers these names; nothing else of the package is a promise.
"""

import os
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


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is here.

    Attributes:
        digest: Its ID, `sha256:` and 64 hex digits.
        references: Its names.
        path: The weights under their real name, the first shard of several.
        size_bytes: What it takes on disk.
        architecture: As its config says; this and what follows are None where it does not.
        parameters: Such as `135M`.
        quantization: Such as `Q4_K_M`.
        context_length: Tokens that it was trained for.
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
    """The memory that a model needs, and whether there is so much.

    Attributes:
        reference: The model.
        source: What the estimate rests on.
        context: Tokens that it is for.
        total_bytes: What is needed; certainly more than `low_bytes`, less than `high_bytes`.
        low_bytes: See above.
        high_bytes: See above; None where nothing bounds it.
        verdict: Whether it fits.
        budget_bytes: What it is to fit into; None where that is not known.
        gpu_layers: Layers that fit on the GPU; None where there is none.
        max_context: The longest context that fits; None where it is not known.
        notes: What else is to be said.
    """

    reference: str
    source: str
    context: int
    total_bytes: int
    low_bytes: int
    high_bytes: int | None
    verdict: Literal["fits", "partial", "no", "unknown"]
    budget_bytes: int | None
    gpu_layers: int | None
    max_context: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What a model that is pulled has to fit into.

    Attributes:
        choose: Whether to take the largest variant of the repository that fits.
        require: Whether to pull nothing that does not fit; else a warning is issued.
        budget: Bytes to fit into; None for the memory of this machine.
        context: Tokens; None for a usual context.
    """

    choose: bool = True
    require: bool = True
    budget: int | None = None
    context: int | None = None


@dataclass(frozen=True, slots=True)
class LockedModel:
    """A model that `modelrunner.lock` pins, as it is in the local store.

    Attributes:
        name: What the project calls it.
        model: The model.
        output: Where the project wants its files; None where it does not say. Nothing is put there.
    """

    name: str
    model: "Model"
    output: Path | None


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is not as it should be.

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
    """What was verified.

    Attributes:
        blobs: How many blobs were looked at.
        size_bytes: Their size together.
        damage: Those that are not as they should be; empty where all is well.
    """

    blobs: int
    size_bytes: int
    damage: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Server:
    """A model that is served on this machine, for the length of a `with` block.

    Attributes:
        model: What requests call it.
        base_url: The address of its OpenAI API, such as `http://127.0.0.1:40123/v1`.
        api_key: What requests carry as `Authorization: Bearer ...`.
        context: Tokens of one conversation.
        runtime: What serves.
        fit: One sentence: whether and where it fits, and with which context.
    """

    model: str
    base_url: str
    api_key: str = field(repr=False)
    context: int
    runtime: str
    fit: str


class Store:
    """The models that are here.

    Args:
        home: The folder that everything lies in; that of the command line where it is None.
    """

    def __init__(self, home: str | Path | None = None) -> None:
        self._store = _workspace(home).store

    def models(self) -> tuple[Model, ...]:
        """Every model once, with all its names.

        Raises:
            CorruptStoreError: One is damaged.
        """
        return tuple(_model(model) for model in self._store.models())

    def find(self, reference: str | Reference) -> Model | None:
        """A model by name or ID, None where it is not here.

        Raises:
            InvalidReferenceError: The text is neither.
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
        home: The directory that everything lies in; None for that of the command line.
        listener: Called with what happens, see `modelrunner.events`.
        connections: Exactly so many; as many as help where it is None.
        rate: Bytes a second at most.
        timeout: Seconds for all of it; what arrived is kept.
        offline: Whether the network is ruled out.
        fit: What the model has to fit into, and whether to choose a variant that does.

    Raises:
        InvalidReferenceError: The text is not a reference.
        ManifestNotFoundError: No such tag; the near ones are named.
        UnsupportedArtifactError, IntegrityError: What is there cannot be used.
        AccessError, TransferError: The registry does not deliver; what came is kept.
        UnverifiedError: The policy of `verify.toml` keeps it out.
        DiskFullError, StoreAccessError: It cannot be kept.
        DoesNotFitError: It does not fit, and `fit` requires it.
        NotInStoreError: It is not in the local store, and `offline` is set.
    """
    workspace = _workspace(home, offline=offline)
    wanted = Reference.parse(_text(reference))
    if timeout is not None:
        workspace = workspace.within(timeout)
    if fit is not None:
        wanted = Reference.parse(_fitted(workspace, _text(reference), fit))
    if offline:
        return _model(_here(workspace.store, wanted))
    from modelrunner.transfer.limits import Limits

    return _model(workspace.puller(listener, Limits(connections, rate)).pull(wanted).model)


def _fitted(workspace: Workspace, text: str, fit: Fit) -> str:
    import warnings

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
    """Pull exactly what `modelrunner.lock` pins, by digest.

    Args:
        names: The models, as the project calls them; all where none is named.
        file: The project's `modelrunner.toml`; None for that of the working directory.
        home: The directory that everything lies in; None for that of the command line.
        listener: Called with what happens, see `modelrunner.events`.
        connections: Exactly so many; as many as help where it is None.
        rate: Bytes a second at most.
        timeout: Seconds for all of it; what arrived is kept.
        frozen: Whether the network is ruled out.

    Raises:
        LockError: The lock does not satisfy the project's file, or is malformed.
        NotInStoreError: Something is missing in the local store, and `frozen` is set.
        ModelRunnerError: What kept the first model away that could not be pulled, as for `pull`.
    """
    from modelrunner.lockfile.project import Project
    from modelrunner.operations.pull.outcome import Failed, Outcome, Pulled

    workspace = _workspace(home, offline=frozen)
    if timeout is not None:
        workspace = workspace.within(timeout)

    def fetch(references: Sequence[Reference]) -> Sequence[Outcome]:
        from modelrunner.operations.pull.many import pull_many
        from modelrunner.transfer.limits import Limits

        puller = workspace.puller(listener, Limits(connections, rate))
        return pull_many(puller, references, fail_fast=False, on_outcome=lambda _: None)

    found = workspace.locked_puller(fetch).pull(
        Project.at(None if file is None else Path(file)), tuple(names)
    )
    for entry in found:
        if isinstance(entry.outcome, Failed):
            raise entry.outcome.error
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
        home: The directory that everything lies in; None for that of the command line.
        deep: Whether to read every byte, instead of only what has changed since it was verified.
        listener: Called with what happens, see `modelrunner.events`.

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
    """Serve a model for the length of a block; it is pulled if it is not in the local store.

        with modelrunner.launch("ai/smollm2", settings={"context": 4096}) as server:
            ...  # any client of the OpenAI API, with server.base_url and server.api_key

    Args:
        reference: A model, or the path of a GGUF file.
        home: The directory that everything lies in; None for that of the command line.
        runtime: `llama-server`, `xllamacpp` and so on, or the URL of a running server; None for
            the configured one.
        settings: Values by the names that `modelrunner configure --help` lists; they take
            precedence over what was configured.
        offline: Whether the network is ruled out.
        listener: Called with what happens in a pull, see `modelrunner.events`.

    Raises:
        RuntimeUnavailableError: The runtime is not installed.
        RuntimeFailedError: It refused the model, or ended.
        UsageError: A setting is not known, or its value is not for it.
        ModelRunnerError: What can go wrong in a pull, as for `pull`.
    """
    from modelrunner.operations.launch.find import find_or_pull
    from modelrunner.operations.launch.learn import as_seen, learn
    from modelrunner.operations.launch.plan import plan_launch
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
        return workspace.puller(listener).pull(wanted)

    text = _path(reference) if isinstance(reference, Path) else _text(reference)
    said = [f"{key}={as_text(value)}" for key, value in (settings or {}).items()]
    options = LaunchOptions(assignments=said)
    precedence, experience = workspace.precedence(), workspace.experience()
    chosen = workspace.runtime(runtime, precedence.needs(text, options))
    model, name = find_or_pull(workspace.store, text, fetch, say=lambda _: None)
    request = precedence.request(chosen, model, name, options)
    plan = plan_launch(workspace.store, model, name, request, workspace.usable(chosen).devices)
    plan = as_seen(experience, chosen, model, plan)
    with started(chosen, plan, workspace.settings.state / "logs") as server:
        learn(experience, server, model, plan)
        yield Server(
            plan.spec.name,
            server.base_url,
            server.api_key,
            server.context or plan.spec.context,
            chosen.name,
            plan.line(),
        )


def estimate(
    subject: str | Reference | Path,
    *,
    home: str | Path | None = None,
    context: int | None = None,
    kv_type: str = "f16",
    parallel: int = 1,
    budget: int | None = None,
    devices: "Sequence[Device] | None" = None,
) -> Estimate:
    """Tells how much memory a model or a GGUF file needs, and whether it fits.

    Args:
        subject: A model, here or in its registry, or the path of a file.
        home: The folder that everything lies in; that of the command line where it is None.
        context: Tokens; None for the default: as packaged, as trained, as fits, as is usual.
        kv_type: The type of the KV cache.
        parallel: Conversations at the same time; each has a whole context.
        budget: Bytes to fit into; None for those of the devices.
        devices: What to fit into, as `modelrunner.devices()` lists them; None for this machine's,
            with what earlier runs on it have shown.

    Raises:
        MalformedGGUFError, UsageError: The file is none, or not there.
        ManifestNotFoundError: Nobody knows the model.
        AccessError, TransferError: The registry does not tell, and no card knows the model.
    """
    from modelrunner.operations.estimate.report import EstimateRequest

    estimator = _workspace(home).estimator(devices)
    request = EstimateRequest(context, kv_type, parallel, budget=budget)
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
