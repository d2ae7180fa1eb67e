"""How much of the gateway one client may hold, and how long: what nobody can use up for others."""

from collections import Counter
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from modelrunner.serve.client.access import OPEN
from modelrunner.serve.client.errors import RefusalError, refuse
from modelrunner.serve.process.records import CONTROL


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds, and counts.

    Attributes:
        headers_s: From the start of a connection, or the first byte of a later request, to the end
            of the headers; also for what is left of a body after an early answer.
        idle_s: For which a connection stays open between requests.
        silence_s: Between two pieces of a body.
        body_s: For a whole body.
        body: Bytes that each body may have whatever others have: large ones leave small ones room.
        bodies: Bytes of all bodies together, of each what it has beyond that.
        waiting: Connections without a request; of more, the oldest is closed.
        connections: All connections.
        requests: Requests that are answered at a time, waiting for a model included.
        requests_of_peer: The same of one address.
    """

    headers_s: float = 10.0
    idle_s: float = 75.0
    silence_s: float = 30.0
    body_s: float = 600.0
    body: int = 256 * 1024
    bodies: int = 256 * 1024 * 1024
    waiting: int = 256
    connections: int = 1024
    requests: int = 512
    requests_of_peer: int = 256


@dataclass(frozen=True, slots=True)
class Limited:
    """The application for as many requests at a time as it can bear.

    Health is answered however many there are, or a supervisor would end a server that is only busy.
    """

    app: ASGIApp
    limits: Limits
    peers: "Counter[str]" = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        path: str = scope["path"]
        if path in OPEN or path.startswith(CONTROL):
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        peer = client[0] if client else ""
        refusal = self._refusal(peer)
        if refusal is not None:
            await refuse(scope, send, refusal)
            return
        self.peers[peer] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.peers[peer] -= 1
            if not self.peers[peer]:
                del self.peers[peer]

    def _refusal(self, peer: str) -> RefusalError | None:
        if self.peers.total() >= self.limits.requests:
            what = f"too many requests: the server is already processing {self.limits.requests}"
        elif self.peers[peer] >= self.limits.requests_of_peer:
            what = (
                "too many requests: the server is already processing "
                f"{self.limits.requests_of_peer} of {peer}"
            )
        else:
            return None
        message = f"{what}: try again in a few seconds"
        return RefusalError(503, message, "overloaded", [(b"retry-after", b"5")])
