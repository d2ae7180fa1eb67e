"""Save: models out of the store as one archive, an OCI image layout in a tar.

```
oci-layout
index.json                  one entry a name: org.opencontainers.image.ref.name; then the same
                            once more under tags, by which other tools find them
                            vnd.modelrunner.referrers: the list of what refers to it, if anything
blobs/  blobs/sha256/       manifests, lists, what they list, then all the rest, each by digest
```
The same models, with the same that refers to them, give the same bytes: order, times, owners and
modes are fixed. What says which blobs are needed comes first, so that an archive can be loaded
while it is still arriving. Every blob is hashed while it is written.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tarfile import BLOCKSIZE, DIRTYPE, PAX_FORMAT, RECORDSIZE, TarInfo

from modelrunner.events import Finished, Listener, Planned, Started, Verified, ignore
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference, match_id
from modelrunner.oci.referrers import ReferrerChoice, kept_list, taken_along
from modelrunner.operations.archive.contents import Contents
from modelrunner.operations.archive.index import with_aliases
from modelrunner.operations.archive.output import Output
from modelrunner.operations.disk_space import require_room
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_size

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model or an image to save, and the names that it shall have in the archive."""

    model: StoredModel
    names: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """What an archive came to."""

    references: tuple[Reference, ...]
    size: int
    sha256: str


def choose(store: Store, text: str) -> Chosen:
    """The model that a name or an ID means: by name it keeps that name, by ID all that it has.

    Raises:
        ModelNotFoundError: There is no such model.
        CorruptStoreError: Its manifest is damaged.
        UnsupportedArtifactError: Another tool has put something else here.
    """
    model = store.resolve(text)
    # what could not be loaded again is not saved
    _artifact = model.artifact
    hexdigits = match_id(text)
    if hexdigits is not None and model.digest.hex.startswith(hexdigits):
        return Chosen(model, model.references)
    wanted = Reference.parse(text)
    meant = model.name_for(wanted) if wanted.tag is not None else None
    same = (
        [meant]
        if meant is not None
        else [
            name
            for name in model.references
            if name.name == wanted.name and wanted.tag in (None, name.tag)
        ]
    )
    return Chosen(model, tuple(same) or model.references)


