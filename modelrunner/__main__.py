"""`python -m modelrunner`."""

import gc
import sys

_OBJECTS = 20_000


def main() -> None:
    """The console script: runs the command line and ends with its exit code."""
    if sys.platform == "win32":
        # stores, runtimes and servers rest on what POSIX has
        sys.stderr.write(
            "error: modelrunner does not run on Windows itself\n"
            "hint: use it in WSL: `wsl --install`, then install it there\n"
        )
        sys.exit(2)
    # what is imported lives to the end: to look for garbage among it costs a tenth of the start
    gc.set_threshold(_OBJECTS)
    from modelrunner.cli.app import main as run

    code = run()
    # the same for its end, where nothing is left to be written
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
