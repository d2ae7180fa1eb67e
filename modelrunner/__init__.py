"""Pull language models as OCI artifacts, know whether they fit, and talk to them.

For scripts there are the names of `__all__`, documented in docs/python.md; each is loaded when it
is used. Nothing else of the package is public.
"""

__all__ = [
    "Damage",
    "Device",
    "Estimate",
    "Fit",
    "LockedModel",
    "Model",
    "Reference",
    "Server",
    "Store",
    "Verification",
    "devices",
    "errors",
    "estimate",
    "events",
    "launch",
    "pull",
    "pull_locked",
    "verify",
]

# type checkers know the name; `typing` would be the first thing to load
TYPE_CHECKING = False
if TYPE_CHECKING:
    from modelrunner import errors, events
    from modelrunner.api import (
        Damage,
        Estimate,
        Fit,
        LockedModel,
        Model,
        Server,
        Store,
        Verification,
        devices,
        estimate,
        launch,
        pull,
        pull_locked,
        verify,
    )
    from modelrunner.memory.devices.device import Device
    from modelrunner.oci.reference import Reference
    from modelrunner.version import __version__ as __version__

_PLACES = {
    "Damage": "modelrunner.api",
    "Device": "modelrunner.memory.devices.device",
    "Estimate": "modelrunner.api",
    "Fit": "modelrunner.api",
    "LockedModel": "modelrunner.api",
    "Model": "modelrunner.api",
    "Reference": "modelrunner.oci.reference",
    "Server": "modelrunner.api",
    "Store": "modelrunner.api",
    "Verification": "modelrunner.api",
    "__version__": "modelrunner.version",
    "devices": "modelrunner.api",
    "estimate": "modelrunner.api",
    "launch": "modelrunner.api",
    "pull": "modelrunner.api",
    "pull_locked": "modelrunner.api",
    "verify": "modelrunner.api",
}
_MODULES = ("errors", "events")


def __getattr__(name: str) -> object:
    # a child that needs one module of the package goes without
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"modelrunner.{name}")
    if name not in _PLACES:
        raise AttributeError(f"module 'modelrunner' has no attribute {name!r}")
    found: object = getattr(import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
