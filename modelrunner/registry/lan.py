"""Shared stores on the local network, by multicast DNS (RFC 6762, RFC 6763).

`share --lan` announces itself as `_modelrunner._tcp.local.`; `pull --lan` listens for a moment and
asks each store that it found, by digest only: what comes is verified like anything else, and
nothing secret is sent. A store with registries behind it announces them, and is asked for what is
of these by the model's name too, so that it can fetch it. Answers can be forged: only addresses of
private networks count, few of them, and only those at which something listens.
"""

import importlib.util
import ipaddress
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from modelrunner.errors import InvalidReferenceError, UsageError
from modelrunner.oci.reference import parse_registry
from modelrunner.system import installation
from modelrunner.text import os_reason

if TYPE_CHECKING:
    from zeroconf import DNSOutgoing, Zeroconf  # type: ignore[attr-defined]

SERVICE = "_modelrunner._tcp.local."
_LISTEN_S = 1.6
"""What was said a moment ago is not said again for a second (RFC 6762, section 6)."""
_ASK_AGAIN_S = 0.3
_QUERY, _PTR, _IN = 0, 12, 1
"""A standard query, the type of pointers, and the class of the internet (RFC 1035)."""
_ANSWER_MS = 800
_CONNECT_S = 0.5
_MOST = 16
_MAX_PORT = 65_535
_FETCHES = b"fetches"
_LONGEST = 255
"""Bytes of one entry of a TXT record, name included."""


class LanStore(NamedTuple):
    """A shared store on the local network.

    Attributes:
        authority: Where it listens, as `ADDRESS:PORT`.
        fetches: The registries that it fetches from.
    """

    authority: str
    fetches: frozenset[str] = frozenset()


def require() -> None:
    """Makes sure that the network can be listened to.

    Raises:
        UsageError: The extra `lan` is not installed.
    """
    if importlib.util.find_spec("zeroconf") is None:
        raise UsageError(
            "cannot search the local network: zeroconf is not installed",
            hint=f"`{installation.add('lan')}`",
        )


def find(seconds: float = _LISTEN_S) -> tuple[LanStore, ...]:
    """The stores that are heard within some seconds.

    Raises:
        UsageError: The extra `lan` is not installed, or no network to listen to.
    """
    announced = _announced(seconds)
    with ThreadPoolExecutor(max(1, len(announced))) as pool:
        found = pool.map(_first_listening, [places for places, _fetches in announced])
        stores = zip(found, [fetches for _places, fetches in announced], strict=True)
        # one that answers on several networks is one
        return tuple(
            {place: LanStore(place, fetches) for place, fetches in stores if place}.values()
        )


@contextmanager
def announced(host: str, port: int, fetches: Sequence[str] = ()) -> Iterator[Sequence[str]]:
    """The block in which a store is announced; the addresses at which it is.

    Args:
        host: The address that it listens on; `0.0.0.0` is all of them.
        port: Its port.
        fetches: The registries that it fetches from.

    Raises:
        UsageError: As with `find`; or it listens on no address that others could reach.
    """
    addresses = [host] if host != "0.0.0.0" else _own_addresses()  # noqa: S104
    if not addresses or not all(map(_is_near, addresses)):
        raise UsageError(
            f"{host} is not an address in a private network",
            hint="leave out --host, or give an address of this machine in a private network",
        )
    with _network(addresses) as network:
        from zeroconf import ServiceInfo

        name = f"{socket.gethostname().partition('.')[0]}-{port}"
        info = ServiceInfo(
            SERVICE,
            f"{name}.{SERVICE}",
            port=port,
            parsed_addresses=addresses,
            properties=_said(fetches),
            server=f"{name}.local.",
        )
        network.register_service(info, allow_name_change=True)
        try:
            yield addresses
        finally:
            network.unregister_service(info)


