"""Requests to a runtime's server, as a client sends them."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from modelrunner.runtime.base import Server


def asked(server: Server, method: str, path: str, body: object = None) -> Any:
    """The JSON that a server answers with."""
    url = urlsplit(server.base_url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    try:
        connection.request(
            method,
            path,
            None if body is None else json.dumps(body),
            {"Authorization": f"Bearer {server.api_key}", "Content-Type": "application/json"},
        )
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()
