"""Where things lie in the store, and whether it is one that this program may touch.

```
store/v1/  oci-layout  index.json  lock  CACHEDIR.TAG
           blobs/sha256/<hex>            0444, complete and verified
           ingest/<hex>.partial          arriving
           quarantine/<hex>              found damaged, moved out of the way
           stamps/<hex>                  how the file looked when its hash was made
           stamps/<hex>.facts            what was read from its GGUF header
           stamps/<hex>.capabilities     what the model of this manifest can do
           stamps/<hex>.copies           how copies of it in views looked when they were read
           views/<manifest hex>/...      real file names, hard-linked
           unpacked/<manifest hex>       the files that were in its layers, see `store.unpacked`
```
It is an OCI image layout, so `skopeo`, `oras` and `crane` read it; they pass over what the
standard does not name.
"""

import json
import re
from functools import cached_property
from pathlib import Path

from modelrunner.disk.files import TEMPORARY_PREFIX, disk_errors, lasting, write_atomically
from modelrunner.disk.inside import make_directory, read_inside
from modelrunner.errors import (
    ConfigError,
    CorruptStoreError,
    StoreAccessError,
    StoreVersionError,
)
from modelrunner.frozen import frozen
from modelrunner.oci.digest import Digest
from modelrunner.text import os_reason
from modelrunner.wire import parse_json

VERSION = 1
_MOST_PATHS = 20_000
"""Paths of blobs that are kept: a pull of thousands of small ones needs each several times."""

_CACHEDIR_TAG = b"""Signature: 8a477f597d28d172789f06886806bc55
# This folder holds models that can be fetched again; back-up programs may leave it out.
"""
_EMPTY_INDEX = {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.index.v1+json",
    "manifests": [],
}


