"""Export `serve` with its models, each pinned by its digest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from modelrunner.errors import UsageError
from modelrunner.operations.export.export import Exporter, ExportRequest, Kind
from modelrunner.operations.export.plan import checked_name
from modelrunner.operations.export.served import compose, kubernetes, launchd, systemd
from modelrunner.operations.export.served.plan import HOME, ServedPlan
from modelrunner.operations.export.systemd import hidden

SERVED: Mapping[Kind, Callable[[ServedPlan], dict[str, str]]] = {
    Kind.COMPOSE: compose.files,
    Kind.K8S: kubernetes.files,
    Kind.KUBERNETES: kubernetes.files,
    Kind.SYSTEMD: systemd.files,
    Kind.LAUNCHD: launchd.files,
}
"""The kinds that `serve` can be exported as, and what writes their files."""

_SERVER = "modelrunner"


@dataclass(frozen=True, slots=True)
class ServedExport:
    """What was made.

    Attributes:
        kind: For what.
        plan: What it says.
        files: Texts, by the names of their files.
        warnings: What is to be known of it.
    """

    kind: Kind
    plan: ServedPlan
    files: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """It as JSON has it."""
        models = [
            {
                "reference": model.pinned.short,
                "digest": str(model.pinned.digest),
                "context": model.context,
                "memory_bytes": model.memory,
            }
            for model in self.plan.models
        ]
        return {
            "kind": str(self.kind),
            "models": models,
            "memory_bytes": self.plan.request,
            "limit_bytes": self.plan.limit,
            "files": dict(self.files),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRequest:
    """Where `serve` is to run.

    Attributes:
        program: The command of this program there.
        key_file: The file with the API key there; None for the usual one of the kind.
        home: Where this machine keeps its models.
    """

    program: tuple[str, ...]
    key_file: str | None
    home: str


def export_served(
    exporter: Exporter,
    kind: Kind,
    texts: Sequence[str],
    request: ExportRequest,
    served: ServedRequest,
) -> ServedExport:
    """The files that start `serve` with models.

    Args:
        exporter: What plans each model.
        kind: For what.
        texts: The models, by name or ID.
        request: How they are to be served.
        served: Where.

    Raises:
        UsageError: The kind cannot do that, or a value cannot be written so.
    """
    if kind not in SERVED:
        raise UsageError(
            f"`export {kind}` cannot be combined with --serve",
            hint=f"use one of {', '.join(SERVED)}, or leave out --serve",
        )
    # none of these kinds needs the files of this machine
    found = [exporter.planned(Kind.COMPOSE, text, replace(request, name=None)) for text in texts]
    models = {str(each.plan.pinned.digest): each.plan for each in found}
    name = checked_name(request.name) if request.name else _SERVER
    plan = ServedPlan(
        models=tuple(models.values()),
        name=name,
        port=request.port,
        context=request.context,
        kv_type=request.kv_type,
        image=request.image,
        source=exporter.installation.source,
        origin=exporter.installation.origin,
        program=served.program,
        key_file=served.key_file or _key_file(kind, served),
        home=_home(kind, name, served),
    )
    warnings = [f"{each.plan.alias}: {warning}" for each in found for warning in each.warnings]
    if kind is Kind.SYSTEMD and (problem := hidden(plan.program[0])) is not None:
        warnings.append(problem)
    if not all(each.report.estimate.is_complete for each in found):
        warnings.append("the memory estimate is incomplete: the limit may be too low")
    return ServedExport(kind, plan, SERVED[kind](plan), tuple(warnings))


def _home(kind: Kind, name: str, served: ServedRequest) -> str:
    match kind:
        case Kind.SYSTEMD:
            return f"/var/lib/{name}"
        case Kind.LAUNCHD:
            return served.home
        case _:
            return HOME


def _key_file(kind: Kind, served: ServedRequest) -> str:
    match kind:
        case Kind.SYSTEMD:
            return "/etc/modelrunner/api-key"
        case Kind.LAUNCHD:
            return f"{served.home}/api-key"
        case _:
            return "./api-key"
