"""How much work a call does, counted and not timed: the same on an idle and on a loaded machine."""

import cProfile
import functools
import pstats
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def calls(function: Callable[[], object]) -> int:
    """How many calls one call makes, those of builtins included."""
    profile = cProfile.Profile()
    profile.runcall(function)
    return pstats.Stats(profile).total_calls


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """The paths of the files that are opened in the block, in their order."""
    listeners = _listeners()
    paths: list[str] = []
    listeners.append(paths)
    try:
        yield paths
    finally:
        listeners.remove(paths)


@functools.cache
def _listeners() -> list[list[str]]:
    """Who is told of opened files; an audit hook cannot be removed, so there is one for all."""
    listeners: list[list[str]] = []

    def told(event: str, arguments: tuple[object, ...]) -> None:
        # an open file that is wrapped is heard of by its number, again
        if event == "open" and not isinstance(arguments[0], int):
            for paths in listeners:
                paths.append(str(arguments[0]))

    sys.addaudithook(told)
    return listeners
