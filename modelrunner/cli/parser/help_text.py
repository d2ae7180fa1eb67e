"""How `--help` is laid out: commands in groups, options of a command before those of all commands.

The parser writes defaults and limits in brackets of its own behind a text, `[default: 8080;
1<=x<=65535]`. They become part of the sentence: `(default: 8080; from 1 to 65535)`.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

_EXTRAS = r"(?s)(?:(?P<text>.*\S)  )?\[(?P<extras>[^\[\]]+)\]"
_HAND_WRITTEN = r"(?s)(.*)\(([^()]*)\)"
_LARGEST = 2**31 - 1
"""A limit from this value on is the type's, and is not shown."""


def write_parameters(ctx: Any, formatter: Any, shared: Collection[str]) -> None:  # noqa: ANN401 - the parser's are private
    """Write the arguments of a command, its options, and then those that every command has.

    Args:
        ctx: The parser's context of the command.
        formatter: The parser's, which is written to.
        shared: The names of the parameters that every command has.
    """
    for title, rows in parameters(ctx, shared).items():
        write_section(formatter, title, rows)


def parameters(ctx: Any, shared: Collection[str]) -> dict[str, list[tuple[str, str]]]:  # noqa: ANN401 - see above
    """The arguments and options of a command with what they mean, by the title of their list."""
    sections: dict[str, list[tuple[str, str]]] = {
        "Arguments": [],
        "Options": [],
        "Global options": [],
    }
    for parameter in ctx.command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        term = record[0]
        if parameter.param_type_name == "argument":
            title = "Arguments"
            # not every version of the parser says the type behind it
            term = parameter.metavar or term
        else:
            title = "Global options" if parameter.name in shared else "Options"
        sections[title].append((_choices(term), sentence(record[1])))
    return sections


def usage_piece(piece: str) -> str:
    """Return a word of a usage line: `REF` for `{REF}`, which nobody types, `[X]` for `[[X]]`."""
    piece = piece.strip("{}")
    return piece[1:-1] if piece.startswith("[[") and piece.endswith("]]") else piece


def _choices(term: str) -> str:
    """Return a term with its choices in the same brackets, whatever the parser's version."""
    return re.sub(r"\[([\w-]+(?:\|[\w-]+)+)\]", r"<\1>", term)


def write_section(formatter: Any, title: str, records: Iterable[tuple[str, str]]) -> None:  # noqa: ANN401 - see above
    """Write a titled list of terms and what they mean; nothing where there are none."""
    rows = list(records)
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


def sentence(text: str) -> str:
    """Return a help text with the parser's brackets made part of it."""
    found = re.fullmatch(_EXTRAS, text)
    if found is None:
        return text
    said = [words for part in found["extras"].split("; ") if (words := _in_words(part))]
    body = (found["text"] or "").rstrip(".")
    if not said:
        return f"{body}." if body else ""
    written = re.fullmatch(_HAND_WRITTEN, body)
    if written is not None:
        return f"{written[1]}({written[2]}; {'; '.join(said)})."
    return f"{body} ({'; '.join(said)}).".lstrip()


def limits(text: str) -> str:
    """Return a range of the parser, `x>=1` or `1<=x<=16`, in words; empty for no real limit."""
    low = re.search(r"([\d.e+-]+)<=?x|x>=?([\d.e+-]+)", text)
    high = re.search(r"x<=?([\d.e+-]+)", text)
    least = next(filter(None, low.groups()), None) if low else None
    most = high[1] if high and float(high[1]) < _LARGEST else None
    if least and most:
        return f"from {least} to {most}"
    if least:
        return f"at least {least}"
    return f"at most {most}" if most else ""


def _in_words(part: str) -> str:
    """One entry of the parser's brackets; empty for what the usage line shows, or goes unsaid."""
    if part == "required":
        return ""
    if "x" in part and re.fullmatch(r"[\d.e+<=>x-]+", part):
        words = limits(part)
        return "" if words in ("at least 0", "at least 1", "at least 0.0") else words
    return part
