"""What is said of the devices that a runtime can use."""

from modelrunner.cli.terminal.console import Console
from modelrunner.operations.devices import Usable


def warn_of_devices(console: Console, found: Usable) -> None:
    """Warn of GPUs that a runtime cannot use, or of devices that it did not list."""
    for text in (found.warning, found.note):
        if text is not None:
            console.warn(text)
