"""`python -m modelrunner`."""

import sys


def main() -> None:
    """The console script: runs the command line and ends with its exit code."""
    from modelrunner.cli.app import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
