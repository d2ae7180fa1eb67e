import json
from pathlib import Path

import pytest

from modelrunner.chat.answer import Done, Usage
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Conversation, Message
from modelrunner.cli.chat.session import Session
from modelrunner.cli.chat.slash_commands.commands import HELP, NAMES, Next, run_command
from modelrunner.errors import UsageError
from modelrunner.runtime.capabilities.facts import Thinking
from modelrunner.runtime.capabilities.think import Thinker


@pytest.fixture
def session() -> Session:
    conversation = Conversation("be brief")
    conversation.add_user("hi")
    conversation.add_assistant("hel\x1b[31mlo", stopped=True)
    client = ChatClient("http://127.0.0.1:1", None, "m")
    return Session(client, conversation, "ai/smollm2", 512, last=Done("stop", Usage(30, 10)))


def run(session: Session, line: str) -> str:
    told: list[str] = []
    assert run_command(session, line, told.append) is Next.READ
    return "\n".join(told)


def refused(session: Session, line: str) -> tuple[str, str | None]:
    with pytest.raises(UsageError) as caught:
        run_command(session, line, lambda _text: None)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize("line", ["/?", "/help", "/help me"])
def test_help_names_every_command(session: Session, line: str) -> None:
    assert run(session, line) == HELP
    assert {word.strip(",") for word in HELP.split() if word.startswith("/")} - {"/"} == set(NAMES)


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("/bie", "unknown command `/bie`", "did you mean `/bye`? `/?` for help"),
        ("/sets x", "unknown command `/sets`", "did you mean `/set`? `/?` for help"),
        ("/xyzzy", "unknown command `/xyzzy`", "`/?` for help"),
        ("/\x1b[31m", "unknown command `/`", "`/?` for help"),
        ("/" + "n" * 5000, f"unknown command `/{'n' * 78}…`", "`/?` for help"),
    ],
)
def test_an_unknown_command_is_refused(
    session: Session, line: str, message: str, hint: str
) -> None:
    assert refused(session, line) == (message, hint)


def test_a_path_is_told_from_a_command(session: Session, tmp_path: Path) -> None:
    plain, spaced = tmp_path / "notes.txt", tmp_path / "my notes.txt"
    plain.touch()
    spaced.touch()
    assert refused(session, f"{plain} what is this?") == (
        f"`{plain}` is a path, not a command; nothing was sent",
        f"`@{plain}` inserts the file's content; a space before `/` sends the line as typed",
    )
    assert refused(session, str(spaced)) == (
        f"`{spaced}` is a path, not a command; nothing was sent",
        f'`@"{spaced}"` inserts the file\'s content; a space before `/` sends the line as typed',
    )


def test_clear_forgets_the_turns_and_the_numbers(session: Session) -> None:
    assert run(session, "/clear") == "conversation cleared"
    assert session.conversation.messages == (Message("system", "be brief"),)
    assert run(session, "/stats") == "no statistics yet"


def test_retry_takes_the_answer_back_and_asks_again(session: Session) -> None:
    assert run_command(session, "/retry", lambda _text: None) is Next.ANSWER
    assert session.conversation.turns == (Message("user", "hi"),)


def test_retry_needs_something_to_ask_again(session: Session) -> None:
    session.conversation.clear()
    assert refused(session, "/retry") == ("nothing to retry", "send a message first")


def test_the_system_prompt_is_shown_set_and_removed(session: Session) -> None:
    assert run(session, "/system") == "be brief"
    assert run(session, "/system Talk like\na pirate") == "system prompt set"
    assert session.conversation.system == "Talk like\na pirate"
    assert run(session, '/system ""') == "no system prompt"
    assert session.conversation.system is None
    assert run(session, "/system") == "no system prompt"


