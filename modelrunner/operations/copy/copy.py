"""Copy: what the two ends of the command mean, and each of the manifests that it is about."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from modelrunner.errors import ManifestNotFoundError, ModelRunnerError, UsageError
from modelrunner.oci.reference import Reference, match_id, names_tag
from modelrunner.operations.archive.load import CheckCarried
from modelrunner.operations.copy.archive import ArchiveModels, ArchiveOrigin
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

_SHOWN = 8
Copy = Callable[[Origin, Reference, Sequence[str]], Copied]
"""Copies what an origin has under a name, and gives it more tags."""

_REFERRERS = re.compile(r"sha256-[0-9a-f]{64}(?:\.[a-z]+)?")
"""Tags that stand for what refers to another manifest: they come with that."""


def _require_another(source: Path | None, target: End) -> None:
    """Refuse to replace an archive by what is copied out of it: all else in it would be lost.

    Raises:
        UsageError: Both are one file.
    """
    if source is None or target.kind != "archive" or target.path is None:
        return
    with suppress(OSError):
        if source.samefile(target.path):
            raise UsageError(
                f"{target.path} is both the source and the destination",
                hint="copy to another file: an archive is replaced as a whole",
            )


def _unchecked(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Copying:
    """Copies between two ends, as texts name them.

    Attributes:
        store: The local store.
        source_for: Opens a source of a name, for one thread.
        ask: Opens who may have what refers to a name.
        copier: Copies into registries.
        backoff: How often a source is asked again.
        check: Refuses a model of an archive that the policy keeps out of the store.
    """

    store: Store
    source_for: Callable[[Reference], Source]
    ask: AskReferrers
    copier: RegistryCopier
    backoff: Backoff = field(default_factory=Backoff)
    check: CheckCarried = _unchecked

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
        start = parse_end(source)
        _require_another(start.path, target)
        with closing(self.origin(start)) as origin:
            return self._copy_to(origin, target, tags)

    def _copy_to(self, origin: Origin, target: End, tags: Sequence[str]) -> Copied:
        name = target.reference if target.kind == "registry" else _name_in(target, origin)
        with self._target(target) as copy:
            return copy(origin, name, tags)

    @contextmanager
    def _target(self, target: End) -> Iterator[Copy]:
        """The block in which copies go where an end says."""
        if target.kind == "registry":
            yield self.copier.copy
        elif target.kind == "store":
            yield self._to_store
        else:
            with self._into(target) as copier:

                def copy(origin: Origin, name: Reference, tags: Sequence[str]) -> Copied:
                    copied = copier.copy(origin, name, tags)
                    return replace(copied, destination=f"{target.kind}:{target.path}:{name}")

                yield copy

    def _to_store(self, origin: Origin, name: Reference, tags: Sequence[str]) -> Copied:
        found = origin.manifest(origin.digest())
        with closing(origin.contents()) as contents:
            require_model(self.store, found, origin.label, contents)
        if isinstance(origin, ArchiveOrigin):
            # as what is loaded
            self.check(name, found, origin.kept, origin.small_blob)
        store = StoreSink(self.store, found.digest)
        copier = replace(self.copier, sink_for=lambda _: store)
        with self.store.arriving():
            copied = copier.copy(origin, name, tags)
        return replace(copied, destination=f"store:{name}")

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
            source: The repository: at a registry, in the store, in an archive.
            destination: The other one; in an archive its name may be left out.
            patterns: Which tags, as shells match names; empty for all.

        Raises:
            UsageError: A tag is named, or an archive has several repositories.
            ManifestNotFoundError: There is no such repository, or no such tag in it.
            AccessError, TransferError: The source does not list its tags.
        """
        start, end = parse_end(source), parse_end(destination)
        _require_another(start.path, end)
        named = _repository(end) if end.text or end.path is None else None
        found = self._tagged(start)
        wanted = {
            name: origin
            for name, origin in found.items()
            if not patterns or any(fnmatchcase(str(name.tag), each) for each in patterns)
        }
        if not wanted:
            raise _no_tags(start, patterns if found else ())
        with self._target(end) as copy:
            for one, opened in wanted.items():
                other = one if named is None else named.with_tag(str(one.tag))
                try:
                    with closing(opened()) as origin:
                        yield copy(origin, other, ())
                except ModelRunnerError as exc:
                    yield NotCopied(one.short, str(other), exc)

    def _tagged(self, start: End) -> Mapping[Reference, Callable[[], Origin]]:
        """The names of a repository, each with what opens it.

        Raises:
            UsageError: A tag is named, or an archive has several repositories.
            ManifestNotFoundError, AccessError, TransferError: The registry does not list its tags.
        """
        if start.path is not None:
            models = self.read_archive(start)
            names = [name for name in models.references if name.tag is not None]
            only = _repository(start).name if start.text else _only_repository(start, names)
            return {each: partial(models.at, each) for each in names if each.name == only}
        repository = _repository(start)
        if start.kind == "store":
            stored = [name for model in self.store.models() for name in model.references]
            listed = [name for name in stored if name.name == repository.name and name.tag]
            return {each: partial(self.origin, End("store", str(each))) for each in listed}
        with closing(self.source_for(repository)) as place, about(repository):
            tags = place.tags(repository)
        names = [repository.with_tag(tag) for tag in tags if not _REFERRERS.fullmatch(tag)]
        return {each: partial(self.origin, End("registry", str(each))) for each in names}

    @contextmanager
    def mirror(
        self,
        place: MirrorPlace | LayoutPlace,
        archive: ArchiveModels | None = None,
        *,
        dry_run: bool = False,
    ) -> Iterator[MirrorSync]:
        """The block in which a registry, an archive or a directory gets all of a list.

        Args:
            place: Where that is.
            archive: Has the models; None for their registries.
            dry_run: Whether it is only looked at.

        Raises:
            UsageError: It is the archive that the models come from.
        """
        if archive is not None and isinstance(place, LayoutPlace):
            _require_another(Path(archive.source.name), place.end)
        opened = self._at_registry if archive is None else archive.at
        if isinstance(place, MirrorPlace):
            yield MirrorSync(opened, self.copier, place)
        elif dry_run:
            # what is there of an archive is replaced, and counts for nothing
            looked_at = DirectorySink(place.end.path or Path())
            copier = replace(self.copier, sink_for=lambda _: looked_at)
            yield MirrorSync(opened, copier, place)
        else:
            with self._into(place.end) as copier:
                yield MirrorSync(opened, copier, place)

    def origin(self, end: End) -> Origin:
        """Return what an end has.

        Raises:
            ModelNotFoundError: The store does not have it.
            InvalidReferenceError: It is not a valid reference.
        """
        if end.path is not None:
            return self.read_archive(end).find(end.text)
        if end.kind == "store":
            model = self.store.resolve(end.text)
            digits = match_id(end.text)
            if digits is not None and model.digest.hex.startswith(digits):
                return StoreOrigin(self.store, model, next(iter(model.references), None))
            name = self.store.only_name(end.text) or end.reference
            return StoreOrigin(self.store, model, name)
        return self._at_registry(end.reference)

    def read_archive(self, end: End) -> ArchiveModels:
        """Return what an archive or a directory has.

        Raises:
            UsageError: It cannot be read.
            IntegrityError: It is not a layout, or a damaged one.
        """
        return ArchiveModels.read(end.path or Path(), self.store.layout.ingest)

    def _at_registry(self, reference: Reference) -> Origin:
        return RegistryOrigin(reference, self.source_for, self.ask, self.backoff)


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


