"""What refers to a model, kept with it.

The list of it is a blob, an image index in the form of `oci.referrers`, which the model's entries
in `index.json` name in an annotation. So it comes and goes with the model, in the one step in which
`index.json` is replaced, and sweeping finds what it reaches. An older modelrunner passes the
annotation over; where its `prune` has removed the list, nothing is known to refer to the model.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from modelrunner.errors import CorruptStoreError, IntegrityError, MalformedManifestError
from modelrunner.frozen import replace
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest, parse_manifest
from modelrunner.store.blobs import BlobStore
from modelrunner.store.index import Entry

# late imports: few models have something that refers to them, and the others load nothing for it
if TYPE_CHECKING:
    from modelrunner.oci.referrers import Referrer

MOST = 4096
"""Referrers that are kept of one model."""


def list_of(entry: Descriptor) -> Digest | None:
    """The list that an entry of an index names."""
    text = entry.annotations.get(media_types.ANNOTATION_REFERRERS)
    try:
        return None if text is None else Digest.parse(text)
    except MalformedManifestError:
        return None


def kept(blobs: BlobStore, entry: Descriptor) -> "tuple[Referrer, ...]":
    """What refers to a model, as far as all of it is there.

    Args:
        blobs: The blobs of the store.
        entry: The model's entry in the index.
    """
    try:
        listed = _listed(blobs, entry)
    except IntegrityError as exc:
        # `verify` reports it
        _note(entry, exc)
        return ()
    if not listed:
        return ()
    from modelrunner.oci.referrers import Referrer

    found = []
    for descriptor, kind, tag in listed:
        try:
            manifest = _manifest(blobs, descriptor)
        except IntegrityError as exc:
            _note(descriptor, exc)
            continue
        if is_whole(blobs, manifest):
            found.append(Referrer.of(manifest, tag, kind))
    return tuple(found)


def kept_about(
    blobs: BlobStore, entries: Sequence[Entry], digest: Digest
) -> tuple["Referrer", ...]:
    """What refers to a model, or to something that is kept with one.

    Args:
        blobs: The blobs of the store.
        entries: Of its index.
        digest: The model, or what is kept with one.
    """
    lists = {
        entry.descriptor.digest: entry.descriptor
        for entry in entries
        if list_of(entry.descriptor) is not None
    }
    if any(entry.descriptor.digest == digest for entry in entries):
        return kept(blobs, lists[digest]) if digest in lists else ()
    for descriptor in lists.values():
        found = kept(blobs, descriptor)
        if any(each.digest == digest for each in found):
            # loaded by now
            from modelrunner.oci.referrers import reachable

            return reachable(digest, found)
    return ()


def is_whole(blobs: BlobStore, manifest: Manifest) -> bool:
    """Whether a manifest and all of its blobs are there."""
    wanted = (manifest.descriptor, *manifest.blobs)
    return all(blobs.path(each.digest).exists() for each in wanted)


def keep(
    blobs: BlobStore, entries: Sequence[Entry], digest: Digest, referrers: "Iterable[Referrer]"
) -> list[Entry]:
    """The entries of an index, in which a model has more that refers to it.

    A tag stands for one referrer: the new one. What is not all there is left out. The caller holds
    the store's lock.

    Args:
        blobs: The blobs of the store, where a new list is put.
        entries: The entries.
        digest: The model.
        referrers: What refers to it.

    Raises:
        DiskFullError, StoreAccessError: The list cannot be written.
    """
    own = [entry for entry in entries if entry.descriptor.digest == digest]
    noted = next((entry.descriptor for entry in own if list_of(entry.descriptor)), None)
    before = () if noted is None else kept(blobs, noted)
    new = [each for each in referrers if is_whole(blobs, each.manifest)]
    found = {each.tag or str(each.digest): each for each in (*before, *new)}
    chosen = list(found.values())[:MOST]
    if not own or chosen == list(before):
        return list(entries)
    from modelrunner.oci.referrers import kept_list

    raw = kept_list(chosen)
    listed = Descriptor(media_types.OCI_INDEX, Digest.of(raw), len(raw))
    blobs.put(listed, raw)
    return [
        _noting(entry, listed.digest) if entry.descriptor.digest == digest else entry
        for entry in entries
    ]


def carried(before: Iterable[Entry], entries: Iterable[Entry]) -> list[Entry]:
    """The entries of an index, each with the list that any entry of its model has named.

    Args:
        before: As they were.
        entries: As they shall be.
    """
    entries = list(entries)
    lists: dict[Digest, Digest] = {}
    for entry in (*before, *entries):
        found = list_of(entry.descriptor)
        if found is not None:
            # the last that was said counts
            lists[entry.descriptor.digest] = found
    return [
        _noting(entry, lists[entry.descriptor.digest])
        if entry.descriptor.digest in lists
        else entry
        for entry in entries
    ]


def reached(blobs: BlobStore, entry: Descriptor) -> Iterator[Descriptor]:
    """Every blob that is kept because it refers to a model: lists, manifests, and theirs.

    What has gone is passed over, and so is what a damaged manifest needs: the model does not.
    """
    digest = list_of(entry)
    if digest is None or not blobs.path(digest).exists():
        return
    yield _sized(blobs, digest)
    with suppress(IntegrityError, OSError):
        for descriptor, _kind, _tag in _listed(blobs, entry):
            if blobs.path(descriptor.digest).exists():
                yield descriptor
                with suppress(IntegrityError, OSError):
                    yield from _manifest(blobs, descriptor).blobs


def _listed(blobs: BlobStore, entry: Descriptor) -> list[tuple[Descriptor, str, str | None]]:
    digest = list_of(entry)
    if digest is None or not blobs.path(digest).exists():
        return []
    from modelrunner.oci.referrers import entries_in

    return entries_in(blobs.read(_sized(blobs, digest)))


def _sized(blobs: BlobStore, digest: Digest) -> Descriptor:
    try:
        return Descriptor(media_types.OCI_INDEX, digest, blobs.path(digest).stat().st_size)
    except FileNotFoundError as exc:
        raise CorruptStoreError(
            f"blob missing from the local store: {digest}", digest=str(digest)
        ) from exc


def _manifest(blobs: BlobStore, descriptor: Descriptor) -> Manifest:
    found = parse_manifest(blobs.read(descriptor), descriptor.media_type)
    if not isinstance(found, Manifest):
        raise MalformedManifestError(f"{descriptor.digest} is an index, not what refers to a model")
    return found


def _noting(entry: Entry, listed: Digest) -> Entry:
    if list_of(entry.descriptor) == listed:
        return entry
    notes = {**entry.descriptor.annotations, media_types.ANNOTATION_REFERRERS: str(listed)}
    return entry._replace(descriptor=replace(entry.descriptor, annotations=notes))


def _note(entry: Descriptor, error: IntegrityError) -> None:
    # most commands have nothing to say there, and start without it
    import logging

    logging.getLogger(__name__).info("%s: %s", entry.digest, error)
