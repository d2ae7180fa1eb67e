"""The commands of a chat: lines that start with `/`."""

import os
import sys
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path

from modelrunner.cli.chat.attachments import insert_files, read_picture, read_text
from modelrunner.cli.chat.session import Session, describe, describe_times, describe_use
from modelrunner.cli.chat.slash_commands.desktop import copy, edit
from modelrunner.cli.chat.slash_commands.saved import SavedChat, holds_a_chat, load, save
from modelrunner.cli.chat.slash_commands.settings import change, settings
from modelrunner.cli.chat.tools import ask_person, describe_call, describe_tools
from modelrunner.errors import UsageError
from modelrunner.runtime.capabilities.think import ThinkKind
from modelrunner.text import closest, did_you_mean, sanitize, sanitize_line
from modelrunner.tools.files import load_tools
from modelrunner.tools.tool import Toolbox
from modelrunner.units import counted, format_size

HELP = '''\
/bye, /exit          leave the chat; Ctrl-D does the same
/clear               start a new conversation; the system prompt is kept
/retry               discard the last answer and generate it again
/edit [TEXT]         write a message in $VISUAL or $EDITOR, then send it
/file PATH           attach a text file to the next message
/image PATH          attach an image to the next message
/tools [FILE]        show or set the functions that the model can call, from a .py or .json
                     file; "" removes them
/copy                copy the last answer to the clipboard
/system [TEXT]       show or set the system prompt; "" removes it
/think [LEVEL]       show or set how much the model thinks: off, on, low, medium, high, a number
                     of tokens, or default
/set [KEY VALUE]     show or set temperature, top_p, seed, max_tokens, repeat_penalty,
                     verbose (on, off), markdown (on, off) or thinking (show, fold, hide)
/show                show the model, the settings and the conversation
/stats               show the token counts and speed of the last answer
/save FILE           save the conversation to a file; /save! overwrites without asking
/load FILE           continue a saved conversation
/?, /help            show this help

@path, @"a path"     inserts the content of a file; Tab completes the path
"""                  starts and ends a message of several lines
a space before /     sends the line as a message
Enter sends, Alt-Enter starts a new line, Ctrl-C stops the answer, Ctrl-R searches earlier
messages, Ctrl-X Ctrl-E opens an editor'''

LEAVING = ("/bye", "/exit")
"""The commands that end the chat."""


_RECENT = 4
"""Messages of a loaded chat that are shown, each up to `_RECENT_LETTERS`."""
_RECENT_LETTERS = 2000


class Next(Enum):
    """The chat's next step after a command."""

    READ = auto()
    ANSWER = auto()
    LEAVE = auto()


Say = Callable[[str], None]
_Command = Callable[[Session, str, Say], Next]


def run_command(session: Session, line: str, say: Say) -> Next:
    """Run a command.

    Raises:
        UsageError: The command is unknown, or its arguments are invalid.
    """
    name, *rest = line.split(maxsplit=1)
    command = _COMMANDS.get(name)
    if command is None:
        raise _unknown(name, line.strip())
    return command(session, "".join(rest).strip(), say)


def _unknown(name: str, line: str) -> UsageError:
    shown = sanitize_line(name, 80)
    if any(_is_path(text) for text in (name, line)):
        path = sanitize_line(line if _is_path(line) else name)
        mention = f'@"{path}"' if " " in path else f"@{path}"
        return UsageError(
            f"`{path}` is a path, not a command; nothing was sent",
            hint=f"`{mention}` inserts the file's content; a space before `/` sends the line as"
            " typed",
        )
    # the slash that all have in common makes nothing alike
    near = closest(name[1:], [known[1:] for known in _COMMANDS], 1)
    guess = did_you_mean([f"/{word}" for word in near])
    return UsageError(
        f"unknown command `{shown}`", hint=f"{guess} `/?` for help" if guess else "`/?` for help"
    )


