"""Discover: everything that refers to a model, in the store and in its registry."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from modelrunner.errors import ModelRunnerError
from modelrunner.oci import media_types
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer
from modelrunner.registry.oci.referrers import NotLookedAt, ReferrerPlace
from modelrunner.store.store import Store

STORE = "local store"


@dataclass(frozen=True, slots=True)
class Discovered:
    """What refers to a model.

    Attributes:
        digest: The model.
        found: Each thing, with the places that have it.
        problems: Why a place was not looked at, or not all of it.
    """

    digest: Digest
    found: Sequence[tuple[Referrer, Sequence[str]]]
    problems: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "digest": str(self.digest),
            "referrers": [
                {**referrer.facts(), "title": title_of(referrer), "places": list(places)}
                for referrer, places in self.found
            ],
            "problems": list(self.problems),
        }


def discover(
    store: Store,
    ask: Callable[[Reference], Sequence[ReferrerPlace]] | None,
    name: Reference | None,
    digest: Digest,
) -> Discovered:
    """Return what refers to a model; what several places have is named once.

    A place that does not answer is a problem and not an error, since the others are of use.

    Args:
        store: Looked at first.
        ask: Opens the other places; None where the network is ruled out.
        name: The model's name; None where it has none, or that of no registry.
        digest: The model.
    """
    found: dict[tuple[Digest, str | None], tuple[Referrer, list[str]]] = {}
    for referrer in store.referrers_of(digest):
        found[referrer.digest, referrer.tag] = (referrer, [STORE])
    problems: list[str] = []
    if ask is not None and name is not None and not name.is_local:
        with ExitStack() as stack:
            try:
                places = ask(name)
            except ModelRunnerError as exc:
                return Discovered(digest, list(found.values()), [exc.message])
            for place in places:
                stack.callback(place.source.close)
            for place in places:
                try:
                    for each in place.source.referrers(place.reference, digest):
                        if isinstance(each, NotLookedAt):
                            problems.append(f"{place.source.name}: {each}")
                            continue
                        entry = found.setdefault((each.digest, each.tag), (each, []))
                        entry[1].append(place.source.name)
                except ModelRunnerError as exc:
                    problems.append(exc.message)
    return Discovered(digest, list(found.values()), list(dict.fromkeys(problems)))


def title_of(referrer: Referrer) -> str | None:
    """Return the file name that what refers to a model gives, if it gives one."""
    titles = (
        layer.annotations.get(media_types.ANNOTATION_TITLE) for layer in referrer.manifest.layers
    )
    return next(filter(None, titles), None)