def test_settings_are_shown_set_and_unset(session: Session) -> None:
    for line in (
        "/set temperature 0.5",
        "/set top_p 1",
        "/set seed -7",
        "/set max_tokens 9",
        "/set repeat_penalty 1.05",
    ):
        assert run(session, line) == line.removeprefix("/set ")
    run(session, "/set verbose on")
    assert session.options == SamplingOptions(0.5, 1.0, -7, 9, repeat_penalty=1.05)
    assert run(session, "/set") == (
        "temperature    0.5\n"
        "top_p          1.0\n"
        "seed           -7\n"
        "max_tokens     9\n"
        "repeat_penalty 1.05\n"
        "verbose        on\n"
        "markdown       on\n"
        "thinking       fold"
    )
    for line in ("temperature", "top_p", "seed", "max_tokens", "repeat_penalty"):
        run(session, f"/set {line} default")
    run(session, "/set verbose off")
    assert session.options == SamplingOptions()
    assert not session.verbose


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("temperature -1", "`temperature` must be a number from 0 to 2"),
        ("temperature 3", "`temperature` must be a number from 0 to 2"),
        ("temperature nan", "`temperature` must be a number from 0 to 2"),
        ("temperature inf", "`temperature` must be a number from 0 to 2"),
        ("temperature", "`temperature` must be a number from 0 to 2"),
        ("top_p 0", "`top_p` must be a number above 0 and at most 1"),
        ("top_p 1.1", "`top_p` must be a number above 0 and at most 1"),
        ("seed 1.5", "`seed` must be a whole number"),
        ("max_tokens 0", "`max_tokens` must be a whole number of at least 1"),
        ("max_tokens -5", "`max_tokens` must be a whole number of at least 1"),
        ("max_tokens many", "`max_tokens` must be a whole number of at least 1"),
        ("repeat_penalty 0", "`repeat_penalty` must be a number above 0"),
        ("verbose yes", "`verbose` must be `on` or `off`"),
        ("num_ctx 5", "unknown setting `num_ctx`"),
    ],
)
def test_a_value_that_makes_no_sense_changes_nothing(
    session: Session, setting: str, message: str
) -> None:
    assert refused(session, f"/set {setting}")[0] == message
    assert session.options == SamplingOptions()


def test_show_shows_everything_made_safe(session: Session) -> None:
    assert run(session, "/show") == (
        "model          ai/smollm2\n"
        "context        40 of 512 tokens (8%)\n"
        "temperature    default\n"
        "top_p          default\n"
        "seed           default\n"
        "max_tokens     default\n"
        "repeat_penalty default\n"
        "verbose        off\n"
        "markdown       on\n"
        "thinking       fold\n"
        "\n"
        "system:\n"
        "be brief\n"
        "\n"
        "user:\n"
        "hi\n"
        "\n"
        "assistant (stopped):\n"
        "hello"
    )


def test_stats_tell_the_last_answer(session: Session) -> None:
    assert run(session, "/stats") == (
        "prompt 30 tokens; answer 10 tokens; context 40 of 512 tokens (8%)"
    )
    session.last = Done("stop")
    assert run(session, "/stats") == "no statistics: the server reported no token counts"


