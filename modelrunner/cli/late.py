"""Modules of the standard library that are loaded when something of them is used.

`dataclasses` imports `inspect`, and before Python 3.13 uses it for classes without a docstring
alone; what that imports in turn takes as long as the bare interpreter. `pathlib` imports what it
needs for Windows and for globs, and, before Python 3.12, `urllib.parse`, which is for addresses.
"""

import sys
from _thread import RLock
from importlib import import_module
from types import ModuleType

_lock = RLock()

STANDARD = ("fnmatch", "inspect", "ipaddress", "ntpath")
"""What modules of the standard library import that commands load, and few commands use."""


class _Late(ModuleType):
    """Stands for a module until something of it is used."""

    def __getattr__(self, name: str) -> object:
        with _lock:
            here = self.__name__
            if sys.modules.get(here) is self:
                del sys.modules[here]
            module = import_module(here)
        return getattr(module, name)


def load_late(*names: str) -> None:
    """Let imports of modules, as a whole, load them no sooner than something of them is used."""
    for name in names:
        if name not in sys.modules:
            sys.modules[name] = _Late(name)
