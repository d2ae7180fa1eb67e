"""The library: what scripts in Python may use, with the environment and configuration of a user.

`modelrunner` itself offers these names; nothing else of the package is a promise.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modelrunner.config.settings import Settings
from modelrunner.errors import InvalidReferenceError, NotInStoreError
from modelrunner.events import Listener, ignore
from modelrunner.oci.reference import Reference
from modelrunner.store import store as stores
from modelrunner.workspace import Workspace

if TYPE_CHECKING:
    from modelrunner.operations.pull.pull import Puller


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
) -> Model:
    """Brings a model here, verified; what is here already is not fetched again.

    Args:
        reference: The model, as for the command line.
        home: The folder that everything lies in; that of the command line where it is None.
        listener: Hears what happens, see `modelrunner.events`.
        connections: Exactly so many; as many as help where it is None.
        rate: Bytes a second at most.
        timeout: Seconds for all of it; what arrived is kept.
        offline: Whether the network is ruled out.

    Raises:
        InvalidReferenceError: The text is no reference.
        ManifestNotFoundError: No such tag; the near ones are named.
        UnsupportedArtifactError, IntegrityError: What is there cannot be used.
        AccessError, TransferError: The registry does not deliver; what came is kept.
        UnverifiedError: Nobody has signed it whom `verify.toml` names.
        DiskFullError, StoreAccessError: It cannot be kept.
        NotInStoreError: It is not here, and the network was ruled out.
    """
    workspace = _workspace(home, offline=offline)
    wanted = Reference.parse(_text(reference))
    if offline:
        return _model(_here(workspace.store, wanted))
    if timeout is not None:
        workspace = workspace.within(timeout)
    return _model(_puller(workspace, listener, connections, rate).pull(wanted).model)


def _puller(
    workspace: Workspace, listener: Listener, connections: int | None, rate: int | None
) -> "Puller":
    from modelrunner.operations.pull.local_copies import nowhere, programs
    from modelrunner.operations.pull.pull import Puller
    from modelrunner.transfer.budget import Budget
    from modelrunner.transfer.limits import Limits

    return Puller(
        workspace.store,
        workspace.source_for,
        listener,
        workspace.registries.backoff,
        Budget(Limits(connections, rate)),
        nearby=programs(workspace.environ) if workspace.settings.reuse else nowhere,
        check=workspace.check,
    )


def estimate(
    subject: str | Reference | Path,
    *,
    home: str | Path | None = None,
    context: int | None = None,
    kv_type: str = "f16",
    budget: int | None = None,
) -> Estimate:
    """Tells how much memory a model or a GGUF file needs, and whether it fits.

    Args:
        subject: A model, here or in its registry, or the path of a file.
        home: The folder that everything lies in; that of the command line where it is None.
        context: Tokens; None for the default: as packaged, as trained, as fits, as is usual.
        kv_type: What the KV cache is kept in.
        budget: Bytes to fit into; those of this machine where it is None.

    Raises:
        MalformedGGUFError, UsageError: The file is none, or not there.
        ManifestNotFoundError: Nobody knows the model.
        AccessError, TransferError: The registry does not tell, and no card knows the model.
    """
    from modelrunner.operations.estimate.report import Wish

    estimator = _workspace(home).estimator()
    wish = Wish(context, kv_type, budget=budget)
    if isinstance(subject, Path):
        report = estimator.of_file(subject, wish)
    else:
        report = estimator.of_model(str(subject), wish)
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


def _workspace(home: str | Path | None, *, offline: bool = False) -> Workspace:
    named: Mapping[str, str] = {} if home is None else {"MODELRUNNER_HOME": str(home)}
    environ = {**os.environ, **named}
    settings = Settings.load(environ)
    return Workspace(lambda: settings, environ, offline)


def _here(store: stores.Store, reference: Reference) -> stores.StoredModel:
    model = store.complete(reference)
    if model is None:
        raise NotInStoreError(
            f"{reference.short}: not in the local store, and `offline` is set",
            hint="pull it once without `offline`",
        )
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
