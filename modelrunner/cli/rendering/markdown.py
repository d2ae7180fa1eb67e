"""Markdown drawn while it streams: finished parts are printed once, the rest may still change.

An answer is a row of blocks: paragraphs, lists, tables, code. As soon as a block begins the one
before it is finished, and nothing that follows changes how that looks. A block that grows long is
finished in parts, so that the work for an answer grows with its length and not with its square:

```
1. one                       a list, between two of its items
   - a                       before what follows, the lines that open what it goes on with are
   - b                       read once more: `1. one`; their rows are left out
```
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from modelrunner.frozen import frozen

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_TRAILING = re.compile(r"[ ]+((?:\x1b\[[0-9;]*m)*)$")
_BLANK = re.compile(r"(?:\x1b\[[0-9;]*m|\s)*")
_BLANK_SOURCE = re.compile(r"[\s>]*")

_MOST = 64
"""Maximum lines of a block that is drawn as a whole; a longer one is finished in parts."""
_TAIL = 16
"""Lines of a long block that stay open."""
_CODE_BEFORE = 24
"""Lines of code that are parsed again, for the colors of what they opened."""
_BESIDE_A_CELL = 3
"""Columns between the cells of a table, and around them."""
_LEAST_CELL = 4
_SPARE = 4
"""Columns that a later cell may exceed the widths of a table's first part by."""

# none of the bright colours, nor yellow or blue: each is unreadable on black or on white
_CODE_STYLES = (
    (("Comment",), "dim"),
    (("Keyword",), "magenta"),
    (("Literal", "String"), "green"),
    (("Literal", "Number"), "cyan"),
    (("Name", "Builtin"), "cyan"),
    (("Name", "Class"), "bold"),
    (("Name", "Decorator"), "magenta"),
    (("Name", "Function"), "bold"),
    (("Name", "Tag"), "magenta"),
    (("Generic", "Deleted"), "red"),
    (("Generic", "Heading"), "bold"),
    (("Generic", "Inserted"), "green"),
)

_CONTAINERS = {"list_item_open", "blockquote_open", "fence", "code_block", "table_open"}
_LISTS = {"bullet_list_open", "ordered_list_open"}
_BLOCKS = _CONTAINERS | _LISTS | {"paragraph_open", "heading_open", "hr"}


@frozen
class Block:
    """A block of an answer, or a part of one.

    Attributes:
        text: Its source.
        before: Lines that are parsed before it and not shown again.
        numbers: If it begins within ordered lists, the number of each list's next item.
        goes_on: Whether it continues the previous block.
        more: Whether more of it follows.
    """

    text: str
    before: str = ""
    numbers: tuple[int, ...] = ()
    goes_on: bool = False
    more: bool = False


Render = Callable[[Block, int], Sequence[str]]
"""Renders a block as lines of a width."""


class Blocks:
    """Splits a streamed text into blocks."""

    def __init__(self) -> None:
        self._parser = _parser()
        self._block = Block("")
        self._text: list[str] = []
        self._line_ended = False
        self.parsed = 0
        """Lines parsed so far, a measure of the work."""

    @property
    def open(self) -> Block:
        """The unfinished text."""
        return self._with("".join(self._text))

    def feed(self, piece: str) -> list[Block]:
        """Add a piece, and return the blocks that it finishes."""
        self.add(piece)
        return self.advance()

    def add(self, piece: str) -> None:
        """Add the next piece."""
        self._text.append(piece)
        # a line that is not whole may become anything
        self._line_ended |= "\n" in piece

    def clear(self) -> str:
        """Clear the unfinished text, and return it."""
        rest = "".join(self._text)
        self._text, self._block, self._line_ended = [], Block(""), False
        return rest

    def advance(self) -> list[Block]:
        """Return the blocks that are finished by now."""
        finished: list[Block] = []
        while self._line_ended:
            text = "".join(self._text)
            whole = text[: text.rfind("\n") + 1]
            lines = (self._block.before + whole).split("\n")[:-1]
            tokens = self._parse(lines)
            first = self._block.before.count("\n")
            starts = [t.map[0] for t in tokens if t.level == 0 and t.map is not None]
            bounds = [first, *(start for start in starts[1:] if start > first)]
            blocks = [self._with("\n".join(lines[a:b])) for a, b in pairwise(bounds)]
            if blocks:
                blocks[1:] = [Block(block.text) for block in blocks[1:]]
                block, kept = Block(""), bounds[-1]
            else:
                block, kept = self._block, first
            rest = "".join(f"{line}\n" for line in lines[kept:]) + text[len(whole) :]
            cut = None
            if not blocks and len(lines) - kept > _MOST:
                cut = self._cut(tokens, lines, first)
            if cut is not None:
                at, block = cut
                blocks = [self._with("\n".join(lines[kept:at]), more=True)]
                rest = "".join(f"{line}\n" for line in lines[at:]) + text[len(whole) :]
            # all at once: a Ctrl-C may come anywhere
            self._text, self._block, self._line_ended = [rest], block, bool(blocks)
            finished += blocks
        return finished

    def _with(self, text: str, *, more: bool = False) -> Block:
        block = self._block
        return Block(text, block.before, block.numbers, block.goes_on, more)

    def _parse(self, lines: Sequence[str]) -> "list[Token]":
        self.parsed += len(lines)
        tokens = self._parser.parse("".join(f"{line}\n" for line in lines))
        _number(tokens, self._block.before.count("\n"), self._block.numbers)
        return tokens

    def _cut(
        self, tokens: "Sequence[Token]", lines: Sequence[str], first: int
    ) -> tuple[int, Block] | None:
        """Return where the open block can be cut, and the block that follows, without its text."""
        for at in sorted(_places(tokens, lines), reverse=True):
            if not first < at <= len(lines) - _TAIL:
                continue
            around = [t for t in tokens if t.type in _CONTAINERS and _is_around(t, at)]
            quoted = any(t.type == "blockquote_open" for t in around)
            if quoted and not lines[at].lstrip().startswith(">"):
                continue
            if _in_paragraph(tokens, at) and not self._begins_a_paragraph(lines[at]):
                continue
            again = sorted({number for token in around for number in _read_again(token, at)})
            if again and _BLANK_SOURCE.fullmatch(lines[at - 1]):
                again.append(at - 1)
            before = "".join(f"{lines[number]}\n" for number in dict.fromkeys(again))
            return at, Block("", before, tuple(_numbers_at(tokens, at)), goes_on=True)
        return None

    def _begins_a_paragraph(self, line: str) -> bool:
        """Whether a line of a paragraph also begins a paragraph."""
        self.parsed += 1
        tokens = self._parser.parse(line.lstrip("> \t"))
        return bool(tokens) and tokens[0].type == "paragraph_open"


