"""Thoughts that a model writes into its answer: `<think>Hm.</think>Hello` are a thought and a word.

Most servers split them off themselves; what one of them leaves in is split here. Spellings:

```
<think>Hm.</think>Hello                          also <thinking>, <thought>, <reasoning>, ...
[THINK]Hm.[/THINK]Hello                          Magistral
<|START_THINKING|>Hm.<|END_THINKING|>Hello       Command
<|channel>thought Hm.<channel|>Hello             Gemma 4
<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello
Here is my thought process: Hm. Here is my response: Hello          Granite 3.2
Hm.</think>Hello                                 the chat template has opened the tag
```

An answer that does not start with a thought may speak of such tags: these are words, and so are
tags in code. Only a closing tag that nothing has opened turns what came before it into thoughts.
"""

import re
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import Literal

from modelrunner.frozen import frozen

_NAMES = ("think", "thinking", "thought", "thoughts", "reasoning", "reason", "seed:think")
_PAIRS = (
    *((f"<{name}>", f"</{name}>") for name in _NAMES),
    ("[think]", "[/think]"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
    ("◁think▷", "◁/think▷"),
)
_CLOSES = (*(close for _, close in _PAIRS), "<|channel|>final<|message|>")
_WRAPPERS = (
    "<|start_response|>",
    "<|end_response|>",
    "<|begin_of_solution|>",
    "<|end_of_solution|>",
)
"""Marks around the answer itself: no words, whatever they stand beside."""

_SPOKEN = ("here is my thought process:", "here's my thought process:")
_SPOKEN_END = ("here is my response:", "here's my response:")

# gpt-oss without its special tokens, as llama-cpp-python gives it: "analysisHm.assistantfinalHello"
_BARE, _BARE_END = "analysis", ("assistantfinal",)
_BARE_START = re.compile(r"analysis[^\W\d_]")

_CHANNEL, _START, _MESSAGE = "<|channel|>", "<|start|>", "<|message|>"
_ENDS = ("<|end|>", "<|return|>", "<|call|>", _START, _CHANNEL)
_CHANNEL_NAME = re.compile(r"<\|channel\|>\s*(\w*)")
_LONGEST_HEADER = 2000

_OPENINGS = (*(opening for opening, _ in _PAIRS), *_SPOKEN, _CHANNEL, _START, *_CLOSES)
_FENCE = re.compile(r"\s*(?:(?:[>*+-]|\d+[.)])\s+)*(`{3,}|~{3,})")
_TICKS = re.compile("`+")

Kind = Literal["words", "thoughts", "words_were_thoughts", "thoughts_were_words"]


def _any_of(marks: Sequence[str]) -> re.Pattern[str]:
    # the longest first: `<|channel>thought` is more than its beginning
    return re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))), re.IGNORECASE)


_IN_WORDS_MARKS = (*(opening for opening, _ in _PAIRS), *_CLOSES, *_WRAPPERS)
_IN_WORDS = _any_of(_IN_WORDS_MARKS)


class Opening(Enum):
    """What a prompt says of the thoughts that follow it."""

    NEVER = auto()
    """The model does not think: a tag that nothing opened is a word."""

    BY_MODEL = auto()
    """The model opens its thoughts itself, if it has any."""

    BY_PROMPT = auto()
    """The prompt ends in an opening tag: an answer begins with thoughts."""

    UNKNOWN = auto()
    """Either; it shows when a closing tag comes."""


_GENERATION = re.compile(r"{%-?\s*(?:el)?if\b[^%]*\badd_generation_prompt\b")
_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
_THINKS = re.compile(r"think|reason|thought|<\|channel|analysis", re.IGNORECASE)
_ENDS_OPEN = _any_of([opening for opening, _ in _PAIRS])


def opening_of(template: str | None) -> Opening:
    """What a chat template in Jinja says of thoughts, as far as its text says.

    Args:
        template: The template; None where there is none.
    """
    if template is None:
        return Opening.UNKNOWN
    if not _THINKS.search(template):
        return Opening.NEVER
    starts = list(_GENERATION.finditer(template))
    if not starts:
        return Opening.UNKNOWN
    prompt = template[starts[-1].start() :]
    texts = [one or other for one, other in _LITERAL.findall(prompt)]
    texts += re.split(r"{[{%#].*?[}%#]}", prompt, flags=re.DOTALL)
    opened = [text for text in texts if _ends_open(text)]
    if not opened:
        return Opening.BY_MODEL
    # with conditions in it, what holds is not for the text to tell
    conditional = len(_branches(prompt)) > 0 or any(close in prompt for close in _CLOSES)
    return Opening.UNKNOWN if conditional else Opening.BY_PROMPT


def _ends_open(text: str) -> bool:
    bare = re.sub(r"(?:\\n|\s)+\Z", "", text)
    last = [mark.end() for mark in _ENDS_OPEN.finditer(bare)]
    return bool(last) and last[-1] == len(bare)


