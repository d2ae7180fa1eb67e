"""What the configuration says of one registry."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """How a registry may be spoken to.

    Attributes:
        insecure: In plain http.
        realms: Further hosts at which a token may be asked for.
        ca_file: A bundle of certificates for it alone.
    """

    insecure: bool = False
    realms: tuple[str, ...] = ()
    ca_file: str | None = None
