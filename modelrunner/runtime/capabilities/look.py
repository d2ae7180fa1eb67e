"""What the text of a chat template says of a model, without running it.

For templates that cannot be rendered: they take too long, or the language's library is missing.
"""

import re

from modelrunner.runtime.capabilities.facts import TemplateFacts, Thinking

SWITCHES: tuple[tuple[str, str | bool, str | bool], ...] = (
    ("enable_thinking", True, False),
    ("thinking", True, False),
    ("reasoning", True, False),
    ("thinking_mode", "enabled", "disabled"),
    ("thinking_option", "on", "off"),
)
"""Variables that turn thoughts on and off, and their values: Qwen's, DeepSeek's and Granite's,
Cohere's, MiniMax's, Ling's."""

EFFORTS = ("reasoning_effort", "reasoning_strength", "thinking_effort")
"""Variables for how much to think: gpt-oss' and most others', Muse's, Kimi's."""

LEVELS = ("minimal", "low", "medium", "high", "xhigh", "max")
"""Values of such variables, the least first."""

BUDGETS = ("thinking_budget",)
"""Variables for the most tokens to think: Seed's."""

MESSAGES = ("/think", "/no_think")
"""Words in the system prompt, on and off: Nemotron's and others'."""

_NAME = r"(?:\w+:)?(?:think|thinking|thought)(?::\w+)?"
_OPENINGS = (
    rf"<{_NAME}>",
    r"\[THINK\]",
    r"<\|START_THINKING\|>",
    r"<\|channel\|>analysis(?:<\|message\|>)?",
    r"<\|channel>thought",
    r"<\|open\|>think<\|sep\|>",
    r"<\|begin_of_thought\|>",
    r"<\|inner_prefix\|>",
    r"◁think▷",
    r"Here (?:is my thought process|are my reasoning steps):?",
)
_CLOSINGS = (
    rf"</{_NAME}>",
    r"\[/THINK\]",
    r"<\|END_THINKING\|>",
    r"<channel\|>",
    r"<\|end_of_thought\|>",
    r"<\|inner_suffix\|>",
    r"◁/think▷",
)
_TAGS = re.compile("|".join((*_OPENINGS, *_CLOSINGS)), re.IGNORECASE)
_OPEN_AT_END = re.compile(rf"(?:{'|'.join(_OPENINGS)})\s*\Z", re.IGNORECASE)
_CLOSED_AT_END = re.compile(rf"(?:{'|'.join(_CLOSINGS)})\s*\Z", re.IGNORECASE)
_TOOLS = re.compile(r"\btools\b")
_COMMENT = re.compile(r"{#.*?#}", re.DOTALL)


def names(template: str, name: str) -> bool:
    """Whether a template names a variable, outside of comments."""
    return re.search(rf"(?<![\w.'\"-]){name}(?![\w'\"-])", _COMMENT.sub("", template)) is not None


def speaks_of_thoughts(template: str) -> bool:
    """Whether a template has a tag around thoughts in it."""
    return _TAGS.search(_COMMENT.sub("", template)) is not None


def opens(prompt: str) -> bool:
    """Whether a prompt ends in the opening of thoughts."""
    return _OPEN_AT_END.search(prompt) is not None


def closes(prompt: str) -> bool:
    """Whether a prompt ends in thoughts that are over."""
    return _CLOSED_AT_END.search(prompt) is not None


def look(template: str) -> TemplateFacts:
    """Return what a template's text says."""
    switch = next((entry for entry in SWITCHES[:2] if names(template, entry[0])), None)
    effort = next((name for name in EFFORTS if names(template, name)), None)
    budget = next((name for name in BUDGETS if names(template, name)), None)
    thinking = None
    if switch or effort or budget or speaks_of_thoughts(template):
        name, on, off = switch or (None, None, None)
        levels = ("low", "medium", "high") if effort else ()
        thinking = Thinking(
            switch=name, on=on, off=off, effort=effort, levels=levels, budget=budget
        )
    tools = _TOOLS.search(_COMMENT.sub("", template)) is not None
    return TemplateFacts(tools=tools, thinking=thinking, rendered=False)
