"""Confirmation before much is removed or downloaded: a question on a terminal, else `--yes`."""

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

from modelrunner.cli.context import CommandEnd, Context
from modelrunner.cli.parser.declared import Option
from modelrunner.errors import ExitStatus, UsageError

Yes = Annotated[bool, Option("--yes", "-y", help="Do not ask for confirmation.")]


def confirm(
    context: Context,
    action: str,
    what: Sequence[str],
    *,
    yes: bool,
    hint: str = "",
    verb: Literal["remove", "install"] = "remove",
) -> None:
    """Return if the user agrees; asks on a terminal.

    Args:
        context: The terminal to ask on.
        action: The action, such as `remove 2 models (1.20 GiB)`.
        what: What is affected, in one line each.
        yes: Whether `--yes` was given.
        hint: An alternative to `--yes`.
        verb: What is done.

    Raises:
        UsageError: Without a terminal and without `--yes`.
        CommandEnd: The user does not agree.
    """
    if yes:
        return
    if not context.console.json:
        for line in what:
            context.console.note(line)
    if not can_ask(context):
        raise UsageError(
            f"refusing to {action} without confirmation",
            hint=f"add --yes{hint}",
            **{f"would_{verb}": list(what)},
        )
    if not agrees(context, action):
        context.console.note(f"canceled; nothing was {verb.removesuffix('e')}ed")
        raise CommandEnd(ExitStatus.INTERRUPTED)


def can_ask(context: Context) -> bool:
    """Return whether a question can be answered: input and messages are a terminal."""
    console = context.console
    asks = not console.json and sys.stdin is not None and sys.stdin.isatty()
    return asks and console.err.isatty()


def agrees(context: Context, action: str) -> bool:
    """Ask a question at the terminal; no is the default."""
    console = context.console
    console.ask(f"{action[0].upper()}{action[1:]}? [y/N] ")
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        # Ctrl-D leaves the cursor behind the question
        console.note("")
    return answer.strip().lower() in {"y", "yes"}
