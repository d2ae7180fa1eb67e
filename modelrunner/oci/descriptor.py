"""A descriptor: media type, digest and size of some content, and what is said about it.

Foreign fields (`urls`, `data`, `platform`, ...) are not kept: content is only ever asked for by
digest, of the registry that was named.
"""

from collections.abc import Mapping
from typing import Any, Self

from modelrunner.errors import MalformedManifestError
from modelrunner.frozen import field, frozen
from modelrunner.oci.digest import Digest

MAX_SIZE = 1 << 50


@frozen
class Descriptor:
    """What a blob or manifest is, before anybody has seen it."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @classmethod
    def from_dict(cls, value: object, where: str) -> Self:
        """Reads one descriptor out of parsed JSON; `where` names it in errors.

        Raises:
            MalformedManifestError: A field is missing or of the wrong kind.
        """
        if not isinstance(value, dict):
            raise MalformedManifestError(f"{where} is not a valid descriptor")
        media_type, digest, size = (value.get(key) for key in ("mediaType", "digest", "size"))
        if not isinstance(media_type, str) or not isinstance(digest, str):
            raise MalformedManifestError(f"{where} must have a media type and a digest")
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= MAX_SIZE:
            said = f": {size!s:.40}" if isinstance(size, int | float) else ""
            raise MalformedManifestError(f"{where} has an invalid size{said}")
        return cls(media_type, Digest.parse(digest), size, annotations_of(value, where))

    def to_dict(self) -> dict[str, Any]:
        """The descriptor as JSON has it."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return value


def annotations_of(value: Mapping[str, Any], where: str) -> Mapping[str, str]:
    """The annotations of a descriptor or a manifest; `where` names it in errors.

    Raises:
        MalformedManifestError: They are not a map of strings.
    """
    annotations = value.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(
        isinstance(entry, str) for entry in annotations.values()
    ):
        raise MalformedManifestError(f"the annotations of {where} must be an object of strings")
    return annotations
