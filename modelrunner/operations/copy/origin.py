"""Where a copy comes from, whatever that is: a registry, the Hugging Face Hub, a store."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

from modelrunner.errors import (
    ManifestNotFoundError,
    ModelRunnerError,
    UnsupportedArtifactError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import (
    DEEPEST,
    MOST_SUBJECTS,
    Referrer,
    ReferrerChoice,
    direct,
    is_signature,
    refers_to,
    taken_along,
)
from modelrunner.operations.model.suggestions import pin
from modelrunner.operations.package.push_blobs import Contents, StoredContents
from modelrunner.operations.pull.referrers import allowance_for
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.oci.referrers import Allowance, NotLookedAt, ReferrerPlace
from modelrunner.registry.source import Source
from modelrunner.store.store import Store, StoredModel, missing
from modelrunner.transfer.passage import Passage

AskReferrers = Callable[[Reference, Allowance], Sequence[ReferrerPlace]]
"""Opens who may have what refers to a model."""


@dataclass(frozen=True, slots=True)
class FoundReferrers:
    """What refers to a manifest, and why that is not all."""

    referrers: tuple[Referrer, ...] = ()
    problems: tuple[str, ...] = ()


class Origin(Protocol):
    """One manifest that is to be copied, and whatever it needs."""

    @property
    def reference(self) -> Reference | None:
        """What it is called; None for what has no name."""
        ...

    @property
    def checked(self) -> Reference | None:
        """The name by which the policy is asked; None where it was when it came."""
        ...

    @property
    def label(self) -> str:
        """For people."""
        ...

    def digest(self) -> Digest:
        """What the name stands for now; asked for once."""
        ...

    def manifest(self, digest: Digest) -> Manifest | Index:
        """A manifest, verified."""
        ...

    def contents(self) -> Contents:
        """Where blobs are read."""
        ...

    def referrers(self, digest: Digest, choice: ReferrerChoice) -> FoundReferrers:
        """What refers to a manifest."""
        ...

    def nested(self, digest: Digest) -> FoundReferrers:
        """What refers to something that refers to the manifest, or to that in turn."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass
class RegistryOrigin:
    """A name at a registry, with its mirrors, or on the Hugging Face Hub.

    Attributes:
        name: The name.
        source_for: Opens a source of it, for one thread.
        ask: Opens who may have what refers to it.
        backoff: How often a source is asked again.
    """

    name: Reference
    source_for: Callable[[Reference], Source]
    ask: AskReferrers
    backoff: Backoff = field(default_factory=Backoff)
    _known: dict[Digest, Manifest | Index] = field(default_factory=dict, init=False)

    @property
    def reference(self) -> Reference:
        """See `Origin.reference`."""
        return self.name

    @property
    def checked(self) -> Reference:
        """See `Origin.checked`."""
        return self.name

    @property
    def label(self) -> str:
        """See `Origin.label`."""
        return self.name.short

    def digest(self) -> Digest:
        """See `Origin.digest`.

        Raises:
            ManifestNotFoundError: No such tag; the near ones are named.
            AccessError, TransferError: The registry does not answer.
        """
        return self._digest

    def manifest(self, digest: Digest) -> Manifest | Index:
        """See `Origin.manifest`."""
        if digest not in self._known:
            name = replace(self._exact, digest=digest)
            self._known[digest] = self._source.manifest(name)
        return self._known[digest]

    def contents(self) -> "SourceContents":
        """See `Origin.contents`."""
        return SourceContents(lambda: self.source_for(self.name), self._exact, self.backoff)

    def referrers(self, digest: Digest, choice: ReferrerChoice) -> FoundReferrers:
        """See `Origin.referrers`; what fails is a problem, and does not end the copy."""
        if choice == "none":
            return FoundReferrers()
        try:
            places = self.ask(self.name, allowance_for("all"))
        except UnsupportedArtifactError:
            # the place keeps no such thing
            return FoundReferrers()
        with ExitStack() as stack:
            for place in places:
                stack.callback(place.source.close)
            return self._found_at(places, digest, choice)

    def nested(self, digest: Digest) -> FoundReferrers:
        """See `Origin.nested`; all of them together have the limits of one model."""
        return self._found_at(self._places, digest, "all")

    def _found_at(
        self, places: Sequence[ReferrerPlace], digest: Digest, choice: ReferrerChoice
    ) -> FoundReferrers:
        problems: list[str] = []
        is_answered = False
        for place in places:
            if is_answered and place.reference == self.name:
                # a mirror's answer is as good as its registry's, which may be out of reach
                continue
            try:
                found = _listed(place, digest, choice)
            except ModelRunnerError as exc:
                problems.append(exc.message)
                continue
            if found.referrers:
                return found
            is_answered = True
            problems += found.problems
        return FoundReferrers(problems=tuple(dict.fromkeys(problems)))

    @cached_property
    def _places(self) -> Sequence[ReferrerPlace]:
        try:
            return self.ask(self.name, allowance_for("all"))
        except ModelRunnerError:
            # then nothing was found that something could refer to
            return ()

    def close(self) -> None:
        """See `Origin.close`."""
        for place in self.__dict__.get("_places", ()):
            place.source.close()
        if "_source" in self.__dict__:
            self._source.close()

    @cached_property
    def _source(self) -> Source:
        return self.source_for(self.name)

    @cached_property
    def _digest(self) -> Digest:
        if self.name.digest is not None:
            return self.name.digest
        found = pin(self._source, self.name).digest
        if found is None:
            raise AssertionError("what is pinned has a digest")
        return found

    @property
    def _exact(self) -> Reference:
        return self.name.with_digest(self._digest)


