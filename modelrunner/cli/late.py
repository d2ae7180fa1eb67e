"""Modules of the standard library that are loaded when something of them is used.

`dataclasses` imports `inspect`, and before Python 3.13 uses it for classes without a docstring
alone; what that imports in turn takes as long as the bare interpreter. `pathlib` imports what it
needs for Windows and for globs, and, before Python 3.12, `urllib.parse`, which is for addresses.
"""

import sys
from _thread import RLock
from functools import partial
from types import ModuleType

_lock = RLock()

STANDARD = ("fnmatch", "inspect", "ipaddress", "ntpath", "urllib.parse")
"""What modules of the standard library import that commands load, and few commands use."""

_FUNCTIONS = {"urllib.parse": ("quote_from_bytes",)}
"""Functions that are imported by their names, and called late."""


class _Late(ModuleType):
    """Stands for a module until something of it is used."""

    def __getattr__(self, name: str) -> object:
        if name == "__path__":
            # what imports something by its name asks whether this is a package, and none is
            raise AttributeError(name)
        if name in _FUNCTIONS.get(self.__name__, ()):
            return partial(_call, self, name)
        return getattr(_loaded(self), name)


def _loaded(late: _Late) -> ModuleType:
    with _lock:
        if sys.modules.get(late.__name__) is late:
            del sys.modules[late.__name__]
        return _imported(late.__name__)


def _imported(name: str) -> ModuleType:
    # what `importlib` would do, which takes as long to load as a module of ours
    __import__(name)
    return sys.modules[name]


def _call(late: _Late, name: str, *given: object, **named: object) -> object:
    return getattr(_loaded(late), name)(*given, **named)


def load_late(*names: str) -> None:
    """Let imports of modules, not packages, load them no sooner than something of them is used."""
    for name in names:
        if name in sys.modules:
            continue
        late = sys.modules[name] = _Late(name)
        package, _, last = name.rpartition(".")
        if package:
            # as the import would: the package has it
            setattr(_imported(package), last, late)
