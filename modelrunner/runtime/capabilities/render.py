"""The child that renders chat templates to see what a model can do: one JSON line for each.

Templates are programs of strangers. They run in Jinja's sandbox, in a process with limits of
memory and of processor time, and each has a second: one that needs more, or more text, is looked at
instead. A template whose arithmetic cannot be interrupted ends this process alone; the parent goes
on behind it.

    stdin   ["{% for message in messages %}...", ...]
    stdout  {"tools": true, "thinking": {...}, "rendered": true}
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from modelrunner.frozen import asdict
from modelrunner.runtime.capabilities.facts import TemplateFacts, Thinking, Word
from modelrunner.runtime.capabilities.look import (
    BUDGETS,
    EFFORTS,
    LEVELS,
    MESSAGES,
    SWITCHES,
    closes,
    look,
    names,
    opens,
    speaks_of_thoughts,
)

MEMORY_LIMIT = 512 * 1024 * 1024
"""Bytes of address space."""

SECONDS = 1.0
"""Processor time for one template."""

_UNINTERRUPTIBLE_S = 3
"""Seconds of processor time after which a template ends the process that it does not let go."""

_LONGEST = 1024 * 1024
"""Characters of a prompt; a real one of a short conversation has some thousands."""

_TOOL = "zz_weather_zz"
_UNKNOWN = "zz_effort_zz"
_NO_EFFORT = ("none", "no_think", "off", "disabled")
_ASKED = {"role": "user", "content": "Hi"}
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": "Says the weather.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "Where."}},
                "required": ["city"],
            },
        },
    }
]
_CONVERSATIONS: Sequence[Sequence[Mapping[str, object]]] = (
    [_ASKED],
    [{"role": "system", "content": "Be brief."}, _ASKED],
    [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
)
"""What most templates take, and what some insist on."""


class _TookTooLongError(Exception):
    """A template needs more than its share of time or text."""


def main() -> None:
    """Answer for each template that stdin has."""
    # trusted: the parent, which is our own, has written it
    templates = json.loads(sys.stdin.read())
    signal.signal(signal.SIGVTALRM, _out_of_time)
    for template in templates:
        _limit()
        line = json.dumps(asdict(facts(template))).encode() + b"\n"
        os.write(1, line)


def facts(template: str) -> TemplateFacts:
    """Return what a template shows of a model; what its text says where it cannot be rendered."""
    try:
        with _bounded():
            return _tried(template)
    except Exception:  # noqa: BLE001 - whatever a stranger's program comes to
        return look(template)


def _tried(template: str) -> TemplateFacts:
    trial = _trial(template)
    return TemplateFacts(tools=_shows_tools(trial), thinking=_thinking(trial))


@dataclass(frozen=True, slots=True)
class _Trial:
    """A template that can be rendered.

    Attributes:
        source: Its text.
        render: Renders messages with variables.
        messages: A conversation that it takes.
        plain: The prompt that it makes of them.
    """

    source: str
    render: Callable[[Sequence[Mapping[str, object]], Mapping[str, object]], str | None]
    messages: Sequence[Mapping[str, object]]
    plain: str

    def prompt(self, **variables: Word) -> str | None:
        """Return the prompt with variables set; None where the template refuses them."""
        return self.render(self.messages, variables)


def _trial(template: str) -> _Trial:
    render = _renderer(template)
    for messages in _CONVERSATIONS:
        plain = render(messages, {})
        if plain is not None:
            return _Trial(template, render, messages, plain)
    raise ValueError("the template takes no conversation")


def _renderer(
    template: str,
) -> Callable[[Sequence[Mapping[str, object]], Mapping[str, object]], str | None]:
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The tag of the Hugging Face Hub's library around what a model has said."""

        tags = {"generation"}  # noqa: RUF012 - Jinja's own

        def parse(self, parser: Any) -> Any:  # noqa: ANN401 - Jinja's own
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _raise, "strftime_now": _moment}
    compiled = environment.from_string(template)

    def render(
        messages: Sequence[Mapping[str, object]], variables: Mapping[str, object]
    ) -> str | None:
        said = {"bos_token": "", "eos_token": "", "add_generation_prompt": True, **variables}
        try:
            return _joined(compiled.generate(messages=messages, **said))
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
            return None

    return render


def _joined(pieces: Iterator[str]) -> str:
    kept, length = [], 0
    for piece in pieces:
        length += len(piece)
        if length > _LONGEST:
            raise _TookTooLongError
        kept.append(piece)
    return "".join(kept)


def _shows_tools(trial: _Trial) -> bool:
    tools: Any = _TOOLS
    for messages in (trial.messages, *_CONVERSATIONS):
        shown = trial.render(messages, {"tools": tools})
        if shown is not None and _TOOL in shown:
            return True
    return False


