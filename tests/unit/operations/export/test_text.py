"""Text of exports: what is written is what is read, whatever it is."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.operations.export import unit_text, yaml_text
from tests.support import exports

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LEAVES = ANY | st.integers() | st.booleans()
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(ANY.filter(lambda key: not key.startswith("#")), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(ANY.filter(lambda key: not key.startswith("#")), VALUES, max_size=4))
def test_yaml_says_what_was_meant(value):
    assert (yaml.safe_load(yaml_text.document(value)) or {}) == value


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "No", "null", "~", "on", "1", "1.5", "0x1f", "1e3", "2026-01-01", "12:30", ""),
        *(" a ", "- a", "a: b", "a #b", "#a", "*a", "&a", "!a", "%a", "@a", "`a`", "{a}", "[a]"),
        *("a\nb", "=", "'", "a\n b\n", "\n", "a\n\nb\n", "\u0085a\n", "a\u2028b\n"),
    ],
)
def test_text_that_looks_like_something_else_stays_text(text):
    assert yaml.safe_load(yaml_text.document({"key": text})) == {"key": text}
    assert yaml.safe_load(yaml_text.document({"key": [text, text]})) == {"key": [text, text]}


def test_comments_stand_before_what_they_are_of():
    value = {"a": 1, "#": "why", "b": [{"#": "which", "c": "d\ne\n"}], "f": {}}
    text = yaml_text.document(value, ["what"])
    assert yaml.safe_load(text) == {"a": 1, "b": [{"c": "d\ne\n"}], "f": {}}
    assert text == ("# what\na: 1\n# why\nb:\n  - # which\n    c: |\n      d\n      e\nf: {}\n")


@given(st.lists(ANY.filter(bool), min_size=1, max_size=6))
def test_words_of_a_command_line_come_back(words):
    assert exports.words(unit_text.command(words)) == words


@given(ANY)
def test_no_text_ends_a_line_or_is_looked_up(text):
    word = unit_text.word(text)
    assert not re.search(r"(?<!%)(%%)*%(?!%)", word)
    assert word.isprintable()
