"""Images as registries have them, of files that a test names: layers, config, manifest, index."""

import gzip
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal

Packed = Literal["", "gzip", "zstd"]

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Item:
    """One entry of a layer."""

    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    mode: int = 0o644
    pax: Mapping[str, str] = field(default_factory=dict)


def directory(name: str) -> Item:
    """A directory."""
    return Item(name, kind=tarfile.DIRTYPE, mode=0o755)


def symlink(name: str, target: str) -> Item:
    """A symbolic link."""
    return Item(name, kind=tarfile.SYMTYPE, target=target)


def hardlink(name: str, target: str) -> Item:
    """A hard link."""
    return Item(name, kind=tarfile.LNKTYPE, target=target)


def tar_of(items: Sequence[Item]) -> bytes:
    """The tar of a layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for item in items:
            info = tarfile.TarInfo(item.name)
            info.type, info.linkname, info.mode = item.kind, item.target, item.mode
            info.size = len(item.content)
            info.pax_headers = dict(item.pax)
            archive.addfile(info, io.BytesIO(item.content))
    return buffer.getvalue()


# an image is asked for its blobs by its manifest, by an index, and by what a registry has of it
@lru_cache(maxsize=8)
def packed(tar: bytes, how: Packed = "gzip") -> bytes:
    """The blob of a layer."""
    if how == "gzip":
        return gzip.compress(tar, 1, mtime=0)
    if how == "zstd":
        name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        found: bytes = import_module(name).compress(tar)
        return found
    return tar


def digest_of(content: bytes) -> str:
    """The digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Image:
    """An image of one platform.

    Attributes:
        tars: The layers, unpacked.
        how: How they are packed.
        platform: What its config says.
        config: What else its config says.
        diff_ids: Other digests than those of the tars.
        annotations: Of its manifest.
    """

    tars: Sequence[bytes]
    how: Packed = "gzip"
    platform: Mapping[str, str] = field(
        default_factory=lambda: {"os": "linux", "architecture": "amd64"}
    )
    config: Mapping[str, Any] = field(default_factory=dict)
    diff_ids: Sequence[str] | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> list[bytes]:
        """The blobs of its layers."""
        return [packed(tar, self.how) for tar in self.tars]

    @property
    def config_blob(self) -> bytes:
        """The blob of its config."""
        diff_ids = self.diff_ids or [digest_of(tar) for tar in self.tars]
        value = {
            **self.platform,
            "config": dict(self.config),
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        }
        return json.dumps(value).encode()

    @property
    def blobs(self) -> list[bytes]:
        """Everything that a registry has of it but the manifest."""
        return [self.config_blob, *self.layers]

    @property
    def manifest(self) -> bytes:
        """The manifest."""
        suffix = f"+{self.how}" if self.how else ""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, self.config_blob),
            "layers": [_descriptor(LAYER + suffix, layer) for layer in self.layers],
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return json.dumps(value).encode()


def index_of(images: Sequence[Image]) -> bytes:
    """The index of images for several platforms."""
    manifests = [
        {**_descriptor(MANIFEST, image.manifest), "platform": dict(image.platform)}
        for image in images
    ]
    value = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
    return json.dumps(value).encode()


def _descriptor(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest_of(content), "size": len(content)}
