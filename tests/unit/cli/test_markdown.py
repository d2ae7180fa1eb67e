import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.cli.markdown import Blocks, renderer

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


def blocks(*pieces: str) -> list[str]:
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
    assert "\n".join(blocks(*pieces)).replace("\n", "") == "".join(pieces).replace("\n", "")


def test_a_block_is_open_until_the_next_one_begins() -> None:
    stream = Blocks()
    assert stream.feed("a\n\n") == []
    assert stream.feed("# b") == []
    assert stream.feed("\n") == ["a\n"]
    assert stream.open == "# b\n"


def test_without_colour_there_is_bold_and_no_colour() -> None:
    drawn = "\n".join(renderer(colour=False)("**a** `b`\n\n```python\nx = 1\n```", 40))
    codes = {code for found in re.findall(r"\x1b\[([0-9;]*)m", drawn) for code in found.split(";")}
    assert codes <= {"0", "1", "2", "3", "4"}
    assert "1" in codes
