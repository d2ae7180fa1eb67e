"""`modelrunner devices`."""

from modelrunner.cli.context import Context, command
from modelrunner.memory.devices.devices import runtime_probes, survey
from modelrunner.operations.estimate.report import device_to_dict
from modelrunner.units import format_size

_HEADINGS = ("KIND", "NAME", "BACKEND", "TOTAL", "FREE", "SOURCE")


@command(examples="  modelrunner devices --json", name="devices")
def show_devices(context: Context) -> None:
    """List the GPUs and memory that a model can use on this machine."""
    found = survey(probes=runtime_probes())
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
