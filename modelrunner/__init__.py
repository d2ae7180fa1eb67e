"""Pull language models as OCI artifacts, know whether they fit, and talk to them.

For scripts there are `pull`, `estimate`, `Store` and `Reference`, what they return, and the modules
`errors` and `events`; each is loaded when it is used. Nothing else of the package is a promise.
"""

__version__ = "0.1.0"
__all__ = ["Estimate", "Model", "Reference", "Store", "errors", "estimate", "events", "pull"]

# type checkers know the name; `typing` would be the first thing to load
TYPE_CHECKING = False
if TYPE_CHECKING:
    from modelrunner import errors, events
    from modelrunner.api import Estimate, Model, Store, estimate, pull
    from modelrunner.oci.reference import Reference

_PLACES = {
    "Estimate": "modelrunner.api",
    "Model": "modelrunner.api",
    "Reference": "modelrunner.oci.reference",
    "Store": "modelrunner.api",
    "estimate": "modelrunner.api",
    "pull": "modelrunner.api",
}
_MODULES = ("errors", "events")


def __getattr__(name: str) -> object:
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
