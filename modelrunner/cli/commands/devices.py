"""`modelrunner devices` and `modelrunner runtimes`."""

from modelrunner.cli.context import Context, command
from modelrunner.memory.devices import devices
from modelrunner.operations.report import device_to_dict
from modelrunner.runtime.select import runtimes as find_runtimes
from modelrunner.units import format_size


@command(examples="  modelrunner devices --json", name="devices")
def show_devices(context: Context) -> None:
    """Show the GPUs and memory that a model could use here."""
    found = devices()
    if context.console.json:
        context.console.emit([device_to_dict(device) for device in found])
        return
    rows = [
        (
            device.kind,
            device.name,
            device.backend,
            format_size(device.total_bytes),
            format_size(device.free_bytes),
        )
        for device in found
    ]
    context.console.table(("KIND", "NAME", "BACKEND", "TOTAL", "FREE"), rows)


@command(examples="  modelrunner runtimes --json")
def runtimes(context: Context) -> None:
    """Show which runtimes are installed, and what would install the others."""
    found = find_runtimes(context.environ)
    if context.console.json:
        context.console.emit(
            [
                {
                    "name": entry.name,
                    "available": entry.available,
                    "version": entry.version,
                    "detail": entry.detail,
                    "hint": entry.hint,
                }
                for entry in found
            ]
        )
        return
    rows = [
        (
            entry.name,
            "yes" if entry.available else "no",
            entry.version or "",
            entry.detail or entry.hint or "" if not entry.available else "",
        )
        for entry in found
    ]
    context.console.table(("RUNTIME", "HERE", "VERSION", "WHY NOT"), rows)
