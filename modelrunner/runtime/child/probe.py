"""One small request to a server: enough to know whether it is there and what it says."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelrunner.errors import RuntimeFailedError
from modelrunner.frozen import frozen
from modelrunner.net import http_connection
from modelrunner.system.packages import certificates_advice
from modelrunner.wire import parse_json

if TYPE_CHECKING:
    from http.client import HTTPConnection

_MOST_BYTES = 4 * 1024 * 1024


@frozen
class Answer:
    """An HTTP status and the body, parsed where it is JSON."""

    status: int
    body: Any

    def number(self, *path: str) -> int | None:
        """The integer at a path of keys in the body; None where there is none."""
        value = self.body
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, int) else None


def get(
    url: str, *, api_key: str, timeout_s: float, fingerprint: str | None = None
) -> Answer | None:
    """Ask; None if there is no answer in time, or in HTTP.

    With a fingerprint, the server must show that certificate, and need not have another's trust.

    Raises:
        RuntimeFailedError: The server's certificate is not trusted.
    """
    return _request(connection_to(url, timeout_s, fingerprint), "GET", url, None, api_key)


def post(
    url: str,
    value: Mapping[str, object],
    *,
    api_key: str,
    timeout_s: float,
    fingerprint: str | None = None,
) -> Answer | None:
    """Post JSON; as `get`."""
    connection = connection_to(url, timeout_s, fingerprint)
    return _request(connection, "POST", url, json.dumps(value), api_key)


def connection_to(url: str, timeout_s: float, fingerprint: str | None) -> "HTTPConnection":
    """Return a connection to a server, not open yet, which accepts one certificate if given."""
    if fingerprint is None:
        return http_connection(url, timeout_s)
    # few servers have a certificate, and every command loads this module
    from modelrunner.runtime.child.pinned import PinnedConnection

    parts = urlsplit(url)
    return PinnedConnection(parts.hostname or "", parts.port, timeout_s, fingerprint)


def _request(
    connection: "HTTPConnection", method: str, url: str, body: str | None, api_key: str
) -> Answer | None:
    from http.client import HTTPException

    parts = urlsplit(url)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, parts.path or "/", body, headers)
        response = connection.getresponse()
        return Answer(response.status, _parsed(response.read(_MOST_BYTES)))
    except (OSError, HTTPException, ValueError, OverflowError) as exc:
        reason = getattr(exc, "verify_message", None)
        if reason is not None:
            raise RuntimeFailedError(
                f"{parts.scheme}://{parts.netloc}: certificate not trusted: {reason}",
                hint=certificates_advice(),
            ) from exc
        # a length or an address that is none ends in the last two
        return None
    finally:
        connection.close()


def _parsed(body: bytes) -> Any:  # noqa: ANN401 - it is whatever the server says
    try:
        return parse_json(body)
    except ValueError:
        return None
