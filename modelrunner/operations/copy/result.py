"""What a copy came to."""

from dataclasses import dataclass
from typing import Literal

from modelrunner.errors import ModelRunnerError
from modelrunner.operations.package.push_referrers import PushedReferrers


@dataclass(frozen=True, slots=True)
class Copied:
    """One manifest that the destination has now, with all that it needs.

    Attributes:
        source: Where it is from, for people.
        destination: Where it is now: a name, or a file.
        digest: The manifest, the same at both ends.
        status: Whether the destination had it under this name; `missing` where it does not, and was
            only looked at.
        size: Bytes of all its blobs.
        sent: Bytes that were sent.
        mounted: Bytes that the destination took over from another of its repositories.
        manifests: How many manifests it has: 1 where it is not an index.
        referrers: What became of that which refers to it; None where nothing does.
        tags: All names at the destination.
    """

    source: str
    destination: str
    digest: str
    status: Literal["copied", "present", "missing"]
    size: int
    sent: int = 0
    mounted: int = 0
    manifests: int = 1
    referrers: PushedReferrers | None = None
    tags: tuple[str, ...] = ()

    @property
    def skipped(self) -> int:
        """Bytes that the destination had."""
        return 0 if self.status == "missing" else self.size - self.sent - self.mounted

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        found = self.referrers
        also = (
            {}
            if found is None
            else {"referrers": {"copied": found.count, "problems": list(found.problems)}}
        )
        return {
            "source": self.source,
            "destination": self.destination,
            "digest": self.digest,
            "status": self.status,
            "size_bytes": self.size,
            "copied_bytes": self.sent,
            "mounted_bytes": self.mounted,
            "skipped_bytes": self.skipped,
            "manifests": self.manifests,
            "tags": list(self.tags),
            **also,
        }


@dataclass(frozen=True, slots=True)
class NotCopied:
    """One of several manifests that could not be copied."""

    source: str
    destination: str
    error: ModelRunnerError

    def named(self) -> ModelRunnerError:
        """Return the error with the source in its message."""
        return self.error if self.source in self.error.message else self.error.about(self.source)

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "source": self.source,
            "destination": self.destination,
            "status": "failed",
            "error": self.error.to_dict(),
        }


Outcome = Copied | NotCopied
