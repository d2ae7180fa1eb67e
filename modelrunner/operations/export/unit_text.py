r"""The text of systemd's units, which Podman's units are made of too: sections, and safe values.

    [Service]
    ExecStart="/usr/bin/llama-server" "--alias" "100%% \"mine\""

See systemd.syntax(7) and systemd.service(5), "Command lines".
"""

import re
from collections.abc import Iterable, Mapping, Sequence

Entries = Sequence[tuple[str, str]]

_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@+-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "%": "%%"}


def unit(sections: Mapping[str, Entries], comments: Sequence[str] = ()) -> str:
    """A unit's file, its comments before the first section."""
    parts = ["".join(f"# {line}\n" for line in comments)]
    for name, entries in sections.items():
        lines = [f"[{name}]", *(f"{key}={value}" for key, value in entries)]
        parts.append("".join(f"{line}\n" for line in lines))
    return "\n".join(part for part in parts if part)


def text(value: str) -> str:
    """A value that stands alone on its line: specifiers mean nothing."""
    return value.replace("%", "%%")


def word(value: str) -> str:
    """A value as one word, whatever is in it."""
    if _PLAIN.fullmatch(value):
        return value
    return '"' + "".join(map(_escaped, value)) + '"'


def command(words: Iterable[str]) -> str:
    """A command line, in which no variable is looked up either."""
    return " ".join(word(each).replace("$", "$$") for each in words)


def _escaped(mark: str) -> str:
    if mark in _ESCAPES:
        return _ESCAPES[mark]
    return mark if mark.isprintable() else f"\\U{ord(mark):08x}"
