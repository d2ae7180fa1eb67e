"""Connections to an address that was judged: looked up once, judged, and connected to.

Whoever looks a name up to judge it and leaves the connection to look it up again connects to
whatever the name server says the second time (DNS rebinding).
"""

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from modelrunner.net import IPAddress, ip_of
from modelrunner.registry.http.file_body import FileSlice

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

Judge = Callable[[str, Sequence[IPAddress]], None]
"""Raises where a host may not be connected to at its addresses."""


def judged_adapter(judge: Judge) -> "HTTPAdapter":
    """Return an adapter whose direct connections ask `judge` with the addresses they go to.

    The host's name stays what is verified and sent. Connections through a proxy are not judged:
    the proxy looks the name up.
    """
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, super()._new_conn, judge)

        def send(self, data: Any) -> None:  # noqa: ANN401 - as http.client has it
            _send(self, data, super().send)

    class Encrypted(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return _connect(self, super()._new_conn, judge)

        def send(self, data: Any) -> None:  # noqa: ANN401 - as http.client has it
            _send(self, data, super().send)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}

    return Adapter()


def _send(connection: Any, data: Any, send: Callable[[Any], None]) -> None:  # noqa: ANN401
    if isinstance(data, FileSlice):
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