@frozen
class Layout:
    """The places of one store; `root` is the directory with `oci-layout` in it."""

    root: Path

    @classmethod
    def under(cls, store: Path) -> "Layout":
        """The layout of this program's version in a `store/` folder.

        Raises:
            StoreVersionError: Only a newer version's store is there.
        """
        root = store / f"v{VERSION}"
        if not root.exists():
            newer = [entry.name for entry in _children(store) if _is_newer(entry.name)]
            if newer:
                # bounded: the name of a directory
                raise _newer(store / max(newer, key=lambda name: int(name[1:])))
        return cls(root)

    @property
    def index(self) -> Path:
        """The file that names the models."""
        return self.root / "index.json"

    @property
    def lock(self) -> Path:
        """Locked by each process that changes `index.json` or removes blobs."""
        return self.root / "lock"

    # a command may ask for thousands of blobs, and each step of a path makes a new object
    @cached_property
    def blobs(self) -> Path:
        """The directory of complete blobs."""
        return self.root / "blobs" / "sha256"

    @cached_property
    def ingest(self) -> Path:
        """The directory of arriving blobs."""
        return self.root / "ingest"

    @property
    def arrivals(self) -> Path:
        """Locked, shared, by every process that downloads or packs blobs."""
        return self.ingest / "lock"

    @cached_property
    def stamps(self) -> Path:
        """The directory of stamps."""
        return self.root / "stamps"

    @property
    def quarantine(self) -> Path:
        """The directory of damaged blobs."""
        return self.root / "quarantine"

    @property
    def views(self) -> Path:
        """The directory of views."""
        return self.root / "views"

    @property
    def unpacked(self) -> Path:
        """The directory of what was unpacked of models."""
        return self.root / "unpacked"

    def blob(self, digest: Digest) -> Path:
        """The file of a blob."""
        path = self._of_blobs.get(digest.hex)
        if path is None:
            if len(self._of_blobs) >= _MOST_PATHS:
                # a server is asked for any digest, for months
                self._of_blobs.clear()
            path = self._of_blobs[digest.hex] = self.blobs / digest.hex
        return path

    @cached_property
    def _of_blobs(self) -> dict[str, Path]:
        return {}

    def partial(self, digest: Digest) -> Path:
        """The file of an arriving blob."""
        return self.ingest / f"{digest.hex}.partial"

    def journal(self, digest: Digest) -> Path:
        """What is known of an arriving blob."""
        return self.ingest / f"{digest.hex}.journal"

    def stamp(self, digest: Digest) -> Path:
        """The stamp of a blob."""
        return self.stamps / digest.hex

    def facts(self, digest: Digest) -> Path:
        """What was read from a blob's GGUF header, for listings."""
        return self.stamps / f"{digest.hex}.facts"

    def capabilities(self, digest: Digest) -> Path:
        """What a model was found to be able to do, by its manifest's digest."""
        return self.stamps / f"{digest.hex}.capabilities"

    def copies(self, digest: Digest) -> Path:
        """How copies of a blob in views looked when they were hashed, a line each."""
        return self.stamps / f"{digest.hex}.copies"

    def notes(self, hex_digest: str) -> tuple[Path, ...]:
        """All files that say something of a blob, and go with it."""
        kinds = ("", ".facts", ".capabilities", ".copies")
        return tuple(self.stamps / f"{hex_digest}{kind}" for kind in kinds)

    def view(self, digest: Digest) -> Path:
        """The view of a model, by its manifest's digest."""
        return self.views / digest.hex

    def exists(self) -> bool:
        """Whether there is a store to read.

        Raises:
            StoreVersionError: A newer modelrunner wrote it.
            ConfigError: The directory is there and holds something else.
            CorruptStoreError: Its marker cannot be read.
        """
        marker = self.root / "oci-layout"
        with disk_errors(self.root):
            return self._exists(marker)

    def _exists(self, marker: Path) -> bool:
        if not marker.exists():
            leftovers = [
                entry.name
                for entry in _children(self.root)
                if not entry.name.startswith(TEMPORARY_PREFIX)
            ]
            # another process may have made the store between the two looks
            if leftovers and not marker.exists():
                raise ConfigError(
                    f"{self.root} is not a modelrunner store: it is not empty and has no "
                    "oci-layout file",
                    hint="set MODELRUNNER_HOME to another directory, or move these files away",
                    path=str(self.root),
                )
            if not leftovers:
                return False
        version = _layout_version(marker)
        if version.split(".")[0] != "1":
            raise _newer(self.root, version)
        return True

    def create(self) -> None:
        """Makes the store, or what is missing of it; nothing there is changed.

        Raises:
            StoreAccessError: The place may not be written.
            DiskFullError: No space left.
        """
        with disk_errors(self.root):
            self._make_root()
            if not self.exists():
                # first the marker: a folder with it is ours, however little else is there
                write_atomically(self.root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}\n')
            with lasting(self.blobs):
                # each by itself: what is there already is looked at, whether it is a link
                make_directory(self.blobs.parent)
                make_directory(self.blobs)
            for folder in (self.ingest, self.stamps, self.views):
                make_directory(folder)
            if not self.index.exists():
                self._create_index()
            if not (self.root / "CACHEDIR.TAG").exists():
                write_atomically(self.root / "CACHEDIR.TAG", _CACHEDIR_TAG)

    def _make_root(self) -> None:
        try:
            with lasting(self.root):
                make_directory(self.root)
        except FileNotFoundError as exc:
            # `/proc` and its like: no place for folders
            raise StoreAccessError(
                f"cannot create {self.root}: {os_reason(exc)}",
                hint="set MODELRUNNER_HOME to a directory that you own",
                path=str(self.root),
            ) from exc

    def _create_index(self) -> None:
        # what reads the store locks nothing
        from modelrunner.disk.lock import file_lock

        with file_lock(self.lock):
            # looked at again: another process may have made and filled it meanwhile
            if not self.index.exists():
                write_atomically(self.index, json.dumps(_EMPTY_INDEX).encode())


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_newer(name: str) -> bool:
    match = re.fullmatch(r"v(\d{1,6})", name)
    # bounded: the name of a directory
    return match is not None and int(match[1]) > VERSION


def _newer(place: Path, version: str = "") -> StoreVersionError:
    said = f" (layout {version})" if version else ""
    return StoreVersionError(
        f"the store {place} was written by a newer modelrunner{said}",
        hint="upgrade modelrunner, or set MODELRUNNER_HOME to another directory",
        path=str(place),
    )


def _layout_version(marker: Path) -> str:
    try:
        value = parse_json(read_inside(marker, 4096))
        version = value["imageLayoutVersion"]
    except (ValueError, KeyError, TypeError) as exc:
        raise CorruptStoreError(
            f"{marker} is damaged",
            hint='write {"imageLayoutVersion":"1.0.0"} into it',
            path=str(marker),
        ) from exc
    return str(version)[:20]