def _places(tokens: "Sequence[Token]", lines: Sequence[str]) -> Iterator[int]:
    """Return the lines at which a block can be cut."""
    previous = ""
    for token in tokens:
        if token.map is None:
            continue
        start, end = token.map
        if token.type in {"fence", "code_block"}:
            yield start
            inner = range(start + 2, end - 1)
            # blank lines at the end of code are not drawn
            fenced = token.type == "fence"
            yield from (
                at for at in inner if lines[at - 1].strip() and (fenced or lines[at].strip())
            )
        elif (
            token.type == "inline" and previous == "paragraph_open"
        ) or token.type == "tbody_open":
            yield from range(start + 1, end)
        elif token.type in _BLOCKS:
            yield start
        previous = token.type


def _is_around(token: "Token", at: int) -> bool:
    return token.map is not None and token.map[0] < at < token.map[1]


def _in_paragraph(tokens: "Iterable[Token]", at: int) -> bool:
    return any(token.type == "paragraph_open" and _is_around(token, at) for token in tokens)


def _read_again(token: "Token", at: int) -> Iterator[int]:
    """Return the lines that open a container."""
    start = token.map[0] if token.map is not None else 0
    match token.type:
        case "list_item_open":
            yield start
        case "table_open":
            yield from (start, start + 1)
        case "fence":
            yield start
            yield from range(max(start + 1, at - _CODE_BEFORE), at)
        case _:
            # each of their lines opens them
            pass


def _numbers_at(tokens: "Sequence[Token]", at: int) -> Iterator[int]:
    """Return the numbers of the list items around a line, from the outer list inwards."""
    for place, token in enumerate(tokens):
        if token.type != "ordered_list_open" or not _is_around(token, at):
            continue
        number = int(token.attrs.get("start", 1))
        for child in tokens[place + 1 :]:
            if child.level <= token.level:
                break
            if child.type == "list_item_open" and child.level == token.level + 1:
                number += child.map is not None and child.map[1] <= at
        yield number


def _number(tokens: "Iterable[Token]", line: int, numbers: Sequence[int]) -> None:
    """Set the first numbers of the ordered lists around a line."""
    found = (
        token
        for token in tokens
        if token.type == "ordered_list_open"
        and token.map is not None
        and token.map[0] <= line < token.map[1]
    )
    for token, number in zip(found, numbers, strict=False):
        token.attrs["start"] = number


def renderer(*, colour: bool) -> Render:
    """Return a renderer of Markdown blocks as lines for a terminal.

    Markup that a terminal cannot show is kept as source; a link shows its target.
    """
    return _Renderer(colour=colour)


