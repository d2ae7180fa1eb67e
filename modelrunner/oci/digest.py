"""A digest: the one way in which content is named, and the only way to a path in the store."""

import sys
from typing import TYPE_CHECKING, Self

from modelrunner.errors import MalformedManifestError
from modelrunner.frozen import frozen

if TYPE_CHECKING:
    import hashlib

_PREFIX = "sha256:"
_LENGTH = 64
_DIGITS = "0123456789abcdef"
_SHORT = 12
_LITTLE = 64 * 1024
_OWN = "_sha2" if sys.version_info >= (3, 12) else "_sha256"
"""Python's own code for SHA-256, which `hashlib` falls back to where OpenSSL is missing."""


@frozen
class Digest:
    """A SHA-256 digest: 64 lower-case hex digits, nothing else is ever inside."""

    hex: str

    def __post_init__(self) -> None:
        if not is_hex(self.hex, _LENGTH):
            raise MalformedManifestError(f"{self.hex[:80]!r} is not a SHA-256 in hex")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `sha256:<64 hex>`.

        Raises:
            MalformedManifestError: Another algorithm, upper case, or no digest at all.
        """
        found = text.removeprefix(_PREFIX)
        if found == text or not is_hex(found, _LENGTH):
            raise MalformedManifestError(
                f"invalid digest {text[:100]!r}",
                hint="write it as sha256: and 64 lower-case hex digits",
            )
        return cls(found)

    @classmethod
    def of(cls, content: bytes) -> Self:
        """The digest of bytes in memory."""
        return cls(_sha256_of(content))

    @property
    def short(self) -> str:
        """The first 12 hex digits, as people see them."""
        return self.hex[:_SHORT]

    def __str__(self) -> str:
        return f"{_PREFIX}{self.hex}"

    def __lt__(self, other: "Digest") -> bool:
        return self.hex < other.hex


def _sha256_of(content: bytes) -> str:
    """The digits; those of little content without OpenSSL, which takes longer to load."""
    if len(content) <= _LITTLE:
        try:
            return str(__import__(_OWN).sha256(content).hexdigest())
        except ImportError:
            # a build without it
            pass
    hasher = sha256()
    hasher.update(content)
    return hasher.hexdigest()


def is_hex(text: str, length: int) -> bool:
    """Whether a text is this many lower-case hex digits."""
    # without a regular expression: to compile one takes longer than to read twenty digests
    return len(text) == length and not text.strip(_DIGITS)


def sha256() -> "hashlib._Hash":
    """Return what computes a digest of bytes, piece by piece."""
    # most commands compute none, and it loads OpenSSL
    import hashlib

    return hashlib.sha256()
