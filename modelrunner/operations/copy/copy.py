"""Copy: what the two ends of the command mean, and each of the manifests that it is about."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from modelrunner.errors import ManifestNotFoundError, ModelRunnerError, UsageError
from modelrunner.oci.reference import Reference, match_id, names_tag
from modelrunner.operations.copy.archive import find_in_archive
from modelrunner.operations.copy.ends import End, parse_end
from modelrunner.operations.copy.layout_sink import DirectorySink, directory_sink, tar_sink
from modelrunner.operations.copy.mirror import LayoutPlace, MirrorPlace, MirrorSync
from modelrunner.operations.copy.origin import (
    AskReferrers,
    Origin,
    RegistryOrigin,
    StoreOrigin,
)
from modelrunner.operations.copy.result import Copied, NotCopied, Outcome
from modelrunner.operations.copy.store_sink import StoreSink, require_model
from modelrunner.operations.copy.to_registry import RegistryCopier
from modelrunner.operations.model.suggestions import about
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Source
from modelrunner.store.store import Store
from modelrunner.transfer.limits import Limits

_REFERRERS = re.compile(r"sha256-[0-9a-f]{64}(?:\.[a-z]+)?")
"""Tags that stand for what refers to another manifest: they come with that."""


@dataclass(frozen=True, slots=True)
class Copying:
    """Copies between two ends, as texts name them.

    Attributes:
        store: The local store.
        source_for: Opens a source of a name, for one thread.
        ask: Opens who may have what refers to a name.
        copier: Copies into registries.
        backoff: How often a source is asked again.
    """

    store: Store
    source_for: Callable[[Reference], Source]
    ask: AskReferrers
    copier: RegistryCopier
    backoff: Backoff = field(default_factory=Backoff)

    def copy(self, source: str, destination: str, tags: Sequence[str] = ()) -> Copied:
        """Copy one manifest, with all that it needs.

        Args:
            source: Where it is.
            destination: Where it goes.
            tags: More tags that it gets there.

        Raises:
            UsageError: The ends make no sense.
            ModelRunnerError: What `RegistryCopier.copy` raises.
        """
        target = parse_end(destination)
        if target.kind == "registry":
            # an invalid name is said before the source is asked
            _ = target.reference
        with closing(self.origin(parse_end(source))) as origin:
            return self._copy_to(origin, target, tags)

    def _copy_to(self, origin: Origin, target: End, tags: Sequence[str]) -> Copied:
        if target.kind == "registry":
            return self.copier.copy(origin, target.reference, tags)
        name = _name_in(target, origin)
        if target.kind == "store":
            found = origin.manifest(origin.digest())
            with closing(origin.contents()) as contents:
                require_model(self.store, found, origin.label, contents)
            store = StoreSink(self.store, found.digest)
            copier = replace(self.copier, sink_for=lambda _: store)
            with self.store.arriving():
                copied = copier.copy(origin, name, tags)
            return replace(copied, destination=f"store:{name}")
        with self._into(target) as copier:
            copied = copier.copy(origin, name, tags)
        return replace(copied, destination=f"{target.kind}:{target.path}:{name}")

    @contextmanager
    def _into(self, target: End) -> Iterator[RegistryCopier]:
        """The block in which copies go into an archive or a directory."""
        path = target.path or Path()
        if target.kind == "dir":
            with directory_sink(path) as layout:
                yield replace(self.copier, sink_for=lambda _: layout)
            return
        with tar_sink(path) as layout:
            # it is written from its start to its end
            limits = Limits(1, self.copier.limits.rate)
            yield replace(self.copier, sink_for=lambda _: layout, limits=limits)

    def copy_all(
        self, source: str, destination: str, patterns: Sequence[str] = ()
    ) -> Iterator[Outcome]:
        """Copy all tags of a repository to another one; what fails does not end it.

        Args:
            source: The repository.
            destination: The other one.
            patterns: Which tags, as shells match names; empty for all.

        Raises:
            UsageError: A tag is named, or an end is not a registry.
            ManifestNotFoundError: There is no such repository, or no such tag in it.
            AccessError, TransferError: The source does not list its tags.
        """
        repository, target = _repository(source), _repository(destination)
        with closing(self.source_for(repository)) as place, about(repository):
            listed = place.tags(repository)
        names = [name for name in listed if not _REFERRERS.fullmatch(name)]
        wanted = [
            name
            for name in names
            if not patterns or any(fnmatchcase(name, each) for each in patterns)
        ]
        if not wanted:
            raise ManifestNotFoundError(
                f"{repository.name}: no tag matches {', '.join(patterns)}"
                if names and patterns
                else f"{repository.name}: no tags to copy",
                hint=f"`modelrunner tags {repository.name}` lists them",
            )
        for name in wanted:
            one, other = repository.with_tag(name), target.with_tag(name)
            try:
                with closing(self.origin(End("registry", str(one)))) as origin:
                    yield self.copier.copy(origin, other)
            except ModelRunnerError as exc:
                yield NotCopied(one.short, str(other), exc)

    @contextmanager
    def mirror(
        self, place: MirrorPlace | LayoutPlace, *, dry_run: bool = False
    ) -> Iterator[MirrorSync]:
        """The block in which a registry, an archive or a directory gets all of a list.

        Args:
            place: Where that is.
            dry_run: Whether it is only looked at.
        """
        if isinstance(place, MirrorPlace):
            yield MirrorSync(self.origin, self.copier, place)
        elif dry_run:
            # what is there of an archive is replaced, and counts for nothing
            looked_at = DirectorySink(place.end.path or Path())
            copier = replace(self.copier, sink_for=lambda _: looked_at)
            yield MirrorSync(self.origin, copier, place)
        else:
            with self._into(place.end) as copier:
                yield MirrorSync(self.origin, copier, place)

    def origin(self, end: End) -> Origin:
        """Return what an end has.

        Raises:
            ModelNotFoundError: The store does not have it.
            InvalidReferenceError: It is not a valid reference.
        """
        if end.path is not None:
            return find_in_archive(end.path, end.text, self.store.layout.ingest)
        if end.kind == "store":
            model = self.store.resolve(end.text)
            digits = match_id(end.text)
            if digits is not None and model.digest.hex.startswith(digits):
                return StoreOrigin(self.store, model, next(iter(model.references), None))
            name = self.store.only_name(end.text) or end.reference
            return StoreOrigin(self.store, model, name)
        return RegistryOrigin(end.reference, self.source_for, self.ask, self.backoff)


def needs_network(*texts: str) -> bool:
    """Whether one of the ends that texts name is a registry."""
    return any(parse_end(text).kind == "registry" for text in texts)


def _name_in(target: End, origin: Origin) -> Reference:
    """What a copy is called in the store or in a layout: as it is said, or as it was called.

    Raises:
        UsageError: It has no name, or one without a tag.
    """
    name = target.reference if target.text else origin.reference
    if name is None or name.tag is None:
        raise UsageError(
            f"{origin.label} has no tag to copy it under",
            hint=f"name it: {target.kind}:{'FILE:' if target.path else ''}NAME:TAG",
        )
    return replace(name, digest=None)


def _repository(text: str) -> Reference:
    end = parse_end(text)
    if end.kind != "registry":
        raise UsageError(
            f"--all-tags needs two registries, got {text[:200]}",
            hint="copy a model of the local store by its name",
        )
    reference = end.reference
    if reference.digest is not None or names_tag(end.text):
        raise UsageError(
            f"--all-tags needs a repository, got {text[:200]}",
            hint=f"remove the tag: {reference.name}",
        )
    return reference
