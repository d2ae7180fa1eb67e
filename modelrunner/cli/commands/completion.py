"""`modelrunner completion`."""

from enum import StrEnum
from typing import Annotated

import typer

from modelrunner.cli.completion import SCRIPTS
from modelrunner.cli.context import Context, command


class Shell(StrEnum):
    """Shells that can ask for completions."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@command(
    examples='  eval "$(modelrunner completion bash)"          # in ~/.bashrc\n'
    "  source <(modelrunner completion zsh)            # in ~/.zshrc, after compinit\n"
    "  modelrunner completion fish > ~/.config/fish/completions/modelrunner.fish"
)
def completion(context: Context, shell: Annotated[Shell, typer.Argument()]) -> None:
    """Print the completion script of a shell."""
    context.console.print(SCRIPTS[shell].rstrip("\n"))
