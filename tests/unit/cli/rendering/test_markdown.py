import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.cli.rendering.markdown import Block, Blocks, renderer

ANSWER = """\
# Sorting

Here is **bold** and `code`,
a [link](https://example.org/x) and <b>no bold</b>.

1. first
2. second
   - nested

| name | size |
|---|---:|
| a | 20 |

```python
x = [1,

     2]
```
Done.
"""

DRAWN = """\
Sorting
--
Here is bold and code,
a link (https://example.org/x) and <b>no bold</b>.
--
 1 first
 2 second
 • nested
--
 name size
 ─
 a 20
--
 x = [1,

 2]
--
Done."""


def plain(lines: list[str]) -> str:
    """Lines without styles; how wide columns are is for the library to say."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))
    return re.sub(" {2,}", " ", re.sub("─+", "─", text))


def blocks(*pieces: str) -> list[Block]:
    stream = Blocks()
    return [*(block for piece in pieces for block in stream.feed(piece)), stream.open]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_blocks_are_the_same_however_the_answer_is_cut(size: int) -> None:
    render = renderer(colour=False)
    pieces = [ANSWER[at : at + size] for at in range(0, len(ANSWER), size)]
    assert "\n--\n".join(plain(list(render(block, 60))) for block in blocks(*pieces)) == DRAWN


@given(
    st.lists(st.sampled_from(["# a\n", "\n", "- b\n", "```\n", "text", "\n\n", "| c |\n", "> "]))
)
def test_no_character_of_an_answer_is_lost(pieces: list[str]) -> None:
    assert "\n".join(block.text for block in blocks(*pieces)).replace("\n", "") == "".join(
        pieces
    ).replace("\n", "")


def test_a_block_is_open_until_the_next_one_begins() -> None:
    stream = Blocks()
    assert stream.feed("a\n\n") == []
    assert stream.feed("# b") == []
    assert stream.feed("\n") == [Block("a\n")]
    assert stream.open == Block("# b\n")


def test_code_is_readable_on_black_and_on_white() -> None:
    code = '@a\ndef f(x: int) -> str:\n    """Doc."""\n    return "a" + str(1)  # b\n'
    diff = "-a\n+b\n@@ c\n"
    drawn = renderer(colour=True)(Block(f"```python\n{code}```\n\n```diff\n{diff}```\n`x`"), 60)
    found = re.findall(r"\x1b\[([0-9;]*)m", "\n".join(drawn))
    codes = {int(code) for each in found for code in each.split(";")}
    # neither yellow nor blue, nothing bright, no background
    assert codes <= {0, 1, 2, 31, 32, 35, 36}
    assert {1, 32, 35} <= codes


def test_without_colour_there_is_bold_and_no_colour() -> None:
    drawn = "\n".join(renderer(colour=False)(Block("**a** `b`\n\n```python\nx = 1\n```"), 40))
    codes = {code for found in re.findall(r"\x1b\[([0-9;]*)m", drawn) for code in found.split(";")}
    assert codes <= {"0", "1", "2", "3", "4"}
    assert "1" in codes


N = 100
LONG = {
    "lines": [f"line {number} with some text\n" for number in range(N)],
    "lines that would be items": [f"*{number}* and\n2. so on\n" for number in range(N // 2)],
    "items": [f"- item {number}\n" for number in range(N)],
    "loose items": [f"- item {number}\n\n  more of it\n\n" for number in range(N // 4)],
    "numbers": [f"{number}. item\n" for number in range(1, N)],
    "the same number": ["1. item\n"] * N,
    "items below an item": ["- a\n", *(f"  - item {number}\n" for number in range(N)), "- b\n"],
    "numbers below a number": ["3. a\n", *["   1. item\n"] * N, "4. b\n"],
    "items of three levels": ["- a\n  - b\n    1. c\n"] * (N // 3),
    "lines of an item": ["- a\n", *["  more of it\n"] * N, "- b\n"],
    "a quotation": [f"> line {number}\n" for number in range(N)],
    "quoted items": [f"> - line {number}\n" for number in range(N)],
    "code": ["```python\n", *(f"x = {number}\n\n" for number in range(N // 2)), "```\n", "Done.\n"],
    "code of an item": ["- a\n", "  ```\n", *["  x = 1\n"] * N, "  ```\n", "- b\n"],
    "quoted code": ["> ```\n", *["> x = 1\n"] * N, "> ```\n"],
    "indented code": ["    x = 1\n"] * N,
    "a table": ["| a | b |\n", "|---|---|\n", *(f"| {n} | {n * n} |\n" for n in range(N))],
    "paragraphs": [f"line {number}\n\n" for number in range(N // 2)],
}


def drawn(pieces: list[str]) -> tuple[list[str], int]:
    """The lines of an answer that is drawn after each tenth piece, and how many lines that took."""
    stream, render = Blocks(), renderer(colour=False)
    rows: list[str] = []
    for at, piece in enumerate(pieces, 1):
        for block in stream.feed(piece):
            rows += ["" for _ in rows[:1] if not block.goes_on] + list(render(block, 60))
        if at % 10 and at < len(pieces):
            continue
        last = ["" for _ in rows[:1] if not stream.open.goes_on] + list(render(stream.open, 60))
    return rows + last, stream.parsed + render.drawn  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", LONG)
def test_a_long_block_looks_the_same_in_parts_and_takes_work_by_its_length(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = LONG[kind]
    in_parts, work = drawn(pieces)
    assert work <= 100 * "".join(pieces).count("\n")
    monkeypatch.setattr("modelrunner.cli.rendering.markdown._MOST", 10**9)
    at_once, _ = drawn(["".join(pieces)])
    # how wide numbers and columns are may be another matter in a later part
    assert plain(in_parts).replace(" ", "") == plain(at_once).replace(" ", "")


def test_numbers_go_on_in_a_later_part() -> None:
    rows = drawn(["1. item\n"] * N)[0]
    assert [int(row.split()[0]) for row in rows] == list(range(1, N + 1))


def test_columns_keep_their_widths_in_a_later_part() -> None:
    rows = drawn(["| a | b |\n|---|---|\n", *(f"| {n} | x |\n" for n in range(N))])[0]
    assert len({row.index("x") for row in rows[2:]}) == 1


def test_a_table_in_parts_fits_the_width() -> None:
    wide = "word " * 40
    rows = drawn([f"| {wide} | b |\n|---|---|\n", *(f"| {n} | {wide} |\n" for n in range(70))])[0]
    assert max(map(len, plain(rows).split("\n"))) <= 60
