"""The plainest of clients: one request, one answer, nothing followed, nothing repeated."""

import base64
import contextlib
import http.client
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

WEIGHTS = b"GGUF" + (bytes(range(256)) * 40)[4:]


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.body)
        return document

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])


def ask(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """One request on a connection of its own; `If_Range=` becomes the header `If-Range`."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    with contextlib.closing(connection):
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, body, named)
        with connection.getresponse() as response:
            return Answer(response.status, response.headers, response.read())


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
