"""Which models here are no longer what their names stand for, asked side by side by `HEAD`.

Docker Hub counts no `HEAD` as a pull. What is different is in the new manifest, which costs
one request more and is downloaded only where that is asked for.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from modelrunner.errors import ModelRunnerError
from modelrunner.lockfile.changes import Change
from modelrunner.lockfile.lock import LockedModel
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.reference import OLLAMA, Reference
from modelrunner.operations.model.resolve import artifact_at
from modelrunner.registry.source import Source
from modelrunner.store.store import Store, StoredModel

AT_ONCE = 8
"""Registries that are asked at the same time."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A name of a model here, and what it stands for in its registry.

    Attributes:
        reference: The name.
        model: What is here.
        there: What is there; None where that was not found out.
        change: What is different, in a word or two; None where nothing is, or it is not known.
        problem: Why it was not found out.
    """

    reference: Reference
    model: StoredModel
    there: Digest | None = None
    change: str | None = None
    problem: ModelRunnerError | None = None

    @property
    def status(self) -> Literal["up-to-date", "outdated", "unknown"]:
        """How it stands."""
        if self.there is None:
            return "unknown"
        return "up-to-date" if self.there == self.model.digest else "outdated"


def names(store: Store) -> list[tuple[Reference, StoredModel]]:
    """The names that a registry could have moved: with a tag, and from somewhere."""
    return [
        (reference, model)
        for model in store.models()
        for reference in model.references
        if reference.tag is not None and reference.digest is None and _has_source(reference, model)
    ]


def standings(
    asked: Sequence[tuple[Reference, StoredModel]],
    source_for: Callable[[Reference], Source],
    *,
    diff: bool = False,
) -> list[Standing]:
    """How names stand, in their order; one that cannot be found out stops none of the others."""
    from concurrent.futures import ThreadPoolExecutor

    def look(entry: tuple[Reference, StoredModel]) -> Standing:
        reference, model = entry
        try:
            with closing(source_for(reference)) as source:
                return _look(source, reference, model, diff=diff)
        except ModelRunnerError as exc:
            return Standing(reference, model, problem=exc)

    if not asked:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(asked))) as pool:
        return list(pool.map(look, asked))


def difference(reference: Reference, before: ModelArtifact, after: ModelArtifact) -> str:
    """What is different between two models of one name: `weights`, `template only`, ..."""
    old, new = (LockedModel.of("", reference, artifact, None) for artifact in (before, after))
    return Change("", old, new).matter


def _look(source: Source, reference: Reference, model: StoredModel, *, diff: bool) -> Standing:
    there = source.resolve(reference)
    if there == model.digest or not diff:
        return Standing(reference, model, there)
    artifact = artifact_at(source, reference.with_digest(there))
    # an index names what is here already
    there = artifact.manifest.digest
    if there == model.digest:
        return Standing(reference, model, there)
    return Standing(reference, model, there, difference(reference, model.whole, artifact))


def _has_source(reference: Reference, model: StoredModel) -> bool:
    """Whether a registry has the model: what was imported from Ollama is another manifest there."""
    return not reference.is_local and (reference.registry != OLLAMA or model.published)
