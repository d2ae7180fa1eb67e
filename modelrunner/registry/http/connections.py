"""Connections to a registry and to where it sends us: kept open, and judged as they are made.

Whoever looks a name up to judge it and leaves the connection to look it up again connects to
whatever the name server says the second time (DNS rebinding): a name is looked up once, its
addresses are judged, and they are connected to.

urllib3 is asked for one request at a time: it follows nothing, tries nothing again, and keeps no
cookies (some registries take a client with cookies for a browser).
"""

import socket
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

from modelrunner.net import IPAddress, ip_of
from modelrunner.registry.http.file_body import BytesSlice, FileSlice
from modelrunner.registry.proxies import proxy_of
from modelrunner.registry.settings import ClientCertificate
from modelrunner.registry.source import Body
from modelrunner.registry.tls import TlsSocket

if TYPE_CHECKING:
    from ssl import SSLContext

    from urllib3 import HTTPResponse, PoolManager
    from urllib3.util import Url

Judge = Callable[[str, Sequence[IPAddress]], None]
"""Raises where a host may not be connected to at its addresses."""

Content = bytes | Body | None

_ALWAYS = {"User-Agent": "modelrunner", "Accept": "*/*", "Connection": "keep-alive"}
# an encoding would make ranges and sizes mean something else
_ENCODING = {"Accept-Encoding": "identity"}


class Response:
    """The head of an answer; its body is read from `raw` as it comes.

    Attributes:
        raw: What reads the body, as urllib3 has it.
        status: The HTTP status.
        headers: By name, in any case; what came several times is joined.
        url: What was asked for.
        sent: The headers of the request.
    """

    def __init__(self, raw: "HTTPResponse", url: str, sent: Mapping[str, str]) -> None:
        self.raw = raw
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self.url = url
        self.sent = sent

    def close(self) -> None:
        """Lets go of the connection, which serves again if the body was read to its end."""
        self.raw.close()
        self.raw.release_conn()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class Connections:
    """Connections of one thread, kept open for what is asked next.

    The host's name stays what is verified and sent. Connections through a proxy are not judged:
    the proxy looks the name up.

    Args:
        judge: Asked with the addresses that a direct connection goes to.
        ca_file: A bundle of certificates to trust; None for the usual ones.
    """

    def __init__(self, judge: Judge, ca_file: str | None) -> None:
        self._judge = judge
        self._ca_file = ca_file
        self._direct: PoolManager | None = None
        self._through: dict[str, PoolManager] = {}

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: Content,
        timeouts: tuple[float, float],
        client: ClientCertificate = None,
    ) -> Response:
        """Send one request, and read the head of its answer.

        Args:
            method: The method.
            url: The address.
            headers: Of the request, beside those that all have.
            content: The body.
            timeouts: Seconds to wait for a connection, and for each byte.
            client: The certificate to show.

        Raises:
            OSError, HTTPError: What urllib3 and the socket below have.
        """
        from urllib3 import Timeout
        from urllib3.util import parse_url

        address = parse_url(url)
        proxy = proxy_of(url)
        manager = self._to_all() if proxy is None else self._by(proxy)
        sent = {**_ALWAYS, **_ENCODING, **headers}
        connect, read = timeouts
        pool = manager.connection_from_host(
            address.host,
            address.port,
            address.scheme,
            self._trust(client, direct=proxy is None)
            if "https" in (address.scheme, _scheme(proxy))
            else None,
        )
        raw = pool.urlopen(
            method,
            _target(address, proxy),
            # the slices of a file are not bytes to the types, and sent by our connections
            body=content or None,  # type: ignore[arg-type]
            headers=sent,
            retries=False,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=connect, read=read),
            preload_content=False,
            decode_content=False,
        )
        return Response(raw, address.url, sent)  # type: ignore[arg-type]

    def close(self) -> None:
        """Closes idle connections; the next request makes new ones."""
        for manager in (self._direct, *self._through.values()):
            if manager is not None:
                manager.clear()

    def _to_all(self) -> "PoolManager":
        if self._direct is None:
            self._direct = _judged(self._judge)
        return self._direct

    def _by(self, proxy: str) -> "PoolManager":
        manager = self._through.get(proxy)
        if manager is None:
            secure = _scheme(proxy) == "https"
            trust = self._trust(None, direct=False)["ssl_context"] if secure else None
            manager = self._through[proxy] = _through(proxy, trust)
        return manager

    def _trust(self, client: ClientCertificate, *, direct: bool) -> dict[str, Any]:
        """Whom a connection trusts, and the certificate that it shows, as urllib3 takes them."""
        bundle = self._ca_file or _usual_bundle()
        if not Path(bundle).exists():
            raise OSError(
                f"Could not find a suitable TLS CA certificate bundle, invalid path: {bundle}"
            )
        if client is None:
            changed = Path(bundle).stat().st_mtime_ns
            return {"ssl_context": _context(bundle, changed, in_blocks=direct)}
        certificate, key = (client, None) if isinstance(client, str) else client
        for file in filter(None, (certificate, key)):
            if not Path(file).exists():
                raise OSError(f"Could not find the TLS certificate file, invalid path: {file}")
        trusted = "ca_cert_dir" if Path(bundle).is_dir() else "ca_certs"
        return {
            "cert_reqs": "CERT_REQUIRED",
            trusted: bundle,
            "cert_file": certificate,
            "key_file": key,
        }


