"""The quantizers of llama.cpp that this machine has, the preferred one first.

An installed runtime may have `llama-quantize` beside its server (llama.cpp's images `full` do, its
images `server` do not), PATH may have it, and the package llama-cpp-python has the function. The
package xllamacpp has neither.
"""

import importlib.util
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime import libraries
from modelrunner.runtime.child import environment
from modelrunner.runtime.child.process import Command
from modelrunner.runtime.converters.recipes import Recipe
from modelrunner.runtime.images import start
from modelrunner.runtime.images.library import Installed, Library
from modelrunner.system import installation

PROGRAM = "llama-quantize"
_MODULE = "modelrunner.runtime.converters.by_llama_cpp"
_PACKAGE = "llama_cpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to quantize.

    Attributes:
        source: The file, or the first shard.
        target: Where the result goes; its directory is there.
        recipe: The quantization.
        threads: How many threads compute.
        requantize: Whether weights may be quantized already.
        matrix: The file of an importance matrix.
    """

    source: Path
    target: Path
    recipe: Recipe
    threads: int
    requantize: bool
    matrix: Path | None = None

    @property
    def line(self) -> list[str]:
        """The arguments of `llama-quantize`."""
        allowed = ["--allow-requantize"] if self.requantize else []
        if self.matrix is not None:
            allowed += ["--imatrix", str(self.matrix.absolute())]
        names = [str(self.source.absolute()), str(self.target.absolute())]
        return [*allowed, *names, self.recipe.name, str(self.threads)]


class Quantizer(Protocol):
    """Something that quantizes.

    Attributes:
        name: What people call it.
        takes_matrix: Whether it takes an importance matrix.
    """

    @property
    def takes_matrix(self) -> bool:
        """Whether it takes an importance matrix."""
        ...

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def command(self, job: Job) -> Command:
        """Return the command of a child that does a job."""
        ...


@dataclass(frozen=True, slots=True)
class InstalledQuantizer:
    """The program of an installed runtime."""

    one: Installed
    environ: Mapping[str, str]

    @property
    def takes_matrix(self) -> bool:
        """It does."""
        return True

    @property
    def name(self) -> str:
        """The program, and which runtime it is of."""
        return f"{PROGRAM} of {self.one.name}"

    def command(self, job: Job) -> Command:
        """Return the command; the program sees no more than the two directories."""
        folder = job.target.absolute().parent
        read = [job.source, *([] if job.matrix is None else [job.matrix])]
        sources = [path.absolute().parent for path in read]
        nested = any(folder.is_relative_to(a) or a.is_relative_to(folder) for a in sources)
        nested = nested or (len(set(sources)) > 1 and _is_nested(*sources))
        return start.command(
            self.one,
            job.line,
            self.environ,
            read,
            writes=[folder],
            # one directory inside of another cannot be shown in two ways
            isolate=not nested,
        )


@dataclass(frozen=True, slots=True)
class ProgramQuantizer:
    """The program that PATH has."""

    program: Path
    environ: Mapping[str, str]

    @property
    def takes_matrix(self) -> bool:
        """It does."""
        return True

    @property
    def name(self) -> str:
        """The path of the program."""
        return str(self.program)

    def command(self, job: Job) -> Command:
        """Return the command."""
        argv = (str(self.program), *job.line)
        return Command(argv=argv, environ=environment.for_child(self.environ))


@dataclass(frozen=True, slots=True)
class PackageQuantizer:
    """The function of the package llama-cpp-python, called in a child."""

    environ: Mapping[str, str]

    @property
    def takes_matrix(self) -> bool:
        """Its function takes one as a map of C++, which a program in Python cannot make."""
        return False

    @property
    def name(self) -> str:
        """What the package is called."""
        return "llama-cpp-python"

    def command(self, job: Job) -> Command:
        """Return the command."""
        allowed = ["--allow-requantize"] if job.requantize else []
        names = [str(job.source.absolute()), str(job.target.absolute())]
        line = [*allowed, *names, str(job.recipe.number), str(job.threads)]
        return Command(
            # -P: nothing of the folder that we were started in is to be imported
            argv=(sys.executable, "-P", "-m", _MODULE, *line),
            environ=environment.for_child(self.environ),
        )


def _is_nested(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def require_matrix(quantizer: Quantizer) -> None:
    """Accept a quantizer that takes an importance matrix.

    Raises:
        RuntimeUnavailableError: It does not.
    """
    if not quantizer.takes_matrix:
        raise RuntimeUnavailableError(
            f"{quantizer.name} takes no importance matrix",
            hint=f"add llama.cpp's {PROGRAM} to PATH, or install a runtime that has it:"
            " `modelrunner runtimes install ghcr.io/ggml-org/llama.cpp:full`",
        )


def find_quantizer(environ: Mapping[str, str], library: Path) -> Quantizer:
    """Return the quantizer to use.

    Args:
        environ: Our environment.
        library: The directory of installed runtimes.

    Raises:
        RuntimeUnavailableError: This machine has none.
    """
    installed = Library(library)
    current = installed.current()
    others = [one for one in installed.all() if one != current]
    for one in [*([] if current is None else [current]), *others]:
        program = PurePosixPath(one.program).with_name(PROGRAM)
        if (one.root / program).is_file():
            return InstalledQuantizer(replace(one, program=str(program)), environ)
    found = shutil.which(PROGRAM, path=environ.get("PATH", ""))
    if found is not None:
        return ProgramQuantizer(Path(found).absolute(), environ)
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is not None:
        folders = [Path(each, "lib") for each in spec.submodule_search_locations or ()]
        files = [file for folder in folders for file in folder.glob("libllama.*")]
        lacking = libraries.missing_for_module(files, environ)
        if lacking is None:
            return PackageQuantizer(environ)
    raise RuntimeUnavailableError(
        f"no quantizer found: {PROGRAM} is neither on PATH nor in an installed runtime, and"
        " llama-cpp-python is not installed",
        hint=f"`{installation.add('llama-cpp-python')}`, or add llama.cpp's {PROGRAM} to PATH",
    )
