"""The catalog: cards that come with the program, one file a repository, found by name.

A file's name is its repository's, so finding a card reads one file. In an installation the cards
lie beside this module in `data`; in a source checkout they lie in `cards` at the top.
"""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelrunner.errors import CardNotFoundError
from modelrunner.text import closest, did_you_mean

if TYPE_CHECKING:
    from modelrunner.cards.card import Card

_SUFFIX = ".md"
_HERE = Path(__file__).parent
_NAME = r"(?a)[\w.-]+"


class Catalog(NamedTuple):
    """A directory of cards."""

    folder: Path

    @classmethod
    def load(cls, folder: Path | None = None) -> "Catalog":
        """The catalog in a directory, else the one that comes with the program."""
        if folder is not None:
            return cls(folder)
        places = (_HERE / "data", _HERE.parent.parent / "cards")
        return cls(next((place for place in places if place.is_dir()), places[0]))

    def names(self) -> tuple[str, ...]:
        """The names of all cards, sorted."""
        try:
            # a glob would make a path of each, and a Tab waits for it
            listed = os.listdir(self.folder)  # noqa: PTH208 - names are enough
        except OSError:
            return ()
        return tuple(sorted(name[: -len(_SUFFIX)] for name in listed if name.endswith(_SUFFIX)))

    def get(self, reference: str, tags: Collection[str] = ()) -> "Card | None":
        """The card for a reference or name, `None` if there is none.

        Args:
            reference: The repository, or a model of it.
            tags: Where given, a card that names none of them need not be read.
        """
        name = repository_of(reference)
        if name is None:
            return None
        path = self.folder / f"{name}{_SUFFIX}"
        if not path.is_file() or (tags and not _mentions(path, tags)):
            return None
        return _read(path)

    def find(self, reference: str) -> "Card":
        """The card for a reference or a name, whatever its tag.

        Raises:
            CardNotFoundError: There is none; the hint names what is spelled alike.
        """
        card = self.get(reference)
        if card is not None:
            return card
        near = [f"ai/{name}" for name in self.near(reference)]
        raise CardNotFoundError(
            f"{reference}: card not found in the catalog",
            hint=did_you_mean(near) or "run `modelrunner cards` to see all of them",
            reference=reference,
            near_misses=near,
        )

    def near(self, reference: str, limit: int = 3) -> tuple[str, ...]:
        """Names that are spelled like this one, the likeliest first."""
        return tuple(closest(_last_part(reference), self.names(), limit))

    def cards(self) -> "Iterator[Card]":
        """Every card, in the order of the names; each is read when its turn comes."""
        return (_read(self.folder / f"{name}.md") for name in self.names())

    def search(self, text: str = "") -> "Iterator[Card]":
        """The cards that have every word of the text in their name, title, facts or description."""
        words = text.casefold().split()
        return (card for card in self.cards() if all(word in _about(card) for word in words))


def repository_of(reference: str) -> str | None:
    """The repository's last part, under which the catalog files it.

    Only Docker's namespace is in the catalog: `ai/NAME`, with or without `docker.io`, a tag or
    a digest, or `NAME` alone.
    """
    path, _, _ = reference.partition("@")
    *namespace, _ = path.split("/")
    if namespace not in ([], ["ai"], ["docker.io", "ai"], ["index.docker.io", "ai"]):
        return None
    name = _last_part(reference)
    return name if re.fullmatch(_NAME, name) else None


def _mentions(path: Path, tags: Collection[str]) -> bool:
    # outside: a card that a person names, or one of ours
    text = path.read_bytes()
    return any(tag.encode() in text for tag in tags)


def _read(path: Path) -> "Card":
    # most references have no card, and what reads one is large
    from modelrunner.cards.parser import read_card

    return read_card(path, name=path.stem)


def _last_part(reference: str) -> str:
    path, _, _ = reference.partition("@")
    return path.rpartition("/")[2].partition(":")[0].lower()


def _about(card: "Card") -> str:
    facts = card.attributes
    parts = (
        card.name,
        card.title,
        facts.provider,
        facts.architecture,
        facts.license,
        *(facts.languages or ()),
        *(facts.input_modalities or ()),
        *(reference for variant in card.variants for reference in variant.references),
        card.description,
    )
    return " ".join(part for part in parts if part).casefold()
