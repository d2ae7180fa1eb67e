"""What a pushed manifest says: what it needs, what it refers to, how a list of referrers has it.

It may be of any kind, and name content by SHA-512.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelrunner.errors import MalformedManifestError
from modelrunner.oci import media_types
from modelrunner.oci.manifest import parse_json
from modelrunner.share.writing.storage import DIGEST

_MOST = 10_000
_ELSEWHERE = ("nondistributable", "foreign")


@dataclass(frozen=True, slots=True)
class PushedManifest:
    """A manifest or an index.

    Attributes:
        blobs: The digests of blobs that have to be here.
        children: The digests of manifests that have to be here.
        entry: As a list of referrers has it, with the digest of the subject under `subject`.
    """

    blobs: frozenset[str]
    children: frozenset[str]
    entry: dict[str, Any]


def read_pushed(raw: bytes, content_type: str, digest: str) -> PushedManifest:
    """Reads a manifest.

    Raises:
        MalformedManifestError: It is not one, or another one than its type says.
    """
    value = parse_json(raw, "the manifest")
    if value.get("schemaVersion") != 2:  # noqa: PLR2004
        raise MalformedManifestError("the schema version must be 2")
    said = content_type.partition(";")[0].strip()
    kind = value.get("mediaType") or said
    if said and kind != said:
        raise MalformedManifestError(f"the media type is {str(kind)[:100]!r}, not {said[:100]!r}")
    is_index = kind in media_types.INDEXES
    if not is_index and kind not in media_types.MANIFESTS:
        raise MalformedManifestError(f"unsupported media type {str(kind)[:100]!r}")
    config = value.get("config")
    parts = [] if is_index else [config, *_list(value, "layers")]
    children = _list(value, "manifests") if is_index else []
    entry: dict[str, Any] = {"mediaType": kind, "digest": digest, "size": len(raw)}
    artifact_type = value.get("artifactType")
    if not artifact_type and isinstance(config, Mapping):
        artifact_type = config.get("mediaType")
    if isinstance(artifact_type, str):
        entry["artifactType"] = artifact_type
    annotations = value.get("annotations")
    if isinstance(annotations, Mapping) and annotations:
        entry["annotations"] = dict(annotations)
    subject = value.get("subject")
    entry["subject"] = None if subject is None else _digest(subject)
    needed = (part for part in parts if not _is_elsewhere(part))
    return PushedManifest(frozenset(map(_digest, needed)), frozenset(map(_digest, children)), entry)


def _list(value: Mapping[str, Any], key: str) -> list[object]:
    found = value.get(key)
    if not isinstance(found, list) or len(found) > _MOST:
        raise MalformedManifestError(f"{key} must be a list of at most {_MOST} entries")
    return found


def _digest(entry: object) -> str:
    digest = entry.get("digest") if isinstance(entry, Mapping) else None
    if not isinstance(digest, str) or re.fullmatch(DIGEST, digest) is None:
        raise MalformedManifestError(f"invalid digest {str(digest)[:100]!r}")
    return digest


def _is_elsewhere(entry: object) -> bool:
    """Whether a layer is one that is not pushed, by its type."""
    kind = entry.get("mediaType") if isinstance(entry, Mapping) else None
    return isinstance(kind, str) and any(word in kind for word in _ELSEWHERE)
