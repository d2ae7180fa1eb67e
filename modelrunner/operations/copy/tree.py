"""All that a manifest needs: the manifests that it lists, at any depth, and every blob of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from modelrunner.errors import MalformedManifestError
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest

_KNOWN = (*media_types.MANIFESTS, *media_types.INDEXES)
_MOST_MANIFESTS = 1000
_MOST_BYTES = 64 * 1024 * 1024
_DEEPEST = 8
"""Indexes within indexes; two are the most that is seen."""

Read = Callable[[Digest], Manifest | Index]
"""Returns the manifest of a digest, verified."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A manifest with all that it needs.

    Attributes:
        manifests: Each after those that it lists; the root is the last one.
        blobs: Of all of them, each once.
    """

    manifests: tuple[Manifest | Index, ...]
    blobs: tuple[Descriptor, ...]

    @property
    def root(self) -> Manifest | Index:
        """What was asked for."""
        return self.manifests[-1]

    @property
    def total_bytes(self) -> int:
        """The bytes of all blobs."""
        return sum(blob.size for blob in self.blobs)


def read_tree(root: Manifest | Index, read: Read) -> Tree:
    """Return a manifest with all that it needs.

    Args:
        root: The manifest.
        read: Asked for those that it lists.

    Raises:
        MalformedManifestError: There are too many of them, or one contains itself too deeply.
        ModelRunnerError: What `read` raises.
    """
    walk = _Walk(read)
    walk.add(root, 0)
    return Tree(tuple(walk.manifests.values()), tuple(walk.blobs.values()))


@dataclass
class _Walk:
    """What was found so far, the children first."""

    read: Read
    manifests: dict[Digest, Manifest | Index] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    size: int = 0

    def add(self, manifest: Manifest | Index, depth: int) -> None:
        """Add a manifest, and before it what it lists."""
        self.size += len(manifest.raw)
        if depth > _DEEPEST:
            raise MalformedManifestError(f"indexes are nested more than {_DEEPEST} levels deep")
        if len(self.manifests) >= _MOST_MANIFESTS or self.size > _MOST_BYTES:
            raise MalformedManifestError(
                f"the index has more than {_MOST_MANIFESTS} manifests, or more than "
                f"{_MOST_BYTES // (1024 * 1024)} MiB of them"
            )
        if isinstance(manifest, Index):
            for entry in manifest.manifests:
                self._add_entry(entry, depth)
        else:
            self.blobs.update({blob.digest: blob for blob in manifest.blobs})
        self.manifests[manifest.digest] = manifest

    def _add_entry(self, entry: Descriptor, depth: int) -> None:
        if entry.media_type not in _KNOWN:
            # an index may list blobs, as those of build caches do
            self.blobs[entry.digest] = entry
        elif entry.digest not in self.manifests:
            self.add(self.read(entry.digest), depth + 1)
