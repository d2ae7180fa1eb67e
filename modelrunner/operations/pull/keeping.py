"""What a pull keeps of that which refers to its models: as data, without what fetches it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from modelrunner.frozen import frozen
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import ReferrerChoice
from modelrunner.store.store import Store

# late imports: most pulls find that everything is in the store
if TYPE_CHECKING:
    from modelrunner.operations.pull.referrers import ReferrerFetch
    from modelrunner.registry.oci.referrers import Allowance, ReferrerPlace

DEFAULT: ReferrerChoice = "signatures"

Ask = Callable[[Reference, "Allowance"], "Sequence[ReferrerPlace]"]
"""Opens the places that may keep what refers to a model."""


def _usual(wanted: ReferrerChoice) -> "Allowance":
    from modelrunner.operations.pull.referrers import allowance_for

    return allowance_for(wanted)


@frozen
class Keeping:
    """What a pull keeps of that which refers to its models.

    Attributes:
        ask: Opens who may have it.
        wanted: What of it is kept.
        insists: Whether it is asked for where the model is in the store already.
        allowance: Makes the limits for one model.
    """

    ask: Ask
    wanted: ReferrerChoice = DEFAULT
    insists: bool = False
    allowance: "Callable[[ReferrerChoice], Allowance]" = _usual

    def begin(self, store: Store, reference: Reference, digest: Digest) -> "ReferrerFetch":
        """Begin to fetch what refers to a model, in a thread of its own."""
        from modelrunner.operations.pull.referrers import ReferrerFetch

        fetch = ReferrerFetch(
            store,
            self.ask,
            reference,
            digest,
            self.wanted,
            self.allowance(self.wanted),
            is_asked_for=self.insists,
        )
        fetch.start()
        return fetch
