"""Scores, in the shapes that cards have."""

from modelrunner.cards.parser import parse_card


def scores(table, heading="## Benchmark performance"):
    card = parse_card(f"{heading}\n\n{table}")
    return [(score.category, score.metric, score.value) for score in card.benchmarks]


def test_a_category_holds_until_the_next_one():
    table = """
| Category | Metric | X |
|---|---|---|
| **General** | | |
| | MMLU (5-shot) | 65.98 |
| | DROP | | 44.50 |
| Code | HumanEval | **80** |
| | missing | |
"""
    assert scores(table) == [
        ("General", "MMLU (5-shot)", "65.98"),
        ("General", "DROP", "44.50"),
        ("Code", "HumanEval", "80"),
    ]


def test_a_table_of_two_columns_has_no_categories():
    table = "| Task | X |\n|---|---|\n| Clustering | 46.71 |\n"
    assert scores(table) == [(None, "Clustering", "46.71")]


def test_rows_with_a_first_cell_only_group_those_below():
    table = """
| Benchmarks | Metric | A | B |
|---|---|---|---|
| **Math** | | | |
| GSM8K | 8-shot | 1 | 2 |
| AttaQ | — | 3 | 4 |
"""
    assert scores(table) == [("Math", "GSM8K (8-shot)", "1"), ("Math", "AttaQ", "3")]
    assert parse_card(f"## Benchmarks\n{table}").benchmarks[0].to_dict()["values"] == {
        "A": "1",
        "B": "2",
    }


def test_settings_are_the_metrics_of_a_benchmark():
    table = "| Benchmark | Setting | K2 |\n|---|---|---|\n| HLE | no tools | 23.9 |\n"
    assert scores(table, "## Benchmarks\n\n### Reasoning") == [("HLE", "no tools", "23.9")]


def test_a_table_whose_rows_are_models_has_no_score_of_this_one():
    assert scores("| Model | Param | MTEB |\n|---|---|---|\n| X | 1B | 61 |\n") == []


def test_tables_elsewhere_are_no_scores():
    assert scores("| a | b |\n|---|---|\n| 1 | 2 |\n", "## Specifications") == []
