"""Discover: everything that refers to a model, in the store and in its registry."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modelrunner.errors import ModelRunnerError
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import DEEPEST, MOST_SUBJECTS, Referrer
from modelrunner.operations.trust.signatures import Ask, SignaturePlace, SignatureSource
from modelrunner.registry.oci.referrers import NotLookedAt
from modelrunner.store.store import Store

STORE = "local store"


class Found(NamedTuple):
    """Something that refers to a model, or to what does.

    Attributes:
        referrer: It.
        places: Who has it.
        found: What refers to it in turn.
    """

    referrer: Referrer
    places: Sequence[str]
    found: "Sequence[Found]" = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**self.facts(), "referrers": [each.to_dict() for each in self.found]}

    def facts(self) -> dict[str, Any]:
        """Return what is known of it alone, as JSON has it."""
        return {
            **self.referrer.facts(),
            "title": title_of(self.referrer),
            "places": list(self.places),
        }


@dataclass(frozen=True, slots=True)
class Discovered:
    """What refers to a model.

    Attributes:
        digest: The model.
        found: Each thing, with the places that have it.
        problems: Why a place was not looked at, or not all of it.
        manifests: Of an index, each manifest to which something refers, and that.
    """

    digest: Digest
    found: Sequence[Found]
    problems: Sequence[str]
    manifests: Sequence[tuple[Descriptor, Sequence[Found]]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        value = {
            "digest": str(self.digest),
            "referrers": [each.to_dict() for each in self.found],
            "problems": list(self.problems),
        }
        if self.manifests:
            value["manifests"] = [
                {"digest": str(each.digest), "referrers": [one.to_dict() for one in found]}
                for each, found in self.manifests
            ]
        return value


def discover(
    store: Store,
    ask: Ask | None,
    name: Reference | None,
    digest: Digest,
    *,
    manifests: Sequence[Descriptor] = (),
    deepest: int = DEEPEST,
) -> Discovered:
    """Return what refers to a model; what several places have is named once.

    A place that does not answer is a problem and not an error, since the others are of use.

    Args:
        store: Looked at first.
        ask: Opens the other places; None where the network is ruled out.
        name: The model's name; None where it has none, or that of no registry.
        digest: The model.
        manifests: Those that it lists, where it is an index.
        deepest: How far it is followed: 1 for what refers to the model alone.
    """
    manifests = manifests[:MOST_SUBJECTS]
    looking = _Looking([digest, *(each.digest for each in manifests)], deepest)
    for referrer in store.referrers_of(digest):
        looking.note(referrer, STORE)
    if ask is not None and name is not None and not name.is_local:
        with ExitStack() as stack:
            try:
                places = ask(name)
            except ModelRunnerError as exc:
                places = ()
                looking.problems.append(exc.message)
            for place in places:
                stack.callback(place.source.close)
            for place in places:
                try:
                    looking.look(place)
                except ModelRunnerError as exc:
                    looking.problems.append(exc.message)
    listed = [(each, looking.found(each.digest)) for each in manifests]
    return Discovered(
        digest,
        looking.found(digest),
        list(dict.fromkeys(looking.problems)),
        [(each, found) for each, found in listed if found],
    )


@dataclass
class _Looking:
    """What was found so far, by what it refers to.

    Attributes:
        roots: What is asked about first.
        deepest: How far it is followed.
    """

    roots: Sequence[Digest]
    deepest: int
    problems: list[str] = field(default_factory=list)
    _groups: dict[Digest, dict[tuple[Digest, str | None], tuple[Referrer, list[str]]]] = field(
        default_factory=dict
    )

    def note(self, referrer: Referrer, place: str) -> bool:
        """Add something that a place has; whether it is understood what it refers to."""
        subject = referrer.subject
        if subject is None:
            return False
        group = self._groups.setdefault(subject, {})
        entry = group.setdefault((referrer.digest, referrer.tag), (referrer, []))
        if place not in entry[1]:
            entry[1].append(place)
        return True

    def look(self, place: SignaturePlace) -> None:
        """Ask a place."""
        asked: set[Digest] = set()
        level = list(self.roots)
        for _ in range(self.deepest):
            following: list[Digest] = []
            for digest in dict.fromkeys(level):
                if digest in asked:
                    # by a subject nothing refers to itself, but a tag may say anything
                    continue
                if len(asked) >= len(self.roots) + MOST_SUBJECTS:
                    self.problems.append(
                        f"{place.source.name}: only {MOST_SUBJECTS} referrers were asked what"
                        " refers to them"
                    )
                    return
                asked.add(digest)
                count = len(self.problems)
                following += self._look(place, digest)
                if len(self.problems) > count:
                    # a limit was reached
                    return
            level = following

    def _look(self, place: SignaturePlace, digest: Digest) -> Iterator[Digest]:
        for each in place.source.referrers(place.reference, digest):
            if isinstance(each, NotLookedAt):
                self.problems.append(f"{place.source.name}: {each}")
            elif each.subject == digest and self.note(each, place.source.name):
                yield each.digest

    def found(
        self, digest: Digest, depth: int = 1, above: frozenset[Digest] = frozenset()
    ) -> list[Found]:
        """Return what refers to a manifest."""
        if depth > self.deepest or digest in above:
            return []
        inside = above | {digest}
        return [
            Found(each, places, self.found(each.digest, depth + 1, inside))
            for each, places in self._groups.get(digest, {}).values()
        ]


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
