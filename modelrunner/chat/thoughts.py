"""Thoughts that a model writes into its answer: `<think>Hm.</think>Hello` are a thought and a word.

Most servers take them apart themselves; what one of them leaves in is taken apart here. Only what
an answer starts with is a thought: a later `<think>` is something that the answer talks about.
"""

_OPEN, _CLOSE = "<think>", "</think>"


class ThoughtSplitter:
    """Tells thoughts and words of an answer apart while it comes in pieces."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def feed(self, piece: str) -> tuple[str, str]:
        """The words and the thoughts that are sure now; the rest is held back."""
        if self._state == "words":
            return piece, ""
        if self._state == "gap":
            return self._first_words(piece), ""
        self._held += piece
        if self._state == "start" and not self._begin():
            return self._words()
        if self._state != "thoughts":
            return "", ""
        thought, mark, rest = self._held.partition(_CLOSE)
        if mark:
            self._state, self._held = "gap", ""
            return self._first_words(rest), thought
        sure = len(thought) - _overlap(thought, _CLOSE)
        self._held = thought[sure:]
        return "", thought[:sure]

    def flush(self) -> tuple[str, str]:
        """What was held back: the answer is over."""
        held, self._held = self._held, ""
        return ("", held) if self._state == "thoughts" else (held, "")

    def _begin(self) -> bool:
        """Whether the answer may start with a thought, as far as it is here."""
        start = self._held.lstrip()
        if start.startswith(_OPEN):
            self._state, self._held = "thoughts", start.removeprefix(_OPEN)
            return True
        return _OPEN.startswith(start)

    def _first_words(self, piece: str) -> str:
        """The answer behind a thought begins with its first letter."""
        words = piece.lstrip("\n")
        if words:
            self._state = "words"
        return words

    def _words(self) -> tuple[str, str]:
        self._state, held, self._held = "words", self._held, ""
        return held, ""


def _overlap(text: str, mark: str) -> int:
    """How much of the end of a text may be the start of a mark."""
    return next((n for n in range(len(mark) - 1, 0, -1) if text.endswith(mark[:n])), 0)
