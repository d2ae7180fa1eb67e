import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.chat.conversation import Conversation
from modelrunner.chat.tool_call import ToolCall, ToolCalls, with_own_ids


def calls_of(*pieces: object) -> list[tuple[str, str, str]]:
    """The calls in a stream of which each chunk has one piece."""
    calls = ToolCalls()
    for piece in pieces:
        calls.feed({"choices": [{"delta": {"tool_calls": [piece]}}]})
    return [(call.id, call.name, call.arguments) for call in calls.whole]


def function(name: object = None, arguments: object = None, **more: object) -> dict[str, object]:
    return {"function": {"name": name, "arguments": arguments}, **more}


@pytest.mark.parametrize(
    ("written", "sent", "problem"),
    [
        ('{"a": 1}', '{"a": 1}', None),
        ("", "{}", None),
        (" \n", "{}", None),
        ("null", "{}", None),
        ('"{\\"a\\": 1}"', '{"a": 1}', None),
        ('{"a": "\\ud800"}', '{"a": "?"}', None),
        ('{"a": "\\u00e4"}', '{"a": "ä"}', None),
        ('{"a": 1', None, "the arguments are not a JSON object: invalid JSON at character 8"),
        ("Paris", None, "the arguments are not a JSON object: invalid JSON at character 1"),
        ("[1]", None, "the arguments are not a JSON object: expected an object, got an array"),
        ("true", None, "the arguments are not a JSON object: expected an object, got a boolean"),
        ("1", None, "the arguments are not a JSON object: expected an object, got a number"),
        ('{"a": NaN}', None, "the arguments are not a JSON object: NaN is not a JSON number"),
        ('{"a": 1e999}', None, "the arguments are not a JSON object: number too large"),
        ("[" * 100_000, None, "the arguments are not a JSON object: JSON nested too deeply"),
    ],
)
def test_arguments_are_an_object_whatever_the_model_wrote(
    written: str, sent: str | None, problem: str | None
) -> None:
    call = ToolCall.of("a", "now", written)
    assert call.problem == problem
    assert call.arguments == (sent or json.dumps({"invalid_arguments": written[:1000]}))


def test_arguments_beyond_a_mebibyte_are_not_kept() -> None:
    (call,) = calls_of({"index": 0, "id": "a", **function("now", '{"a": "' + "x" * 2**21 + '"}')})
    assert len(call[2]) < 2000


@pytest.mark.parametrize(
    ("written", "sent"),
    [("now", "now"), (" now ", "now"), ("functions.now", "functions_now"), ("n" * 99, "n" * 64)],
)
def test_a_name_is_one_that_functions_can_have(written: str, sent: str) -> None:
    assert ToolCall.of("a", written, "{}").name == sent


@pytest.mark.parametrize("name", ["", "  ", "\x1b", "…"])
def test_a_call_without_a_name_says_so(name: str) -> None:
    call = ToolCall.of("a", name, "{}")
    assert (call.name, call.problem) == ("unnamed", "the call does not name a function")


def test_calls_are_told_apart_however_a_server_numbers_them() -> None:
    whole = [("a", "f", '{"x": 1}'), ("b", "g", "{}")]
    pieces = [function(name, text, id=own) for own, name, text in whole]
    assert calls_of(*pieces) == whole
    assert calls_of(*({"index": 0, **piece} for piece in pieces)) == whole
    assert (
        calls_of(*({"index": at, **piece} for at, piece in zip((3, 7), pieces, strict=True)))
        == whole
    )
    assert calls_of({"index": 7, **pieces[0]}, {"index": 3, **pieces[1]}) == whole[::-1]
    assert calls_of(*({"index": None, **piece} for piece in pieces)) == whole


def test_pieces_of_a_call_are_put_together() -> None:
    assert calls_of(function("f", '{"x"', index=2, id="a"), function(None, ": 1}", index=2)) == [
        ("a", "f", '{"x": 1}')
    ]
    # a server that repeats id and name, and one that numbers nothing
    assert calls_of(
        function("f", '{"x"', index=0, id="a"), function("f", ": 1}", index=0, id="a")
    ) == [("a", "f", '{"x": 1}')]
    assert calls_of(function("f", '{"x"', id="a"), function(None, ": 1}")) == [
        ("a", "f", '{"x": 1}')
    ]


def test_arguments_sent_as_a_value_are_taken() -> None:
    assert calls_of(function("f", {"x": "ä"})) == [("call_0", "f", '{"x": "ä"}')]
    assert calls_of(function("f", None)) == [("call_0", "f", "{}")]


def test_each_call_has_an_id_of_its_own() -> None:
    same = [function("f", "{}", index=at, id=own) for at, own in enumerate(["a", "a", None, 5])]
    ids = [own for own, _, _ in calls_of(*same)]
    assert (ids[0], ids[3], len(set(ids))) == ("a", "5", 4)
    call = ToolCall.of("a", "f", "{}")
    assert [each.id for each in with_own_ids([call], {"a"})] == ["call_1"]


def test_the_older_way_to_write_a_call_is_taken() -> None:
    calls = ToolCalls()
    for call in ({"name": "f", "arguments": '{"x"'}, {"arguments": ": 1}"}):
        calls.feed({"choices": [{"delta": {"function_call": call}}]})
    assert [(call.name, call.arguments) for call in calls.whole] == [("f", '{"x": 1}')]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
odd = st.fixed_dictionaries(
    {},
    optional={
        "index": json_values,
        "id": json_values,
        "function": json_values
        | st.fixed_dictionaries(
            {}, optional={"name": json_values, "arguments": json_values | st.just('{"a": 1}')}
        ),
    },
)


@given(st.lists(odd | json_values, max_size=6))
def test_whatever_a_model_calls_the_next_request_is_valid(pieces: list[object]) -> None:
    calls = ToolCalls()
    calls.feed({"choices": [{"delta": {"tool_calls": pieces}}]})
    conversation = Conversation()
    conversation.add_user("hi")
    if calls.whole:
        conversation.add_assistant("", calls=calls.whole)
    sent = [message.to_dict() for message in conversation.messages]
    ids = []
    for call in sent[1]["tool_calls"] if calls.whole else ():
        assert re.fullmatch("[A-Za-z0-9_-]{1,64}", call["function"]["name"])
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
        ids.append(call["id"])
    assert all(ids)
    assert len(set(ids)) == len(ids)
    json.dumps(sent, allow_nan=False).encode()
