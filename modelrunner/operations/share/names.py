"""What is known of repositories behind a shared store: tags, manifests and which blobs they list.

A file for each repository, so that all of it outlives a restart, and is what is answered with where
a registry is away. That a blob is kept says nothing: it is served as part of a repository only
where a manifest of that repository lists it, or its registry says so.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

from modelrunner.disk.files import write_lightly
from modelrunner.disk.inside import make_directory, read_inside
from modelrunner.errors import IntegrityError, ModelRunnerError
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest, parse_manifest
from modelrunner.oci.reference import Reference, is_repository, is_tag, parse_registry
from modelrunner.operations.share.cache import BlobCache
from modelrunner.wire import parse_object

_MOST = 2000
"""Tags, and manifests, that are noted of one repository; the latest ones."""
_LARGEST_FILE = 4 * 1024 * 1024
_LARGEST_LIST = 64 * 1024


@dataclass
class Notes:
    """What is known of one repository.

    Attributes:
        registry: Its registry.
        path: Its path there.
        tags: What each tag stands for.
        manifests: Those that were fetched.
        referrers: By digest, the lists of what refers to a manifest.
        blobs: Those that manifests list, and those whose registry has said that it has them.
    """

    registry: str
    path: str
    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, Descriptor] = field(default_factory=dict)
    referrers: dict[str, str] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What is written."""
        return {
            "registry": self.registry,
            "repository": self.path,
            "tags": {tag: str(digest) for tag, digest in self.tags.items()},
            "manifests": [entry.to_dict() for entry in self.manifests.values()],
            "referrers": self.referrers,
        }


