"""An answer that repeats itself to no end: small models fall into a loop and never leave it.

A loop is text at the end of the answer that is one passage over and over, to the letter. What
people ask for repeats too (a table of zeros, a line written a hundred times), so a loop has to be
long before it counts: up to a thousand tokens of prose, three times as much of code and numbers.
"""

from collections.abc import Iterator

from modelrunner.chat.answer import Delta, Done

REPEATED = "repetition"
"""The finish reason of an answer that was stopped because it repeats itself."""

_PROSE = 2048
_LONGEST_PROSE = 4096
_TIMES_SHORT = 110
_TIMES = 8
_TERSE = 12_288
_LONGEST_PASSAGE = 2048
_WINDOW = _LONGEST_PASSAGE * _TIMES
_EVERY = 512
_PROBE = 64
_FENCE = "```"
_FEWEST_PIECES = 32


class LoopDetector:
    """Watches a text that comes in pieces for a loop at its end."""

    def __init__(self) -> None:
        self._tail = ""
        self._pieces = self._new = 0
        self._fences = 0
        self._seam = ""

    def feed(self, piece: str) -> bool:
        """Take the next piece, and return whether the text is in a loop."""
        if not piece:
            return False
        self._fences += (self._seam + piece).count(_FENCE)
        self._seam = (self._seam + piece)[-(len(_FENCE) - 1) :]
        self._tail = (self._tail + piece)[-_WINDOW:]
        self._new += len(piece)
        self._pieces += 1
        # what comes at once is here already: there is nothing to stop
        enough = self._pieces >= _FEWEST_PIECES and len(self._tail) >= _PROSE
        if self._new < _EVERY or not enough:
            return False
        self._new = 0
        return self._loops()

    def _loops(self) -> bool:
        tail = self._tail
        probe, end = tail[-_PROBE:], len(tail)
        while (at := tail.rfind(probe, max(0, len(tail) - _PROBE - _LONGEST_PASSAGE), end)) >= 0:
            # the next one begins before this one does
            end = at + _PROBE - 1
            period = len(tail) - _PROBE - at
            if period and _has_period(tail, period, _PROSE):
                needed = self._needed(tail[-period:])
                return len(tail) >= needed and _has_period(tail, period, needed)
        return False

    def _needed(self, passage: str) -> int:
        """Return how many characters of a passage over and over are a loop."""
        period = len(passage)
        letters = sum(map(str.isalpha, passage))
        if self._fences % 2 or 2 * letters < period:
            return max(_TERSE, _TIMES * period)
        return max(_PROSE, min(_TIMES_SHORT * period, _LONGEST_PROSE), _TIMES * period)


def _has_period(text: str, period: int, length: int) -> bool:
    """Return whether so much of the end of a text is one passage over and over."""
    return text[-length:-period] == text[period - length :]


def until_repeated(pieces: Iterator[Delta | Done]) -> Iterator[Delta | Done]:
    """Pass on an answer until it repeats itself to no end; its thoughts are watched too."""
    words, thoughts = LoopDetector(), LoopDetector()
    for piece in pieces:
        yield piece
        if isinstance(piece, Delta) and (words.feed(piece.text) or thoughts.feed(piece.reasoning)):
            yield Done(REPEATED)
            return