def _repository(end: End) -> Reference:
    """The repository that an end names.

    Raises:
        UsageError: It names a tag.
    """
    if match_id(end.text) is not None:
        raise UsageError(
            f"--all-tags needs a repository, got {end.text[:200]}",
            hint="copy a model of the local store by its name",
        )
    reference = end.reference
    if reference.digest is not None or names_tag(end.text):
        raise UsageError(
            f"--all-tags needs a repository, got {end.text[:200]}",
            hint=f"remove the tag: {reference.name}",
        )
    return reference


def _only_repository(end: End, names: Sequence[Reference]) -> str:
    """The repository of all that an archive has.

    Raises:
        UsageError: There are several.
    """
    found = list(dict.fromkeys(name.name for name in names))
    if len(found) > 1:
        shown = ", ".join(found[:_SHOWN])
        raise UsageError(
            f"{end.path} has models of {len(found)} repositories",
            hint=f"add one after a colon: {shown}; or copy all with `modelrunner mirror sync"
            f" --from {end.kind}:{end.path} --to HOST`",
        )
    return found[0] if found else ""


def _no_tags(start: End, patterns: Sequence[str]) -> ManifestNotFoundError:
    where = str(start.path) if start.path is not None else start.reference.name
    hint = f"`modelrunner tags {where}` lists them"
    if start.path is not None:
        hint = f"`modelrunner load {where}` brings its models into the local store"
    elif start.kind == "store":
        hint = "`modelrunner list` lists the models of the local store"
    return ManifestNotFoundError(
        f"{where}: no tag matches {', '.join(patterns)}"
        if patterns
        else f"{where}: no tags to copy",
        hint=hint,
    )
