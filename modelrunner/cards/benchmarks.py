"""Benchmark tables, in the four shapes that cards have.

```
flat      benchmark, score
category  category, metric, score...        a first cell holds until the next one
grouped   benchmark, metric, score...       a row with a first cell only names the category
settings  benchmark, setting, score...      the benchmark is the category
```

A table whose rows are models compares; it has no score of this model, and gives nothing.
"""

from collections.abc import Iterator, Sequence

from modelrunner.cards.card import Benchmark
from modelrunner.cards.markdown import Section, Table, label, plain

_PLACES = ("benchmark", "evaluation", "performance")
_NO_SETTING = {"", "-", "\u2013", "\u2014"}


def parse_benchmarks(sections: Sequence[Section]) -> tuple[Benchmark, ...]:
    """The scores of every table under a heading about benchmarks or evaluation."""
    return tuple(
        score
        for section in sections
        for table in section.tables()
        if section.has_word(*_PLACES)
        for score in _scores(table)
    )


def _scores(table: Table) -> Iterator[Benchmark]:
    first = label(table.columns[0])
    second = label(table.columns[1]) if len(table.columns) > 1 else ""
    if first in ("model", "models"):
        return iter(())
    if len(table.columns) == 2:  # noqa: PLR2004
        return _flat(table)
    if first.startswith("benchmark"):
        if second.startswith("setting"):
            return _carried(table)
        if any(_holds_only_first(row) for row in table.rows):
            return _grouped(table)
    return _carried(table)


def _flat(table: Table) -> Iterator[Benchmark]:
    for row in table.rows:
        if len(row) > 1 and _text(row[0]) and _text(row[1]):
            yield Benchmark(None, _text(row[0]), _text(row[1]))


def _carried(table: Table) -> Iterator[Benchmark]:
    category: str | None = None
    for row in table.rows:
        category = _text(row[0]) or category
        score = _score(table, row, category, _text(row[1]) if len(row) > 1 else "")
        if score is not None:
            yield score


def _grouped(table: Table) -> Iterator[Benchmark]:
    category: str | None = None
    for row in table.rows:
        if _holds_only_first(row):
            category = _text(row[0])
            continue
        setting = _text(row[1]) if len(row) > 1 else ""
        name = _text(row[0])
        metric = name if setting in _NO_SETTING else f"{name} ({setting})"
        score = _score(table, row, category, metric)
        if score is not None:
            yield score


def _score(
    table: Table, row: tuple[str, ...], category: str | None, metric: str
) -> Benchmark | None:
    printed = [_text(cell) for cell in row[2:]]
    value = next((cell for cell in printed if cell), None)
    if value is None or not metric:
        return None
    columns = [plain(title) for title in table.columns[2:]]
    several = len(columns) > 1
    values = tuple((name, cell) for name, cell in zip(columns, printed, strict=False) if cell)
    return Benchmark(category, metric, value, values if several else ())


def _holds_only_first(row: tuple[str, ...]) -> bool:
    return bool(_text(row[0])) and not any(_text(cell) for cell in row[1:])


def _text(cell: str) -> str:
    return plain(cell).replace("**", "").strip()
