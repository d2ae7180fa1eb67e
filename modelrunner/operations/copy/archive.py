"""A model of an archive as what is copied, whichever tool has written it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelrunner.errors import ModelNotFoundError, UsageError
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer, ReferrerChoice
from modelrunner.operations.archive.index import names_of, repository_for
from modelrunner.operations.archive.referrers import ArchiveReferrers
from modelrunner.operations.copy.layout import LayoutSource, open_layout, read_index
from modelrunner.operations.copy.origin import FoundReferrers, SourceContents
from modelrunner.operations.pull.referrers import is_signature
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
        """The policy is not asked, as of what is loaded."""
        return

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
        if choice == "none" or digest != self.entry.digest:
            return FoundReferrers()
        return FoundReferrers(
            tuple(each for each in self.kept if choice == "all" or is_signature(each))
        )

    def close(self) -> None:
        """See `Origin.close`."""


def find_in_archive(path: Path, wanted: str, scratch: Path | None = None) -> ArchiveOrigin:
    """Return the model of an archive that a name means, or the only one.

    Args:
        path: The archive, or the directory of a layout.
        wanted: A name, a tag or a digest; empty for the only model.
        scratch: The directory that a compressed archive is unpacked in.

    Raises:
        UsageError: It cannot be read, or has several models and none is named.
        ModelNotFoundError: It has no such model.
        IntegrityError: It is not a layout, or a damaged one.
    """
    layout = open_layout(path, scratch)
    source = LayoutSource(layout)
    index = read_index(layout)
    entries, kept = ArchiveReferrers(layout.blob, index).split()
    names = names_of(entries, None, repository_for(str(path)))
    unique = list({entry.digest: entry for entry in entries}.values())
    found = [entry for entry in unique if not wanted or _is_meant(entry, entries, names, wanted)]
    if len(found) == 1:
        (entry,) = found
        known = names[entry.digest]
        name = next((each for each in known if _is_called(each, wanted)), next(iter(known), None))
        return ArchiveOrigin(source, entry, name, kept.get(entry.digest, ()))
    listed = [each.short for digest in names for each in names[digest]][:_SHOWN]
    hint = f"it has {', '.join(listed)}" if listed else "name it by its digest"
    if not found:
        raise ModelNotFoundError(
            f"{path}: no model {sanitize_line(wanted, 200)!r} in the archive", hint=hint, near=[]
        )
    raise UsageError(
        f"{path} has {len(found)} models: add the name of one after a colon", hint=hint
    )


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