def _is_path(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:
        return False


def _leave(_session: Session, _argument: str, _say: Say) -> Next:
    return Next.LEAVE


def _help(_session: Session, _argument: str, say: Say) -> Next:
    say(HELP)
    return Next.READ


def _clear(session: Session, _argument: str, say: Say) -> Next:
    session.conversation.clear()
    session.begin_anew()
    say("conversation cleared")
    return Next.READ


def _retry(session: Session, _argument: str, _say: Say) -> Next:
    conversation = session.conversation
    if not conversation.turns:
        raise UsageError("nothing to retry", hint="send a message first")
    while conversation.turns and conversation.turns[-1].role != "user":
        conversation.drop_last()
    return Next.ANSWER


def _system(session: Session, argument: str, say: Say) -> Next:
    if argument and session.client.completes:
        raise UsageError(
            "a model without a chat template has no system prompt",
            hint="start it with --chat-template to chat with it",
        )
    if argument:
        session.conversation.system = None if argument in {'""', "''"} else argument
        say("system prompt set" if session.conversation.system else "no system prompt")
    else:
        say(sanitize(session.conversation.system or "no system prompt"))
    return Next.READ


def _set(session: Session, argument: str, say: Say) -> Next:
    say(change(session, argument) if argument else settings(session))
    return Next.READ


def _show(session: Session, _argument: str, say: Say) -> Next:
    say(f"{'model':<14} {sanitize_line(session.model_label)}")
    say(f"{'context':<14} {describe_use(session.last, session.context)}")
    say(settings(session))
    for message in session.conversation.messages:
        mark = " (stopped)" if message.stopped else ""
        say(f"\n{message.role}{mark}:\n{sanitize(message.content)}")
        for wanted in message.calls:
            say(f"(calls {describe_call(wanted)})")
        if message.images:
            say(f"({counted(len(message.images), 'image')})")
    return Next.READ


def _stats(session: Session, _argument: str, say: Say) -> Next:
    times = describe_times(session)
    if times is not None:
        say(times)
    say(describe(session.last, session.context))
    return Next.READ


def _edit(session: Session, argument: str, say: Say) -> Next:
    text = edit(argument, os.environ)
    if not text.strip():
        say("empty message; nothing was sent")
        return Next.READ
    send(session, text, say)
    return Next.ANSWER


def _attach_file(session: Session, argument: str, say: Say) -> Next:
    path = _file(argument, "/file PATH")
    text = read_text(path)
    session.texts.append(text)
    size = format_size(len(text.encode()))
    say(f"attached to your next message: {sanitize_line(str(path))} ({size})")
    return Next.READ


def _attach_image(session: Session, argument: str, say: Say) -> Next:
    path = _file(argument, "/image PATH")
    if session.no_images is not None:
        raise UsageError(session.no_images, hint="use a vision model that comes with a projector")
    session.images.append(read_picture(path))
    say(f"attached to your next message: {sanitize_line(str(path))}")
    return Next.READ


def send(session: Session, text: str, say: Say) -> None:
    """Add a message, with the files that it names and those attached before.

    Raises:
        UsageError: A file cannot be sent.
    """
    message = insert_files(text, Path())
    for name in message.missing:
        say(f"{sanitize_line(name)}: file not found, `@` is sent as typed")
    whole = "\n\n".join([*session.texts, message.text])
    session.conversation.add_user(whole, session.images)
    session.texts.clear()
    session.images.clear()


def _tools(session: Session, argument: str, say: Say) -> Next:
    caller = session.caller
    if argument in {'""', "''"}:
        caller.box, caller.allowed = Toolbox(), False
    elif argument:
        if session.no_tools is not None:
            raise session.no_tools
        caller.box = load_tools(_file(argument, "/tools FILE"))
        caller.allowed, caller.by_hand = False, True
        caller.say, caller.ask = say, lambda text: ask_person(text, sys.stderr)
        if session.tools_warning is not None:
            say(session.tools_warning)
    say("\n".join(describe_tools(caller.box)) or "no tools")
    return Next.READ


def _think(session: Session, argument: str, say: Say) -> Next:
    if session.thinker is None:
        raise UsageError(
            "a model without a chat template does not think",
            hint="start it with --chat-template to chat with it",
        )
    if not argument:
        thinking = session.thinker.thinking
        can = "" if thinking is None else f"; the model can: {thinking.how}"
        say(f"think {session.think or 'default'}{can}")
        return Next.READ
    level = None if argument.lower() == "default" else _level(argument)
    if session.no_think is not None:
        raise UsageError(session.no_think, hint="start the chat again with --think LEVEL")
    note = session.ask_to_think(level)
    say(note or f"think {level or 'default'}")
    return Next.READ


def _level(text: str) -> str:
    kind = ThinkKind()
    level = kind.parse(text)
    if level is None:
        shown = sanitize_line(text, 80)
        raise UsageError(
            f"`/think` must be {kind}, got {shown!r}",
            hint="`/think default` leaves it to the model",
        )
    return level


def _copy(session: Session, _argument: str, say: Say) -> Next:
    turns = session.conversation.turns
    answer = next((turn.content for turn in reversed(turns) if turn.role == "assistant"), "")
    if not answer:
        raise UsageError("no answer to copy yet", hint="send a message first")
    say(copy(answer, sys.stdout, os.environ, plain=session.plain))
    return Next.READ


def _save(session: Session, argument: str, say: Say) -> Next:
    return _save_to(_file(argument, "/save FILE"), session, say, replaces=False)


def _save_anyway(session: Session, argument: str, say: Say) -> Next:
    return _save_to(_file(argument, "/save! FILE"), session, say, replaces=True)


def _save_to(path: Path, session: Session, say: Say, *, replaces: bool) -> Next:
    shown = sanitize_line(str(path))
    chat = SavedChat(session.model_label, session.conversation)
    exists = holds_a_chat(path)
    if exists and not replaces and path.absolute() != session.saved_to:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(
                f"{shown} already contains a chat", hint=f"`/save! {shown}` replaces it"
            )
        answer = ask_person(f"{shown} already contains a chat. Overwrite it? [y/N] ", sys.stderr)
        if answer.strip().lower() not in {"y", "yes"}:
            say("not saved")
            return Next.READ
    save(chat, path)
    session.saved_to = path.absolute()
    say(f"saved to {shown}" + (" (replaced)" if exists else ""))
    return Next.READ


def _load(session: Session, argument: str, say: Say) -> Next:
    path = _file(argument, "/load FILE")
    saved = load(path)
    session.conversation = saved.conversation
    session.begin_anew()
    session.saved_to = path.absolute()
    turns = saved.conversation.turns
    with_whom = "" if saved.model == session.model_label else f" with {sanitize_line(saved.model)}"
    say(f"loaded {counted(len(turns), 'message')}{with_whom}")
    said = [turn for turn in turns if turn.role != "tool" and turn.content]
    if len(said) > _RECENT:
        say(f"(the last {_RECENT}; `/show` prints all of them)")
    for turn in said[-_RECENT:]:
        text = sanitize(turn.content)
        text = text if len(text) <= _RECENT_LETTERS else f"{text[:_RECENT_LETTERS]}…"
        mark = "> " if turn.role == "user" else ""
        say(f"\n{mark}{text}" + (" (stopped)" if turn.stopped else ""))
    return Next.READ


def _file(argument: str, usage: str) -> Path:
    if not argument:
        raise UsageError("no file given", hint=f"`{usage}`")
    try:
        return Path(argument.strip('"')).expanduser()
    except RuntimeError as exc:
        raise UsageError(
            f"{sanitize_line(argument)}: unknown user",
            hint="write the full path",
        ) from exc


_COMMANDS: dict[str, _Command] = {
    **dict.fromkeys(LEAVING, _leave),
    "/?": _help,
    "/clear": _clear,
    "/copy": _copy,
    "/edit": _edit,
    "/file": _attach_file,
    "/help": _help,
    "/image": _attach_image,
    "/load": _load,
    "/retry": _retry,
    "/save": _save,
    "/save!": _save_anyway,
    "/set": _set,
    "/show": _show,
    "/stats": _stats,
    "/system": _system,
    "/think": _think,
    "/tools": _tools,
}

NAMES = tuple(sorted(_COMMANDS))
"""Names of all commands."""

PATH_COMMANDS = ("/file", "/image", "/load", "/save", "/save!", "/tools")
"""Commands that take a path."""