def nested(
    root: Digest, referrers: Sequence[Referrer], ask: Callable[[Digest], FoundReferrers]
) -> tuple[Sequence[Referrer], Sequence[str]]:
    """Return what refers to referrers, and to that in turn; and why that is not all.

    Args:
        root: A manifest.
        referrers: What refers to it.
        ask: Returns what refers to one of them.
    """
    found: dict[tuple[Digest, str | None], Referrer] = {}
    problems: list[str] = []
    # a tag may say that the manifest refers to itself
    asked = {root}
    level = [each.digest for each in referrers]
    for _ in range(DEEPEST - 1):
        following: list[Digest] = []
        for digest in dict.fromkeys(level):
            if digest in asked:
                continue
            if len(asked) > MOST_SUBJECTS:
                problems.append(f"only {MOST_SUBJECTS} referrers were asked what refers to them")
                return list(found.values()), list(dict.fromkeys(problems))
            asked.add(digest)
            answer = ask(digest)
            problems += answer.problems
            if answer.problems:
                return list(found.values()), list(dict.fromkeys(problems))
            for each in answer.referrers:
                found.setdefault((each.digest, each.tag), each)
                following.append(each.digest)
        level = following
    return list(found.values()), list(dict.fromkeys(problems))


def _listed(place: ReferrerPlace, digest: Digest, choice: ReferrerChoice) -> FoundReferrers:
    only = choice == "signatures"
    found: list[Referrer] = []
    problems: list[str] = []
    for each in place.source.referrers(place.reference, digest, signatures_only=only):
        if isinstance(each, NotLookedAt):
            problems.append(str(each))
        elif (each.tag is not None or refers_to(each.manifest, digest)) and (
            not only or is_signature(each)
        ):
            found.append(each)
    return FoundReferrers(tuple(found), tuple(problems))


class SourceContents:
    """Blobs of a source, read while they are sent. Not to be shared between threads."""

    def __init__(
        self, open_source: Callable[[], Source], reference: Reference, backoff: Backoff
    ) -> None:
        self._open_source = open_source
        self._reference = reference
        self._backoff = backoff

    def of(self, blob: Descriptor) -> Passage:
        """Return the way of a blob from the source to an upload."""
        return Passage(lambda: self._source, self._reference, blob, self._backoff)

    def another(self) -> "SourceContents":
        """Return the same for another thread."""
        return SourceContents(self._open_source, self._reference, self._backoff)

    def close(self) -> None:
        """Let go of the connections."""
        if "_source" in self.__dict__:
            self._source.close()

    @cached_property
    def _source(self) -> Source:
        return self._open_source()


@dataclass(frozen=True)
class StoreOrigin:
    """A model of the local store.

    Attributes:
        store: The store.
        model: The model.
        name: What it is called there; None for what has no name.
    """

    store: Store
    model: StoredModel
    name: Reference | None

    @property
    def reference(self) -> Reference | None:
        """See `Origin.reference`."""
        return self.name

    @property
    def checked(self) -> None:
        """See `Origin.checked`."""
        return

    @property
    def label(self) -> str:
        """See `Origin.label`."""
        return self.model.digest.short if self.name is None else self.name.short

    def digest(self) -> Digest:
        """See `Origin.digest`."""
        return self.model.digest

    def manifest(self, digest: Digest) -> Manifest:
        """See `Origin.manifest`; the store has no indexes, so there is one."""
        if digest != self.model.digest:
            raise ManifestNotFoundError(
                f"{self.label}: {digest} is not in the local store",
                hint="`modelrunner list` lists the models of the local store",
            )
        for blob in self.model.manifest.blobs:
            if self.store.blobs.state(blob) != "good":
                raise missing(self.model, blob)
        return self.model.manifest

    def contents(self) -> StoredContents:
        """See `Origin.contents`."""
        return StoredContents(self.store)

    def referrers(self, digest: Digest, choice: ReferrerChoice) -> FoundReferrers:
        """See `Origin.referrers`."""
        found = taken_along(self._kept, choice, self.model.digest)
        return FoundReferrers(direct(digest, found))

    def nested(self, digest: Digest) -> FoundReferrers:
        """See `Origin.nested`."""
        return self.referrers(digest, "all")

    @cached_property
    def _kept(self) -> tuple[Referrer, ...]:
        return self.store.sound_referrers(self.model.digest)

    def close(self) -> None:
        """See `Origin.close`."""
