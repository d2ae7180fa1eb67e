"""How much a model is asked to think: one word of a person, in the words of template and runtime.

    off      the template's switch, or its word for none, or a budget of no tokens
    on       its switch
    low, medium, high
             the level that its template knows, else a limit of tokens
    512      at most 512 tokens

A request carries it, so that a chat can change it: `chat_template_kwargs` and
`reasoning_budget_tokens` of llama.cpp's server. What a model cannot do is said.
"""

from collections.abc import Mapping

from modelrunner.frozen import field, frozen
from modelrunner.runtime.capabilities.facts import Thinking, Word
from modelrunner.runtime.capabilities.look import LEVELS

WORDS = ("off", "on", "low", "medium", "high")
MOST_TOKENS = 2**31 - 1

TOKENS: Mapping[str, int | None] = {"low": 1024, "medium": 8192, "high": None}
"""Tokens that stand for a level where a template has none: as Google's API translates them."""

_LLAMA_CPP = "enable_thinking"
"""What llama.cpp goes by itself, whatever the template calls it."""


@frozen
class ThinkKind:
    """What `--think` and the setting `think` take."""

    def parse(self, text: str) -> str | None:
        """Return the word or the number of tokens; None where it is neither."""
        word = text.strip().lower()
        if word in WORDS:
            return word
        if not (word.isascii() and word.isdigit()) or len(word) > len(str(MOST_TOKENS)):
            return None
        # bounded: by its length
        number = int(word)
        return None if number > MOST_TOKENS else str(number)

    def __str__(self) -> str:
        return f"one of {', '.join(WORDS)}, or a number of tokens"

    @property
    def example(self) -> str:
        """A value that is usual."""
        return "off"


@frozen
class Thought:
    """What is sent to have a model think as much as was asked.

    Attributes:
        arguments: Values for the chat template.
        budget: Tokens to think at most, for the runtime; None leaves it to the runtime.
        words: Words in the system prompt.
        note: What to say of it: that the model cannot, or does otherwise; None where it can.
    """

    arguments: Mapping[str, Word] = field(default_factory=dict)
    budget: int | None = None
    words: str | None = None
    note: str | None = None

    def fields(self) -> dict[str, object]:
        """Return the fields of a request to llama.cpp's server."""
        found: dict[str, object] = {}
        if self.arguments:
            found["chat_template_kwargs"] = dict(self.arguments)
        if self.budget is not None:
            found["reasoning_budget_tokens"] = self.budget
        return found


@frozen
class Thinker:
    """Whoever is asked to think.

    Attributes:
        name: What people call the model.
        thinking: How its chat template lets it think; None where nothing says that it does.
        budgets: Whether the runtime can limit the tokens of thoughts.
        known: Whether its chat template is known at all.
    """

    name: str
    thinking: Thinking | None
    budgets: bool = True
    known: bool = True

    def ask(self, level: str) -> Thought:
        """Return what is sent for a level, as `ThinkKind` has parsed it."""
        if not self.known:
            return _to_strangers(level)
        if self.thinking is None:
            return Thought(
                note=f"the chat template of {self.name} has no thinking: `think` has no effect"
            )
        if level in {"off", "0"}:
            return self._off(self.thinking)
        if level == "on":
            return Thought(_lit(self.thinking), words=_words(self.thinking))
        if level in TOKENS:
            return self._level(self.thinking, level)
        # bounded: `ThinkKind` has looked at it
        return self._at_most(self.thinking, int(level))

    def _off(self, thinking: Thinking) -> Thought:
        dark: dict[str, Word] = {_LLAMA_CPP: False}
        if thinking.message:
            return Thought(words=str(thinking.off))
        if thinking.switch is not None and thinking.off is not None:
            return Thought({**dark, thinking.switch: thinking.off})
        if thinking.effort is not None and thinking.effort_off is not None:
            return Thought({**dark, thinking.effort: thinking.effort_off})
        if thinking.budget is not None:
            return Thought({thinking.budget: 0})
        return self._least(thinking)

    def _least(self, thinking: Thinking) -> Thought:
        """Return the nearest to no thoughts, for a template that cannot do without."""
        if thinking.effort is not None and thinking.levels:
            least = thinking.levels[0]
            return Thought(
                {thinking.effort: least},
                note=f"{self.name} cannot stop thinking: its lowest level, {least}, is used",
            )
        if self.budgets:
            return Thought(budget=0)
        return Thought(note=f"{self.name} cannot stop thinking with this runtime")

    def _level(self, thinking: Thinking, level: str) -> Thought:
        lit, words = _lit(thinking), _words(thinking)
        if thinking.effort is not None and thinking.levels:
            word = _nearest(thinking, level)
            said = lit if word is None else {**lit, thinking.effort: word}
            note = None
            if word != level:
                meant = "its usual one" if word is None else word
                known = ", ".join(thinking.levels)
                note = f"{self.name} knows the levels {known}: for {level}, {meant} is used"
            return Thought(said, words=words, note=note)
        tokens = TOKENS[level]
        if tokens is None:
            return Thought(lit, words=words)
        asked = self._at_most(thinking, tokens)
        note = asked.note or f"{self.name} knows no levels: {level} is at most {tokens} tokens"
        return Thought(asked.arguments, asked.budget, asked.words, note)

    def _at_most(self, thinking: Thinking, tokens: int) -> Thought:
        lit, words = _lit(thinking), _words(thinking)
        if thinking.budget is not None:
            return Thought({**lit, thinking.budget: tokens}, words=words)
        if self.budgets:
            return Thought(lit, tokens, words)
        note = f"{self.name} cannot limit its thoughts to {tokens} tokens with this runtime"
        return Thought(lit, words=words, note=note)


def _lit(thinking: Thinking) -> dict[str, Word]:
    if thinking.switch is None or thinking.on is None:
        return {}
    return {_LLAMA_CPP: True, thinking.switch: thinking.on}


def _words(thinking: Thinking) -> str | None:
    return str(thinking.on) if thinking.message else None


def _nearest(thinking: Thinking, level: str) -> str | None:
    """Return the level of a template for one that was asked for; None leaves it out."""
    if level in thinking.levels:
        return level
    above = [word for word in thinking.levels if LEVELS.index(word) > LEVELS.index(level)]
    if thinking.plain:
        # to say nothing is less than its lowest level, or more than its highest
        return above[0] if level == "high" and above else None
    return above[0] if above else thinking.levels[-1]


def _to_strangers(level: str) -> Thought:
    """Return what servers whose model is not known may understand."""
    if level.isdigit() and level != "0":
        # bounded: `ThinkKind` has looked at it
        return Thought({_LLAMA_CPP: True}, int(level))
    off = level in {"off", "0"}
    arguments: dict[str, Word] = {_LLAMA_CPP: not off}
    if level in TOKENS:
        arguments["reasoning_effort"] = level
    return Thought(arguments)
