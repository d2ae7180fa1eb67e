"""The directories that the files of pulled models are placed in, and how."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.errors import ModelRunnerError
from modelrunner.frozen import frozen
from modelrunner.oci.reference import Reference
from modelrunner.operations.pull.outcome import Failed, Outcome, Pulled

# late imports: most pulls place nothing
if TYPE_CHECKING:
    from modelrunner.store.adopt import Way


@frozen
class Placement:
    """Where and how files are placed; without a directory nothing is.

    Attributes:
        folder: The directory; with several models each has its own below it.
        way: Whether files are links or copies.
        force: Whether other files of the same names are replaced.
    """

    folder: Path | None = None
    way: "Way" = "auto"
    force: bool = False

    def place(self, outcome: Outcome, folder: Path | None) -> Path | None:
        """Place the files of a pulled model, and return the path of its weights.

        Raises:
            ModelRunnerError: The files cannot be placed there.
        """
        if folder is None or not isinstance(outcome, Pulled):
            return None
        from modelrunner.operations.pull.place import place

        return place(outcome.model, folder, self.way, force=self.force).weights

    def try_place(self, outcome: Outcome, folder: Path | None) -> tuple[Outcome, Path | None]:
        """Do the same; where it fails, that is what became of the model."""
        try:
            return outcome, self.place(outcome, folder)
        except ModelRunnerError as exc:
            return Failed(outcome.reference, exc), None


def folders(folder: Path | None, references: Sequence[Reference]) -> list[Path | None]:
    """Return a directory for each model: the last part of its name, with its tag where two agree.

    Of a single model it is the directory itself.
    """
    if len(references) == 1:
        return [folder]
    if folder is None:
        return [None] * len(references)
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
