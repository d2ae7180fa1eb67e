"""Whether a place is there: one request without a body, and what its headers say."""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field

from modelrunner.oci import media_types
from modelrunner.registry.credentials import Credentials
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.exchange import Exchange, finishing
from modelrunner.registry.http.tokens import scope_of

_ACCEPT = ", ".join((*media_types.MANIFESTS, *media_types.INDEXES))


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a place answered.

    Attributes:
        status: 401 means that it is there, and wants a login for more.
        headers: By name in lower case.
        received: When they came, in seconds since the epoch by the local clock.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    received: float


def greet(
    endpoint: Endpoint,
    credentials: Credentials,
    manifest: tuple[str, str] | None = None,
    *,
    timeout_s: float,
) -> Greeting:
    """Sends a HEAD request for the registry itself, or for the manifest of a (repository, tag).

    Raises:
        TransferError: No answer in time, or none that may be followed.
        AccessError: The stored login is refused.
        ConfigError: The file of certificates is not there.
    """
    path, scope = "", ""
    if manifest is not None:
        repository, tag = manifest
        there = endpoint.path_of(repository)
        path, scope = f"{there}/manifests/{tag}", scope_of(there, "pull")
    exchange = Exchange(
        endpoint,
        lambda: credentials.find(endpoint.account, timeout_s),
        read_timeout_s=timeout_s,
    )
    url = f"{endpoint.base}/v2/{path}"
    if path:
        url = endpoint.with_namespace(url)
    with (
        closing(exchange),
        finishing(exchange.send("HEAD", url, scope=scope, headers={"Accept": _ACCEPT})) as answer,
    ):
        headers = {name.lower(): answer.headers[name] for name in answer.headers}
        return Greeting(answer.status, headers, time.time())