class Archive:
    """What goes into an archive; `size` is known before anything is written."""

    def __init__(
        self,
        store: Store,
        chosen: Iterable[Chosen],
        *,
        mtime: int = 0,
        referrers: ReferrerChoice = "all",
    ) -> None:
        self._mtime = mtime
        owners: dict[Digest, StoredModel] = {}
        blobs: dict[Digest, Descriptor] = {}
        manifests: dict[Digest, Descriptor] = {}
        referring: dict[Digest, Descriptor] = {}
        entries: dict[tuple[str, Digest], Descriptor] = {}
        self._lists: dict[Digest, bytes] = {}
        for one in chosen:
            manifests[one.model.digest] = _plain(one.model.descriptor)
            kept = store.sound_referrers(one.model.digest)
            found = taken_along(kept, referrers, one.model.digest)
            listed = None
            if found:
                raw = kept_list(found)
                listed = Digest.of(raw)
                self._lists[listed] = raw
            for manifest in (one.model.manifest, *(each.manifest for each in found)):
                for blob in (_plain(manifest.descriptor), *manifest.blobs):
                    owners.setdefault(blob.digest, one.model)
                    blobs[blob.digest] = blob
            referring |= {each.digest: _plain(each.manifest.descriptor) for each in found}
            for name in one.names or (None,):
                entries[str(name), one.model.digest] = _entry(one.model, name, listed)
        self._contents = Contents(store, owners)
        # in this order: what says what is needed comes first
        first = {
            **{digest: manifests[digest] for digest in sorted(manifests)},
            **{digest: _listed(self._lists[digest]) for digest in sorted(self._lists)},
            **{digest: referring[digest] for digest in sorted(referring)},
        }
        rest = sorted(blobs.keys() - first.keys())
        self._blobs = [*first.values(), *(blobs[digest] for digest in rest)]
        self._index = _json(
            {
                "schemaVersion": 2,
                "mediaType": media_types.OCI_INDEX,
                "manifests": [
                    entry.to_dict()
                    for entry in with_aliases([entries[key] for key in sorted(entries)])
                ],
            }
        )
        self.references = tuple(
            Reference.parse(name)
            for name in sorted({name for name, _digest in entries})
            if name != str(None)
        )

    @property
    def size(self) -> int:
        """The bytes of the whole archive."""
        sizes = [len(LAYOUT), len(self._index), *(blob.size for blob in self._blobs)]
        names = ["oci-layout", "index.json", *map(blob_path, self._blobs)]
        body = sum(
            len(header(name, size, self._mtime)) + size + padding(size)
            for name, size in zip(names, sizes, strict=True)
        )
        # two folders, and two empty blocks at the end
        whole = body + 4 * BLOCKSIZE
        return whole + -whole % RECORDSIZE

    def check_room(self, folder: Path) -> None:
        """Says no before gigabytes are written.

        Raises:
            DiskFullError: The archive does not fit.
        """
        why = f"the archive needs {format_size(self.size)}: {folder}"
        hint = "free some space, or write to another disk with -o"
        require_room(folder, self.size, why, hint=hint)

    def write(self, output: Output, listener: Listener = ignore) -> Saved:
        """Writes it all.

        Raises:
            CorruptStoreError: A blob is missing or damaged: the archive is not whole.
            DiskFullError, UsageError: It cannot be written.
            StoreAccessError: The disk does not deliver a blob.
        """
        for blob in self._blobs:
            if blob.digest not in self._lists:
                self._contents.require(blob)
        what = ", ".join(name.short for name in self.references) or "a model without a name"
        total = sum(blob.size for blob in self._blobs)
        listener(Planned(what, total, 0, 0))
        for name, content in (("oci-layout", LAYOUT), ("index.json", self._index)):
            _write(output, name, len(content), [content], self._mtime)
        for folder in ("blobs", "blobs/sha256"):
            output.write(folder_header(folder, self._mtime))
        for blob in self._blobs:
            listener(Started(str(blob.digest), blob.size, 0, blob.digest.short))
            self._write_blob(output, blob, listener)
            listener(Verified(str(blob.digest), blob.size))
        output.write(bytes(2 * BLOCKSIZE))
        output.write(bytes(-output.size % RECORDSIZE))
        listener(Finished(what, "", total))
        return Saved(self.references, output.size, output.sha256)

    def _write_blob(self, output: Output, blob: Descriptor, listener: Listener) -> None:
        made = self._lists.get(blob.digest)
        if made is not None:
            _write(output, blob_path(blob), blob.size, [made], self._mtime)
            return
        _write(output, blob_path(blob), blob.size, self._contents.read(blob, listener), self._mtime)


def header(name: str, size: int, mtime: int = 0) -> bytes:
    """A file's header: plain ustar, with a pax record before it from 8 GiB on."""
    return _header(_member(name, size, mtime))


def folder_header(name: str, mtime: int = 0) -> bytes:
    """A directory's header."""
    member = _member(name, 0, mtime)
    member.type, member.mode = DIRTYPE, 0o755
    return _header(member)


def _member(name: str, size: int, mtime: int) -> TarInfo:
    member = TarInfo(name)
    member.size, member.mtime, member.mode = size, mtime, 0o644
    return member


def _header(member: TarInfo) -> bytes:
    return member.tobuf(PAX_FORMAT, "utf-8", "strict")


def _write(
    output: Output, name: str, size: int, content: Iterable[bytes | memoryview], mtime: int
) -> None:
    output.write(header(name, size, mtime))
    for chunk in content:
        output.write(chunk)
    output.write(bytes(padding(size)))


def padding(size: int) -> int:
    """Bytes that fill the last block of a file."""
    return -size % BLOCKSIZE


def blob_path(blob: Descriptor) -> str:
    """The name of a blob in an archive."""
    return f"blobs/sha256/{blob.digest.hex}"


def _plain(descriptor: Descriptor) -> Descriptor:
    """Without what the store's index has noted beside it."""
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _listed(raw: bytes) -> Descriptor:
    return Descriptor(media_types.OCI_INDEX, Digest.of(raw), len(raw))


def _entry(model: StoredModel, name: Reference | None, listed: Digest | None) -> Descriptor:
    noted = {} if name is None else {media_types.ANNOTATION_REFERENCE: str(name)}
    if listed is not None:
        noted[media_types.ANNOTATION_REFERRERS] = str(listed)
    if model.is_image:
        # whoever loads it knows then that it is not a model
        noted[media_types.ANNOTATION_KIND] = media_types.RUNTIME
    return Descriptor(
        model.descriptor.media_type, model.descriptor.digest, model.descriptor.size, noted
    )


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
