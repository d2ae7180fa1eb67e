"""An answer on a terminal: Markdown as it streams, thoughts dim and folded to a line.

```
thought for 4 s, 120 words          <- was several dim lines while it thought
                                    <- what follows is the answer, see
                                    `modelrunner.cli.rendering.markdown`
```

A pipe gets the words as the model wrote them, see `modelrunner.cli.rendering.writer.AnswerWriter`.
"""

import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, TextIO

from modelrunner.chat.thoughts import Opening
from modelrunner.cli.rendering.markdown import Block, Blocks, renderer
from modelrunner.cli.rendering.region import Region, undisturbed
from modelrunner.cli.rendering.writer import (
    RECANTED,
    AnswerWriter,
    SplittingWriter,
    StreamSanitizer,
    Writer,
    write,
)
from modelrunner.units import counted

Thinking = Literal["show", "fold", "hide"]
"""How thoughts are shown: all, one line at their end, or not."""

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_MARGIN = "| "
_THOUGHT_LINES = 6
_FRAME_S = 0.03
_IDLE_SHARE = 9
_LONGEST_FRAME_S = 2.0
_UTF8 = {"utf-8", "utf8"}


def writer_for(
    out: TextIO,
    *,
    markdown: bool,
    thinking: Thinking,
    colour: bool,
    opening: Opening = Opening.UNKNOWN,
    drawn: bool = True,
) -> Writer:
    """Return the writer of an answer on `out`: drawn on a terminal, else unchanged."""
    encoding = (getattr(out, "encoding", None) or "").lower()
    if drawn and out.isatty() and encoding in _UTF8:
        return ScreenWriter(
            out, markdown=markdown, thinking=thinking, colour=colour, opening=opening
        )
    seen = thinking == "show" or (thinking == "fold" and out.isatty())
    return AnswerWriter(
        out,
        out if seen else None,
        colour=colour and out.isatty(),
        opening=opening,
        folded=thinking == "fold",
    )


def warm_up() -> None:
    """Import the renderer, so that an answer does not wait for it."""
    renderer(colour=True)(Block("*a*\n\n```python\n1\n```"), 80)


class ScreenWriter(SplittingWriter):
    """Draws an answer and the thoughts before it on a terminal.

    Thoughts within the answer are shown only with `show`: otherwise they would split a sentence.

    Args:
        out: The terminal.
        markdown: Whether to draw Markdown, or show its source.
        thinking: How thoughts are shown.
        colour: Whether there may be colours.
        opening: What the prompt says of thoughts.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        markdown: bool,
        thinking: Thinking,
        colour: bool,
        opening: Opening = Opening.UNKNOWN,
    ) -> None:
        super().__init__(opening)
        self._words = StreamSanitizer()
        self._thoughts = StreamSanitizer()
        region = Region(out)
        self._mode = thinking
        self._folder = _Thoughts(region, thinking, colour=colour)
        self._page = _Page(region, colour=colour) if markdown else _Plain(out)
        self._spoken = False

    def _say(self, words: str) -> None:
        shown = self._words.feed(words)
        if shown:
            self._folder.end()
            self._page.feed(shown)
            self._spoken = True

    def _think(self, thoughts: str) -> None:
        shown = self._thoughts.feed(thoughts)
        if self._spoken and self._mode != "show":
            return
        if self._spoken:
            self._page.end()
            self._spoken = False
        self._folder.feed(shown)

    def _recant(self, words: str) -> None:
        self._words.flush()
        whole, begun = self._page.recall()
        self._spoken = False
        if whole:
            self._folder.feed(self._thoughts.feed(words), begun)

    def _restore(self, words: str) -> None:
        self._folder.discard()
        self._say(words)

    def _end(self) -> None:
        if not self._spoken:
            self._folder.feed(self._thoughts.flush())
        self._folder.end()
        self._page.feed(self._words.flush())
        self._page.end()


class _Pace:
    """Limits how often a screen is drawn, and draws the last state in any case.

    Args:
        draw: Draws the current state.
    """

    def __init__(self, draw: Callable[[], None]) -> None:
        self._draw = draw
        self._lock = threading.Lock()
        self._later: threading.Timer | None = None
        self._next = 0.0

    @contextmanager
    def change(self) -> Iterator[None]:
        """Change the state while the block runs; it is drawn then or soon after."""
        with self._lock:
            yield
            wait = self._next - time.monotonic()
            if wait <= 0:
                self._frame()
            elif self._later is None:
                # the next piece may be long in coming
                self._later = threading.Timer(wait, self._late)
                self._later.daemon = True
                self._later.start()

    def stop(self) -> None:
        """Stop drawing."""
        with self._lock:
            later, self._later = self._later, None
        if later is not None:
            later.cancel()
            later.join()

    def _late(self) -> None:
        # a terminal that is gone shows at the next write of the answer itself
        with self._lock, suppress(OSError, ValueError):
            if self._later is not None:
                self._later = None
                self._frame()

    def _frame(self) -> None:
        begun = time.monotonic()
        self._draw()
        now = time.monotonic()
        self._next = now + min(max(_FRAME_S, _IDLE_SHARE * (now - begun)), _LONGEST_FRAME_S)


class _Page:
    """The answer as drawn Markdown."""

    def __init__(self, region: Region, *, colour: bool) -> None:
        self._region = region
        self._blocks = Blocks()
        self._render = renderer(colour=colour)
        self._pace = _Pace(self._draw)
        self._empty = True
        self._begun: float | None = None

    def recall(self) -> tuple[bool, float | None]:
        """Clear all of it from the screen; returns whether that succeeded, and its start time."""
        self._pace.stop()
        self._blocks.clear()
        whole = self._region.recall()
        if not whole:
            self._region.settle([RECANTED, ""])
        begun, self._begun, self._empty = self._begun, None, True
        return whole, begun

    def feed(self, text: str) -> None:
        if not text:
            return
        if self._begun is None:
            self._begun = time.monotonic()
            self._region.mark()
        with self._pace.change():
            self._blocks.add(text)

    def end(self) -> None:
        self._pace.stop()
        self._settle_finished()
        rest = self._blocks.open
        self._blocks.clear()
        self._settle(rest)

    def _draw(self) -> None:
        self._settle_finished()
        self._region.draw(self._lines(self._blocks.open))

    def _settle_finished(self) -> None:
        with undisturbed():
            finished = self._blocks.advance()
            if finished:
                self._settle(*finished)

    def _settle(self, *blocks: Block) -> None:
        settled: list[str] = []
        for block in blocks:
            lines = self._lines(block)
            settled += lines
            self._empty = self._empty and not lines
        self._region.settle(settled)

    def _lines(self, block: Block) -> list[str]:
        lines = list(self._render(block, self._region.size.columns))
        return lines if self._empty or block.goes_on or not lines else ["", *lines]


class _Plain:
    """The answer as source."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = "\n"

    def recall(self) -> tuple[bool, float | None]:
        """Print that the text above is thoughts."""
        start = "" if self._last == "\n" else "\n"
        write(self._out, f"{start}{RECANTED}\n\n")
        self._last = "\n"
        return False, None

    def feed(self, text: str) -> None:
        if text:
            # before the write: a Ctrl-C right after it shall find the line unfinished
            self._last = text[-1]
            write(self._out, text)

    def end(self) -> None:
        if self._last != "\n":
            self._last = "\n"
            write(self._out, "\n")


