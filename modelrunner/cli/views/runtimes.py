"""Views of runtimes: those that can be used here, and those installed from images."""

from collections.abc import Mapping, Sequence

from modelrunner.cli.context import Context
from modelrunner.errors import RuntimeUnavailableError, UsageError
from modelrunner.memory.devices.device import Device
from modelrunner.operations.devices import look_at
from modelrunner.operations.runtimes.install import InstallResult
from modelrunner.runtime.base import Availability, Runtime
from modelrunner.runtime.images.library import Installed, Library, SeenDevice
from modelrunner.runtime.select import known, runtimes
from modelrunner.units import format_size


def show_result(context: Context, result: InstallResult) -> Mapping[str, object]:
    """Print what became of an installation; return it as JSON has it."""
    one = result.runtime
    if not context.console.json:
        state = "installed" if result.new else "is up to date"
        used = "in use" if result.in_use else "not in use"
        context.console.print(f"{one.name} {state}, {used}: {listed(one.devices)}")
    status = "installed" if result.new else "up-to-date"
    return {
        **one.to_dict(),
        "status": status,
        "in_use": result.in_use,
        "missing_devices": list(result.missing),
        "problems": list(result.lacking),
    }


def emit_rows(context: Context, rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows, where JSON was asked for."""
    if context.console.json:
        context.console.emit(rows)


def listed(devices: Sequence[SeenDevice]) -> str:
    """Return the names of devices in one line, with the CPU."""
    return ", ".join([*(device.description for device in devices), "CPU"])


def show_installed(context: Context) -> None:
    """List the runtimes that are installed from images."""
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
            listed(one.devices),
            state(one),
        )
        for one in found
    ]
    headings = ("RUNTIME", "IMAGE ID", "SIZE", "DEVICES", "STATUS")
    context.console.table(headings, table, drop=("DEVICES", "SIZE"), cut=headings[-1:])
    if not found:
        context.console.say("none installed; `modelrunner runtimes install` installs one")


def show_all(context: Context) -> None:
    """List every runtime, and why one is used and the others are not."""
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
        for entry in runtimes(context.environ, image, library)
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
    """Return the runtime that a start would use; None without one."""
    try:
        found: Runtime = context.workspace.runtime(None)
    except (RuntimeUnavailableError, UsageError):
        return None
    # one of several that are installed
    return found.name.partition(":")[0]


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
