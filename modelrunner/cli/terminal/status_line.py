"""The last line of a terminal, redrawn in place: a bar, or what the program waits for.

Other output goes above it. It never fills its row, so that a `^C` that the terminal prints after it
does not scroll it, and it is found again in a window that was made narrower.
"""

import os
from dataclasses import dataclass, field
from threading import RLock
from typing import TextIO

from modelrunner.cli.terminal.table import cell_width

_SPARE = 4
_FALLBACK = 80


@dataclass(slots=True)
class StatusLine:
    """At most one line on a terminal; all methods may be called from any thread."""

    stream: TextIO
    _shown: str = ""
    _lock: RLock = field(default_factory=RLock, repr=False)

    @property
    def width(self) -> int:
        """Maximum columns of a text."""
        return max(1, self._columns() - _SPARE)

    def show(self, text: str, styled: str | None = None) -> None:
        """Replace the line.

        Args:
            text: The line, no wider than `width`.
            styled: The same with escape sequences for its colors.
        """
        with self._lock:
            # own text: made safe by whoever calls
            self.stream.write(self._erasure() + (styled or text))
            self.stream.flush()
            self._shown = text

    def erase(self) -> None:
        """Remove the line, so that something else can be written in its place."""
        with self._lock:
            if self._shown:
                # own text: made safe by whoever calls
                self.stream.write(self._erasure())
                self.stream.flush()
                self._shown = ""

    def _erasure(self) -> str:
        if not self._shown:
            return ""
        # a terminal that became narrower has broken the line into several rows
        above = (cell_width(self._shown) - 1) // self._columns()
        return "\r" + (f"\x1b[{above}A" if above > 0 else "") + "\x1b[J"

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or _FALLBACK
        except (OSError, ValueError):
            return _FALLBACK
