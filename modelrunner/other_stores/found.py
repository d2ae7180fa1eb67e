"""What is found in another program's directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from modelrunner.disk.inside import open_content
from modelrunner.frozen import field, frozen
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.wire import parse_json

Role = Literal["weights", "projector", "license", "parameters"]
_LIMIT = 4 * 1024 * 1024


@frozen
class FoundFile:
    """A file of a model.

    Attributes:
        file: Where it lies.
        path: Its path in its repository, or its name.
        size: Its bytes.
        digest: The digest that its program says it has, if that says any.
        role: What it is for.
    """

    file: Path
    path: str
    size: int
    digest: Digest | None = None
    role: Role = "weights"

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]


@frozen
class Kept:
    """An artifact that is kept as it was pulled: its manifest, and where its blobs lie."""

    manifest: bytes
    blobs: Mapping[Digest, Path]


@frozen
class FoundModel:
    """A model.

    Attributes:
        title: What its program calls it.
        reference: What it is called here.
        files: Its weights in order, and what goes with them; none where all is in `kept`.
        left_out: What its program has of it and is not taken, and why.
        kept: The artifact, where its program keeps one.
        others: Further names of it.
        on_hub: Whether the files are a repository's of the Hugging Face Hub, by their names too.
        parameters: What its program runs it with, by that program's names.
        system: Its system prompt.
        template: Its chat template, where that is not in Jinja: it cannot be used.
    """

    title: str
    reference: Reference
    files: tuple[FoundFile, ...] = ()
    left_out: tuple[str, ...] = ()
    kept: Kept | None = None
    others: tuple[Reference, ...] = ()
    on_hub: bool = False
    parameters: Mapping[str, object] = field(default_factory=dict)
    system: str | None = None
    template: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        if self.kept is not None:
            return sum(path.stat().st_size for path in self.kept.blobs.values() if path.exists())
        return sum(file.size for file in self.files)


@frozen
class Unusable:
    """Something that a program keeps and that cannot be taken, and why."""

    title: str
    reason: str


Found = FoundModel | Unusable


def read_text(path: Path) -> str | None:
    """The text in a file; None if it cannot be read."""
    try:
        with open_content(path) as file:
            return file.content(_LIMIT).decode()
    except (OSError, ValueError):
        return None


def read_object(path: Path) -> Mapping[str, Any] | None:
    """A JSON object in a file; None if it cannot be read, or is not one."""
    try:
        with open_content(path) as file:
            value = parse_json(file.content(_LIMIT))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