def _thinking(trial: _Trial) -> Thinking | None:
    switch, on, off, message = _switch(trial)
    lit = {switch: on} if switch is not None and on is not None and not message else {}
    effort, levels, effort_off, plain = _effort(trial, lit)
    budget = next((name for name in BUDGETS if _counts(trial, name)), None)
    says = (switch, message, effort, budget, speaks_of_thoughts(trial.source), opens(trial.plain))
    if not any(says):
        return None
    shining = trial.prompt(**lit) or trial.plain
    if effort and levels and not opens(shining):
        shining = trial.prompt(**lit, **{effort: levels[-1]}) or shining
    return Thinking(
        switch=switch,
        on=on,
        off=off,
        message=message,
        effort=effort,
        levels=levels,
        effort_off=effort_off,
        plain=plain,
        budget=budget,
        default=_by_default(trial, switch, on, off, effort, effort_off, message=message),
        opens=opens(shining),
        opens_by_default=opens(trial.plain),
    )


def _switch(trial: _Trial) -> tuple[str | None, Word | None, Word | None, bool]:
    """Return the switch, its values, and whether it is a word in the system prompt."""
    for name, on, off in SWITCHES:
        if not names(trial.source, name):
            continue
        lit, dark = trial.prompt(**{name: on}), trial.prompt(**{name: off})
        if lit is not None and dark is not None and lit != dark:
            return name, on, off, False
    on, off = MESSAGES
    if off in trial.source:
        lit, dark = _with_system(trial, on), _with_system(trial, off)
        if lit is not None and dark is not None and opens(lit) != opens(dark):
            return None, on, off, True
    return None, None, None, False


def _with_system(trial: _Trial, words: str) -> str | None:
    return trial.render([{"role": "system", "content": words}, _ASKED], {})


def _effort(
    trial: _Trial, lit: Mapping[str, Word]
) -> tuple[str | None, tuple[str, ...], str | None, bool]:
    """Return the variable, its levels, its word for none, and whether it may be left out."""
    for name in EFFORTS:
        if not names(trial.source, name):
            continue

        def shown(word: str, name: str = name) -> str | None:
            return trial.prompt(**lit, **{name: word})

        stranger, bare = shown(_UNKNOWN), trial.prompt(**lit)

        def is_known(word: str, stranger: str | None = stranger) -> bool:
            """Whether a word does more than to be repeated."""
            text = shown(word)
            echoed = None if stranger is None else stranger.replace(_UNKNOWN, word)
            return text not in (None, echoed)

        levels = tuple(filter(is_known, LEVELS))
        off = next(filter(is_known, _NO_EFFORT), None)
        if not levels and stranger is not None and _UNKNOWN in stranger:
            # it hands on what it is told: the words that models are trained for
            return name, ("low", "medium", "high"), off, False
        if levels or off is not None:
            states = [shown(word) for word in (*levels, *filter(None, [off]))]
            return name, levels, off, bare not in states
    return None, (), None, False


def _counts(trial: _Trial, name: str) -> bool:
    if not names(trial.source, name):
        return False
    none, some = trial.prompt(**{name: 0}), trial.prompt(**{name: 512})
    return None not in (none, some) and none != some


def _by_default(
    trial: _Trial,
    switch: str | None,
    on: Word | None,
    off: Word | None,
    effort: str | None,
    effort_off: str | None,
    *,
    message: bool,
) -> bool:
    """Whether the model thinks where nothing is said."""
    if message or (switch is None and effort_off is None):
        return not closes(trial.plain)
    if switch is not None and off is not None and on is not None:
        if trial.plain == trial.prompt(**{switch: on}):
            return True
        if trial.plain == trial.prompt(**{switch: off}):
            return False
    elif effort is not None and effort_off is not None:
        return trial.plain != trial.prompt(**{effort: effort_off})
    return not closes(trial.plain)


def _to_json(value: object, **options: Any) -> str:  # noqa: ANN401 - as templates call it
    known = {key: options[key] for key in ("indent", "separators", "sort_keys") if key in options}
    # llama.cpp's own engine makes lists where Jinja's filters make generators
    return json.dumps(
        value, ensure_ascii=options.get("ensure_ascii", False), default=_listed, **known
    )


def _listed(value: object) -> list[object]:
    if isinstance(value, Iterator):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _raise(message: str) -> NoReturn:
    from jinja2.exceptions import TemplateError

    raise TemplateError(message)


def _moment(form: str) -> str:
    # the same at every rendering, so that what differs is the template's doing
    return time.strftime(form, time.gmtime(0))


@contextmanager
def _bounded() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _out_of_time(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _TookTooLongError


def _limit() -> None:
    try:
        import resource
    except ImportError:
        return
    # bounded: the clock of this process
    until = int(time.process_time()) + _UNINTERRUPTIBLE_S
    for what, most in ((resource.RLIMIT_AS, MEMORY_LIMIT), (resource.RLIMIT_CPU, until)):
        with suppress(ValueError, OSError):
            _soft, hard = resource.getrlimit(what)
            resource.setrlimit(what, (most, hard))


if __name__ == "__main__":
    main()
