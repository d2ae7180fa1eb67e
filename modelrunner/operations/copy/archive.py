"""A model of an archive as what is copied, whichever tool has written it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelrunner.errors import IntegrityError, ModelNotFoundError, UsageError
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer, ReferrerChoice, direct, taken_along
from modelrunner.operations.archive.index import names_of, repository_for
from modelrunner.operations.archive.referrers import ArchiveReferrers
from modelrunner.operations.copy.layout import LayoutSource, open_layout, read_index
from modelrunner.operations.copy.origin import FoundReferrers, SourceContents
from modelrunner.registry.http.retry import NO_RETRY
from modelrunner.text import sanitize_line

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ArchiveOrigin:
    """One model of an archive.

    Attributes:
        source: The archive.
        entry: Its manifest, as the index names it.
        name: What it is called there; None for nothing.
        kept: What refers to it.
    """

    source: LayoutSource
    entry: Descriptor
    name: Reference | None
    kept: Sequence[Referrer]

    @property
    def reference(self) -> Reference | None:
        """See `Origin.reference`."""
        return self.name

    @property
    def checked(self) -> None:
        """The policy is asked only of what goes into the store, as of what is loaded."""
        return

    def small_blob(self, descriptor: Descriptor) -> bytes:
        """Return a blob, not verified yet.

        Raises:
            IntegrityError: It is missing, or too large.
        """
        try:
            return self.source.layout.blob(descriptor.digest)
        except FileNotFoundError as exc:
            raise IntegrityError(
                f"{self.source.name}: {descriptor.digest} is missing",
                hint="create the archive again where it is complete",
            ) from exc

    @property
    def label(self) -> str:
        """See `Origin.label`."""
        return self.source.name if self.name is None else self.name.short

    def digest(self) -> Digest:
        """See `Origin.digest`."""
        return self.entry.digest

    def manifest(self, digest: Digest) -> Manifest | Index:
        """See `Origin.manifest`."""
        media_type = self.entry.media_type if digest == self.entry.digest else None
        return self.source.at(digest, media_type)

    def contents(self) -> SourceContents:
        """See `Origin.contents`."""
        name = self.name or repository_for(self.source.name) or Reference.parse("local/archive")
        return SourceContents(lambda: self.source, name, NO_RETRY)

    def referrers(self, digest: Digest, choice: ReferrerChoice) -> FoundReferrers:
        """See `Origin.referrers`."""
        found = taken_along(self.kept, choice, self.entry.digest)
        return FoundReferrers(direct(digest, found))

    def nested(self, digest: Digest) -> FoundReferrers:
        """See `Origin.nested`."""
        return self.referrers(digest, "all")

    def close(self) -> None:
        """See `Origin.close`."""


@dataclass(frozen=True, slots=True)
class ArchiveModels:
    """What an archive has: it is read once, for all that is copied from it.

    Attributes:
        source: The archive.
        entries: Of its index, what refers to others left out.
        names: What they are called there.
        kept: What refers to them.
    """

    source: LayoutSource
    entries: Sequence[Descriptor]
    names: Mapping[Digest, Sequence[Reference]]
    kept: Mapping[Digest, Sequence[Referrer]]

    @classmethod
    def read(cls, path: Path, scratch: Path | None = None) -> "ArchiveModels":
        """Read what an archive, or the directory of a layout, has.

        Args:
            path: Where it is.
            scratch: The directory that a compressed archive is unpacked in.

        Raises:
            UsageError: It cannot be read.
            IntegrityError: It is not a layout, or a damaged one.
        """
        layout = open_layout(path, scratch)
        entries, kept = ArchiveReferrers(layout.blob, read_index(layout)).split()
        names = names_of(entries, None, repository_for(str(path)))
        return cls(LayoutSource(layout), entries, names, kept)

    @property
    def references(self) -> tuple[Reference, ...]:
        """All names, in the order of the index."""
        return tuple(name for names in self.names.values() for name in names)

    def find(self, wanted: str) -> ArchiveOrigin:
        """Return the model that a name means, or the only one.

        Args:
            wanted: A name, a tag or a digest; empty for the only model.

        Raises:
            UsageError: There are several models, and none is named.
            ModelNotFoundError: There is no such model.
        """
        unique = list({entry.digest: entry for entry in self.entries}.values())
        names = self.names
        found = [
            entry for entry in unique if not wanted or _is_meant(entry, self.entries, names, wanted)
        ]
        if len(found) == 1:
            (entry,) = found
            known = names[entry.digest]
            name = next((each for each in known if _is_called(each, wanted)), None)
            return self._origin(entry, name or next(iter(known), None))
        if not found:
            raise self._no_such(repr(sanitize_line(wanted, 200)))
        raise UsageError(
            f"{self.source.name} has {len(found)} models: add the name of one after a colon",
            hint=self._hint,
        )

    def at(self, reference: Reference) -> ArchiveOrigin:
        """Return the model of a name; one with a digest is found by that, whatever it is called.

        Raises:
            ModelNotFoundError: There is no such model.
        """
        for entry in self.entries:
            called = any(
                (name.name, name.tag) == (reference.name, reference.tag)
                for name in self.names[entry.digest]
            )
            if entry.digest == reference.digest or (reference.digest is None and called):
                return self._origin(entry, reference)
        raise self._no_such(reference.short)

    def _origin(self, entry: Descriptor, name: Reference | None) -> ArchiveOrigin:
        return ArchiveOrigin(self.source, entry, name, self.kept.get(entry.digest, ()))

    def _no_such(self, what: str) -> ModelNotFoundError:
        return ModelNotFoundError(
            f"{self.source.name}: no model {what} in the archive", hint=self._hint, near=[]
        )

    @property
    def _hint(self) -> str:
        listed = [each.short for each in self.references][:_SHOWN]
        return f"it has {', '.join(listed)}" if listed else "name it by its digest"


def _is_meant(
    entry: Descriptor,
    entries: Sequence[Descriptor],
    names: Mapping[Digest, Sequence[Reference]],
    wanted: str,
) -> bool:
    if wanted in (str(entry.digest), entry.digest.hex):
        return True
    tags = {
        each.annotations.get(media_types.ANNOTATION_REFERENCE)
        for each in entries
        if each.digest == entry.digest
    }
    return wanted in tags or any(_is_called(name, wanted) for name in names[entry.digest])


def _is_called(name: Reference, wanted: str) -> bool:
    try:
        meant = Reference.parse(wanted)
    except UsageError:
        return False
    return (name.name, name.tag) == (meant.name, meant.tag)
