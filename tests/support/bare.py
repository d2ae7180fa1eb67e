"""A machine without a runtime: no module, no program, no container engine."""

import sys
from collections.abc import Mapping
from pathlib import Path

_PROGRAM = """
import sys
from importlib.machinery import PathFinder
class Nothing(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in ("xllamacpp", "llama_cpp"):
            return None
        return super().find_spec(name, path, target)
sys.meta_path[:] = [Nothing if entry is PathFinder else entry for entry in sys.meta_path]
sys.meta_path[:] = [e for e in sys.meta_path if "editable" not in repr(e).lower()]
from modelrunner.cli.app import main
sys.exit(main(sys.argv[1:]))
"""
ROOT = Path(__file__).parents[2]


def bare_argv(*arguments: str) -> list[str]:
    """The program with its arguments, to be started in `ROOT`."""
    return [sys.executable, "-c", _PROGRAM, *arguments]


def bare_environ(environ: Mapping[str, str], empty: Path) -> dict[str, str]:
    """An environment whose PATH is an empty directory."""
    return {**environ, "PATH": str(empty), "DOCKER_HOST": "unix:///nowhere/docker.sock"}
