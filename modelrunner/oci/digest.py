"""A digest: the one way in which content is named, and the only way to a path in the store."""

import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Self

from modelrunner.errors import MalformedManifestError
from modelrunner.frozen import frozen

if TYPE_CHECKING:
    import hashlib

_DIGEST = r"sha256:([0-9a-f]{64})"
_SHORT = 12
_LITTLE = 64 * 1024
_OWN = "_sha2" if sys.version_info >= (3, 12) else "_sha256"
"""Python's own code for SHA-256, which `hashlib` falls back to where OpenSSL is missing."""


@frozen
class Digest:
    """A SHA-256 digest: 64 lower-case hex digits, nothing else is ever inside."""

    hex: str

    def __post_init__(self) -> None:
        if not re.fullmatch(_DIGEST, f"sha256:{self.hex}"):
            raise MalformedManifestError(f"{self.hex[:80]!r} is not a SHA-256 in hex")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `sha256:<64 hex>`.

        Raises:
            MalformedManifestError: Another algorithm, upper case, or no digest at all.
        """
        match = re.fullmatch(_DIGEST, text)
        if match is None:
            raise MalformedManifestError(
                f"invalid digest {text[:100]!r}",
                hint="write it as sha256: and 64 lower-case hex digits",
            )
        return cls(match[1])

    @classmethod
    def of(cls, content: bytes) -> Self:
        """The digest of bytes in memory."""
        return cls(_sha256_of(content))

    @property
    def short(self) -> str:
        """The first 12 hex digits, as people see them."""
        return self.hex[:_SHORT]

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    def __lt__(self, other: "Digest") -> bool:
        return self.hex < other.hex


def _sha256_of(content: bytes) -> str:
    """The digits; those of little content without OpenSSL, which takes longer to load."""
    if len(content) <= _LITTLE:
        try:
            return str(import_module(_OWN).sha256(content).hexdigest())
        except ImportError:
            # a build without it
            pass
    hasher = sha256()
    hasher.update(content)
    return hasher.hexdigest()


def sha256() -> "hashlib._Hash":
    """Return what computes a digest of bytes, piece by piece."""
    # most commands compute none, and it loads OpenSSL
    import hashlib

    return hashlib.sha256()
