"""Which proxy a request goes through: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, and NO_PROXY.

As the library `requests` reads them, and with it most programs in Python: hosts of NO_PROXY with
those below them, with or without a port, networks of IPv4 addresses, `*` for all; on macOS, what
the system's settings say where the environment says nothing.
"""

import os
import socket
import sys
from ipaddress import IPv4Address, IPv4Network
from urllib.parse import SplitResult, urlsplit

from modelrunner.net import is_loopback
from modelrunner.wire import parse_count

_NAMES = ("http_proxy", "https_proxy", "all_proxy")
_WITH_SETTINGS = ("darwin", "win32")


def proxy_of(url: str) -> str | None:
    """Return the proxy that an address is reached through; None for a direct connection.

    This machine is spoken to directly, whatever proxy stands before the others.
    """
    return None if is_loopback(urlsplit(url).hostname or "") else _named(url)


def is_resolved_here(url: str) -> bool:
    """Whether the name in an address is looked up on this machine, and not by a proxy."""
    return _named(url) is None


def _named(url: str) -> str | None:
    """The proxy that the environment names for an address."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or not _may_be_one():
        return None
    # where no proxy is named, which is nearly always, it is not worth its loading
    from urllib.request import getproxies, proxy_bypass

    try:
        if _is_excluded(parts, host) or proxy_bypass(host):
            return None
    except (OSError, TypeError):
        # the system's settings cannot be understood
        pass
    found = getproxies()
    return found.get(parts.scheme) or found.get("all") or None


def _may_be_one() -> bool:
    """Whether anything names a proxy, without asking the library that knows how."""
    return sys.platform in _WITH_SETTINGS or any(name.lower() in _NAMES for name in os.environ)


def _is_excluded(parts: SplitResult, host: str) -> bool:
    """Whether NO_PROXY names a host, or a network that it is in."""
    said = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    named = [entry for entry in said.replace(" ", "").split(",") if entry]
    address = _ipv4(host)
    if address is not None:
        return any(_covers(entry, host, address) for entry in named)
    spelled = (host, f"{host}:{parts.port}" if parts.port else host)
    bare = [entry.lstrip(".") for entry in named]
    return any(text == entry or text.endswith(f".{entry}") for entry in bare for text in spelled)


def _covers(entry: str, host: str, address: IPv4Address) -> bool:
    """Whether an address, or a network as `10.0.0.0/8`, is that of a host."""
    place, slash, length = entry.partition("/")
    network, bits = _ipv4(place), parse_count(length)
    if not slash or network is None or bits is None or not 1 <= bits <= address.max_prefixlen:
        return entry == host
    return address in IPv4Network((network, bits), strict=False)


def _ipv4(text: str) -> IPv4Address | None:
    """The address that is written, in any of the forms that C libraries read."""
    try:
        return IPv4Address(socket.inet_aton(text))
    except (OSError, UnicodeError):
        return None
