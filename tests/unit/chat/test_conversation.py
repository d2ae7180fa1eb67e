import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelrunner.chat.conversation import Conversation, Message


def a_conversation() -> Conversation:
    conversation = Conversation("be brief")
    conversation.add_user("hi")
    conversation.add_assistant("hello")
    conversation.add_user("go on")
    conversation.add_assistant("well", stopped=True)
    return conversation


def test_the_system_prompt_comes_first() -> None:
    assert a_conversation().messages == (
        Message("system", "be brief"),
        Message("user", "hi"),
        Message("assistant", "hello"),
        Message("user", "go on"),
        Message("assistant", "well", stopped=True),
    )


@pytest.mark.parametrize("system", [None, ""])
def test_without_a_system_prompt_there_is_no_system_message(system: str | None) -> None:
    conversation = Conversation(system)
    conversation.add_user("hi")
    assert conversation.messages == (Message("user", "hi"),)


def test_what_was_said_last_can_be_taken_back() -> None:
    conversation = a_conversation()
    assert conversation.drop_last() == Message("assistant", "well", stopped=True)
    assert conversation.drop_last() == Message("user", "go on")
    assert conversation.turns == (Message("user", "hi"), Message("assistant", "hello"))


def test_taking_back_from_an_empty_conversation_takes_nothing() -> None:
    assert Conversation("be brief").drop_last() is None


def test_clearing_keeps_the_system_prompt() -> None:
    conversation = a_conversation()
    conversation.clear()
    assert conversation.messages == (Message("system", "be brief"),)


def test_turns_seen_before_do_not_change_afterwards() -> None:
    conversation = a_conversation()
    before = conversation.turns
    conversation.clear()
    assert len(before) == 4


@given(
    st.none() | st.text(),
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(), st.booleans())),
)
def test_a_conversation_survives_json(
    system: str | None, turns: list[tuple[str, str, bool]]
) -> None:
    conversation = Conversation(system)
    for role, content, stopped in turns:
        if role == "user":
            conversation.add_user(content)
        else:
            conversation.add_assistant(content, stopped=stopped)
    again = Conversation.from_dict(json.loads(json.dumps(conversation.to_dict())))
    assert (again.system, again.turns) == (conversation.system, conversation.turns)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "`system` or `messages` is missing"),
        ({"system": 1, "messages": []}, "`system` or `messages` is missing"),
        ({"system": None, "messages": {}}, "`system` or `messages` is missing"),
        (
            {"system": None, "messages": [{"role": "system", "content": "x"}]},
            "`messages[0]`: expected a turn of user, assistant or tool",
        ),
        (
            {"system": None, "messages": [{"role": "user", "content": "x"}, {"role": "assistant"}]},
            "`messages[1]`: expected a turn of user, assistant or tool",
        ),
        (
            {"system": None, "messages": ["x"]},
            "`messages[0]`: expected a turn of user, assistant or tool",
        ),
    ],
)
def test_another_document_is_no_conversation(document: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="messages") as caught:
        Conversation.from_dict(document)
    assert str(caught.value) == message
