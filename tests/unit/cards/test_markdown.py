"""Sections and tables, where cards are not quite Markdown."""

from modelrunner.cards.markdown import links, sections


def tables(text):
    return [table for section in sections(text) for table in section.tables()]


def test_a_heading_in_a_code_fence_is_no_heading():
    parts = sections("```bash\n# comment\n```\n# Title #\n~~~\n## no\n~~~\n## C#\n")
    assert [(part.level, part.title) for part in parts] == [(0, ""), (1, "Title"), (2, "C#")]


def test_a_fence_that_is_never_closed_hides_nothing():
    parts = sections("# A\n```\n## B\ntext")
    assert [part.title for part in parts] == ["", "A", "B"]


def test_a_line_of_code_between_three_backticks_opens_no_fence():
    assert [part.title for part in sections("```run it```\n# A\n")] == ["", "A"]


def test_html_comments_are_taken_out_and_an_open_one_is_text():
    parts = sections("<!-- # no -->\n# A <!-- b -->\n<!-- open\n## B")
    assert [part.title for part in parts] == ["", "A", "B"]


def test_a_section_knows_the_headings_above_it():
    last = sections("# A\n## Benchmarks\n### Code\n")[-1]
    assert last.parents == ("A", "Benchmarks")
    assert last.has_word("benchmark")


def test_a_table_needs_a_separator_and_takes_rows_with_missing_cells():
    (table,) = tables(
        "| a | b |\n| no | table |\n\na | b\n--|--\n| 1\n| 2 | 3 | 4 |  \n\ntext | x\n"
    )
    assert table.columns == ("a", "b")
    assert table.rows == (("1",), ("2", "3", "4"))


def test_an_escaped_bar_stays_in_its_cell():
    (table,) = tables("|a|b|\n|-|:-:|\n| x \\| y | z \\|\n")
    assert table.rows == (("x | y", "z |"),)


def test_one_blank_line_inside_a_table_is_forgiven():
    found = tables("|a|b|\n|-|-|\n|1|2|\n\n|3|4|\n\n|c|d|\n|-|-|\n|5|6|\n")
    assert [table.rows for table in found] == [(("1", "2"), ("3", "4")), (("5", "6"),)]


def test_links_are_markdown_ones_then_bare_ones_and_no_images():
    text = "[A](https://a.example/x_(y) 't') ![i](https://i.example) see https://b.example/c."
    assert list(links(text)) == [
        ("A", "https://a.example/x_(y)"),
        ("https://b.example/c", "https://b.example/c"),
    ]