class _Renderer:
    def __init__(self, *, colour: bool) -> None:
        from rich.theme import Theme

        self._colour = colour
        # no background: it is made for a black terminal
        self._theme = Theme({"markdown.code": "bold cyan"})
        self._parser = _parser()
        self._document = _document_class(self)
        self._shown: tuple[Block, int, int] | None = None
        self.widths: list[int] | None = None
        """Widths of the columns of a table that is drawn in parts."""
        self.fixes_widths = False
        self.drawn = 0
        """Lines drawn so far, a measure of the work."""

    def __call__(self, block: Block, width: int) -> Sequence[str]:
        if not block.goes_on:
            self.widths = None
        self.fixes_widths = block.goes_on or block.more
        line = block.before.count("\n")
        rows = self._draw(block.before + block.text, line, block.numbers, width)
        return rows[self._rows_before(block, width) :] if block.before else rows

    def _rows_before(self, block: Block, width: int) -> int:
        """Return the number of rows that repeat earlier ones."""
        key = Block("", block.before, block.numbers, block.goes_on)
        if self._shown is None or self._shown[:2] != (key, width):
            line = block.before.count("\n") - 1
            rows = self._draw(block.before, line, block.numbers, width)
            self._shown = (key, width, len(rows))
        return self._shown[2]

    def _draw(self, text: str, line: int, numbers: Sequence[int], width: int) -> list[str]:
        import io

        from rich.console import Console

        self.drawn += text.count("\n") + 1
        tokens = self._parser.parse(text)
        _number(tokens, line, numbers)
        document = self._document(tokens)
        for token in tokens:
            for child in token.children or ():
                if child.type == "softbreak":
                    # who writes a poem means its lines
                    child.type = "hardbreak"
        console = Console(
            file=io.StringIO(),
            force_terminal=True,
            no_color=not self._colour,
            width=width,
            theme=self._theme,
            legacy_windows=False,
        )
        with console.capture() as drawn:
            console.print(document)
        return _trimmed(drawn.get().split("\n"))


def _trimmed(lines: Sequence[str]) -> list[str]:
    """Return lines without trailing spaces, and without empty lines around them."""
    kept = [_TRAILING.sub(r"\1", line) for line in lines]
    full = [at for at, line in enumerate(kept) if not _BLANK.fullmatch(line)]
    return kept[full[0] : full[-1] + 1] if full else []


def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    # HTML is no markup here but text: it shall be seen
    return MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])


def _document_class(renderer: _Renderer) -> Any:  # noqa: ANN401 - a class of Rich, made here
    from typing import ClassVar

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement, TableElement
    from rich.padding import Padding
    from rich.style import Style
    from rich.syntax import ANSISyntaxTheme, Syntax
    from rich.table import Table

    theme = ANSISyntaxTheme({kind: Style.parse(style) for kind, style in _CODE_STYLES})

    class Code(CodeBlock):
        def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> RenderResult:
            code = str(self.text).rstrip()
            syntax = Syntax(code, self.lexer_name, theme=theme, word_wrap=True)
            yield Padding(syntax, (0, 0, 0, 2))

    class LeftHeading(Heading):
        LEVEL_ALIGN: ClassVar = dict.fromkeys(Heading.LEVEL_ALIGN, "left")

    class EvenTable(TableElement):
        """A table whose parts have columns of equal widths."""

        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for table in super().__rich_console__(console, options):
                if renderer.fixes_widths and isinstance(table, Table):
                    self._fix(table, options.max_width)
                yield table

        def _fix(self, table: Table, width: int) -> None:
            if renderer.widths is None or len(renderer.widths) != len(table.columns):
                header = self.header.row.cells if self.header and self.header.row else []
                rows = [header, *(row.cells for row in (self.body.rows if self.body else []))]
                cells = zip(*rows, strict=True)
                natural = [max(cell.content.cell_len for cell in column) for column in cells]
                renderer.widths = _fitting(natural, width)
            for column, fixed in zip(table.columns, renderer.widths, strict=True):
                column.width = fixed

    class Document(Markdown):
        elements: ClassVar[dict[str, type[MarkdownElement]]] = {
            **Markdown.elements,
            "code_block": Code,
            "fence": Code,
            "heading_open": LeftHeading,
            "table_open": EvenTable,
        }

        def __init__(self, tokens: "Sequence[Token]") -> None:
            # not that of Rich, which makes a parser each time
            self.parsed = list(tokens)
            self.code_theme = self.inline_code_theme = "default"
            self.inline_code_lexer = self.justify = None
            self.style, self.hyperlinks = "none", False

    return Document


def _fitting(widths: Sequence[int], width: int) -> list[int]:
    """Return widths of columns that fit, with the widest reduced."""
    fitting = [each + _SPARE for each in widths]
    room = max(width - _BESIDE_A_CELL * len(fitting), _LEAST_CELL * len(fitting))
    while sum(fitting) > room:
        widest = max(fitting)
        if widest <= _LEAST_CELL:
            break
        second = max((each for each in fitting if each < widest), default=_LEAST_CELL)
        count = fitting.count(widest)
        narrower = max(second, _LEAST_CELL, widest - -(-(sum(fitting) - room) // count))
        fitting = [min(each, narrower) for each in fitting]
    return fitting
