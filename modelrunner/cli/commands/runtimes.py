"""`modelrunner runtimes`."""

from collections.abc import Sequence

from modelrunner.cli.context import Context, command
from modelrunner.errors import RuntimeUnavailableError, UsageError
from modelrunner.memory.devices.device import Device
from modelrunner.operations.devices import look_at
from modelrunner.runtime.base import Availability, Runtime
from modelrunner.runtime.select import known
from modelrunner.runtime.select import runtimes as find_runtimes


@command(examples="  modelrunner runtimes --json")
def runtimes(context: Context) -> None:
    """List the runtimes: which are installed, which one is used, and why the others are not."""
    image = context.settings.container_image
    chosen = _chosen(context)
    abilities = {each.name: each.abilities for each in known(context.environ, image)}
    devices = look_at(context.environ, image).devices
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
        for entry in find_runtimes(context.environ, image)
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
