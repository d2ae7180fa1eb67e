"""What a line that starts with `/` does in a chat."""

import math
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path
from typing import Any

from modelrunner.cli.repl_clipboard import copy
from modelrunner.cli.repl_editor import edit
from modelrunner.cli.repl_files import insert_files, read_picture, read_text
from modelrunner.cli.repl_saved import SavedChat, load, save
from modelrunner.cli.repl_session import Session, describe, describe_times, describe_use
from modelrunner.errors import UsageError
from modelrunner.text import sanitize, sanitize_line
from modelrunner.units import counted, format_size

HELP = '''\
/bye, /exit          leave; so does Ctrl-D
/clear               forget the conversation; the system prompt stays
/retry               take the last answer back and ask again
/edit [TEXT]         write a message in $VISUAL or $EDITOR, and send it
/file PATH           a text file goes with the next message
/image PATH          a picture goes with the next message
/copy                put the last answer into the clipboard
/system [TEXT]       show or set the system prompt; "" removes it
/set [KEY VALUE]     show or set temperature, top_p, seed, max_tokens, verbose (on, off),
                     markdown (on, off) or thinking (show, fold, hide)
/show                the model, the settings and the conversation
/stats               tokens and speed of the last answer
/save FILE           write the conversation to a file
/load FILE           go on with the conversation in a file
/?, /help            this

@path, @"a path"     stands for the content of that file; Tab completes
"""                  starts and ends a message of several lines
a space before /     sends the line as a message
Enter sends, Alt-Enter starts a new line, Ctrl-C stops the answer, Ctrl-R searches what you
typed before, Ctrl-X Ctrl-E opens an editor'''

LEAVING = ("/bye", "/exit")
"""The commands that end the chat."""


class Next(Enum):
    """What the chat does after a command."""

    READ = auto()
    ANSWER = auto()
    LEAVE = auto()


Say = Callable[[str], None]
_Command = Callable[[Session, str, Say], Next]


def run_command(session: Session, line: str, say: Say) -> Next:
    """Do what the line says.

    Raises:
        UsageError: There is no such command, or it cannot be done like this.
    """
    name, *rest = line.split(maxsplit=1)
    command = _COMMANDS.get(name)
    if command is None:
        raise _unknown(name, line.strip())
    return command(session, "".join(rest).strip(), say)


def _unknown(name: str, line: str) -> UsageError:
    from difflib import get_close_matches

    shown = sanitize_line(name, 80)
    if any(_is_path(text) for text in (name, line)):
        path = sanitize_line(line if _is_path(line) else name)
        mention = f'@"{path}"' if " " in path else f"@{path}"
        return UsageError(
            f"`{path}` is no command but a path, and nothing was sent",
            hint=f"`{mention}` stands for a file's content; a space before `/` sends the line",
        )
    near = get_close_matches(name, _COMMANDS, n=1)
    guess = f"did you mean `{near[0]}`? " if near else ""
    return UsageError(f"unknown command `{shown}`", hint=f"{guess}`/?` for help")


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
    say("the conversation is forgotten")
    return Next.READ


def _retry(session: Session, _argument: str, _say: Say) -> Next:
    conversation = session.conversation
    if not conversation.turns:
        raise UsageError("there is nothing to ask again")
    while conversation.turns and conversation.turns[-1].role == "assistant":
        conversation.drop_last()
    return Next.ANSWER


def _system(session: Session, argument: str, say: Say) -> Next:
    if argument:
        session.conversation.system = None if argument in {'""', "''"} else argument
        say("the system prompt is set" if session.conversation.system else "no system prompt")
    else:
        say(sanitize(session.conversation.system or "no system prompt"))
    return Next.READ


def _set(session: Session, argument: str, say: Say) -> Next:
    key, _, value = argument.partition(" ")
    value = value.strip()
    if not key:
        say(_settings(session))
    elif key in _CHOICES:
        setattr(session, key, _choice(key, value))
        say(f"{key} {value}")
    elif key not in _NUMBERS:
        keys = ", ".join([*_NUMBERS, *_CHOICES])
        raise UsageError(f"no setting `{sanitize_line(key, 80)}`", hint=f"there are {keys}")
    else:
        change: dict[str, Any] = {key: None if value == "default" else _NUMBERS[key](value)}
        session.options = replace(session.options, **change)
        say(f"{key} {sanitize_line(value)}")
    return Next.READ


def _settings(session: Session) -> str:
    rows = {key: getattr(session.options, key) for key in _NUMBERS}
    lines = [f"{key:<12} {'default' if value is None else value}" for key, value in rows.items()]
    for key, choices in _CHOICES.items():
        now = getattr(session, key)
        lines.append(f"{key:<12} {next(name for name, value in choices.items() if value == now)}")
    return "\n".join(lines)


