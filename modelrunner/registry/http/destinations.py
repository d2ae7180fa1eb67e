"""Which hosts a registry may send us to: the rules that keep credentials and networks safe.

- A token realm is the registry's own host, one above or below it, or one known to belong to it;
  https, unless the registry itself is spoken to in plain http.
- A redirect never goes from https to http.
- Loopback, private and link-local addresses are only followed where the registry is one itself:
  otherwise a hostile registry could make us talk to services behind the firewall.
"""

import re
import socket
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from urllib.parse import SplitResult, urlsplit

from modelrunner.errors import RegistryAnswerError, RegistryUnavailableError
from modelrunner.net import IPAddress, ip_of, is_loopback
from modelrunner.oci.reference import DOCKER_HUB

_REALMS = {
    DOCKER_HUB: ("auth.docker.io",),
    "registry-1.docker.io": ("auth.docker.io",),
    "registry.gitlab.com": ("gitlab.com",),
    "nvcr.io": ("authn.nvidia.com",),
}
_DOTS_OF_A_SITE = 2
_NAT64 = IPv6Network("64:ff9b::/96")
# two readers of one address must see one host: what is checked here is what is connected to
_AMBIGUOUS = re.compile(r"[\\\x00-\x20\x7f]")


class Reach(IntEnum):
    """How far inside an address lies."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    LINK_LOCAL = 3


# each request asks several times, and thousands of small blobs are as many requests
@lru_cache(maxsize=64)
def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address.

    Raises:
        RegistryAnswerError: It is not an HTTP URL.
    """
    parts = split(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname or "", parts.port or default


def split(url: str) -> SplitResult:
    """An http address in parts.

    Raises:
        RegistryAnswerError: It is invalid.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # a property that parses
    except ValueError as exc:
        raise RegistryAnswerError("the registry sent an invalid URL") from exc
    if "@" in parts.netloc or _AMBIGUOUS.search(url):
        raise RegistryAnswerError("the registry sent an ambiguous URL: not followed")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RegistryAnswerError(
            f"the registry sent a URL that is not http or https: {parts.scheme[:20]}:"
        )
    return parts


def check_realm(realm: str, registry: str, *, plain: bool, allowed: tuple[str, ...]) -> None:
    """Decides whether a token may be asked for at `realm`.

    Args:
        realm: The address from the registry's challenge.
        registry: The registry's host, without port.
        plain: Whether the registry itself is spoken to in plain http.
        allowed: More hosts that the configuration allows for this registry.

    Raises:
        RegistryAnswerError: It may not; nothing was sent there.
    """
    parts = split(realm)
    host = (parts.hostname or "").lower()
    if parts.scheme != "https" and not plain:
        raise _refused_realm(registry, f"http://{host}")
    known = (*_REALMS.get(registry, ()), *allowed)
    if host == registry or host in known or _belongs(host, registry):
        return
    raise _refused_realm(registry, host)


def check_redirect(source: str, target: str, registry: str, *, resolve: bool) -> None:
    """Decides whether a redirect may be followed.

    Args:
        source: The address that redirects.
        target: Where to.
        registry: The host that the user named; what it is decides what may be reached.
        resolve: Whether names are looked up here. Not where a proxy connects: it looks them up, in
            a network of its own, and which of them it may reach is for its rules. An address is
            judged in either case, however it is written.

    Raises:
        RegistryAnswerError: It may not.
        RegistryUnavailableError: The target's name is not known.
    """
    old, new = split(source), split(target)
    if old.scheme == "https" and new.scheme == "http":
        raise RegistryAnswerError(
            f"{old.hostname} redirects from https to http: not followed",
            hint=(
                "ask the registry's administrator: without encryption, anyone can read "
                "and change the download"
            ),
        )
    if new.hostname == old.hostname:
        return
    host = new.hostname or ""
    far = _reach(host, resolve=resolve)
    if far is Reach.PUBLIC:
        return
    own = _reach(registry, resolve=resolve)
    if not _may_reach(far, own):
        raise _refused_reach(f"{old.hostname} redirects to {host}", far, host)


class Reached:
    """What one registry's connections go to: judged by their addresses, as they are made.

    A name is looked up once for each connection, so a name server cannot show one address to the
    judge and another one to the connection.

    Args:
        registry: The host that the user named, without port; what its first connection reaches
            decides what others may.
        exempt: Hosts that the configuration names.
    """

    def __init__(self, registry: str, exempt: Sequence[str] = ()) -> None:
        self._registry = registry.rstrip(".").lower()
        self._exempt = exempt
        self._own: tuple[Reach, Reach] | None = None

    def judge(self, host: str, addresses: Sequence[IPAddress]) -> None:
        """Decide whether a host may be connected to at these addresses.

        Raises:
            RegistryAnswerError: It may not.
        """
        reaches = [_classify(address) for address in addresses]
        nearest, farthest = min(reaches, default=Reach.PUBLIC), max(reaches, default=Reach.PUBLIC)
        name = host.rstrip(".").lower()
        if name == self._registry and (self._own is None or farthest <= self._own[1]):
            self._own = self._own or (nearest, farthest)
            return
        if farthest is Reach.PUBLIC or name in self._exempt:
            return
        own = self._own[0] if self._own else _reach(self._registry, resolve=True)
        if not _may_reach(farthest, own):
            raise _refused_reach(f"{self._registry} redirects to {name}", farthest, name)


def _may_reach(far: Reach, own: Reach) -> bool:
    return far is own or (own is Reach.LOOPBACK and far is Reach.PRIVATE)


def _refused_reach(what: str, far: Reach, host: str) -> RegistryAnswerError:
    return RegistryAnswerError(
        f"{what}, a {far.name.lower().replace('_', '-')} address: not followed",
        hint="ask the registry's administrator: a registry must not redirect into a local network",
        target=host,
    )


def _reach(host: str, *, resolve: bool) -> Reach:
    if is_loopback(host):
        return Reach.LOOPBACK
    address = ip_of(host) or _spelled_otherwise(host)
    if address is not None:
        return _classify(address)
    if not resolve:
        return Reach.PUBLIC
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise RegistryUnavailableError(
            f"cannot resolve {host[:200]}", hint="check the name and the network"
        ) from exc
    addresses = {str(entry[4][0]) for entry in found}
    return max((_classify(ip) for text in addresses if (ip := ip_of(text))), default=Reach.PUBLIC)


def _spelled_otherwise(host: str) -> IPAddress | None:
    """The address that C libraries, a proxy's among them, read in `127.1` or `0x7f000001`."""
    try:
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except (OSError, UnicodeError):
        return None


def _classify(address: IPAddress) -> Reach:
    if isinstance(address, IPv6Address):
        # behind a gateway it is an address of IPv4 that is connected to
        inner = address.sixtofour or (
            IPv4Address(address.packed[-4:]) if address in _NAT64 else None
        )
        if inner is not None:
            return _classify(inner)
    if address.is_link_local:
        return Reach.LINK_LOCAL
    if address.is_loopback or address.is_unspecified:
        return Reach.LOOPBACK
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


def _belongs(host: str, registry: str) -> bool:
    """Whether a realm's host is told by its name to be the registry's: below it, or its parent.

    Siblings are not: `a.azurecr.io` and `b.azurecr.io` are strangers.
    """
    if ip_of(host) or ip_of(registry):
        return False
    deep = host.count(".") >= _DOTS_OF_A_SITE and registry.endswith(f".{host}")
    return host.endswith(f".{registry}") or registry == f"registry.{host}" or deep


def _refused_realm(registry: str, place: str) -> RegistryAnswerError:
    return RegistryAnswerError(
        f"{registry} asks for a login at {place}, which is not known to belong to it",
        hint="if you trust it, allow it in config.toml (nothing was sent): "
        f'[registries."{registry}"] realms = ["{place.removeprefix("http://")}"]',
        realm=place,
    )
