"""`python -m modelrunner`."""

import gc
import os
import sys

_PLUGIN = "docker-model"
_OBJECTS = 100_000
"""Objects beyond those that were freed, after which Python looks for garbage: more than any command
imports."""

_AT_EXIT = {"atexit", "profile", "threading"}
"""Modules by which something may be left to be done when the interpreter ends: functions that were
registered, a profile to be printed, threads to wait for."""


def main() -> None:
    """The console script: runs the command line and ends with its exit code."""
    if sys.platform == "win32":
        # stores, runtimes and servers rest on what POSIX has, and not even their imports work
        sys.stderr.write(_on_windows(sys.argv[1:]))
        sys.exit(2)
    # what is imported lives to the end: to look for garbage among it costs a tenth of the start
    gc.set_threshold(_OBJECTS)
    # what this loads is what the line above is for
    from modelrunner.cli.app import main as run

    code = run(_arguments())
    if not _AT_EXIT & sys.modules.keys():
        # results are flushed, and nobody has anything left to do: to take the interpreter apart,
        # module by module, would be a twentieth of the run
        sys.stderr.flush()
        os._exit(code)
    # the same for its end, where nothing is left to be written
    gc.freeze()
    sys.exit(code)


def _arguments() -> list[str]:
    """Return the arguments: those of a plugin of Docker where a link calls the program so.

    Compose calls the plugin without its name, Docker with it as the first argument.
    """
    name, *given = sys.argv
    if name.rpartition("/")[2] != _PLUGIN:
        return given
    rest = given[1:] if given[:1] == ["model"] else given
    return rest if rest[:1] == ["compose"] else [_PLUGIN, *rest]


def _on_windows(arguments: list[str]) -> str:
    """The error that every command is on Windows."""
    message = "Windows is supported in WSL 2 only"
    hint = "run `wsl --install`, open the Linux that it brings, and install modelrunner there"
    if "--json" not in arguments:
        return f"error: {message}\nhint: {hint}\n"
    import json

    error = {"code": "usage", "message": message, "hint": hint, "retryable": False}
    return json.dumps({"error": error}) + "\n"


if __name__ == "__main__":
    main()
