"""The last lines of a terminal while they may still change: redrawn, then settled."""

import os
import re
import shutil
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from modelrunner.cli.rendering.writer import write

_STYLE = re.compile(r"\x1b\[[0-9;]*m")
# terminals that know it show all of a change at once; the others pass over it
_HOLD, _SHOW = "\x1b[?2026h", "\x1b[?2026l"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[K", "\x1b[J"
_REMEMBERED = 200
"""Maximum settled lines that can be recalled: more than a screen has."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Delay Ctrl-C while the screen and its recorded state differ.

    The signal is taken and kept, not blocked: what the main thread blocks, the kernel gives to any
    other thread, and the main one would wait for the next token without knowing of it.
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    pressed: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda _number, frame: pressed.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if pressed:
            usual(signal.SIGINT, pressed[0])


class Region:
    """The lines below everything that is finished.

    The cursor stays at the end of the last of them. Nothing is hidden or set up, so there is
    nothing to put back when the program is stopped.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: list[str] = []
        self._settled: deque[str] = deque(maxlen=_REMEMBERED)
        self._forgotten = False

    @property
    def size(self) -> os.terminal_size:
        """Return the columns and rows of the terminal."""
        try:
            size = os.get_terminal_size(self._out.fileno())
        except (OSError, ValueError):
            return shutil.get_terminal_size()
        return size if size.columns and size.lines else os.terminal_size((80, 24))

    def draw(self, lines: Sequence[str]) -> None:
        """Replace the lines; of more than a screen, the last are shown."""
        self._replace(list(lines[-max(1, self.size.lines - 1) :]))

    def settle(self, lines: Sequence[str]) -> None:
        """Replace the lines for good: later lines are drawn below them."""
        if lines:
            self._replace([*lines, ""])
            self._forgotten |= len(self._settled) + len(lines) > _REMEMBERED
            self._settled.extend(lines)
        elif self._lines:
            self._replace([])
        self._lines = []

    def mark(self) -> None:
        """Mark the lines that `recall` clears: those settled from now on."""
        self._settled.clear()
        self._forgotten = False

    def recall(self) -> bool:
        """Clear the lines settled since the mark; False, and no change, if they scrolled away."""
        self.draw([])
        up = sum(map(self._rows, self._settled))
        if self._forgotten or up > self.size.lines - 1:
            return False
        if up:
            # line by line, see `_replace`
            cleared = f"{_CLEAR_LINE}\n" * up + _CLEAR_LINE
            with undisturbed():
                write(self._out, f"{_HOLD}\r\x1b[{up}A{cleared}\x1b[{up}A\r{_SHOW}")
        self.mark()
        return True

    def _replace(self, lines: list[str]) -> None:
        if lines == self._lines:
            return
        pairs = enumerate(zip(self._lines, lines, strict=False))
        same = next((at for at, (old, new) in pairs if old != new), len(lines))
        # the cursor is in the last line, and shall be in the last one after this
        same = max(0, min(same, len(self._lines) - 1, len(lines) - 1))
        changed = [self._rows(line) for line in self._lines[same:]]
        up = sum(changed) - 1
        back = f"\r\x1b[{up}A" if up > 0 else "\r" if changed else ""
        fresh = list(lines[same:]) or [""]
        # Line by line: tmux takes the clearing of all below the first row for a new screen, and
        # keeps the old one. Before the text: behind a full line the cursor stands on its last cell.
        last = _CLEAR_BELOW if sum(changed) > len(fresh) else _CLEAR_LINE
        drawn = "".join(f"{_CLEAR_LINE}{line}\n" for line in fresh[:-1]) + last + fresh[-1]
        with undisturbed():
            write(self._out, f"{_HOLD}{back}{drawn}{_SHOW}")
            self._lines = list(lines)

    def _rows(self, line: str) -> int:
        """Return the rows of a line: several if the window was made narrower."""
        from rich.cells import cell_len

        return max(1, -(-cell_len(_STYLE.sub("", line)) // self.size.columns))