def _usual_bundle() -> str:
    named = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
    if named:
        return named
    from certifi import where

    return where()


@lru_cache(maxsize=16)
def _context(bundle: str, _changed: int, *, in_blocks: bool) -> "SSLContext":
    """A context that trusts a bundle: read once, since that takes longer than a connection.

    Args:
        bundle: The file or directory.
        in_blocks: Whether its connections read from the system in blocks, see `TlsSocket`.
    """
    from ssl import CERT_REQUIRED

    from urllib3.exceptions import SSLError
    from urllib3.util.ssl_ import ALPN_PROTOCOLS, create_urllib3_context

    context = create_urllib3_context(cert_reqs=CERT_REQUIRED)
    folder = Path(bundle).is_dir()
    try:
        context.load_verify_locations(None if folder else bundle, bundle if folder else None)
    except OSError as exc:
        raise SSLError(exc) from exc
    # urllib3 says it again for each connection, while another thread may make one of it
    context.set_alpn_protocols(ALPN_PROTOCOLS)
    context.set_alpn_protocols = _said_already  # type: ignore[assignment, method-assign]
    if in_blocks:
        context.wrap_socket = partial(_in_blocks, context)  # type: ignore[assignment, method-assign]
    return context


def _in_blocks(
    context: "SSLContext", sock: socket.socket, server_hostname: str | None = None
) -> TlsSocket:
    return TlsSocket(sock, context, server_hostname)


def _said_already(_protocols: object) -> None:
    pass


def _scheme(proxy: str | None) -> str:
    return "" if proxy is None else proxy.partition("://")[0].lower()


def _target(address: "Url", proxy: str | None) -> str:
    """What stands in the first line of a request: the whole address where a proxy reads it."""
    if proxy is None or address.scheme == "https" or _scheme(proxy).startswith("socks"):
        return address.request_uri
    return address._replace(auth=None, fragment=None).url


def _through(proxy: str, trust: "SSLContext | None") -> "PoolManager":
    """Connections through a proxy.

    Raises:
        LocationValueError: Its address is invalid, or of an unknown kind.
    """
    from urllib3 import ProxyManager
    from urllib3.exceptions import LocationValueError
    from urllib3.util import parse_url

    whole = proxy if "://" in proxy else f"http://{proxy}"
    if not parse_url(whole).host:
        raise LocationValueError("a proxy without a host")
    user, password = _login(whole)
    if _scheme(whole).startswith("socks"):
        from importlib.util import find_spec

        if find_spec("socks") is None:
            # the import says so to the terminal, too
            raise LocationValueError("PySocks is not installed")
        from urllib3.contrib.socks import SOCKSProxyManager

        return SOCKSProxyManager(whole, username=user, password=password)
    headers = {}
    if user:
        pair = b64encode(f"{user}:{password}".encode("latin-1", "replace")).decode()
        headers["Proxy-Authorization"] = f"Basic {pair}"
    return ProxyManager(whole, proxy_headers=headers, proxy_ssl_context=trust)


def _login(proxy: str) -> tuple[str, str]:
    parts = urlsplit(proxy)
    if parts.username is None or parts.password is None:
        return "", ""
    return unquote(parts.username), unquote(parts.password)


def _judged(judge: Judge) -> "PoolManager":
    """Direct connections, which ask `judge` with the addresses that they go to."""
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, super()._new_conn, judge)

        def send(self, data: Any) -> None:  # noqa: ANN401 - as http.client has it
            _send(self, data, super().send)

    class Encrypted(HTTPSConnection):
        @property
        def is_connected(self) -> bool:
            # what comes after an answer may have been received with it
            spent = isinstance(self.sock, TlsSocket) and self.sock.is_spent
            return super().is_connected and not spent

        def _new_conn(self) -> socket.socket:
            return _connect(self, super()._new_conn, judge)

        def send(self, data: Any) -> None:  # noqa: ANN401 - as http.client has it
            _send(self, data, super().send)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    manager = PoolManager()
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}
    return manager


def _send(connection: Any, data: Any, send: Callable[[Any], None]) -> None:  # noqa: ANN401
    if isinstance(data, (FileSlice, BytesSlice)):
        data.send(connection.sock)
    else:
        send(data)


def _connect(
    connection: Any,  # noqa: ANN401 - urllib3's, with the private name of its host
    new: Callable[[], socket.socket],
    judge: Judge,
) -> socket.socket:
    from urllib3.exceptions import HTTPError, NewConnectionError
    from urllib3.util.connection import allowed_gai_family

    host = connection._dns_host  # noqa: SLF001 - `host` has lost a final dot
    try:
        answers = socket.getaddrinfo(
            host.strip("[]"), connection.port, allowed_gai_family(), socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as exc:
        raise NewConnectionError(connection, f"cannot resolve {host}") from exc
    found = list(dict.fromkeys(str(answer[4][0]) for answer in answers))
    judge(host, [address for text in found if (address := ip_of(text))])
    try:
        for text in found[:-1]:
            connection.host = text
            with suppress(OSError, HTTPError):
                return new()
        connection.host = found[-1]
        return new()
    finally:
        connection.host = host
