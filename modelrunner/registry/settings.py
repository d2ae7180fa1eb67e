"""What the configuration says of registries and of the Hugging Face Hub: as data."""

from modelrunner.frozen import field, frozen

HUB_ENDPOINT = "https://huggingface.co"
"""Where the Hugging Face Hub is."""
ClientCertificate = str | tuple[str, str] | None


@frozen
class RegistrySettings:
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


@frozen
class HubAccess:
    """How the Hugging Face Hub may be spoken to: where it is, what it is shown, if it may be asked.

    Attributes:
        endpoint: Its address.
        token: The token that it is shown.
        offline: The variable that forbids to ask it.
        token_origin: Who says what the token is: a variable, a file, or `default`.
        token_file: The file that it is from, where the Hub's tools refresh what is about to expire.
        answer_timeout_s: Seconds to wait for an answer of the API; None for the usual.
        read_timeout_s: Seconds to wait for each byte of a file; None for the usual.
        invalid: The variable of seconds that cannot be understood.
        xet: Whether large files are read out of Xet storage itself.
    """

    endpoint: str = HUB_ENDPOINT
    token: str | None = field(default=None, repr=False)
    offline: str | None = None
    token_origin: str = "default"  # noqa: S105 - who has it
    token_file: str | None = None
    answer_timeout_s: int | None = None
    read_timeout_s: int | None = None
    invalid: str | None = None
    xet: bool = False
