"""What refers to the models of an archive: read in each form in which tools write it.

- `modelrunner save`: the model's entry in `index.json` names a list, as in the store.
- `oras`: manifests with a subject are entries of `index.json` like any other.
- regctl, and who copies tags: a list under the name `sha256-HEX`, and cosign's `sha256-HEX.sig`.

None of it is a model, and none of it is why an archive cannot be loaded.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from modelrunner.errors import IntegrityError
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest, parse_manifest
from modelrunner.oci.referrers import Referrer, entries_in, reachable, referrers_tag
from modelrunner.store.referrers import list_of
from modelrunner.store.store import Store

_TAG = re.compile(r"(?:.*:)?sha256-(?P<hex>[0-9a-f]{64})(?P<suffix>\.[a-z]{3,4})?")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Listed:
    """A referrer that a list names, or the index: not read yet."""

    descriptor: Descriptor
    artifact_type: str = ""
    tag: str | None = None


Read = Callable[[Digest], bytes]
"""Returns a blob; raises `IntegrityError` or `FileNotFoundError` where that cannot be."""


def read_in(store: Store) -> Read:
    """Return what reads the blobs of an archive that have come into a store."""

    def read(digest: Digest) -> bytes:
        size = store.blobs.path(digest).stat().st_size
        return store.blobs.read(Descriptor("", digest, size))

    return read


class ArchiveReferrers:
    """What refers to the models of one archive.

    Args:
        read: Reads its blobs.
        entries: Of its index.
    """

    def __init__(self, read: Read, entries: Sequence[Descriptor]) -> None:
        self._read = read
        self._entries = entries
        self._known = self._known_digests()

    @property
    def lists(self) -> set[Digest]:
        """The lists that entries name; there may be none in the archive."""
        return {found for entry in self._entries if (found := list_of(entry)) is not None}

    @property
    def listed(self) -> set[Digest]:
        """The manifests that lists name, as far as lists are there."""
        return {each.descriptor.digest for each in self._all()}

    def split(self) -> tuple[tuple[Descriptor, ...], dict[Digest, list[Referrer]]]:
        """The entries that are not referrers, and for each of them what refers to it.

        That is followed by what refers to that in turn.
        """
        others = [entry for entry in self._entries if not self._is_referrer(entry)]
        found: dict[tuple[Digest, str | None], Referrer] = {}
        for each in self._all():
            manifest = self._manifest(each.descriptor)
            if isinstance(manifest, Manifest):
                referrer = Referrer.of(manifest, each.tag, each.artifact_type)
                found[referrer.digest, each.tag] = referrer
        kept = {entry.digest: reachable(entry.digest, found.values()) for entry in others}
        return tuple(others), {digest: list(each) for digest, each in kept.items() if each}

    def _known_digests(self) -> set[Digest]:
        """What may be referred to: the entries, and what lists of referrers name."""
        known = {entry.digest for entry in self._entries}
        for entry in self._entries:
            match, listed = _tag_of(entry), list_of(entry)
            if match is not None and not match["suffix"]:
                listed = entry.digest
            if listed is not None:
                known.update(each.descriptor.digest for each in self._in_list(listed))
        return known

    def _is_referrer(self, entry: Descriptor) -> bool:
        if any(True for _ in self._as_referrer(entry)):
            return True
        match = _tag_of(entry)
        return match is not None and not match["suffix"] and Digest(match["hex"]) in self._known

    def _all(self) -> Iterator[_Listed]:
        for entry in self._entries:
            listed = list_of(entry)
            if listed is not None:
                yield from self._in_list(listed)
            yield from self._as_referrer(entry)
            match = _tag_of(entry)
            if match is not None and not match["suffix"]:
                yield from self._in_list(entry.digest)

    def _as_referrer(self, entry: Descriptor) -> Iterator[_Listed]:
        """An entry that is a referrer itself."""
        match = _tag_of(entry)
        if match is not None and match["suffix"]:
            of = Digest(match["hex"])
            if of in self._known:
                yield _Listed(entry, tag=referrers_tag(of, match["suffix"]))
            return
        manifest = self._manifest(entry)
        if isinstance(manifest, Manifest):
            subject = Referrer.of(manifest).subject
            if subject is not None and subject in self._known - {entry.digest}:
                yield _Listed(entry)

    def _in_list(self, listed: Digest) -> Iterator[_Listed]:
        try:
            entries = entries_in(self._read(listed))
        except (IntegrityError, FileNotFoundError) as exc:
            _log.info("the list of referrers %s: %s", listed, exc)
            return
        for descriptor, kind, tag in entries:
            yield _Listed(descriptor, kind, tag)

    def _manifest(self, descriptor: Descriptor) -> Manifest | Index | None:
        try:
            return parse_manifest(self._read(descriptor.digest), descriptor.media_type)
        except (IntegrityError, FileNotFoundError):
            return None


def _tag_of(entry: Descriptor) -> re.Match[str] | None:
    return _TAG.fullmatch(entry.annotations.get(media_types.ANNOTATION_REFERENCE, ""))
