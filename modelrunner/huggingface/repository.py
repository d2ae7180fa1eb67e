"""A repository of the Hugging Face Hub as one artifact: its files as they are, of any format.

It is one of plain files, which `oras pull` understands too: an empty config, and for each file a
layer with its path as the title, in the order of paths. Nothing but paths, sizes and digests is in
it, so that it is the same wherever it is made.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from modelrunner.huggingface.artifact import HubArtifact
from modelrunner.huggingface.files import HubFile
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest

_EMPTY = b"{}"
_FILE = "application/octet-stream"
_GIT_DIGEST = r"[0-9a-f]{40}"


@dataclass(frozen=True, slots=True)
class HubEntry:
    """A file of a repository, as it is listed.

    Attributes:
        path: Its path.
        size: Its bytes.
        blob_id: The digest that git knows its content by, or that of a pointer to it.
        sha256: The digest of one that is kept as a large one.
        xet: What Xet storage calls its content, where it is kept there.
    """

    path: str
    size: int
    blob_id: str = ""
    sha256: str | None = None
    xet: str | None = None

    @property
    def has_git_digest(self) -> bool:
        """Whether the listing says which content it has, where that is not large."""
        return re.fullmatch(_GIT_DIGEST, self.blob_id) is not None

    @property
    def key(self) -> str:
        """What its content is known by: that of another file with the same key is the same."""
        return self.blob_id if self.has_git_digest else self.path


def git_digest(content: bytes) -> str:
    """What git calls a file with this content."""
    head = f"blob {len(content)}\0".encode()
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


def repository_artifact(files: Sequence[HubFile]) -> HubArtifact:
    """The artifact of these files."""
    config = Descriptor(media_types.OCI_EMPTY, Digest.of(_EMPTY), len(_EMPTY))
    layers = [
        Descriptor(_FILE, file.digest, file.size, {media_types.ANNOTATION_TITLE: file.path})
        for file in sorted(files, key=lambda file: file.path)
    ]
    manifest = Manifest.build(config, layers, artifact_type=media_types.FILES_ARTIFACT)
    return HubArtifact(manifest, _EMPTY, None)
