"""What `list` shows: the models of a store as rows of facts, out of manifest and config."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from modelrunner.errors import ModelRunnerError
from modelrunner.frozen import frozen, replace
from modelrunner.oci.model.config import ModelConfig
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_moment, format_seconds, utc_seconds

# late imports: most lists do without
if TYPE_CHECKING:
    from modelrunner.oci.referrers import Referrer
    from modelrunner.runtime.capabilities.facts import Capabilities


@frozen
class Row:
    """One model; None is unknown. `problem` says why a damaged one has no facts."""

    id: str
    references: tuple[str, ...]
    short_names: tuple[str, ...]
    family: str | None = None
    format: str | None = None
    architecture: str | None = None
    parameters: str | None = None
    quantization: str | None = None
    context_length: int | None = None
    size_bytes: int | None = None
    created: str | None = None
    path: str | None = None
    problem: str | None = None
    capabilities: "Capabilities | None" = None
    referrers: "tuple[Referrer, ...] | None" = None

    def to_dict(self) -> dict[str, object]:
        """The model as JSON has it."""
        return {
            "id": self.id,
            "references": list(self.references),
            "family": self.family,
            "format": self.format,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "quantization": self.quantization,
            "context_length": self.context_length,
            "size_bytes": self.size_bytes,
            "created": self.created,
            "path": self.path,
            **({"problem": self.problem} if self.problem else {}),
            **({"capabilities": self.capabilities.to_dict()} if self.capabilities else {}),
            **self._referrers(),
        }

    def _referrers(self) -> dict[str, object]:
        if self.referrers is None:
            return {}
        return {"referrers": [referrer.facts() for referrer in self.referrers]}


def rows(store: Store, read: Callable[[StoredModel], Row] | None = None) -> tuple[Row, ...]:
    """Every model of the store, sorted by name; damaged ones too.

    Args:
        store: The store.
        read: Returns the row of a model: `row_of`, or a part of it where that is enough.
    """
    found = [(read or row_of)(model) for model in store.models()]
    return tuple(sorted(found, key=lambda row: (row.short_names or ("~",), row.id)))


def with_capabilities(store: Store, listed: Sequence[Row]) -> list[Row]:
    """Return rows with what each model can do; None in a row is unknown."""
    # most lists do without
    from modelrunner.operations.model.capabilities import capabilities_of

    wanted = {row.id for row in listed if row.problem is None}
    models = [model for model in store.models() if str(model.digest) in wanted]
    known = dict(zip((str(model.digest) for model in models), capabilities_of(models), strict=True))
    return [replace(row, capabilities=known.get(row.id)) for row in listed]


def with_referrers(store: Store, listed: Sequence[Row]) -> list[Row]:
    """Return rows with what refers to each model and is kept with it."""
    known = {str(model.digest): model.referrers for model in store.models()}
    return [replace(row, referrers=known.get(row.id, ())) for row in listed]


def row_of(model: StoredModel) -> Row:
    """The facts of one model."""
    row = shown_of(model)
    return row if row.problem else replace(row, path=_path(model))


def names_of(model: StoredModel) -> Row:
    """The ID and the names of a model, of which nothing else is read."""
    names = sorted(model.references, key=str)
    references = tuple(str(name) for name in names)
    return Row(str(model.digest), references, tuple(name.short for name in names))


def shown_of(model: StoredModel) -> Row:
    """The facts of one model but for the path of its weights, which is looked at for no table."""
    named = names_of(model)
    try:
        config = filled_in(model.config, model)
        return Row(
            named.id,
            named.references,
            named.short_names,
            family=config.family,
            format=config.format or model.artifact.format,
            architecture=config.architecture,
            parameters=config.parameters,
            quantization=config.quantization,
            context_length=config.context_length,
            size_bytes=model.size,
            created=utc(config.created),
        )
    except ModelRunnerError as exc:
        return replace(named, problem=exc.message)


def filled_in(config: ModelConfig, model: StoredModel) -> ModelConfig:
    """The config with what the GGUF header says, where the config says nothing."""
    known = (config.architecture, config.parameters, config.quantization, config.context_length)
    if None not in known:
        return config
    from modelrunner.operations.model.header_facts import header_facts

    facts = header_facts(model)
    return replace(
        config,
        architecture=config.architecture or facts.architecture,
        parameters=config.parameters or facts.parameters,
        quantization=config.quantization or facts.quantization,
        context_length=config.context_length or facts.context_length,
    )


def utc(time: str | None) -> str | None:
    """A config's time in RFC 3339 and UTC, None where it says none or nonsense."""
    if time is None:
        return None
    seconds = utc_seconds(time)
    if seconds is not None:
        return format_seconds(seconds)
    # few artifacts write another form
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        return None
    return format_moment(moment)


def _path(model: StoredModel) -> str | None:
    """Where the weights are; None where no right view is there, which this does not make."""
    return None if model.path is None else str(model.path)
