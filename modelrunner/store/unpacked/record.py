"""Files out of layers that are archives: unpacked once, kept as blobs like any other.

```
unpacked/<manifest hex>     {"files": [["model.gguf", "<sha256>", size], ...]}
unpacked/lock               held by the one process that unpacks
unpacked/.tmp-...           where layers become a directory
```
The record comes last, when every file that it names is a blob: what a killed process has left is
removed by the next one that unpacks, or by `prune`. A file that the store has already, from
another model, is not kept twice.
"""

import json
from collections.abc import Sequence

from modelrunner.disk.files import disk_errors, write_atomically
from modelrunner.disk.inside import make_directory, read_inside
from modelrunner.errors import MalformedManifestError
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import MAX_SIZE, Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.layout import Layout
from modelrunner.wire import parse_json

_ANY = "application/octet-stream"
_MOST_BYTES = 16 * 1024 * 1024


def files_of(layout: Layout, digest: Digest) -> tuple[Descriptor, ...] | None:
    """The files of a model that was unpacked, by their annotations; None where it was not.

    Their blobs may be missing by now.
    """
    try:
        value = parse_json(read_inside(layout.unpacked / digest.hex, _MOST_BYTES))
        return tuple(file_of(*entry) for entry in value["files"])
    except (OSError, ValueError, KeyError, TypeError, MalformedManifestError):
        return None


def write(layout: Layout, digest: Digest, files: Sequence[Descriptor]) -> None:
    """Note the files of a model, whose blobs are all there."""
    entries = [
        [file.annotations[media_types.ANNOTATION_PATH], file.digest.hex, file.size]
        for file in files
    ]
    raw = json.dumps({"files": entries}, separators=(",", ":")).encode()
    with disk_errors(layout.unpacked):
        make_directory(layout.unpacked)
        write_atomically(layout.unpacked / digest.hex, raw)


def file_of(path: object, digest: object, size: object) -> Descriptor:
    """A file as a layer has it.

    Raises:
        ValueError, TypeError, MalformedManifestError: It is not one.
    """
    if not isinstance(path, str) or not isinstance(digest, str) or type(size) is not int:
        raise TypeError(path)
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(size)
    return Descriptor(_ANY, Digest(digest), size, {media_types.ANNOTATION_PATH: path})