def addresses_in(service: object) -> list[str]:
    """The addresses in an answer, as far as they are plausible."""
    port = getattr(service, "port", None)
    if not isinstance(port, int) or not 0 < port <= _MAX_PORT:
        return []
    parsed: Sequence[str] = getattr(service, "parsed_addresses", list)()
    return [f"{address}:{port}" for address in parsed if _is_near(address)]


def fetches_in(service: object) -> frozenset[str]:
    """The registries in an answer from which a store fetches, as far as they are plausible."""
    said: Mapping[bytes, bytes | None] = getattr(service, "properties", {})
    found = set()
    for name in (said.get(_FETCHES) or b"").decode("ascii", "replace").split()[:_MOST]:
        with suppress(InvalidReferenceError):
            found.add(parse_registry(name))
    return frozenset(found)


def _said(fetches: Sequence[str]) -> dict[bytes, bytes]:
    """What an announcement says of registries: as many as fit."""
    text = b""
    for name in fetches:
        longer = text + b" " * bool(text) + name.encode()
        if len(_FETCHES) + 1 + len(longer) > _LONGEST:
            break
        text = longer
    return {_FETCHES: text} if text else {}


def _announced(seconds: float) -> list[tuple[list[str], frozenset[str]]]:
    """The places of each store, and the registries that it fetches from."""
    with _network() as network:
        from zeroconf import ServiceBrowser, ServiceStateChange

        names: dict[str, bool] = {}

        def on_change(name: str, state_change: ServiceStateChange, **_: object) -> None:
            # what they stand for is asked afterwards
            names[name] = state_change is not ServiceStateChange.Removed

        browser = ServiceBrowser(network, SERVICE, handlers=[on_change])
        # a browser is silent where another program has just asked, and its first question asks for
        # an answer to this program alone, which another one on this machine may get instead
        for pause in (_ASK_AGAIN_S, seconds - _ASK_AGAIN_S):
            network.send(_question())
            time.sleep(max(0.0, pause))
        browser.cancel()
        # what does not say where it is in this time is none to wait for
        there = [name for name, is_there in names.items() if is_there]
        services = [
            network.get_service_info(SERVICE, name, timeout=_ANSWER_MS) for name in there[:_MOST]
        ]
        return [(addresses_in(service), fetches_in(service)) for service in services]


def _question() -> "DNSOutgoing":
    # the package has both, and lists neither
    from zeroconf import DNSOutgoing, DNSQuestion  # type: ignore[attr-defined]

    out = DNSOutgoing(_QUERY)
    out.add_question(DNSQuestion(SERVICE, _PTR, _IN))
    return out


@contextmanager
def _network(addresses: Sequence[str] | None = None) -> "Iterator[Zeroconf]":
    require()
    from zeroconf import IPVersion, Zeroconf

    try:
        network = (
            Zeroconf(ip_version=IPVersion.V4Only)
            if addresses is None
            else Zeroconf(interfaces=list(addresses), ip_version=IPVersion.V4Only)
        )
    except OSError as exc:
        raise UsageError(
            f"cannot listen on the local network: {os_reason(exc)}",
            hint="check the network and that UDP port 5353 is allowed, or leave out --lan",
        ) from exc
    try:
        yield network
    finally:
        network.close()


def _own_addresses() -> list[str]:
    require()
    # it comes with zeroconf
    import ifaddr

    found = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    near = [str(address) for address in found if _is_near(str(address))]
    beyond = [address for address in near if not ipaddress.ip_address(address).is_loopback]
    return beyond or near


def _is_near(address: str) -> bool:
    """Whether it is an address of a private network or of this machine."""
    try:
        found = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return found.is_private and not (found.is_multicast or found.is_unspecified)


def _first_listening(places: Sequence[str]) -> str | None:
    return next(filter(_listens, places[:_MOST]), None)


def _listens(place: str) -> bool:
    host, _, port = place.rpartition(":")
    try:
        # bounded: a port that we have written
        with socket.create_connection((host, int(port)), _CONNECT_S):
            return True
    except OSError:
        return False
