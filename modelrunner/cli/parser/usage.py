"""Usage errors in the words of this program rather than its parser's."""

import re
from collections.abc import Callable, Sequence

from modelrunner.cli.parser.command_table import ALIASES
from modelrunner.cli.parser.help_text import limits
from modelrunner.text import available, sanitize_line, suggest

_ELSEWHERE = {
    ("modelrunner", "--install-completion"): "load it in the startup file of your shell:"
    " `modelrunner help completion` shows how",
    ("modelrunner", "--show-completion"): "`modelrunner completion` prints the script",
    ("run", "-d"): "`modelrunner serve REF --detach` starts a model in the background",
    ("run", "--detach"): "`modelrunner serve REF --detach` starts a model in the background",
    ("run", "--openaiurl"): "use --runtime URL for a server that is already running",
    ("run", "--color"): "leave it out; set NO_COLOR=1 for no colors",
    ("list", "--all"): "leave it out: all local models are listed",
    ("list", "-a"): "leave it out: all local models are listed",
    ("list", "--openai"): "use --json",
    ("inspect", "--openai"): "leave it out: the result is JSON",
    ("ps", "-a"): "leave it out: everything that is served is listed",
    ("ps", "--all"): "leave it out: everything that is served is listed",
    ("pull", "--platform"): "leave it out: models are the same on every platform",
    ("pull", "-a"): "name the tags: `modelrunner tags REF` lists them",
    ("pull", "--all-tags"): "name the tags: `modelrunner tags REF` lists them",
    ("logs", "--no-engines"): "leave it out: only the log of the runtime is printed",
    ("package", "--gguf"): "name the file first: `modelrunner package FILE.gguf REF`",
}
"""Options of Docker Model Runner and Docker that are not needed, or have other names."""

_NUMBER = {"int": "a whole number", "float": "a number"}
_Rule = tuple[str, Callable[["re.Match[str]"], str]]
_RULES: Sequence[_Rule] = (
    (
        r"Invalid value for (?P<what>\S.*?): (?P<got>.+) is not in the range (?P<range>.+)",
        # Typer's releases differ in how they write a whole number that may have a fraction
        lambda part: (
            f"{_name(part['what'])} must be {limits(part['range'])},"
            f" got {part['got'].removesuffix('.0')}"
        ),
    ),
    (
        r"Invalid value for (?P<what>\S.*?): (?P<got>.+) is not a valid (?P<kind>int|float)\w*.*",
        lambda part: f"{_name(part['what'])} must be {_NUMBER[part['kind']]}, got {part['got']}",
    ),
    (
        r"Invalid value for (?P<what>\S.*?): (?P<got>'[^']*') is not one of .+",
        lambda part: f"{_name(part['what'])}: invalid value {part['got']}",
    ),
    (
        r"Invalid value for (?P<what>\S.*?): (?P<why>.+)",
        lambda part: f"{_name(part['what'])}: {part['why']}",
    ),
    (r"No such option: (?P<what>\S+).*", lambda part: f"unknown option {part['what']}"),
    (
        r"Missing (?P<kind>argument|option) (?P<what>'[^']+').*",
        lambda part: f"missing {part['kind']} {_name(part['what'])}",
    ),
    (
        r"Option (?P<what>'[^']+') requires .+",
        lambda part: f"option {_name(part['what'])} needs a value",
    ),
    (
        r"Option (?P<what>'[^']+') does not take a value",
        lambda part: f"option {_name(part['what'])} takes no value",
    ),
    (
        r"Got unexpected extra argument(?:s|\(s\))? \((?P<what>.*)\)",
        lambda part: f"unexpected argument {sanitize_line(part['what'], 200)}",
    ),
)
"""The parser's messages, the most specific first, and their replacements."""


def message_of(text: str) -> str:
    """Return a message of the parser in the words of this program."""
    text = text.strip().rstrip(".")
    for pattern, said in _RULES:
        found = re.fullmatch(pattern, text, re.DOTALL)
        if found is not None:
            return said(found)
    return text[:1].lower() + text[1:]


def hint_of(text: str, command: str, option: str, possible: Sequence[str]) -> str:
    """Return the hint.

    Args:
        text: The parser's message.
        command: The command as it was typed, such as `modelrunner run`.
        option: The unknown option, or empty.
        possible: Options that are spelled like it.
    """
    name = command.rpartition(" ")[2]
    name = ALIASES.get(name, name)
    if (name, option) in _ELSEWHERE:
        return _ELSEWHERE[name, option]
    near = suggest(option, possible) if possible else None
    choices = re.search(r"('[^']*') is not one of (.+)", text)
    if choices is not None:
        known = re.findall(r"'([^']*)'", choices[2])
        near = suggest(choices[1].strip("'"), known) or available(known)
    return near or f"`{command} --help` lists its options"


def _name(text: str) -> str:
    """The last spelling of an option, `--quiet` of `'-q' / '--quiet'`; an argument's name."""
    return text.rpartition(" / ")[2].strip("'[].")
