"""The repositories of one registry whose names have some words in them."""

from collections.abc import Iterable
from itertools import islice
from typing import Protocol


class Catalog(Protocol):
    """A registry that lists its repositories."""

    @property
    def name(self) -> str:
        """For people: which one it is."""
        ...

    def repositories(self) -> Iterable[str]:
        """All of them, page by page."""
        ...


def named_repositories(catalog: Catalog, text: str, limit: int) -> list[str]:
    """Return the repositories with all words of a text, by their full names, up to a number.

    Raises:
        RegistryAnswerError: The registry does not list them.
        AccessError, TransferError: It says no, or nothing.
    """
    words = text.lower().split()
    found = (
        f"{catalog.name}/{name}"
        for name in catalog.repositories()
        if all(word in name.lower() for word in words)
    )
    return list(islice(found, limit))
