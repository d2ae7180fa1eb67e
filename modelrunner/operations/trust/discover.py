"""Discover: everything that refers to a model, in the store and in its registry."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from modelrunner.errors import ModelRunnerError
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer
from modelrunner.operations.trust.signatures import Ask, SignaturePlace, SignatureSource
from modelrunner.registry.oci.referrers import NotLookedAt
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
    ask: Ask | None,
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


@contextmanager
def asked_once(ask: Ask) -> Iterator[Ask]:
    """The block in which each place is asked once what refers to a model, for all who want to know.

    Connections are closed when it ends.
    """
    opened: dict[Reference, Sequence[SignaturePlace]] = {}
    with ExitStack() as stack:

        def ask_once(reference: Reference) -> Sequence[SignaturePlace]:
            if reference not in opened:
                places = ask(reference)
                for place in places:
                    stack.callback(place.source.close)
                opened[reference] = [
                    _Remembered(_Remembering(place.source), place.reference) for place in places
                ]
            return opened[reference]

        yield ask_once


@dataclass(frozen=True, slots=True)
class _Remembered:
    source: "_Remembering"
    reference: Reference


_Answer = tuple[Sequence[Referrer | NotLookedAt], ModelRunnerError | None]


@dataclass(frozen=True, slots=True)
class _Remembering:
    """A place that is asked once, and answers, or fails, in the same way each time."""

    source: SignatureSource
    _answers: dict[tuple[Reference, Digest], _Answer] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.source.name

    def referrers(self, reference: Reference, digest: Digest) -> Iterable[Referrer | NotLookedAt]:
        key = (reference, digest)
        if key not in self._answers:
            found: list[Referrer | NotLookedAt] = []
            error: ModelRunnerError | None = None
            try:
                found.extend(self.source.referrers(reference, digest))
            except ModelRunnerError as exc:
                error = exc
            self._answers[key] = (found, error)
        found_before, failure = self._answers[key]
        yield from found_before
        if failure is not None:
            raise failure

    def content(self, reference: Reference, descriptor: Descriptor) -> bytes:
        return self.source.content(reference, descriptor)

    def close(self) -> None:
        """Nothing: others may ask, and the block closes it."""


def title_of(referrer: Referrer) -> str | None:
    """Return the file name that what refers to a model gives, if it gives one."""
    titles = (
        layer.annotations.get(media_types.ANNOTATION_TITLE) for layer in referrer.manifest.layers
    )
    return next(filter(None, titles), None)
