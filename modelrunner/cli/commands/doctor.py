"""`modelrunner doctor`."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import CommandEnd, Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.config.settings import Settings
from modelrunner.errors import LockError
from modelrunner.lockfile.project import LOCK_NAME
from modelrunner.lockfile.reader import read_lock
from modelrunner.oci.reference import DOCKER_HUB, Reference
from modelrunner.operations.doctor.examine import Patient, examine
from modelrunner.operations.doctor.finding import Finding, exit_status, failed
from modelrunner.text import sanitize_line


@command(
    examples="  modelrunner doctor\n  modelrunner doctor ai/smollm2\n"
    "  modelrunner doctor --offline --json"
)
def doctor(
    context: Context,
    ref: Annotated[
        str | None, Argument(metavar="[REF]", help="Model to check in its registry.")
    ] = None,
    registry: Annotated[
        list[str] | None,
        Option(metavar="HOST", help="Check this registry only; can be repeated."),
    ] = None,
) -> None:
    """Diagnose problems and suggest fixes."""
    model = Reference.parse(ref) if ref is not None else None
    if model is not None and model.is_local:
        raise context.store.unregistered(context.store.only_name(ref or "") or model)
    context, misunderstood = context.understood()
    settings = context.settings
    named, ailing = _registries(settings)
    if misunderstood is not None:
        variable, _, _ = misunderstood.message.partition(": ")
        file = shlex.quote(str(settings.home / "config.toml"))
        fix = f"unset {variable}" if variable in context.environ else f"${{EDITOR:-vi}} {file}"
        ailing.insert(0, failed("config", misunderstood, fix))
    wanted = [*(registry or ())] or ([] if model is not None else named)
    if model is not None:
        wanted.insert(0, model.registry)
    patient = Patient(
        settings.home,
        context.registries,
        list(dict.fromkeys(wanted)),
        context.environ,
        settings.runtime,
        settings.container_image,
        settings.docker_config,
        dict(_certificates(settings)),
        lambda: context.workspace.machine,
        model,
        context.offline,
        settings.runtimes,
    )
    found = (*examine(patient), *ailing)
    status = exit_status(found)
    if context.console.json:
        context.console.emit(
            {
                "ok": not status,
                "exit_code": int(status),
                "offline": context.offline,
                "findings": [entry.to_dict() for entry in found],
            }
        )
    else:
        _print(context, found)
    context.console.flush()
    if status:
        raise CommandEnd(status)


def _registries(settings: Settings) -> tuple[list[str], list[Finding]]:
    """Return Docker Hub and the registries of the configuration and of the lock file."""
    named = [DOCKER_HUB, *settings.mirrors, *settings.registries]
    try:
        lock = read_lock(Path(LOCK_NAME))
    except LockError as exc:
        return list(dict.fromkeys(named)), [failed("lock", exc, "modelrunner lock --check")]
    if lock is not None:
        named += [model.reference.registry for model in lock.models]
        named += [] if lock.runtime is None else [lock.runtime.reference.registry]
    return list(dict.fromkeys(named)), []


def _certificates(settings: Settings) -> Iterator[tuple[str, str]]:
    origins: Mapping[str, str] = {entry.name: entry.origin for entry in settings.shown}
    if settings.ca_file:
        yield origins.get("ca_file", "ca_file"), settings.ca_file
    for name, said in settings.registries.items():
        if said.ca_file:
            yield f"ca_file of {name}", said.ca_file
        if said.client_cert:
            yield f"client_cert of {name}", said.client_cert


def _print(context: Context, found: tuple[Finding, ...]) -> None:
    width = max(len(entry.check) for entry in found)
    for entry in found:
        message = sanitize_line(entry.message, 400)
        context.console.print(f"{entry.status:4}  {entry.check:{width}}  {message}")
        if entry.fix:
            context.console.print(f"{'':4}  {'':{width}}  run: {sanitize_line(entry.fix)}")
