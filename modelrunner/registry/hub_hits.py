"""What a search of the Hugging Face Hub finds, read from its answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelrunner.huggingface.files import quantizations
from modelrunner.text import sanitize_line

_MOST_PARAMETERS = 10**14


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
        quantizations: What file names tell.
    """

    name: str
    downloads: int
    likes: int
    gated: bool
    parameters: int | None
    architecture: str | None
    quantizations: tuple[str, ...]


def hits_in(entries: object) -> Iterator[HubHit]:
    """The repositories in an answer; what cannot be understood is passed over."""
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("id"), str):
            continue
        gguf = entry.get("gguf")
        facts: Mapping[str, object] = gguf if isinstance(gguf, Mapping) else {}
        total, architecture = facts.get("total"), facts.get("architecture")
        sane = isinstance(total, int) and not isinstance(total, bool)
        yield HubHit(
            sanitize_line(entry["id"], 255),
            _count(entry.get("downloads")),
            _count(entry.get("likes")),
            entry.get("gated") not in (None, False),
            total if sane and isinstance(total, int) and 0 < total < _MOST_PARAMETERS else None,
            sanitize_line(architecture, 64) if isinstance(architecture, str) else None,
            tuple(_quantizations(entry.get("siblings"))),
        )


def _quantizations(siblings: object) -> Iterator[str]:
    names = [
        entry.get("rfilename") if isinstance(entry, Mapping) else None
        for entry in (siblings if isinstance(siblings, list) else [])
    ]
    yield from quantizations(name for name in names if isinstance(name, str))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
