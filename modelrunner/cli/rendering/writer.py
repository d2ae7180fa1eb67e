"""Streams an answer: sanitized, with thoughts apart from the answer."""

import os
import re
import select
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol, Self, TextIO

from modelrunner.chat.answer import Done
from modelrunner.chat.thoughts import Opening, Part, ThoughtSplitter
from modelrunner.text import sanitize

# A terminal ends CSI at its final byte, a string (OSC, DCS, ..) at ST or BEL, and both at another
# ESC. What is longer than this is no sequence but text: it shall not vanish.
_LONGEST = 4096
_CSI = rf"\[[0-?]{{0,{_LONGEST}}}[ -/]{{0,{_LONGEST}}}"
_STRING = rf"[\]PX^_][^\x07\x1b]{{0,{_LONGEST}}}"
_COMPLETE = rf"\x1b(?:{_CSI}[@-~]|{_STRING}(?:\x1b\\|\x07)|[@-OQ-WYZ\\])"
_OPEN = rf"\x1b(?:{_CSI}|{_STRING}\x1b?)?\Z"
_SEQUENCE = re.compile(f"{_COMPLETE}|(?P<open>{_OPEN})")

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
_MARGIN = "| "
_STEP_S = 0.2
RECANTED = "(the text above is the model's thoughts; its answer follows)"


class StreamSanitizer:
    """Removes control and escape sequences from a streamed text.

    A sequence may be split between two pieces: its beginning is held back until its end, or until
    it turns out not to be one.
    """

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """Add a piece, and return what can be shown."""
        text, self._held = self._held + piece, ""
        safe, start = "", 0
        for sequence in _SEQUENCE.finditer(text):
            safe += text[start : sequence.start()]
            start = sequence.end()
            self._held = sequence["open"] or ""
        return _without_controls(safe + text[start:])

    def flush(self) -> str:
        """Return what was held back, at the end of the text."""
        held, self._held = self._held, ""
        return _without_controls(held)


def _without_controls(text: str) -> str:
    # without ESC there is nothing for it to take but single characters
    return sanitize(text.replace("\x1b", ""))


