"""What is known of a model's abilities, as values that go through JSON and come back."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from modelrunner.frozen import frozen

Word = str | bool | int
"""What a template takes as the value of a variable."""


@frozen(kw_only=True)
class Thinking:
    """How a chat template lets a model think before it answers.

    Attributes:
        switch: The template's variable that turns thoughts on and off.
        on: Its value for on.
        off: Its value for off.
        message: Whether `on` and `off` are words in the system prompt instead: `/no_think`.
        effort: The variable for how much to think.
        levels: The words that it knows, the least first.
        effort_off: The word of `effort` for no thoughts at all.
        plain: Whether leaving `effort` out is a state of its own, below every level.
        budget: The variable for the most tokens to think; 0 turns it off.
        default: Whether the model thinks where nothing is said.
        opens: Whether the prompt itself opens the thoughts, while the model thinks.
        opens_by_default: Whether it does where nothing is said.
    """

    switch: str | None = None
    on: Word | None = None
    off: Word | None = None
    message: bool = False
    effort: str | None = None
    levels: tuple[str, ...] = ()
    effort_off: str | None = None
    plain: bool = False
    budget: str | None = None
    default: bool = True
    opens: bool = False
    opens_by_default: bool = False

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return what `asdict` made a mapping of."""
        return cls(**{**value, "levels": tuple(value["levels"])})

    @property
    def can_stop(self) -> bool:
        """Whether the template itself can do without thoughts."""
        return self.message or any((self.switch, self.effort_off, self.budget))

    @property
    def how(self) -> str:
        """Return how it is switched, in a few words: `on/off, low/high`."""
        ways = []
        if self.can_stop:
            ways.append("on/off")
        if self.levels:
            ways.append("/".join(self.levels))
        if self.budget:
            ways.append("budget")
        return ", ".join(ways) or "always"


@frozen(kw_only=True)
class TemplateFacts:
    """What a chat template shows of a model.

    Attributes:
        tools: Whether it lists functions to call for the model.
        thinking: How the model thinks; None where nothing says that it does.
        rendered: Whether the template was tried; else its text was looked at.
    """

    tools: bool = False
    thinking: Thinking | None = None
    rendered: bool = True

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return what `asdict` made a mapping of.

        Raises:
            KeyError, TypeError: The mapping is of something else.
        """
        thinking = value["thinking"]
        return cls(
            tools=value["tools"] is True,
            thinking=None if thinking is None else Thinking.from_dict(thinking),
            rendered=value["rendered"] is True,
        )


@frozen(kw_only=True)
class Capabilities:
    """What a model can do.

    Attributes:
        purpose: What it is for.
        template: What its chat template shows; None where it has none.
        images: Whether it comes with a projector for images.
        audio: Whether it comes with a projector for sound.
        draft_heads: Layers that guess the next tokens (MTP): speculative decoding without a draft
            model.
    """

    purpose: Literal["text", "embedding", "ranking"] = "text"
    template: TemplateFacts | None = None
    images: bool = False
    audio: bool = False
    draft_heads: int = 0

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return what `asdict` made a mapping of.

        Raises:
            KeyError, TypeError: The mapping is of something else.
        """
        template = value["template"]
        return cls(
            purpose=value["purpose"],
            template=None if template is None else TemplateFacts.from_dict(template),
            images=value["images"] is True,
            audio=value["audio"] is True,
            # bounded: our own notes
            draft_heads=int(value["draft_heads"]),
        )

    @property
    def chat(self) -> bool:
        """Whether it answers messages."""
        return self.purpose == "text" and self.template is not None

    @property
    def tools(self) -> bool:
        """Whether it gets functions to call."""
        return self.chat and self.template is not None and self.template.tools

    @property
    def thinking(self) -> Thinking | None:
        """How it thinks before it answers; None where nothing says that it does."""
        return self.template.thinking if self.chat and self.template is not None else None

    @property
    def words(self) -> tuple[str, ...]:
        """Return what it can do beyond writing text, a word each: what lists show."""
        have = {
            "tools": self.tools,
            "thinking": self.thinking is not None,
            "images": self.images,
            "audio": self.audio,
            "embeddings": self.purpose == "embedding",
            "reranking": self.purpose == "ranking",
            "drafts": self.draft_heads > 0,
        }
        return tuple(word for word, there in have.items() if there)

    @property
    def listed(self) -> str:
        """Return the words in one line, with how it thinks: `tools, thinking (on/off)`."""
        how = f"thinking ({self.thinking.how})" if self.thinking is not None else ""
        return ", ".join(how if word == "thinking" else word for word in self.words)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON shows it."""
        thinking = self.thinking
        return {
            "chat": self.chat,
            "tools": self.tools,
            "thinking": None if thinking is None else _shown(thinking),
            "images": self.images,
            "audio": self.audio,
            "embeddings": self.purpose == "embedding",
            "reranking": self.purpose == "ranking",
            "draft_heads": self.draft_heads,
        }


def _shown(thinking: Thinking) -> dict[str, object]:
    return {
        "off": thinking.can_stop,
        "levels": list(thinking.levels),
        "budget": thinking.budget is not None,
        "default": "on" if thinking.default else "off",
        "opened_by_prompt": thinking.opens,
        # the variable of the template, for whoever sends `chat_template_kwargs`
        "switch": thinking.switch or thinking.effort or thinking.budget,
    }
