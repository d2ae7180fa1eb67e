"""Modules of the standard library that are loaded when something of them is used.

`dataclasses` imports `inspect`, and before Python 3.13 uses it for classes without a docstring
alone. With what that imports in turn, it takes a fifth of the time in which `list` starts.
"""

import sys
from _thread import RLock
from importlib import import_module
from types import ModuleType

_lock = RLock()


class _Late(ModuleType):
    """Stands for a module until something of it is used."""

    def __getattr__(self, name: str) -> object:
        with _lock:
            here = self.__name__
            if sys.modules.get(here) is self:
                del sys.modules[here]
            module = import_module(here)
        return getattr(module, name)


def load_late(name: str) -> None:
    """Let imports of a module, as a whole, load it no sooner than something of it is used."""
    if name not in sys.modules:
        sys.modules[name] = _Late(name)