class Writer(Protocol):
    """Shows an answer; leaving its `with` block ends the line."""

    @property
    def text(self) -> str:
        """The answer so far, without thoughts."""

    @property
    def thought(self) -> bool:
        """Whether there were thoughts."""

    @property
    def reasoning(self) -> str:
        """The thoughts so far, unchanged."""

    def write(self, text: str, reasoning: str) -> None:
        """Show the next piece of either."""

    def finish(self, done: Done) -> None:
        """Take in how the answer ended."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


class SplittingWriter(ABC):
    """Splits an answer into thoughts and words, and shows both.

    Args:
        opening: What the prompt says of thoughts.
    """

    def __init__(self, opening: Opening) -> None:
        self._splitter = ThoughtSplitter(opening)
        self._complete = False
        self._parts: list[str] = []
        self._thought: list[str] = []
        self._last_thoughts = 0
        self.thought = False

    @property
    def text(self) -> str:
        """The answer so far, unchanged and without thoughts: to be sent back."""
        return "".join(self._parts)

    @property
    def reasoning(self) -> str:
        """The thoughts so far, unchanged."""
        return "".join(self._thought)

    def write(self, text: str, reasoning: str) -> None:
        """Show the next piece of either."""
        self._take(self._splitter.feed(text, reasoning))

    def finish(self, done: Done) -> None:
        """Take in how the answer ended."""
        self._complete = done.finish_reason != "length"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, OSError):
            return
        self._take(self._splitter.flush(complete=self._complete and kind is None))
        self._end()

    def _take(self, parts: Iterable[Part]) -> None:
        for part in parts:
            match part.kind:
                case "words":
                    self._parts.append(part.text)
                    self._last_thoughts = len(self._thought)
                    self._say(part.text)
                case "thoughts":
                    self.thought = True
                    self._thought.append(part.text)
                    self._think(part.text)
                case "words_were_thoughts":
                    words, self.thought = self.text, True
                    self._parts.clear()
                    self._thought.append(words)
                    self._recant(words)
                case "thoughts_were_words":
                    del self._thought[self._last_thoughts :]
                    self._parts.append(part.text)
                    self._restore(part.text)

    @abstractmethod
    def _say(self, words: str) -> None:
        """Show words."""

    @abstractmethod
    def _think(self, thoughts: str) -> None:
        """Show thoughts."""

    @abstractmethod
    def _recant(self, words: str) -> None:
        """Show all words so far as thoughts."""

    @abstractmethod
    def _restore(self, words: str) -> None:
        """Show the thoughts since the last words as words."""

    @abstractmethod
    def _end(self) -> None:
        """Show what was held back, and end the line."""


class AnswerWriter(SplittingWriter):
    """Writes an answer and the thoughts before it, each piece as it arrives.

    ```
    thinking
    | The user greets me.

    Hello!
    ```

    A file or a pipe cannot be cleared: words are written once it is certain that they are not
    thoughts. Leaving the `with` block ends the line, unless the reader has closed the pipe.

    Args:
        out: Where the answer goes.
        thoughts: Where the reasoning goes; None drops it.
        colour: Whether reasoning may be dimmed.
        opening: What the prompt says of thoughts.
        folded: Whether reasoning is shown only as a mark that there is some.
    """

    def __init__(
        self,
        out: TextIO,
        thoughts: TextIO | None,
        *,
        colour: bool,
        opening: Opening = Opening.UNKNOWN,
        folded: bool = False,
    ) -> None:
        super().__init__(opening)
        self._folded = folded
        self._out = out
        self._thoughts = thoughts
        self._colour = colour
        self._waits = not out.isatty()
        self._held: list[str] = []
        self._answer = StreamSanitizer()
        self._reasoning = StreamSanitizer()
        self._thinking = False
        self._last = "\n"

    def _take(self, parts: Iterable[Part]) -> None:
        parts = list(parts)
        if self._splitter.certain and all(part.kind != "words_were_thoughts" for part in parts):
            self._waits = False
            self._let_go()
        super()._take(parts)
        if self._splitter.certain:
            self._waits = False
            self._let_go()

    def _say(self, words: str) -> None:
        if self._waits:
            self._held.append(words)
        else:
            self._let_go()
            self._speak(self._answer.feed(words))

    def _let_go(self) -> None:
        held, self._held = "".join(self._held), []
        self._speak(self._answer.feed(held))

    def _recant(self, words: str) -> None:
        if self._held:
            self._held.clear()
            self._think(words)
        elif words and (self._thoughts is not None or self._out.isatty()):
            self._speak(self._answer.flush())
            start = "" if self._last == "\n" else "\n"
            write(self._thoughts or self._out, f"{start}{RECANTED}\n\n")
            self._last = "\n"

    def _restore(self, words: str) -> None:
        self._let_go()
        self._speak(self._answer.feed(words))

    def _end(self) -> None:
        try:
            self._let_go()
            self._speak(self._answer.flush())
            self._stop_thinking()
        finally:
            if self._last != "\n":
                write(self._out, "\n")

    def _think(self, thoughts: str) -> None:
        safe = self._reasoning.feed(thoughts)
        if self._thoughts is None or not safe:
            return
        if not self._thinking:
            self._thinking = True
            start = "" if self._last == "\n" else "\n"
            dim = _DIM if self._colour and not self._folded else ""
            write(self._thoughts, f"{start}{dim}thinking\n{'' if self._folded else _MARGIN}")
        if not self._folded:
            write(self._thoughts, safe.replace("\n", f"\n{_MARGIN}"))

    def _stop_thinking(self) -> None:
        if self._thoughts is None or not self._thinking:
            return
        self._thinking = False
        rest = self._reasoning.flush().replace("\n", f"\n{_MARGIN}")
        rest = "" if self._folded else f"{rest}{_PLAIN if self._colour else ''}\n"
        write(self._thoughts, f"{rest}\n")

    def _speak(self, safe: str) -> None:
        if not safe:
            return
        self._stop_thinking()
        # before the write: a Ctrl-C that comes right after it shall find the line unfinished
        self._last = safe[-1]
        write(self._out, safe)


def write(out: TextIO, text: str) -> None:
    """Write and flush; characters that the stream's encoding lacks become `?`."""
    encoding = getattr(out, "encoding", None) or "utf-8"
    # own text: made safe by whoever calls
    out.write(text.encode(encoding, errors="replace").decode(encoding))
    out.flush()


def await_line(stdin: TextIO) -> None:
    """Wait for a line in short steps.

    A Ctrl-C just before a read begins is handled only when the read ends, which would be at the
    next line.
    """
    if sys.platform == "win32" or not stdin.isatty():
        return
    while not select.select([stdin], [], [], _STEP_S)[0]:
        pass


def let_go(out: TextIO) -> None:
    """Flush a stream; discard its buffer if the reader has closed it.

    Otherwise the interpreter tries again at its end, prints an error, and exits with 120.
    """
    try:
        out.flush()
    except OSError:
        send_nowhere(out)


def send_nowhere(out: TextIO) -> None:
    """Discard what is written from now on."""
    with suppress(OSError, ValueError):
        # outside: a device
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, out.fileno())
        finally:
            os.close(nowhere)
