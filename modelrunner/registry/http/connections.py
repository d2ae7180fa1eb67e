"""Connections to a registry and to where it sends us: kept open, and judged as they are made.

Whoever looks a name up to judge it and leaves the connection to look it up again connects to
whatever the name server says the second time (DNS rebinding): a name is looked up once, its
addresses are judged, and they are connected to.

What goes through a proxy goes by urllib3, all else by `direct`. Both
are asked for one request at a time: they follow nothing, try nothing again that was answered, and
keep no cookies (some registries take a client with cookies for a browser).
"""

import socket
from base64 import b64encode
from collections.abc import Mapping
from os import environ
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

from modelrunner.registry.http.direct.answer import Answer
from modelrunner.registry.http.direct.pool import PORTS, Address, Content, Judge, Pool, plainly
from modelrunner.registry.http.direct.trust import context_of
from modelrunner.registry.proxies import proxy_of
from modelrunner.registry.settings import ClientCertificate

if TYPE_CHECKING:
    from ssl import SSLContext

    from urllib3 import HTTPResponse, PoolManager
    from urllib3.util import Url

_ALWAYS = {"User-Agent": "modelrunner", "Accept": "*/*", "Connection": "keep-alive"}
# an encoding would make ranges and sizes mean something else
_ENCODING = {"Accept-Encoding": "identity"}


class Response:
    """The head of an answer; its body is read from `raw` as it comes.

    Attributes:
        raw: What reads the body.
        status: The HTTP status.
        headers: By name, in any case; what came several times is joined.
        url: What was asked for.
        sent: The headers of the request.
    """

    def __init__(self, raw: "Answer | HTTPResponse", url: str, sent: Mapping[str, str]) -> None:
        self.raw = raw
        self.status: int = raw.status
        self.headers: Mapping[str, str] = raw.headers
        self.url = url
        self.sent = sent

    @property
    def sock(self) -> socket.socket | None:
        """The socket that the body comes from; None where it has come, or nobody knows."""
        if isinstance(self.raw, Answer):
            return self.raw.link.sock
        sock: socket.socket | None = getattr(self.raw.connection, "sock", None)
        return sock

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
        self._ca_file = ca_file
        self._straight = Pool(judge)
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
            OSError, HTTPError: What sockets have, and urllib3 where there is a proxy.
        """
        sent = {**_ALWAYS, **_ENCODING, **headers}
        proxy = proxy_of(url)
        if proxy is not None:
            return self._by_proxy(proxy, method, url, sent, content, timeouts, client)
        address = plainly(url) or _as_sent(url)
        trust = None
        if address.scheme == "https":
            trust = context_of(self._ca_file or _named_bundle(), client)
        answer = self._straight.request(method, address, sent, content, timeouts, trust)
        return Response(answer, address.url, sent)

    def close(self) -> None:
        """Closes idle connections; the next request makes new ones."""
        self._straight.close()
        for manager in self._through.values():
            manager.clear()

    def _by_proxy(
        self,
        proxy: str,
        method: str,
        url: str,
        sent: Mapping[str, str],
        content: Content,
        timeouts: tuple[float, float],
        client: ClientCertificate,
    ) -> Response:
        # most commands go straight, and this takes as long to load as the bare interpreter
        from urllib3 import Timeout
        from urllib3.util import parse_url

        address = parse_url(url)
        manager = self._by(proxy)
        bundle = self._ca_file or _named_bundle()
        secure = "https" in (address.scheme, _scheme(proxy))
        pool = manager.connection_from_host(
            address.host,
            address.port,
            address.scheme,
            {"ssl_context": context_of(bundle, client)} if secure else None,
        )
        connect, read = timeouts
        raw = pool.urlopen(
            method,
            _target(address, proxy),
            # the slices of a file are not bytes to the types, and iterate over theirs
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

    def _by(self, proxy: str) -> "PoolManager":
        manager = self._through.get(proxy)
        if manager is None:
            secure = _scheme(proxy) == "https"
            trust = context_of(self._ca_file or _named_bundle()) if secure else None
            manager = self._through[proxy] = _through(proxy, trust)
        return manager


def _as_sent(url: str) -> Address:
    """An address in parts, with what cannot be sent as it is written encoded.

    Raises:
        LocationValueError: The address is invalid.
    """
    # few addresses need it
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    parts = parse_url(url)
    if parts.scheme not in PORTS or not parts.host:
        raise LocationParseError(url)
    port = parts.port or PORTS[parts.scheme]
    return Address(parts.scheme, parts.host.strip("[]"), port, parts.request_uri, parts.url)


def _named_bundle() -> str | None:
    return environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or None


def _scheme(proxy: str) -> str:
    return proxy.partition("://")[0].lower()


def _target(address: "Url", proxy: str) -> str:
    """What stands in the first line of a request: the whole address where a proxy reads it."""
    if address.scheme == "https" or _scheme(proxy).startswith("socks"):
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
