"""`modelrunner skill`."""

from modelrunner.agents.skill import read_skill
from modelrunner.cli.context import Context, command


@command(
    examples="  mkdir -p ~/.claude/skills/modelrunner\n"
    "  modelrunner skill > ~/.claude/skills/modelrunner/SKILL.md"
)
def skill(context: Context) -> None:
    """Print a SKILL.md, from which coding agents learn to use modelrunner."""
    found = read_skill()
    if context.console.json:
        context.console.emit(found.to_dict())
    else:
        context.console.print(found.text.rstrip("\n"))
