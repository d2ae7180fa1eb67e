"""How the Hugging Face Hub may be spoken to: as data, without what speaks to it."""

from dataclasses import dataclass, field

from modelrunner.registry.settings import HUB_ENDPOINT


@dataclass(frozen=True, slots=True)
class HubAccess:
    """Where the Hub is, what it is shown, and whether it may be asked.

    Attributes:
        endpoint: Its address.
        token: The token that it is shown.
        offline: The variable that forbids to ask it.
        token_origin: Who says what the token is: a variable, a file, or `default`.
        token_file: The file that it is from, where the Hub's tools refresh what is about to expire.
        answer_timeout_s: Seconds to wait for an answer of the API; None for the usual.
        read_timeout_s: Seconds to wait for each byte of a file; None for the usual.
        invalid: The variable of seconds that cannot be understood.
    """

    endpoint: str = HUB_ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: str | None = None
    token_origin: str = "default"  # noqa: S105 - who has it
    token_file: str | None = None
    answer_timeout_s: int | None = None
    read_timeout_s: int | None = None
    invalid: str | None = None
