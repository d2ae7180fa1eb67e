"""Tables on terminals of every width, and in a pipe."""

import pytest

from modelrunner.cli.terminal.table import Table, cell_width

TABLE = Table(
    ("MODEL NAME", "QUANT", "MODEL ID", "CREATED", "ABOUT"),
    (
        (
            "ai/smollm2:135M-Q4_1",
            "Q4_1",
            "0a418260a4a1",
            "2 months ago",
            "a small model, and prose",
        ),
        ("ai/漢字:latest", "", "30cb9dfbfea1", "", ""),
    ),
    drop=("CREATED", "QUANT"),
    cut=("ABOUT",),
)


def test_a_pipe_gets_everything() -> None:
    assert list(TABLE.lines()) == [
        "MODEL NAME            QUANT  MODEL ID      CREATED       ABOUT",
        "ai/smollm2:135M-Q4_1  Q4_1   0a418260a4a1  2 months ago  a small model, and prose",
        "ai/漢字:latest               30cb9dfbfea1",
    ]


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (200, "MODEL NAME            QUANT  MODEL ID      CREATED       ABOUT"),
        (80, "MODEL NAME            QUANT  MODEL ID      ABOUT"),
        (62, "MODEL NAME            MODEL ID      ABOUT"),
        (50, "MODEL NAME            MODEL ID      ABOUT"),
    ],
)
def test_a_narrow_terminal_loses_the_least_useful_columns(width: int, headings: str) -> None:
    lines = list(TABLE.lines(width))
    assert lines[0] == headings
    assert all(cell_width(line) <= width for line in lines)
    assert "ai/smollm2:135M-Q4_1" in lines[1]
    assert "0a418260a4a1" in lines[1]


def test_prose_is_shortened_last() -> None:
    assert list(TABLE.lines(50))[1] == "ai/smollm2:135M-Q4_1  0a418260a4a1  a small model…"


def test_names_and_ids_stay_whole_on_every_terminal() -> None:
    lines = list(TABLE.lines(10))
    assert lines[1].split()[:2] == ["ai/smollm2:135M-Q4_1", "0a418260a4a1"]


def test_without_rows_only_a_pipe_gets_headings() -> None:
    assert list(Table(("A", "B"), ()).lines(80)) == []
    assert list(Table(("A", "B"), ()).lines()) == ["A  B"]


def test_what_a_cell_says_is_one_safe_line() -> None:
    (_, row) = Table(("A",), (("x\x1b[31m\ny",),)).lines(80)
    assert row == "x y"