def _show(session: Session, _argument: str, say: Say) -> Next:
    say(f"{'model':<12} {sanitize_line(session.model_label)}")
    say(f"{'context':<12} {describe_use(session.last, session.context)}")
    say(_settings(session))
    for message in session.conversation.messages:
        mark = " (stopped)" if message.stopped else ""
        say(f"\n{message.role}{mark}:\n{sanitize(message.content)}")
        if message.images:
            say(f"({counted(len(message.images), 'picture')})")
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
        say("nothing was written, and nothing is sent")
        return Next.READ
    send(session, text, say)
    return Next.ANSWER


def _attach_file(session: Session, argument: str, say: Say) -> Next:
    path = _file(argument, "/file PATH")
    text = read_text(path)
    session.texts.append(text)
    size = format_size(len(text.encode()))
    say(f"{sanitize_line(str(path))}, {size}, goes with your next message")
    return Next.READ


def _attach_image(session: Session, argument: str, say: Say) -> Next:
    path = _file(argument, "/image PATH")
    if session.no_images is not None:
        raise UsageError(session.no_images)
    session.images.append(read_picture(path))
    say(f"{sanitize_line(str(path))} goes with your next message")
    return Next.READ


def send(session: Session, text: str, say: Say) -> None:
    """Take in a message, with the files that it names and those that were given before it.

    Raises:
        UsageError: A file cannot be sent.
    """
    message = insert_files(text, Path())
    for name in message.missing:
        say(f"no file {sanitize_line(name)}: `@` is sent as typed")
    whole = "\n\n".join([*session.texts, message.text])
    session.conversation.add_user(whole, session.images)
    session.texts.clear()
    session.images.clear()


def _copy(session: Session, _argument: str, say: Say) -> Next:
    turns = session.conversation.turns
    answer = next((turn.content for turn in reversed(turns) if turn.role == "assistant"), "")
    if not answer:
        raise UsageError("there is no answer to copy yet")
    say(copy(answer, sys.stdout, os.environ))
    return Next.READ


def _save(session: Session, argument: str, say: Say) -> Next:
    path = _file(argument, "/save FILE")
    save(SavedChat(session.model_label, session.conversation), path)
    say(f"saved to {sanitize_line(str(path))}")
    return Next.READ


def _load(session: Session, argument: str, say: Say) -> Next:
    saved = load(_file(argument, "/load FILE"))
    session.conversation = saved.conversation
    session.begin_anew()
    count = len(saved.conversation.turns)
    with_whom = "" if saved.model == session.model_label else f" with {sanitize_line(saved.model)}"
    say(f"loaded {counted(count, 'message')}{with_whom}")
    return Next.READ


def _file(argument: str, usage: str) -> Path:
    if not argument:
        raise UsageError("no file is named", hint=f"`{usage}`")
    try:
        return Path(argument.strip('"')).expanduser()
    except RuntimeError as exc:
        raise UsageError(f"{sanitize_line(argument)} is in nobody's home directory") from exc


def _choice(key: str, name: str) -> object:
    choices = _CHOICES[key]
    if name not in choices:
        names = [f"`{choice}`" for choice in choices]
        raise UsageError(f"`{key}` is {', '.join(names[:-1])} or {names[-1]}")
    return choices[name]


def _temperature(text: str) -> float:
    value = _number(text)
    if not 0 <= value < math.inf:
        raise _no_value("temperature", "a number from 0")
    return value


def _top_p(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise _no_value("top_p", "a number above 0, at most 1")
    return value


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _no_value("seed", "a whole number") from None


def _max_tokens(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise _no_value("max_tokens", "a whole number from 1")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _no_value(key: str, rule: str) -> UsageError:
    return UsageError(f"`{key}` is {rule}", hint=f"`/set {key} default` leaves it to the model")


_NUMBERS: dict[str, Callable[[str], float]] = {
    "temperature": _temperature,
    "top_p": _top_p,
    "seed": _seed,
    "max_tokens": _max_tokens,
}

_SWITCH: dict[str, object] = {"on": True, "off": False}

_CHOICES: dict[str, dict[str, object]] = {
    "verbose": _SWITCH,
    "markdown": _SWITCH,
    "thinking": {"show": "show", "fold": "fold", "hide": "hide"},
}

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
    "/set": _set,
    "/show": _show,
    "/stats": _stats,
    "/system": _system,
}

NAMES = tuple(sorted(_COMMANDS))
"""Every command."""

PATH_COMMANDS = ("/file", "/image", "/load", "/save")
"""The commands that a path follows."""
