"""`--output`: which folder each model's files go to, and how they come there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.cli.views.pull import Result
from modelrunner.errors import ModelRunnerError, UsageError
from modelrunner.oci.reference import Reference
from modelrunner.operations.pull.outcome import Failed, Pulled

if TYPE_CHECKING:
    from modelrunner.store.adopt import Way


@dataclass(frozen=True, slots=True)
class Placing:
    """What `--output` and the options beside it ask for; without a folder nothing is placed."""

    folder: Path | None = None
    way: "Way" = "auto"
    force: bool = False

    def place(self, result: Result, folder: Path | None) -> Result:
        """Puts a model's files into a folder, if it is here and there is one.

        Raises:
            ModelRunnerError: They cannot be put there.
        """
        if folder is None or not isinstance(result.outcome, Pulled):
            return result
        # most pulls place nothing
        from modelrunner.operations.pull.place import place

        placed = place(result.outcome.model, folder, self.way, force=self.force)
        return replace(result, output=placed.weights)

    def try_place(self, result: Result, folder: Path | None) -> Result:
        """Like `place`; where it fails, that is what became of the model."""
        try:
            return self.place(result, folder)
        except ModelRunnerError as exc:
            return replace(result, outcome=Failed(result.outcome.reference, exc))


def placing_of(
    output: Path | None, *, link: bool, copy: bool, force: bool, locked: bool
) -> Placing:
    """The options as one value.

    Raises:
        UsageError: They contradict each other.
    """
    if link and copy:
        raise UsageError("--link and --copy cannot be combined", hint="use one of them")
    if (link or copy or force) and output is None and not locked:
        raise UsageError("--link, --copy and --force need --output", hint="add --output FOLDER")
    return Placing(output, "link" if link else "copy" if copy else "auto", force)


def folders(folder: Path | None, references: Sequence[Reference]) -> list[Path | None]:
    """A folder for each of several models: by the last part of its name, and its tag if need be."""
    if folder is None:
        return [None for _ in references]
    last = [reference.repository.rpartition("/")[2] for reference in references]
    tagged = [
        f"{name}-{reference.tag or (reference.digest.short if reference.digest else '')}".replace(
            "/", "-"
        )
        for name, reference in zip(last, references, strict=True)
    ]
    whole = [str(reference).translate(str.maketrans("/:@", "---")) for reference in references]
    found: list[Path | None] = []
    for choices in zip(last, tagged, whole, strict=True):
        columns = zip(choices, (last, tagged, whole), strict=True)
        name = next((name for name, column in columns if column.count(name) == 1), choices[-1])
        found.append(folder / name)
    return found