class _Thoughts:
    """Thoughts: their last lines while they stream, then as `thinking` requests."""

    def __init__(self, region: Region, mode: Thinking, *, colour: bool) -> None:
        self._region = region
        self._mode = mode
        self._dim, self._plain = (_DIM, _PLAIN) if colour else ("", "")
        self._text = ""
        self._begun: float | None = None
        self._pace = _Pace(self._draw)

    def feed(self, text: str, begun: float | None = None) -> None:
        if not text:
            return
        with self._pace.change():
            if self._begun is None:
                self._begun = begun or time.monotonic()
            self._text += text

    def discard(self) -> None:
        """Remove them: they were not thoughts."""
        self._pace.stop()
        if self._begun is not None:
            self._begun, self._text = None, ""
            self._region.draw([])

    def end(self) -> None:
        self._pace.stop()
        if self._begun is None:
            return
        seconds, self._begun = time.monotonic() - self._begun, None
        words = len(self._text.split())
        if self._mode == "fold":
            line = f"thought for {seconds:.0f} s, {counted(words, 'word')}"
            self._region.settle([f"{self._dim}{line}{self._plain}", ""])
        elif self._mode == "show":
            self._region.settle([*self._lines(self._text), ""])
        self._text = ""

    def _draw(self) -> None:
        if self._mode == "hide":
            return
        size = self._region.size
        count = size.lines if self._mode == "show" else _THOUGHT_LINES
        # what is above these lines is not seen, and its length shall not matter; the window moves
        # in steps, or each word would wrap the lines anew
        window = size.columns * count
        start = max(0, len(self._text) // window - 1) * window
        lines = self._lines(self._text[start:])
        self._region.draw(lines if self._mode == "show" else lines[-_THOUGHT_LINES:])

    def _lines(self, written: str) -> list[str]:
        width = max(20, self._region.size.columns - len(_MARGIN))
        text = written.strip("\n").expandtabs()
        lines = [part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]]
        return [
            f"{self._dim}{line}{self._plain}"
            for line in ("thinking", *(_MARGIN + x for x in lines))
        ]


@contextmanager
def keys_unseen() -> Iterator[None]:
    """Keep keys typed during an answer for the next message, without echo."""
    try:
        import termios
    except ImportError:
        yield
        return
    if not sys.stdin.isatty():
        yield
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    if not before[3] & termios.ISIG:
        # a prompt that was suspended, and given a line in the moment in which it went on, leaves
        # its raw mode behind: Ctrl-C and Ctrl-Z would be letters
        before[0] |= termios.ICRNL | termios.IXON
        before[3] |= termios.ISIG | termios.ICANON | termios.IEXTEN | termios.ECHO
    quiet = list(before)
    quiet[3] &= ~termios.ECHO
    with suppress(termios.error):
        termios.tcsetattr(keyboard, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
