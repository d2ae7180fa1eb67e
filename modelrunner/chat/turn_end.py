r"""The end of a turn that a model writes as plain text: `<|im_end|>`, `<end_of_turn>`, `[INST]`.

A base model that is given somebody else's chat template, or none, goes on with the next turn as
text; some instruct models spell their own marker instead of ending. Such a marker ends the answer:

    Paris.<|im_end|>\n<|im_start|>user\n...    ->  Paris.
    Write `<|im_end|>` after a message.          ->  the same: inside code it is only mentioned
"""

import re
from collections.abc import Collection, Iterator

from modelrunner.chat.answer import Delta, Done

END_MARKERS = (
    "<|im_end|>", "<end_of_turn>", "<turn|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|end|>",
    "<|endoftext|>", "<|end_of_text|>", "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>", "<|return|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>", "[/INST]", "<</SYS>>", "</s>",
)  # fmt: skip
"""What chat templates write at the end of a message."""

START_MARKERS = (
    "<|im_start|>", "<start_of_turn>", "<|turn>", "<|start_header_id|>", "<|header_start|>",
    "<|user|>", "<|assistant|>", "<|system|>", "<|start_of_role|>", "<|START_OF_TURN_TOKEN|>",
    "<|start|>", "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "[INST]", "<<SYS>>",
)  # fmt: skip
"""What chat templates write before a message."""

_STRIKE_OPEN, _STRIKE_CLOSE = "<s>", "</s>"
STOP_TEXTS = tuple(marker for marker in (*END_MARKERS, *START_MARKERS) if marker != _STRIKE_CLOSE)
"""The markers that a server may stop at wherever they stand. `</s>` is HTML, too."""

_ROLES = ("user", "assistant", "system", "model", "tool", "human", "developer")
_NAMES_ITS_ROLE = frozenset(marker for marker in START_MARKERS if _ROLES[0] in marker.lower()) | {
    "<|assistant|>", "<|system|>", "<\uff5cAssistant\uff5c>", "[INST]", "<<SYS>>",
}  # fmt: skip
_FENCE = re.compile(r"\s*(```|~~~)")


class TurnEnd:
    """Finds the end of the turn in an answer that comes in pieces.

    Args:
        markers: What to look for.
        anywhere: Whether a marker ends the answer wherever it stands, as for a model without a
            chat template. Else only where it stands as between two turns, outside of code.
    """

    def __init__(self, markers: Collection[str], *, anywhere: bool) -> None:
        self._markers = tuple(sorted(markers, key=len, reverse=True))
        self._pattern = re.compile("|".join(map(re.escape, self._markers)) or r"(?!)")
        self._anywhere = anywhere
        self._held = ""
        self._line = ""
        self._fenced = False
        self._strikes = 0

    def feed(self, piece: str) -> tuple[str, bool]:
        """Return the text that is certain, and whether the turn is over."""
        return self._scan(self._held + piece, whole=False)

    def flush(self) -> str:
        """Return what was held back: the answer is over."""
        return self._scan(self._held, whole=True)[0]

    def _scan(self, text: str, *, whole: bool) -> tuple[str, bool]:
        sure, self._held = "", ""
        while True:
            found = self._pattern.search(text)
            if found is None:
                kept = 0 if whole else self._unfinished(text)
                sure += self._pass(text[: len(text) - kept])
                self._held = text[len(text) - kept :]
                return sure, False
            sure += self._pass(text[: found.start()])
            after = text[found.end() :]
            verdict = self._ends_turn(found[0], after, whole=whole)
            if verdict is None:
                self._held = text[found.start() :]
                return sure, False
            if verdict:
                return sure, True
            sure += self._pass(found[0])
            text = after

    def _pass(self, text: str) -> str:
        """Note where in a line, and in code, the text leaves off."""
        self._strikes += text.count(_STRIKE_OPEN)
        *whole, rest = (self._line + text).split("\n")
        for line in whole:
            self._fenced ^= _FENCE.match(line) is not None
        self._line = rest
        return text

    def _unfinished(self, text: str) -> int:
        """Return how many characters of the end may be the beginning of a marker."""
        longest = max(map(len, self._markers), default=1) - 1
        return next(
            (
                count
                for count in range(min(longest, len(text)), 0, -1)
                if any(marker.startswith(text[-count:]) for marker in self._markers)
            ),
            0,
        )

    def _ends_turn(self, marker: str, after: str, *, whole: bool) -> bool | None:
        """Return whether a marker ends the turn here; None while that cannot be known."""
        if marker == _STRIKE_CLOSE and self._strikes:
            self._strikes -= 1
            return False
        if self._anywhere:
            return True
        in_code = self._fenced or _FENCE.match(self._line) or self._line.count("`") % 2
        if in_code:
            return False
        if marker in START_MARKERS:
            return self._starts_turn(marker, after, whole=whole)
        if self._line[-1:].isspace():
            return False
        return self._follows(after, ("\n", *self._markers), whole=whole, at_end=True)

    def _starts_turn(self, marker: str, after: str, *, whole: bool) -> bool | None:
        if self._line.strip():
            return False
        if marker in _NAMES_ITS_ROLE:
            return True
        return self._follows(after, _ROLES, whole=whole, at_end=False)

    @staticmethod
    def _follows(after: str, texts: Collection[str], *, whole: bool, at_end: bool) -> bool | None:
        if after.startswith(tuple(texts)):
            return True
        if not after and whole:
            return at_end
        if not whole and any(text.startswith(after) for text in texts):
            return None
        return False


def until_turn_ends(
    pieces: Iterator[Delta | Done], markers: Collection[str], *, anywhere: bool
) -> Iterator[Delta | Done]:
    """Pass on an answer up to the end of its turn, and then no more.

    The last `Done` has what the server counted up to there, as far as it has said so.
    """
    end = TurnEnd(markers, anywhere=anywhere)
    for piece in pieces:
        if isinstance(piece, Done):
            rest = end.flush()
            if rest:
                yield Delta(rest, "")
            yield piece
            return
        text, over = end.feed(piece.text)
        # an empty one too: it says that nothing more of this is known yet
        yield Delta(text, piece.reasoning)
        if over:
            yield Done("stop")
            return