def test_a_saved_chat_can_be_gone_on_with(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "my chat.json"
    assert run(session, f"/save {path}") == f"saved to {path}"
    assert path.stat().st_mode & 0o777 == 0o600
    before = session.conversation
    session.conversation, session.last = Conversation(), None
    assert run(session, f'/load "{path}"') == ("loaded 2 messages\n\n> hi\n\nhello (stopped)")
    assert session.conversation.system == before.system
    assert session.conversation.turns == before.turns
    assert list(tmp_path.iterdir()) == [path]


def test_a_chat_with_another_model_says_so(session: Session, tmp_path: Path) -> None:
    run(session, f"/save {tmp_path}/c")
    session.model_label = "ai/qwen3"
    assert run(session, f"/load {tmp_path}/c").startswith("loaded 2 messages with ai/smollm2\n")


def test_of_a_long_chat_the_last_messages_are_shown(session: Session, tmp_path: Path) -> None:
    session.conversation.clear()
    for number in range(9):
        session.conversation.add_user(f"q{number}")
        session.conversation.add_assistant("a" * 3000)
    run(session, f"/save {tmp_path}/c")
    shown = run(session, f"/load {tmp_path}/c").splitlines()
    assert shown[:2] == ["loaded 18 messages", "(the last 4; `/show` prints all of them)"]
    assert [line for line in shown if line.startswith(">")] == ["> q7", "> q8"]
    assert max(map(len, shown)) == 2001


def test_an_older_chat_is_replaced_where_the_person_wants_it(
    session: Session, tmp_path: Path
) -> None:
    chat = tmp_path / "chat"
    run(session, f"/save {chat}")
    before = chat.read_text()
    session.begin_anew()
    session.conversation.clear()
    assert refused(session, f"/save {chat}") == (
        f"{chat} already contains a chat",
        f"`/save! {chat}` replaces it",
    )
    assert chat.read_text() == before
    assert run(session, f"/save! {chat}") == f"saved to {chat} (replaced)"
    assert json.loads(chat.read_text())["messages"] == []
    # its own file, from here on
    assert run(session, f"/save {chat}") == f"saved to {chat} (replaced)"


@pytest.mark.parametrize(
    ("answer", "said"), [("y\n", "saved to {} (replaced)"), ("\n", "not saved"), ("", "not saved")]
)
def test_on_a_terminal_it_is_asked_before_a_chat_is_replaced(
    session: Session,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    said: str,
) -> None:
    chat = tmp_path / "chat"
    run(session, f"/save {chat}")
    session.begin_anew()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(
        "modelrunner.cli.chat.slash_commands.commands.ask_person", lambda *_: answer
    )
    assert run(session, f"/save {chat}") == said.format(chat)


def test_saving_replaces_a_chat_and_nothing_else(session: Session, tmp_path: Path) -> None:
    chat, other = tmp_path / "chat", tmp_path / ".bashrc"
    other.write_text("alias ll='ls -l'")
    run(session, f"/save {chat}")
    session.conversation.clear()
    run(session, f"/save {chat}")
    assert json.loads(chat.read_text())["messages"] == []
    assert refused(session, f"/save {other}") == (
        f"{other} exists and is not a saved chat",
        "save under another name",
    )
    assert other.read_text() == "alias ll='ls -l'"
    assert refused(session, f"/save {tmp_path}")[0] == (
        f"{tmp_path} exists and is not a saved chat"
    )


def test_what_cannot_be_written_is_told(session: Session, tmp_path: Path) -> None:
    assert refused(session, f"/save {tmp_path}/no/chat") == (
        f"cannot write {tmp_path}/no/chat: no such file or directory",
        "check the path",
    )
    assert refused(session, "/save") == ("no file given", "`/save FILE`")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{}", ""),
        (b"[]", ""),
        (b"[" * 100_000, ": JSON nested too deeply"),
        (b"\xff", ": expected UTF-8 text, got other bytes at byte 0"),
        (b"x", ": expected JSON at line 1"),
        (b'{"modelrunner_chat": 2, "system": null, "messages": []}', ""),
        (b'{"modelrunner_chat": 1}', ": `system` or `messages` is missing"),
        (
            b'{"modelrunner_chat": 1, "system": null, "messages": [{}]}',
            ": `messages[0]`: expected a turn of user, assistant or tool",
        ),
    ],
)
def test_another_file_is_not_loaded_and_changes_nothing(
    session: Session, tmp_path: Path, content: bytes, reason: str
) -> None:
    path, before = tmp_path / "x", session.conversation
    path.write_bytes(content)
    assert refused(session, f"/load {path}")[0] == f"{path} is not a saved chat{reason}"
    assert session.conversation is before


def test_a_file_that_is_not_there_is_not_loaded(session: Session, tmp_path: Path) -> None:
    assert refused(session, f"/load {tmp_path}/x")[0] == (
        f"cannot read {tmp_path}/x: no such file or directory"
    )


PNG = b"\x89PNG\r\n\x1a\nrest"


def asked(session: Session, line: str) -> str:
    assert run_command(session, line, lambda _text: None) is Next.ANSWER
    return session.conversation.turns[-1].content


def test_files_and_pictures_go_with_the_next_message_and_no_other(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b.txt").write_text("alpha\n")
    (tmp_path / "p.png").write_bytes(PNG)
    told = run(session, f"/file {tmp_path}/a b.txt")
    assert told == f"attached to your next message: {tmp_path}/a b.txt (6 B)"
    run(session, f'/image "{tmp_path}/p.png"')
    monkeypatch.setenv("EDITOR", "sh -c 'echo what is it > $0'")
    monkeypatch.delenv("VISUAL", raising=False)
    assert asked(session, "/edit") == "alpha\n\n\nwhat is it"
    turn = session.conversation.turns[-1]
    assert turn.parts == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgpyZXN0"}},
        {"type": "text", "text": "alpha\n\n\nwhat is it"},
    ]
    assert asked(session, "/edit") == "what is it"
    assert session.conversation.turns[-1].images == ()


