"""What became of a model that was to be pulled: as data, without what pulls."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from modelrunner.errors import ModelRunnerError
from modelrunner.frozen import field, frozen, replace
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.source import Choice
from modelrunner.store.store import Store, StoredModel

# late imports: most pulls find that everything is here
if TYPE_CHECKING:
    from modelrunner.operations.pull.referrers import ReferrersKept


@frozen
class Pulled:
    """What a pull came to.

    Attributes:
        reference: What was asked for.
        model: As it is here.
        status: Whether anything was missing.
        downloaded_bytes: What of the model came over the network; what came twice counts once.
        resumed_bytes: What of the model an earlier try has left.
        duration_s: Seconds.
        source: The registry that resolved the name; None where none was asked.
        origins: Bytes by the place that delivered them, this machine's other programs among them.
        choice: What was taken for a name that leaves something open, where the source has said it.
        referrers: What became of that which refers to the model; None where it was not asked for.
    """

    reference: Reference
    model: StoredModel
    status: Literal["pulled", "up-to-date"]
    downloaded_bytes: int
    resumed_bytes: int
    duration_s: float
    source: str | None
    origins: Mapping[str, int] = field(default_factory=dict)
    choice: Choice | None = None
    referrers: "ReferrersKept | None" = None

    @property
    def name(self) -> Reference:
        """The name that it is listed under, in the spelling of lists."""
        named = None if self.reference.pinned else self.model.name_for(self.reference)
        name = named or self.reference
        return replace(name, original_repository=name.repository)


def stored(store: Store, reference: Reference) -> Pulled | None:
    """Return the result of a pull without a network; None where something is missing."""
    begun = time.monotonic()
    model = store.complete(reference)
    if model is None:
        return None
    return Pulled(reference, model, "up-to-date", 0, 0, time.monotonic() - begun, None)


def kept_bytes(store: Store, begun: Mapping[str, int]) -> int:
    """Return the bytes of an interrupted pull that the next one does not download again.

    Args:
        store: The local store.
        begun: Sizes by the digests of the blobs whose transfer began.
    """
    found = 0
    for digest, size in begun.items():
        blob = Descriptor("", Digest.parse(digest), size)
        found += size if store.blobs.path(blob.digest).exists() else store.blobs.partial_bytes(blob)
    return found


@frozen
class Failed:
    """A model that did not come."""

    reference: Reference
    error: ModelRunnerError

    def named(self) -> ModelRunnerError:
        """The error with the model's name in its message."""
        name = self.reference.short
        if name in self.error.message:
            return self.error
        return self.error.about(name)


@frozen
class Dropped:
    """A model that was not brought to its end, because another one failed."""

    reference: Reference


Outcome = Pulled | Failed | Dropped