class Names:
    """The notes of all repositories; all methods may be called from any thread.

    Args:
        cache: Where manifests are kept; the notes lie beside them.
    """

    def __init__(self, cache: BlobCache) -> None:
        self._cache = cache
        self._folder = cache.layout.root / "names"
        self._lock = RLock()
        make_directory(self._folder)
        self._notes = {(notes.registry, notes.path): notes for notes in self._read()}

    def places(self) -> list[tuple[str, str]]:
        """Registry and path of each repository with a tag whose manifest is kept."""
        with self._lock:
            return [
                place
                for place, notes in self._notes.items()
                if any(self._cache.size_of(digest) is not None for digest in notes.tags.values())
            ]

    def tag(self, reference: Reference) -> Digest | None:
        """What a tag stands for, where that manifest is kept."""
        with self._lock:
            digest = self._of(reference).tags.get(reference.tag or "")
        if digest is None or self._cache.size_of(digest) is None:
            return None
        return digest

    def tags(self, reference: Reference) -> list[str]:
        """The tags of a repository whose manifests are kept."""
        with self._lock:
            found = list(self._of(reference).tags.items())
        return [tag for tag, digest in found if self._cache.size_of(digest) is not None]

    def manifest(self, reference: Reference, digest: Digest) -> Manifest | Index | None:
        """A manifest of the repository; None where it is not kept."""
        with self._lock:
            descriptor = self._of(reference).manifests.get(digest)
        return None if descriptor is None else self._kept(descriptor)

    def any_manifest(self, digest: Digest) -> Manifest | Index | None:
        """A manifest of any repository; None where it is not kept."""
        with self._lock:
            found = [notes.manifests.get(digest) for notes in self._notes.values()]
        return next((self._kept(entry) for entry in found if entry is not None), None)

    def blob(self, reference: Reference, digest: Digest) -> Descriptor | None:
        """A blob of the repository; None where nobody has said that it has it."""
        with self._lock:
            return self._of(reference).blobs.get(digest)

    def note_blob(self, reference: Reference, descriptor: Descriptor) -> None:
        """Note that a repository has a blob."""
        with self._lock:
            self._noted(reference).blobs[descriptor.digest] = descriptor

    def note_manifest(self, reference: Reference, manifest: Manifest | Index) -> None:
        """Note a manifest that is kept, and what its tag stands for if the reference has one."""
        with self._lock:
            notes = self._noted(reference)
            descriptor = descriptor_of(manifest)
            before = (notes.manifests.get(descriptor.digest), notes.tags.get(reference.tag or ""))
            notes.manifests[descriptor.digest] = descriptor
            _add_blobs(notes, manifest)
            if reference.tag is not None:
                notes.tags.pop(reference.tag, None)
                notes.tags[reference.tag] = descriptor.digest
            after = (descriptor, notes.tags.get(reference.tag or ""))
            if before != after:
                self._write(notes)

    def forget_tag(self, reference: Reference) -> None:
        """Note that a registry has a tag no longer."""
        with self._lock:
            notes = self._of(reference)
            if notes.tags.pop(reference.tag or "", None) is not None:
                self._write(notes)

    def referrers(self, reference: Reference, digest: Digest) -> bytes | None:
        """The list of what refers to a manifest; None where that is not known."""
        with self._lock:
            found = self._of(reference).referrers.get(str(digest))
        return None if found is None else found.encode()

    def note_referrers(self, reference: Reference, digest: Digest, index: bytes) -> None:
        """Note what refers to a manifest that is kept."""
        with self._lock:
            notes = self._of(reference)
            text = index.decode()
            known = digest in notes.manifests and len(index) <= _LARGEST_LIST
            if known and notes.referrers.get(str(digest)) != text:
                notes.referrers[str(digest)] = text
                self._write(notes)

    def _of(self, reference: Reference) -> Notes:
        place = reference.registry, reference.repository
        return self._notes.get(place) or Notes(*place)

    def _noted(self, reference: Reference) -> Notes:
        place = reference.registry, reference.repository
        return self._notes.setdefault(place, Notes(*place))

    def _kept(self, descriptor: Descriptor) -> Manifest | Index | None:
        if self._cache.size_of(descriptor.digest) is None:
            return None
        try:
            raw = self._cache.blobs.read(descriptor)
            manifest = parse_manifest(raw, descriptor.media_type)
        except IntegrityError:
            return None
        self._cache.use(descriptor.digest)
        return manifest

    def _write(self, notes: Notes) -> None:
        for entries in (notes.tags, notes.manifests, notes.referrers):
            for key in [*entries][:-_MOST]:
                del entries[key]
        content = json.dumps(notes.to_dict(), separators=(",", ":")).encode()
        # it saves requests: what is lost is asked for again
        with suppress(OSError):
            write_lightly(self._file(notes), content)

    def _file(self, notes: Notes) -> Path:
        return self._folder / f"{Digest.of(f'{notes.registry}/{notes.path}'.encode()).hex}.json"

    def _read(self) -> Iterable[Notes]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                notes = _parse(read_inside(path, _LARGEST_FILE))
            except (
                OSError,
                ValueError,
                LookupError,
                TypeError,
                AttributeError,
                ModelRunnerError,
            ):
                continue
            for descriptor in notes.manifests.values():
                manifest = self._kept(descriptor)
                if manifest is not None:
                    _add_blobs(notes, manifest)
            if any(self._cache.size_of(digest) is not None for digest in notes.manifests):
                yield notes
            else:
                # all of it was thrown away
                path.unlink(missing_ok=True)


def descriptor_of(manifest: Manifest | Index) -> Descriptor:
    """A manifest, or an index, as a blob."""
    return Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))


def _add_blobs(notes: Notes, manifest: Manifest | Index) -> None:
    if isinstance(manifest, Manifest):
        for entry in manifest.blobs:
            notes.blobs[entry.digest] = entry


def _parse(raw: bytes) -> Notes:
    value = parse_object(raw)
    notes = Notes(parse_registry(value["registry"]), value["repository"])
    if not is_repository(notes.path):
        raise ValueError("not a repository")
    notes.tags = {tag: Digest.parse(text) for tag, text in value["tags"].items() if is_tag(tag)}
    for entry in value["manifests"]:
        descriptor = Descriptor.from_dict(entry, "a manifest")
        notes.manifests[descriptor.digest] = descriptor
    notes.referrers = {str(Digest.parse(k)): str(v) for k, v in value["referrers"].items()}
    return notes
