"""Where a registry is: its address on the network, and how it may be spoken to."""

from collections.abc import Mapping
from typing import Self
from urllib.parse import parse_qs, urlencode, urlsplit

from modelrunner.errors import ConfigError
from modelrunner.frozen import field, frozen, record
from modelrunner.net import is_loopback
from modelrunner.oci.reference import DOCKER_HUB
from modelrunner.registry.settings import ClientCertificate, RegistrySettings

_ADDRESSES = {DOCKER_HUB: "registry-1.docker.io"}
_MIRROR_HINT = "write docker.io=https://mirror.example.com, without user and password"


@record
class Guess:
    """How a server on this machine is spoken to, until it has shown what it speaks.

    Plain http first, as almost all of them do: a login is only sent after such a server has asked
    for one. A server that speaks TLS cannot answer http, and is asked again over https.

    Attributes:
        scheme: What is spoken.
        settled: Whether the server has answered.
    """

    scheme: str = "http"
    settled: bool = False


@frozen
class Endpoint:
    """One address of a registry, or of a mirror of it.

    `registry` is the name in references, `scheme` and `authority` are what is connected to,
    `prefix` comes before `/v2` (a mirror may live below a path), `realms` are further hosts at
    which a token may be asked for, `ca_file` is a bundle for this registry alone, `client` the
    certificate that we show, `namespace` the registry that a mirror is asked to stand for: what it
    has of another one under the same path is another model. `guess` is there where the scheme
    is still to be found out, and shared by all who speak to this authority; see `protocol`.
    `folder` comes before each repository: a mirror may keep them below one of its own.
    """

    registry: str
    scheme: str
    authority: str
    prefix: str = ""
    realms: tuple[str, ...] = ()
    ca_file: str | None = None
    client: ClientCertificate = field(default=None, repr=False)
    namespace: str | None = None
    guess: Guess | None = None
    folder: str = ""

    @classmethod
    def of_registry(
        cls,
        registry: str,
        *,
        insecure: bool | None = None,
        realms: tuple[str, ...] = (),
        ca_file: str | None = None,
        client: ClientCertificate = None,
        guess: Guess | None = None,
    ) -> Self:
        """A registry's own address.

        Args:
            registry: Its name in references.
            insecure: Whether it is spoken to in plain http; without it that is found out for this
                machine, and never done for another one.
            realms: See the class.
            ca_file: See the class.
            client: See the class.
            guess: What is known by now of a registry on this machine.
        """
        authority = _ADDRESSES.get(registry, registry)
        host = _host(authority)
        open_question = insecure is None and is_loopback(host)
        return cls(
            registry,
            "http" if insecure or open_question else "https",
            authority,
            realms=realms,
            ca_file=ca_file,
            client=client,
            guess=(guess or Guess()) if open_question else None,
        )

    @classmethod
    def of_mirror(
        cls,
        registry: str,
        address: str,
        *,
        registries: Mapping[str, RegistrySettings] | None = None,
        ca_file: str | None = None,
        namespace: str | None = None,
    ) -> Self:
        """A mirror of a registry, given as an address; `registries` may say more of its host.

        Raises:
            ConfigError: The address is invalid, or plain http to another machine.
        """
        text = address if "://" in address else f"https://{address}"
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError as exc:
            raise ConfigError(
                f"invalid URL of a mirror {address[:200]!r}", hint=_MIRROR_HINT
            ) from exc
        spaced = any(mark.isspace() for mark in text)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or spaced:
            raise ConfigError(
                f"invalid URL of a mirror {address[:200]!r}",
                hint=_MIRROR_HINT,
            )
        said = (registries or {}).get(parts.netloc, RegistrySettings())
        if parts.scheme == "http" and not (said.insecure or is_loopback(parts.hostname)):
            raise ConfigError(
                f"the mirror {address[:200]} uses plain http",
                hint="write https://, or allow plain http in config.toml: "
                f'[registries."{parts.netloc}"] insecure = true',
            )
        # what comes after /v2 is a part of repositories' names, as containerd and Harbor have it
        prefix, _, folder = f"/{parts.path.strip('/')}/".partition("/v2/")
        certificates = said.ca_file or ca_file
        return cls(
            registry,
            parts.scheme,
            parts.netloc,
            prefix.strip("/"),
            said.realms,
            certificates,
            said.client,
            namespace,
            folder=folder.strip("/"),
        )

    def path_of(self, repository: str) -> str:
        """Return what a repository is called there."""
        return f"{self.folder}/{repository}" if self.folder else repository

    def with_namespace(self, url: str) -> str:
        """Return an address of a mirror with `?ns=REGISTRY`, as containerd sends it.

        A path alone does not say which registry it is a path of.
        """
        if self.namespace is None:
            return url
        parts = urlsplit(url)
        query = parse_qs(parts.query, keep_blank_values=True)
        if "ns" in query:
            return url
        said = urlencode({"ns": self.namespace})
        return parts._replace(query=f"{parts.query}&{said}" if parts.query else said).geturl()

    @property
    def host(self) -> str:
        """The host, without port."""
        return _host(self.authority)

    @property
    def account(self) -> str:
        """Whose login this place may be shown: a mirror never sees that of the registry."""
        return self.registry if self._is_own else self.authority

    @property
    def protocol(self) -> str:
        """The scheme that is spoken by now."""
        return self.scheme if self.guess is None else self.guess.scheme

    @property
    def plain(self) -> bool:
        """Whether it is spoken to without encryption."""
        return self.protocol == "http"

    def current(self, url: str) -> str:
        """The same address, by the scheme that is spoken by now."""
        # as it is with almost every request: the address need not be taken apart
        if self.guess is None or url.startswith(f"{self.guess.scheme}://{self.authority}/"):
            return url
        parts = urlsplit(url)
        if parts.netloc != self.authority:
            return url
        return parts._replace(scheme=self.guess.scheme).geturl()

    @property
    def base(self) -> str:
        """The address before `/v2`, scheme included."""
        return f"{self.protocol}://{self.authority}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def label(self) -> str:
        """For people: the registry's name, or the mirror's address."""
        if self._is_own:
            return self.registry
        return f"{self.base}/v2/{self.folder}" if self.folder else self.base

    @property
    def _is_own(self) -> bool:
        return _ADDRESSES.get(self.registry, self.registry) == self.authority


def _host(authority: str) -> str:
    return urlsplit(f"//{authority}").hostname or authority
