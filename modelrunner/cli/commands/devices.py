"""`modelrunner devices`."""

from modelrunner.cli.context import Context, command
from modelrunner.cli.views.devices import warn_of_devices
from modelrunner.operations.devices import look_at
from modelrunner.operations.estimate.report import device_to_dict
from modelrunner.units import format_size

_HEADINGS = ("KIND", "NAME", "BACKEND", "TOTAL", "FREE", "SOURCE")


@command(examples="  modelrunner devices --json", name="devices")
def show_devices(context: Context) -> None:
    """List the GPUs and memory that a model can use on this machine."""
    found = look_at(context.environ, context.settings.container_image, context.settings.runtimes)
    usable = context.workspace.machine
    warn_of_devices(context.console, usable)
    for note in found.notes:
        context.console.warn(note)
    if context.console.json:
        context.console.emit(
            [
                {
                    **device_to_dict(device),
                    "shared": device.shared,
                    "pci": device.pci or None,
                    "sources": list(device.sources),
                    "used": usable.uses(device),
                }
                for device in found.devices
            ]
        )
        return
    rows = [
        (
            device.kind,
            device.name,
            device.backend,
            format_size(device.total_bytes),
            format_size(device.free_bytes),
            ", ".join(device.sources),
        )
        for device in found.devices
    ]
    context.console.table(_HEADINGS, rows, drop=("SOURCE", "BACKEND"), cut=("NAME",))
