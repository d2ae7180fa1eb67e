"""`modelrunner runtimes`."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import typer

from modelrunner.cli.context import Context, command
from modelrunner.cli.steps.confirm import Yes, confirm
from modelrunner.cli.steps.installing import chosen_name, fewer_devices, install, installer
from modelrunner.errors import RuntimeUnavailableError, UsageError
from modelrunner.memory.devices.device import Device
from modelrunner.oci.reference import Reference
from modelrunner.operations.devices import look_at
from modelrunner.operations.runtimes.check import list_devices
from modelrunner.operations.runtimes.install import InstallResult
from modelrunner.runtime.base import Availability, Runtime
from modelrunner.runtime.images.library import Installed, Library, SeenDevice
from modelrunner.runtime.images.names import AUTO, Named, moving
from modelrunner.runtime.select import known
from modelrunner.runtime.select import runtimes as find_runtimes
from modelrunner.units import counted, format_size


class Action(StrEnum):
    """What to do with the runtimes that are installed from images."""

    INSTALL = "install"
    LIST = "list"
    USE = "use"
    UPDATE = "update"
    REMOVE = "remove"


@command(
    examples="  modelrunner runtimes\n"
    "  modelrunner runtimes install auto\n"
    "  modelrunner runtimes install vulkan --version b11434 --yes\n"
    "  modelrunner runtimes install ghcr.io/ggml-org/llama.cpp:server-cuda13\n"
    "  modelrunner runtimes list --json\n"
    "  modelrunner runtimes update\n"
    "  modelrunner runtimes use vulkan@b11434\n"
    "  modelrunner runtimes remove vulkan@b11401 --yes"
)
def runtimes(
    context: Context,
    action: Annotated[
        Action | None,
        typer.Argument(
            metavar="[ACTION]",
            help="install, list, use, update or remove; without one, list every runtime.",
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUNTIME...]",
            help="auto, cpu, vulkan, cuda12, cuda13, rocm, intel, musa, openvino, or an image;"
            " installed ones also by name (vulkan@b11434), build or digest.",
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(metavar="BUILD", help="Build to install, such as b11434, or latest."),
    ] = None,
    yes: Yes = False,
) -> None:
    """List the runtimes; install llama.cpp builds from images, choose, update or remove them."""
    given = names or []
    if version is not None and action is not Action.INSTALL:
        raise UsageError("--version is for `runtimes install`", hint="remove --version")
    if action is None:
        _show_all(context)
    elif action is Action.LIST:
        _refuse_names(action, given)
        _show_installed(context)
    elif action is Action.INSTALL:
        _install(context, given or [AUTO], version, yes=yes)
    elif action is Action.UPDATE:
        _update(context, given, yes=yes)
    elif action is Action.USE:
        _use(context, given)
    else:
        _remove(context, given, yes=yes)


def _install(context: Context, texts: Sequence[str], version: str | None, *, yes: bool) -> None:
    rows = []
    for text in texts:
        wanted = chosen_name(context, text, version)
        result = install(context, wanted, yes=yes)
        rows.append(_said(context, result))
        error = fewer_devices(context, result)
        if error is not None:
            raise error
    _emit(context, rows)


def _update(context: Context, texts: Sequence[str], *, yes: bool) -> None:
    library = Library(context.settings.runtimes)
    current = library.current()
    chosen = [library.require(text) for text in texts]
    if not texts and current is not None:
        chosen = [current]
    if not chosen:
        raise RuntimeUnavailableError(
            "no installed runtime is in use", hint="`modelrunner runtimes install`"
        )
    rows = []
    for one in chosen:
        wanted = Named(moving(Reference.parse(one.reference)), one.backend)
        in_use = current is not None and current.digest == one.digest
        result = install(context, wanted, yes=yes, use=in_use)
        rows.append(_said(context, result))
        error = fewer_devices(context, result)
        if error is not None:
            raise error
    _emit(context, rows)


def _use(context: Context, texts: Sequence[str]) -> None:
    if len(texts) != 1:
        raise UsageError(
            "`runtimes use` needs one runtime",
            hint="`modelrunner runtimes list` lists those that are installed",
        )
    library = Library(context.settings.runtimes)
    one = library.require(texts[0])
    # one that does not start any more is not chosen
    devices = list_devices(one, context.environ)
    library.use(one)
    if context.console.json:
        context.console.emit({**one.to_dict(), "in_use": True})
        return
    context.console.print(f"{one.name} is in use: {_listed(devices)}")


def _remove(context: Context, texts: Sequence[str], *, yes: bool) -> None:
    if not texts:
        raise UsageError(
            "`runtimes remove` needs a runtime",
            hint="`modelrunner runtimes list` lists those that are installed",
        )
    library = Library(context.settings.runtimes)
    chosen = [library.require(text) for text in texts]
    size = sum(one.unpacked_bytes + one.download_bytes for one in chosen)
    action = f"remove {counted(len(chosen), 'runtime')} ({format_size(size)})"
    confirm(context, action, [one.name for one in chosen], yes=yes)
    rows = []
    for one in chosen:
        freed = installer(context).remove(one)
        rows.append({"name": one.name, "digest": str(one.digest), "freed_bytes": freed})
        if not context.console.json:
            context.console.print(f"removed {one.name}, {format_size(freed)} freed")
    _emit(context, rows)


def _said(context: Context, result: InstallResult) -> Mapping[str, object]:
    one = result.runtime
    if not context.console.json:
        state = "installed" if result.new else "is up to date"
        used = "in use" if result.in_use else "not in use"
        context.console.print(f"{one.name} {state}, {used}: {_listed(one.devices)}")
    status = "installed" if result.new else "up-to-date"
    return {
        **one.to_dict(),
        "status": status,
        "in_use": result.in_use,
        "missing_devices": list(result.missing),
        "problems": list(result.lacking),
    }


def _emit(context: Context, rows: Sequence[Mapping[str, object]]) -> None:
    if context.console.json:
        context.console.emit(rows)


def _listed(devices: Sequence[SeenDevice]) -> str:
    return ", ".join([*(device.description for device in devices), "CPU"])


def _show_installed(context: Context) -> None:
    library = Library(context.settings.runtimes)
    current, previous = library.current(), library.previous()
    found = library.all()

    def state(one: Installed) -> str:
        if current is not None and one.digest == current.digest:
            return "in use"
        return "used before" if previous is not None and one.digest == previous.digest else ""

    if context.console.json:
        rows = [{**one.to_dict(), "in_use": state(one) == "in use"} for one in found]
        context.console.emit(rows)
        return
    table = [
        (
            one.name,
            one.digest.short,
            format_size(one.unpacked_bytes),
            _listed(one.devices),
            state(one),
        )
        for one in found
    ]
    headings = ("RUNTIME", "IMAGE ID", "SIZE", "DEVICES", "STATUS")
    context.console.table(headings, table, drop=("DEVICES", "SIZE"), cut=headings[-1:])
    if not found:
        context.console.say("none installed; `modelrunner runtimes install` installs one")


def _refuse_names(action: Action, names: Sequence[str]) -> None:
    if names:
        raise UsageError(
            f"unexpected argument {names[0][:80]!r}", hint=f"`runtimes {action}` takes no names"
        )


def _show_all(context: Context) -> None:
    image, library = context.settings.container_image, context.settings.runtimes
    chosen = _chosen(context)
    abilities = {each.name: each.abilities for each in known(context.environ, image, library)}
    devices = look_at(context.environ, image, library).devices
    rows = [
        {
            "name": entry.name,
            "available": entry.available,
            "installed": entry.available or entry.installed,
            "chosen": entry.name == chosen,
            "version": entry.version,
            "devices": _devices(entry, devices),
            "abilities": sorted(ability.name.lower() for ability in abilities[entry.name]),
            "detail": entry.detail,
            "why_not": _why_not(entry, chosen, context.settings.runtime),
            "hint": entry.hint,
        }
        for entry in find_runtimes(context.environ, image, library)
    ]
    if context.console.json:
        context.console.emit(rows)
        return
    table = [
        (
            str(row["name"]),
            "yes" if row["installed"] else "no",
            str(row["version"] or ""),
            ", ".join(row["devices"]) if isinstance(row["devices"], list) else "",
            "used" if row["chosen"] else str(row["why_not"]),
        )
        for row in rows
    ]
    headings = ("RUNTIME", "INSTALLED", "VERSION", "DEVICES", "STATUS")
    context.console.table(headings, table, drop=("DEVICES", "VERSION"), cut=headings[-1:])
    for row in rows:
        if row["hint"]:
            context.console.say(f"{row['name']}: {row['hint']}")


def _chosen(context: Context) -> str | None:
    """Return the runtime that a start would use; None if there is none."""
    try:
        found: Runtime = context.workspace.runtime(None)
    except (RuntimeUnavailableError, UsageError):
        return None
    return found.name


def _devices(entry: Availability, found: Sequence[Device]) -> list[str]:
    if not entry.available:
        return []
    own = [device.name for device in found if device.kind == "gpu" and entry.name in device.sources]
    return [*own, "CPU"]


def _why_not(entry: Availability, chosen: str | None, choice: str) -> str | None:
    if entry.name == chosen:
        return None
    if not entry.available:
        return entry.detail
    if choice == "auto":
        return f"{chosen} is preferred"
    return f"{choice} is configured"
