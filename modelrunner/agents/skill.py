"""The SKILL.md for coding agents: a page about this program, with a name and a description."""

from dataclasses import dataclass
from pathlib import Path

_FILE = Path(__file__).parent / "SKILL.md"


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill as agents read one.

    Attributes:
        name: Its name.
        description: When an agent should read it.
        text: The whole file.
    """

    name: str
    description: str
    text: str

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {"name": self.name, "description": self.description, "text": self.text}


def read_skill() -> Skill:
    """Return the skill that comes with the program."""
    # outside: a file of the package
    text = _FILE.read_text("utf-8")
    head = text.split("---\n", 2)[1]
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    return Skill(fields["name"], fields["description"], text)
