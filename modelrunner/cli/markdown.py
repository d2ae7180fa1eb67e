"""Markdown drawn while it is written: what is finished is printed once, the rest may still change.

An answer is a row of blocks: paragraphs, lists, tables, code. As soon as a block begins the one
before it is finished, and nothing that follows changes how that looks.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from rich.markdown import Markdown

_TRAILING = re.compile(r"[ ]+((?:\x1b\[[0-9;]*m)*)$")
_BLANK = re.compile(r"(?:\x1b\[[0-9;]*m|\s)*")

Render = Callable[[str, int], Sequence[str]]
"""The lines of a block at a width."""


class Blocks:
    """The blocks of a text that comes in pieces."""

    def __init__(self) -> None:
        self._parser = _parser()
        self.open = ""
        """What is not finished yet."""

    def feed(self, piece: str) -> list[str]:
        """The blocks that are finished with this piece."""
        self.open += piece
        if "\n" not in piece:
            # a line that is not whole may become anything
            return []
        whole = self.open[: self.open.rfind("\n") + 1]
        starts = [
            token.map[0]
            for token in self._parser.parse(whole)
            if token.level == 0 and token.map is not None
        ]
        if len(starts) < 2:  # noqa: PLR2004 - the last one is not finished
            return []
        lines = whole.split("\n")
        bounds = [0, *starts[1:]]
        finished = ["\n".join(lines[start:end]) for start, end in pairwise(bounds)]
        self.open = "\n".join(lines[starts[-1] :]) + self.open[len(whole) :]
        return finished


def renderer(*, colour: bool) -> Render:
    """Draws blocks of Markdown as lines for a terminal.

    Markup that a terminal cannot show stays as it was written; a link shows where it leads.
    """
    import io

    from rich.console import Console
    from rich.theme import Theme

    # no background: it is made for a black terminal
    theme = Theme({"markdown.code": "bold cyan"})

    def render(block: str, width: int) -> Sequence[str]:
        console = Console(
            file=io.StringIO(),
            force_terminal=True,
            no_color=not colour,
            width=width,
            theme=theme,
            legacy_windows=False,
        )
        with console.capture() as drawn:
            console.print(_document(block))
        return _trimmed(drawn.get().split("\n"))

    return render


def _trimmed(lines: Sequence[str]) -> list[str]:
    """Lines without the spaces behind them and the empty ones around them."""
    kept = [_TRAILING.sub(r"\1", line) for line in lines]
    full = [at for at, line in enumerate(kept) if not _BLANK.fullmatch(line)]
    return kept[full[0] : full[-1] + 1] if full else []


def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    # HTML is no markup here but text: it shall be seen
    return MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


def _document(block: str) -> "Markdown":
    from typing import ClassVar

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
    from rich.padding import Padding
    from rich.syntax import Syntax

    class Code(CodeBlock):
        def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
            code = str(self.text).rstrip()
            syntax = Syntax(code, self.lexer_name, theme=self.theme, word_wrap=True)
            yield Padding(syntax, (0, 0, 0, 2))

    class LeftHeading(Heading):
        LEVEL_ALIGN: ClassVar = dict.fromkeys(Heading.LEVEL_ALIGN, "left")

    class Document(Markdown):
        elements: ClassVar[dict[str, type[MarkdownElement]]] = {
            **Markdown.elements,
            "code_block": Code,
            "fence": Code,
            "heading_open": LeftHeading,
        }

    document = Document("", code_theme="ansi_dark", hyperlinks=False)
    document.parsed = _parser().parse(block)
    for token in document.parsed:
        for child in token.children or ():
            if child.type == "softbreak":
                # who writes a poem means its lines
                child.type = "hardbreak"
    return document
