"""How the Hugging Face Hub may be spoken to: as data, without what speaks to it."""

from dataclasses import dataclass, field

from modelrunner.registry.settings import HUB_ENDPOINT


@dataclass(frozen=True, slots=True)
class HubAccess:
    """Where the Hub is, the token that it is shown, and the variable that forbids to ask it."""

    endpoint: str = HUB_ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: str | None = None