def _branches(prompt: str) -> list[str]:
    conditions = re.findall(r"{%-?\s*(?:el)?if\b([^%]*)%}", prompt)
    return [found for found in conditions if "add_generation_prompt" not in found]


@frozen
class Part:
    """The next part of an answer.

    Attributes:
        kind: `words` or `thoughts`; `words_were_thoughts`: all words so far are thoughts;
            `thoughts_were_words`: the thoughts since the last words are words, and `text` is them.
        text: What was written.
    """

    kind: Kind
    text: str = ""


class ThoughtSplitter:
    """Splits an answer that comes in pieces into thoughts and words.

    Args:
        opening: What the prompt says of thoughts.
    """

    def __init__(self, opening: Opening = Opening.UNKNOWN) -> None:
        self._opening = opening
        self._held = ""
        self._state: Literal["start", "thoughts", "words", "header", "body"] = "start"
        self._closes: Sequence[str] = ()
        self._soft: str | None = None
        """The opening of thoughts that are words if nothing closes them; None if they are not."""
        self._given = ""
        """The soft thoughts so far."""
        self._thought = False
        """Whether there were thoughts."""
        self._fresh = True
        """Whether line feeds before the next words are to be dropped: it begins the answer."""
        self._quoted = False
        """Whether an opening tag was among the words."""
        self._final = False
        self._code = _Code()

    @property
    def inside(self) -> bool:
        """Whether the answer has come no further than its thoughts."""
        return self._state == "thoughts" or (self._state in {"header", "body"} and not self._final)

    @property
    def certain(self) -> bool:
        """Whether words that were given stay words, whatever follows."""
        return self._thought or self._opening in {Opening.NEVER, Opening.BY_MODEL}

    def feed(self, text: str, reasoning: str = "") -> list[Part]:
        """Take the next piece; what may still become a tag is held back.

        Args:
            text: What the server sent as the answer.
            reasoning: What it sent as thoughts.
        """
        parts: list[Part] = []
        if reasoning:
            if self._state == "start" and not self._held:
                # the server splits: what it sends as the answer is the answer
                self._opening = Opening.BY_MODEL
            self._thought = True
            parts.append(Part("thoughts", reasoning))
        if text:
            self._held += text
            parts += self._advance()
        return parts

    def flush(self, *, complete: bool = False) -> list[Part]:
        """Take back what was held: the answer is over.

        Args:
            complete: Whether the model came to an end of its own.
        """
        held, self._held = self._held, ""
        if self._state == "start" and held and self._opening is Opening.BY_PROMPT:
            self._think((*_CLOSES,), soft="")
        if self._state == "thoughts":
            if self._soft is not None and complete:
                words = self._soft + self._given + held
                self._state = "words"
                return [Part("thoughts_were_words", words)] if words else []
            return [Part("thoughts", held)] if held else []
        if self._state == "header":
            return []
        if self._state == "body" and not self._final:
            return [Part("thoughts", held)] if held else []
        return list(self._say(held))

    def _advance(self) -> Iterator[Part]:
        """The parts that are sure now."""
        step = True
        while step:
            before = (self._state, self._held)
            match self._state:
                case "start":
                    self._start()
                case "thoughts":
                    yield from self._in_thoughts()
                case "words":
                    yield from self._in_words()
                case "header":
                    self._in_header()
                case "body":
                    yield from self._in_body()
            step = bool(self._held) and (self._state, self._held) != before

    def _start(self) -> None:
        """See whether the answer starts with a thought."""
        start = self._held.lstrip()
        lower = start.lower()
        by_prompt = self._opening is Opening.BY_PROMPT
        if _may_become_a_mark(lower) and (start or not by_prompt):
            return
        for opening, close in _PAIRS:
            if lower.startswith(opening):
                self._held = start[len(opening) :]
                self._think((close,))
                return
            if lower.startswith(close):
                self._held = start[len(close) :]
                self._thought, self._state = True, "words"
                return
        if lower.startswith((_CHANNEL, _START)):
            self._held, self._state, self._thought = start, "header", True
        elif not self._start_spoken(start) and by_prompt:
            self._think(_CLOSES, soft="")
        elif self._state == "start":
            self._state, self._fresh = "words", False

    def _start_spoken(self, start: str) -> bool:
        """Whether the answer starts with words that open a thought."""
        spoken = next((mark for mark in _SPOKEN if start.lower().startswith(mark)), None)
        if spoken is not None:
            self._think(_SPOKEN_END, soft=start[: len(spoken)])
        elif _BARE_START.match(start):
            self._think(_BARE_END, soft=_BARE)
        else:
            return False
        self._held = start.removeprefix(self._soft or "")
        return True

    def _think(self, closes: Sequence[str], *, soft: str | None = None) -> None:
        self._state, self._closes, self._soft, self._given = "thoughts", closes, soft, ""

    def _in_thoughts(self) -> Iterator[Part]:
        close = _any_of(self._closes).search(self._held)
        if close is not None:
            thought, self._held = self._held[: close.start()], self._held[close.end() :]
            self._state, self._thought, self._fresh = "words", True, True
        else:
            sure = len(self._held) - _overlap(self._held, self._closes)
            thought, self._held = self._held[:sure], self._held[sure:]
        if thought:
            if self._soft is not None:
                self._given += thought
            yield Part("thoughts", thought)

    def _in_words(self) -> Iterator[Part]:
        mark = _IN_WORDS.search(self._held)
        if mark is None:
            sure = len(self._held) - _overlap(self._held, _IN_WORDS_MARKS)
            words, self._held = self._held[:sure], self._held[sure:]
            yield from self._say(words)
            return
        words, self._held = self._held[: mark.start()], self._held[mark.end() :]
        yield from self._say(words)
        tag = mark[0]
        lower = tag.lower()
        if self._code.inside:
            yield from self._say(tag)
        elif lower in _WRAPPERS:
            pass
        elif lower in _CLOSES:
            if self._thought and self._fresh:
                pass  # a closing tag right behind thoughts closes nothing more
            elif self._quoted or self._thought or self._opening is Opening.NEVER:
                yield from self._say(tag)
            else:
                self._thought = self._fresh = True
                self._code = _Code()
                yield Part("words_were_thoughts")
        elif self._thought:
            close = next(close for opening, close in _PAIRS if opening == lower)
            self._think((close,), soft=tag)
        else:
            self._quoted = True
            yield from self._say(tag)

    def _say(self, words: str) -> Iterator[Part]:
        if self._fresh and self._thought:
            words = words.lstrip("\n")
        if words:
            self._fresh = False
            self._code.feed(words)
            yield Part("words", words)

    def _in_header(self) -> None:
        header, mark, rest = self._held.partition(_MESSAGE)
        if not mark:
            if len(self._held) > _LONGEST_HEADER:
                self._state, self._final = "body", True
            return
        name = _CHANNEL_NAME.search(header)
        self._final = name is None or name[1] == "final"
        self._state, self._held = "body", rest

    def _in_body(self) -> Iterator[Part]:
        end = next(
            (found for found in _any_of(_ENDS).finditer(self._held) if not self._is_code(found)),
            None,
        )
        if end is None:
            sure = len(self._held) - _overlap(self._held, _ENDS)
            text, self._held = self._held[:sure], self._held[sure:]
        else:
            text = self._held[: end.start()]
            again = end[0].lower() in {_START, _CHANNEL}
            self._held = self._held[end.start() if again else end.end() :]
        if text and self._final:
            yield from self._say(text)
        elif text:
            yield Part("thoughts", text)
        if end is not None:
            if not self._final:
                yield Part("thoughts", "\n")
            self._state = "header"

    def _is_code(self, mark: re.Match[str]) -> bool:
        if not self._final:
            return False
        code = self._code.copy()
        code.feed(self._held[: mark.start()])
        return code.inside


