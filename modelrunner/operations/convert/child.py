"""A program that converts, as a child: its progress is read from what it says."""

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from modelrunner.disk.inside import open_inside
from modelrunner.errors import RuntimeFailedError
from modelrunner.runtime.child.failure import cause_in
from modelrunner.runtime.child.process import Child, Command

_TICK_S = 0.1
_LOG_BYTES = 64 * 1024
_BUILD = re.compile(
    r"^(?:main: build = |version: )(?P<build>[\w.+-]+(?: \([\w.+ ,-]+\))?)", re.MULTILINE
)
_SIGNAL = 128
_PERCENT = 100


class Conversion:
    """What a program has said.

    Attributes:
        build: The version that it says it is; None where it does not say.
    """

    def __init__(self) -> None:
        self.build: str | None = None

    def note(self, text: str) -> None:
        """Note a part of what it says."""
        found = _BUILD.search(text)
        if found is not None:
            self.build = found["build"][:80]


def run_child(
    command: Command,
    what: str,
    progress: "re.Pattern[str]",
    on_progress: Callable[[int, int], None],
) -> Conversion:
    """Run a program to its end; if this is interrupted, so is the program.

    Args:
        command: The program.
        what: What it does, for errors: `llama-quantize cannot quantize model.gguf`.
        progress: Finds `done` and `total` in what it says; without a total, `done` is a percentage.
        on_progress: Called with both.

    Raises:
        RuntimeFailedError: It failed, or was ended.
    """
    said = Conversion()
    with TemporaryDirectory(prefix="modelrunner-") as folder:
        log = Path(folder, "log")
        child = Child(command, log)
        reader = _Reader(log)
        try:
            while child.wait(_TICK_S) is None:
                _note_progress(reader.more(), said, progress, on_progress)
            _note_progress(reader.more(), said, progress, on_progress)
        finally:
            child.stop()
        code = child.exit_code
        if code:
            cause = cause_in(reader.tail)
            fate = f"ended by signal {code - _SIGNAL}" if code > _SIGNAL else f"exit code {code}"
            raise RuntimeFailedError(
                f"{what}: {cause or fate}",
                hint="check that there is enough memory and disk space, and that this llama.cpp"
                " knows the model: `modelrunner inspect FILE`",
                exit_code=code,
            )
    return said


def _note_progress(
    text: str,
    said: Conversion,
    progress: "re.Pattern[str]",
    on_progress: Callable[[int, int], None],
) -> None:
    said.note(text)
    for found in [*progress.finditer(text)][-1:]:
        said_total = found.groupdict().get("total")
        # bounded: digits of the pattern
        total = _PERCENT if said_total is None else int(said_total)
        # bounded: digits of the pattern
        on_progress(int(found["done"]), total)


class _Reader:
    """Reads what a log gets; of a long one, the end is kept."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = 0
        self.tail = ""

    def more(self) -> str:
        """Return what was added."""
        with open_inside(self._log, "read") as file:
            file.seek(self._offset)
            content = file.content(_LOG_BYTES)
        self._offset += len(content)
        text = content.decode(errors="replace")
        self.tail = (self.tail + text)[-_LOG_BYTES:]
        return text
