"""A schema that contradicts itself is found out before a model is asked."""

import pytest

from modelrunner.chat.answer_form import unmeetable


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"minLength": 10, "maxLength": 5}, "# has minLength 10 above maxLength 5"),
        ({"enum": []}, "# has an enum without a value"),
        ({"type": "nonsense"}, "# has an unknown type: 'nonsense'"),
        ({"type": ["null", []]}, "# has an unknown type: '[]'"),
        (
            {"properties": {"age": {"minimum": 5, "maximum": 1}}},
            "#/properties/age has minimum 5 above maximum 1",
        ),
        ({"anyOf": [{}, {"items": {"enum": []}}]}, "#/anyOf/1/items has an enum without a value"),
    ],
)
def test_a_contradiction_is_named_with_its_place(schema, reason) -> None:
    assert unmeetable(schema) == reason


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": ["string", "null"], "minLength": 5, "maxLength": 5},
        {"properties": {"type": {"enum": [1]}, "enum": {"type": "array"}}},
        {"items": True, "minLength": "x"},
    ],
)
def test_what_may_be_met_is_let_through(schema) -> None:
    assert unmeetable(schema) is None


def test_a_schema_without_an_end_is_refused() -> None:
    schema: dict = {}
    for _ in range(500):
        schema = {"items": schema}
    assert "nested too deep" in str(unmeetable(schema))