def test_pictures_are_saved_with_the_conversation(session: Session, tmp_path: Path) -> None:
    session.conversation.add_user("look", ["data:image/png;base64,AA=="])
    run(session, f"/save {tmp_path}/chat.json")
    before = session.conversation.turns
    run(session, f"/load {tmp_path}/chat.json")
    assert session.conversation.turns == before
    text = (tmp_path / "chat.json").read_text()
    (tmp_path / "chat.json").write_text(text.replace("data:image", "http://127.0.0.1"))
    message, _ = refused(session, f"/load {tmp_path}/chat.json")
    assert message.endswith("`messages[2].images`: expected a list of images")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("nothing", None, "file not found"),
        ("", None, "is not a file"),
        ("binary", b"a\0b", "is not a text file (it has NUL bytes)"),
        ("latin", b"caf\xe9", "is not a text file (invalid UTF-8 at byte 3)"),
        ("large", b"x" * (256 * 1024 + 1), "is larger than 256.00 KiB"),
    ],
)
def test_what_is_no_text_file_is_refused(
    session: Session, tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    message, _ = refused(session, f"/file {tmp_path}/{name}")
    assert why in message
    assert session.texts == []


def test_pictures_are_refused_with_a_reason(session: Session, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"<svg/>")
    message, hint = refused(session, f"/image {tmp_path}/p.png")
    assert (message, hint) == (
        f"{tmp_path}/p.png: unsupported image format",
        "use a PNG, JPEG, GIF or BMP file",
    )
    session.no_images = "ai/smollm2 does not support images: it has no projector (mmproj)"
    assert refused(session, f"/image {tmp_path}/p.png")[0] == session.no_images


def test_nothing_written_in_the_editor_sends_nothing(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISUAL", "true")
    assert run(session, "/edit") == "empty message; nothing was sent"


def test_there_is_nothing_to_copy_before_an_answer(session: Session) -> None:
    session.conversation.clear()
    assert refused(session, "/copy")[0] == "no answer to copy yet"


def test_thoughts_and_markdown_are_set(session: Session) -> None:
    run(session, "/set thinking show")
    run(session, "/set markdown off")
    assert (session.thinking, session.markdown) == ("show", False)
    message, _ = refused(session, "/set thinking loud")
    assert message == "`thinking` must be `show`, `fold` or `hide`"


@pytest.fixture
def tools(tmp_path: Path) -> str:
    file = tmp_path / "tools.json"
    file.write_text('[{"name": "now", "description": "Tells the time. Really."}]')
    return str(file)


def test_tools_are_shown_taken_and_removed(session: Session, tools: str) -> None:
    assert run(session, "/tools") == "no tools"
    assert run(session, f"/tools {tools}") == "now(): Tells the time"
    assert run(session, "/tools") == "now(): Tells the time"
    session.caller.allowed = True
    assert run(session, '/tools ""') == "no tools"
    # what was allowed was allowed for those tools
    assert not session.caller.allowed


def test_tools_that_the_model_may_never_see_are_reported(session: Session, tools: str) -> None:
    session.tools_warning = "the template does not support tools"
    assert (
        run(session, f"/tools {tools}")
        == "the template does not support tools\nnow(): Tells the time"
    )


def test_tools_for_a_runtime_that_has_none_are_refused(session: Session, tools: str) -> None:
    session.no_tools = UsageError("it offers none", hint="choose another")
    assert refused(session, f"/tools {tools}") == ("it offers none", "choose another")


THINKING = Thinking(switch="enable_thinking", on=True, off=False)


def test_how_much_the_model_thinks_is_shown_and_set_for_the_next_answers(session: Session) -> None:
    session.thinker = Thinker("m", THINKING)
    assert run(session, "/think") == "think default; the model can: on/off"
    assert run(session, "/think OFF") == "think off"
    fields = {"chat_template_kwargs": {"enable_thinking": False}}
    assert session.options == SamplingOptions(thinking=fields)
    assert run(session, "/think") == "think off; the model can: on/off"
    assert run(session, "/think low") == "m knows no levels: low is at most 1024 tokens"
    assert session.options.thinking["reasoning_budget_tokens"] == 1024
    assert run(session, "/think default") == "think default"
    assert session.options == SamplingOptions()


def test_a_model_that_does_not_think_says_so(session: Session) -> None:
    session.thinker = Thinker("m", None)
    assert run(session, "/think") == "think default"
    assert run(session, "/think high") == (
        "the chat template of m has no thinking: `think` has no effect"
    )
    assert session.options == SamplingOptions()


def test_what_cannot_be_asked_to_think_is_refused(session: Session) -> None:
    assert refused(session, "/think off") == (
        "a model without a chat template does not think",
        "start it with --chat-template to chat with it",
    )
    session.thinker = Thinker("m", THINKING)
    assert refused(session, "/think a lot") == (
        "`/think` must be one of off, on, low, medium, high, or a number of tokens, got 'a lot'",
        "`/think default` leaves it to the model",
    )
    session.no_think = "it cannot"
    assert refused(session, "/think off") == (
        "it cannot",
        "start the chat again with --think LEVEL",
    )
