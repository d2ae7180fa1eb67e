"""What a search of the Hugging Face Hub finds: as data, without what speaks to the Hub."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HubHit:
    """A repository that has GGUF files.

    Attributes:
        name: `ORG/REPO`.
        downloads: In the last month.
        likes: Of people.
        gated: Whether its owner wants to know who takes it.
        parameters: Of the model, as its header says.
        architecture: The same.
        quantizations: According to file names.
        chat_template: The chat template in its header, as the Hub shows it.
        has_projector: Whether there is a file that lets it see or hear.
    """

    name: str
    downloads: int
    likes: int
    gated: bool
    parameters: int | None
    architecture: str | None
    quantizations: tuple[str, ...]
    chat_template: str | None = None
    has_projector: bool = False
