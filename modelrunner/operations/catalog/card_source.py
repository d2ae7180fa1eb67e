"""Where a model's card comes from: the catalog, the stored model, or Docker Hub by way of a cache.

```
MODELRUNNER_HOME/cache/cards/<namespace>/<name>.md      its age is that of the file
```

A copy younger than a day is used without asking. An older one is used where Hub cannot be asked,
and said to be old.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from modelrunner.cards.card import Card
from modelrunner.cards.catalog import Catalog
from modelrunner.cards.parser import parse_card, read_card
from modelrunner.disk.files import write_lightly
from modelrunner.errors import CardNotFoundError, NotInStoreError, TransferError
from modelrunner.oci.reference import DEFAULT_NAMESPACE, DOCKER_HUB, Reference
from modelrunner.text import did_you_mean
from modelrunner.units import format_moment

FRESH_S = 24 * 3600.0
"""Seconds for which a copy is as good as Hub's own."""

_NAME_PARTS = 2


class FoundCard(NamedTuple):
    """A card, and where it was.

    Attributes:
        card: The card.
        name: What the model is called, for people; empty for a file.
        source: Who has it.
        fetched: When it came from Hub, in seconds since 1970; None for one that did not.
        problem: Why Hub could not be asked about a copy that is old; None for one that is not.
    """

    card: Card
    name: str
    source: Literal["file", "catalogue", "model", "hub"]
    fetched: float | None = None
    problem: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The card's facts, and where they are from."""
        from datetime import UTC, datetime

        fetched = None
        if self.fetched is not None:
            fetched = format_moment(datetime.fromtimestamp(self.fetched, UTC))
        return {**self.card.to_dict(), "source": self.source, "fetched": fetched}


def _no_own(_reference: Reference) -> None:
    return None


@dataclass(frozen=True, slots=True)
class CardSource:
    """Finds the cards of models.

    Attributes:
        catalog: The cards that come with the program.
        cache: The directory of copies.
        describe: Asks Docker Hub; None where the network is ruled out.
        now: The clock.
        own: Returns the text of the card that a stored model of this name brings.
    """

    catalog: Catalog
    cache: Path
    describe: Callable[[Reference], str] | None
    now: Callable[[], float] = field(default=time.time, repr=False)
    own: Callable[[Reference], str | None] = _no_own

    def find(self, reference: Reference) -> FoundCard:
        """The card of a model, whatever its tag.

        Raises:
            CardNotFoundError: No such card; the hint names similar ones.
            NotInStoreError: No copy is stored, and the network is ruled out.
            AccessError, TransferError: Hub does not show it, or does not answer.
        """
        here = self._catalogued(reference)
        if here is not None:
            return here
        own = self.own(reference)
        if own is not None:
            return FoundCard(parse_card(own), _name(reference), "model")
        path = self._place(reference)
        if path is None:
            raise self._missing(reference, "card not found in the catalog")
        kept = self._kept(reference, path)
        if kept is not None and self._is_fresh(kept):
            return kept
        if self.describe is None:
            return self._offline(reference, kept)
        try:
            text = self.describe(reference)
        except CardNotFoundError as exc:
            _forget(path)
            raise self._missing(
                reference, "card not found in the catalog or on Docker Hub"
            ) from exc
        except TransferError as exc:
            return self._unreachable(reference, kept, exc)
        if not text.strip():
            raise self._missing(reference, "Docker Hub has no description of it")
        _keep(path, text)
        card = parse_card(text, name=_catalogue_name(reference))
        return FoundCard(card, _name(reference), "hub", self.now())

    def known(self, reference: Reference) -> Card | None:
        """The card as far as it is here, of whatever age."""
        path = self._place(reference)
        found = self._catalogued(reference) or (path and self._kept(reference, path))
        return found.card if found else None

    def _catalogued(self, reference: Reference) -> FoundCard | None:
        card = self.catalog.get(reference.name)
        return None if card is None else FoundCard(card, _name(reference), "catalogue")

    def _place(self, reference: Reference) -> Path | None:
        """Where a copy would be; only Docker Hub has descriptions."""
        parts = reference.repository.split("/")
        if reference.registry != DOCKER_HUB or reference.is_local or len(parts) != _NAME_PARTS:
            return None
        return self.cache / parts[0] / f"{parts[1]}.md"

    def _kept(self, reference: Reference, path: Path) -> FoundCard | None:
        try:
            fetched = path.stat().st_mtime
            card = read_card(path, name=_catalogue_name(reference))
        except OSError:
            # a copy that cannot be read is none: it can be fetched again
            return None
        return FoundCard(card, _name(reference), "hub", fetched)

    def _is_fresh(self, kept: FoundCard) -> bool:
        # a time to come says nothing of the age
        return kept.fetched is not None and 0 <= self.now() - kept.fetched < FRESH_S

    def _offline(self, reference: Reference, kept: FoundCard | None) -> FoundCard:
        if kept is not None:
            return FoundCard(kept.card, kept.name, kept.source, kept.fetched, "--offline is set")
        raise NotInStoreError(
            f"{_name(reference)}: no card on this machine, and --offline is set",
            hint=self._near_hint(reference) or "run the command once without --offline",
            near_misses=self._near(reference),
        )

    def _unreachable(
        self, reference: Reference, kept: FoundCard | None, error: TransferError
    ) -> FoundCard:
        if kept is not None:
            return FoundCard(kept.card, kept.name, kept.source, kept.fetched, error.message)
        near = self._near_hint(reference)
        hints = [hint for hint in (error.hint, near and f"or {near}") if hint]
        raise error.with_hint("; ".join(hints), near_misses=self._near(reference)) from error

    def _missing(self, reference: Reference, why: str) -> CardNotFoundError:
        return CardNotFoundError(
            f"{_name(reference)}: {why}",
            hint=self._near_hint(reference) or "run `modelrunner cards` to see the catalog",
            reference=_name(reference),
            near_misses=self._near(reference),
        )

    def _near(self, reference: Reference) -> list[str]:
        return [f"ai/{name}" for name in self.catalog.near(reference.name)]

    def _near_hint(self, reference: Reference) -> str | None:
        return did_you_mean(self._near(reference))


def _name(reference: Reference) -> str:
    """The model as people type it, without tag and digest."""
    return reference.with_tag("x").short.removesuffix(":x")


def _catalogue_name(reference: Reference) -> str | None:
    """The name by which references in a card are compared with it, of Docker's own namespace."""
    namespace, _, name = reference.repository.partition("/")
    return name if namespace == DEFAULT_NAMESPACE else None


def _keep(path: Path, text: str) -> None:
    # a full disk, or a home that may not be written, is no reason not to show the card
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lightly(path, text.encode("utf-8", "replace"))


def _forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
