"""The scripts of `registry-fixtures` as modules, and a way to ask what they make in a real runtime.

The folder has a dash in its name and its scripts import one another by their bare names, so it goes
to the end of the module path, where it shadows nothing.
"""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "registry-fixtures"
PROBE = Path(__file__).with_name("runtime_probe.py")


class RefusedError(Exception):
    """The runtime did not load the model; the message is the end of what it said."""


def script(name: str) -> ModuleType:
    """A script of `registry-fixtures`, by its name without the `.py`."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return import_module(name)


def ask(
    model: Path,
    endpoint: str,
    question: object,
    *,
    embedding: bool = False,
    eye: Path | None = None,
) -> dict[str, object]:
    """Loads a model in a child process, posts one question, and returns what it answers.

    A model that llama.cpp does not like may abort its process: hence the child.

    Raises:
        RefusedError: The model was not loaded.
    """
    if find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is missing: pip install '.[embedded]'")
    task = {
        "model": str(model),
        "endpoint": endpoint,
        "question": question,
        "embedding": embedding,
        "eye": str(eye) if eye else None,
    }
    # without this an abort calls gdb, which takes a second and floods stdout
    environment = os.environ | {"GGML_NO_BACKTRACE": "1"}
    done = subprocess.run(
        [sys.executable, str(PROBE)],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    if done.returncode:
        raise RefusedError(done.stderr[-2000:])
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer
