"""`modelrunner completion`."""

from enum import StrEnum
from pathlib import PurePath
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.completion import SCRIPTS
from modelrunner.cli.parser.declared import Argument
from modelrunner.errors import UsageError
from modelrunner.text import sanitize_line


class Shell(StrEnum):
    """Shells that can ask for completions."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_LOADING = {
    Shell.BASH: 'eval "$(modelrunner completion bash)"',
    Shell.ZSH: "source <(modelrunner completion zsh)",
    Shell.FISH: "modelrunner completion fish | source",
}


@command(
    examples='  eval "$(modelrunner completion bash)"          # in ~/.bashrc\n'
    "  source <(modelrunner completion zsh)            # in ~/.zshrc, after compinit\n"
    "  modelrunner completion fish > ~/.config/fish/completions/modelrunner.fish"
)
def completion(
    context: Context,
    shell: Annotated[
        Shell | None,
        Argument(metavar="[SHELL]", help="Shell: bash, zsh or fish (default: the current shell)."),
    ] = None,
) -> None:
    """Print the completion script of a shell."""
    chosen = shell or _in_use(context)
    script = SCRIPTS[chosen]
    if context.console.json:
        context.console.emit({"shell": chosen.value, "script": script})
        return
    context.console.print(script.rstrip("\n"))
    if context.console.out.isatty():
        context.console.say(f"load it in {chosen} with: {_LOADING[chosen]}")


def _in_use(context: Context) -> Shell:
    """Return the shell that started this program, or else the login shell.

    Raises:
        UsageError: There is no script for it.
    """
    name = _started_by() or PurePath(context.environ.get("SHELL", "")).name
    known = ", ".join(Shell)
    if not name:
        raise UsageError(
            "cannot detect the current shell",
            hint=f"name it: `modelrunner completion bash` ({known})",
        )
    try:
        return Shell(name)
    except ValueError:
        raise UsageError(
            f"no completion script for the shell {sanitize_line(name, 40)}",
            hint=f"name one of {known}, such as `modelrunner completion bash`",
        ) from None


def _started_by() -> str:
    """Return the name of the nearest shell among the parent processes; empty for none."""
    # comes with typer, which asks it the same
    import shellingham  # type: ignore[import-untyped]

    try:
        name, _ = shellingham.detect_shell()
    except (shellingham.ShellDetectionFailure, OSError):
        return ""
    return str(name).lower()
