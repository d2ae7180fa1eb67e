"""Hosts and addresses: what is this machine, and how an address is written."""

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from http.client import HTTPConnection


IPV4, IPV6 = 4, 6
_INTERFACE_ADDRESS = 0x8915
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def ip_of(host: str) -> IPAddress | None:
    """Return the address that a host is written as, None for a name.

    Brackets and a zone are left out; an IPv4 address that is mapped into IPv6 counts as IPv4.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Whether a host, without its port, is this machine by its name or address alone.

    127.0.0.0/8, ::1, `localhost` and names below it (RFC 6761), in any case. No name is looked up:
    what a name server says today can be another machine tomorrow.
    """
    address = ip_of(host)
    if address is not None:
        return address.is_loopback
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def host_in(authority: str) -> str | None:
    """Return the host of a `Host` header or of an address, in lower case and without the port.

    None where there is none, or where `@` would hide one name behind another.
    """
    try:
        return None if "@" in authority else urlsplit(f"//{authority}").hostname
    except ValueError:
        return None


def local_host(host: str) -> str:
    """Return the host by which this machine reaches a server that listens on `host`.

    A server on every address (`0.0.0.0`, `::`) is asked on loopback: the address that it listens on
    is not a destination.
    """
    address = ip_of(host)
    if address is None or not address.is_unspecified:
        return host
    return "::1" if address.version == IPV6 else "127.0.0.1"


def outward_address(version: int = IPV4) -> str | None:
    """Return the address that other machines know this one by, None where it has no route out.

    Nothing is sent: the system only chooses the address that a packet to a documentation network
    (RFC 5737, RFC 3849) would leave from.
    """
    # everything else here is about text, and wanted where no network is used
    import socket

    family, target = (
        (socket.AF_INET6, "2001:db8::1") if version == IPV6 else (socket.AF_INET, "192.0.2.1")
    )
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            found = str(probe.getsockname()[0])
    except OSError:
        return None
    return None if is_loopback(found) else found


def interface_address(name: str) -> str | None:
    """Return the IPv4 address of a network interface; None where there is none."""
    # as above
    import socket
    import struct

    try:
        import fcntl
    except ImportError:
        return None
    # SIOCGIFADDR of netdevice(7): a name of 16 bytes, and after it an address of the family
    asked = struct.pack("256s", name.encode()[:15])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            found = fcntl.ioctl(probe.fileno(), _INTERFACE_ADDRESS, asked)
    except OSError:
        return None
    return socket.inet_ntoa(found[20:24])


def http_url(host: str, port: int, scheme: str = "http") -> str:
    """The address of a server; IPv6 stands in brackets."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def http_connection(url: str, timeout_s: float) -> "HTTPConnection":
    """Return a connection to a server of ours or of a person's, not open yet.

    Requests to registries go through `modelrunner.registry.http`.
    """
    # as above
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout_s)
