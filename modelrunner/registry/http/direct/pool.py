"""Connections straight to servers, kept open for what is asked next."""

import errno
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from modelrunner.net import IPAddress, ip_of
from modelrunner.registry.http.direct.answer import Answer
from modelrunner.registry.http.direct.link import Link
from modelrunner.registry.http.direct.reach import ConnectError, Place, reach
from modelrunner.registry.http.file_body import BytesSlice, FileSlice
from modelrunner.registry.source import Body

if TYPE_CHECKING:
    from ssl import SSLContext

Judge = Callable[[str, Sequence[IPAddress]], None]
"""Raises where a host may not be connected to at its addresses."""

Content = bytes | Body | None

_MOST_KEPT = 8
PORTS = {"http": 80, "https": 443}
"""The ports of addresses that name none."""

_LARGEST_PORT = 65535
_WITH_LENGTH = ("POST", "PUT", "PATCH")
_SAFE = ("GET", "HEAD")
_GONE = (errno.EPIPE, errno.ECONNRESET, errno.EPROTOTYPE, errno.ESHUTDOWN)
_PART = r"(?:[\w.~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*"
_ADDRESS = re.compile(
    r"(https?)://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?"
    rf"(/{_PART})?(\?(?:{_PART}|\?)*)?",
    re.ASCII,
)


class Address(NamedTuple):
    """An address in parts.

    Attributes:
        scheme: `http` or `https`.
        host: Without brackets.
        port: The port.
        target: What stands in the first line of a request.
        url: The whole.
    """

    scheme: str
    host: str
    port: int
    target: str
    url: str

    @property
    def authority(self) -> str:
        """What the `Host` header says."""
        host = self.host.rstrip(".")
        host = f"[{host}]" if ":" in host else host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def plainly(url: str) -> Address | None:
    """An address in parts, where it is written as it is sent; None where it has to be changed."""
    found = _ADDRESS.fullmatch(url)
    if found is None:
        return None
    scheme, host, port, path, query = found.groups()
    # bounded: five digits
    number = int(port) if port else PORTS[scheme]
    if number > _LARGEST_PORT or (path and "/." in path):
        return None
    target = (path or "/") + (query or "")
    return Address(scheme, host.strip("[]"), number, target, url)


class Pool:
    """Connections of one thread.

    Args:
        judge: Asked with the addresses that a connection goes to.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._kept: list[tuple[object, Link]] = []

    def request(
        self,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        content: Content,
        timeouts: tuple[float, float],
        trust: "SSLContext | None",
    ) -> Answer:
        """Send one request, and read the head of its answer.

        Args:
            method: The method.
            address: Where to.
            headers: Of the request, without `Host` and what its length is.
            content: The body.
            timeouts: Seconds to wait for a connection, and for each byte.
            trust: Whom to trust, where it is to be encrypted.

        Raises:
            OSError: There is no connection, or no answer.
        """
        key = (address.scheme, address.host, address.port, trust)
        head = _head(method, address, headers, content)
        while True:
            link = self._take(key) or self._connect(address, trust, timeouts[0])
            fresh, link.fresh = link.fresh, False
            try:
                if link.sock.gettimeout() != timeouts[1]:
                    link.sock.settimeout(timeouts[1])
                whole = _send(link.sock, head, content)
                return Answer(link, method, lambda done: self._keep(key, done), whole=whole)
            except BaseException as exc:
                link.close()
                gone = isinstance(exc, ConnectionError)
                if not gone or fresh or content or method not in _SAFE:
                    raise
                # the server had closed what was kept: another one is made

    def close(self) -> None:
        """Close idle connections; the next request makes new ones."""
        kept, self._kept = self._kept, []
        for _key, link in kept:
            link.close()

    def _take(self, key: object) -> Link | None:
        """A kept connection that still serves."""
        for at in range(len(self._kept) - 1, -1, -1):
            if self._kept[at][0] == key:
                link = self._kept.pop(at)[1]
                if link.is_idle:
                    return link
                link.close()
        return None

    def _keep(self, key: object, link: Link) -> None:
        self._kept.append((key, link))
        if len(self._kept) > _MOST_KEPT:
            self._kept.pop(0)[1].close()

    def _connect(self, address: Address, trust: "SSLContext | None", timeout_s: float) -> Link:
        sock = self._reach(address, timeout_s)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if trust is None:
                return Link(sock)
            # its modules take as long to load as those of all that is plain
            from modelrunner.registry.http.direct.tls import TlsSocket

            name = address.host.rstrip(".").partition("%")[0]
            return Link(TlsSocket(sock, trust, name))
        except TimeoutError as exc:
            sock.close()
            raise ConnectError(str(exc)) from exc
        except BaseException:
            sock.close()
            raise

    def _reach(self, address: Address, timeout_s: float) -> socket.socket:
        """A socket that is connected to an address of a host that may be connected to."""
        host = address.host
        family = socket.AF_UNSPEC if socket.has_ipv6 else socket.AF_INET
        try:
            answers = socket.getaddrinfo(host, address.port, family, socket.SOCK_STREAM)
        except UnicodeError as exc:
            raise ConnectError(f"cannot resolve {host}") from exc
        places: dict[str, Place] = {}
        for kind, _type, _protocol, _name, place in answers:
            places.setdefault(str(place[0]), Place(kind, place))
        self._judge(host, [ip for text in places if (ip := ip_of(text))])
        return reach(host, list(places.values()), timeout_s)


def _head(method: str, address: Address, headers: Mapping[str, str], content: Content) -> bytes:
    lines = [f"{method} {address.target} HTTP/1.1", f"Host: {address.authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if (content or method in _WITH_LENGTH) and "Content-Length" not in headers:
        lines.append(f"Content-Length: {len(content or b'')}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        raise ValueError("a header with more than one line")
    return f"{text}\r\n\r\n".encode("latin-1")


def _send(sock: socket.socket, head: bytes, content: Content) -> bool:
    """Send a request; whether all of it went.

    A server that has seen enough answers, and closes: its answer says more than the broken pipe.
    """
    try:
        whole = content if isinstance(content, bytes) else b""
        sock.sendall(head + whole)
        if whole or not content:
            return True
    except OSError as exc:
        if exc.errno not in _GONE:
            raise
        return False
    for part in content:
        try:
            if isinstance(part, (FileSlice, BytesSlice)):
                part.send(sock)
            else:
                sock.sendall(part)  # type: ignore[arg-type]
        except OSError as exc:
            if exc.errno not in _GONE:
                raise
            return False
    return True
