"""What the configuration says of one registry."""

from typing import NamedTuple

HUB_ENDPOINT = "https://huggingface.co"
"""Where the Hugging Face Hub is."""
ClientCertificate = str | tuple[str, str] | None


class RegistrySettings(NamedTuple):
    """How a registry may be spoken to.

    Attributes:
        insecure: In plain http, or never so; None leaves it to the address.
        realms: Further hosts at which a token may be asked for.
        ca_file: A bundle of certificates for it alone.
        client_cert: The certificate that we show it, PEM; the key may be in the same file.
        client_key: The key to it.
    """

    insecure: bool | None = None
    realms: tuple[str, ...] = ()
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None

    @property
    def client(self) -> ClientCertificate:
        """Certificate and key as HTTP libraries take them, None where there is none."""
        if self.client_cert is None or self.client_key is None:
            return self.client_cert
        return self.client_cert, self.client_key