class _Code:
    """Whether the end of a text in Markdown lies in code."""

    def __init__(self) -> None:
        self._fence = ""
        self._line = ""

    def copy(self) -> "_Code":
        twin = _Code()
        twin._fence, twin._line = self._fence, self._line
        return twin

    def feed(self, text: str) -> None:
        *lines, rest = text.split("\n")
        for line in lines:
            self._end_line(self._line + line)
            self._line = ""
        self._line += rest

    def _end_line(self, line: str) -> None:
        fence = _FENCE.match(line)
        if fence is None:
            return
        if not self._fence:
            self._fence = fence[1]
        elif fence[1].startswith(self._fence) and not line[fence.end() :].strip():
            self._fence = ""

    @property
    def inside(self) -> bool:
        if self._fence or self._line.startswith(("    ", "\t")):
            return True
        opened = 0
        for run in _TICKS.findall(self._line):
            if opened == 0:
                opened = len(run)
            elif opened == len(run):
                opened = 0
        return opened > 0


def _may_become_a_mark(lower: str) -> bool:
    """Whether more of an answer has to come before it is known how it starts."""
    marks = (*_OPENINGS, _BARE + "x")
    return any(mark.startswith(lower) and mark != lower for mark in marks)


def _overlap(text: str, marks: Sequence[str]) -> int:
    """How much of the end of a text may be the start of a mark."""
    longest = max(map(len, marks)) - 1
    end = text[-longest:].lower()
    firsts = {mark[0] for mark in marks}
    for at, letter in enumerate(end):
        if letter in firsts:
            rest = end[at:]
            if any(mark.startswith(rest) and mark != rest for mark in marks):
                return len(rest)
    return 0
