"""The gateway as a process: it listens, serves until it is ended, and leaves nothing behind.

A signal, or the end of the last model, ends it: no new requests, a moment for those under way, then
the runtimes. Whatever else ends it, the guards of the runtimes end those.
"""

import asyncio
import gc
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn

from modelrunner.net import http_url
from modelrunner.runtime.child.ports import cannot_listen
from modelrunner.serve.app import application
from modelrunner.serve.bodies.request import Bodies
from modelrunner.serve.changes import StoreChanges
from modelrunner.serve.client.access import AccessPolicy
from modelrunner.serve.client.arrival import HEADERS_LIMIT
from modelrunner.serve.client.connections import Connections
from modelrunner.serve.client.limits import Limits
from modelrunner.serve.library import Library
from modelrunner.serve.pool import ModelPool
from modelrunner.serve.process.certificate import Certificate

_GOODBYE_S = 3
_DESCRIPTORS = 4096
"""Open files that a full gateway may have: two for each request, and what runtimes need."""


@dataclass(slots=True)
class Gateway:
    """A server over a pool of models.

    Attributes:
        listener: Where it listens, see `listen`.
        pool: What it serves.
        policy: Who may ask.
        limits: How much of it clients may hold.
        library: The local store, where requests may read and change it.
        everything: Whether all models of the store are served, later ones too.
        certificate: What it shows to clients; None for plain HTTP.
        ended_by: The signal that ended it; None where nothing was left to serve.
    """

    listener: socket.socket
    pool: ModelPool
    policy: AccessPolicy
    limits: Limits = field(default_factory=Limits)
    library: Library | None = None
    everything: bool = False
    certificate: Certificate | None = None
    ended_by: signal.Signals | None = field(default=None, init=False)
    _server: "_Server | None" = field(default=None, init=False)

    def run(self) -> signal.Signals | None:
        """Serves to the end; the signal that brought it."""
        asyncio.run(self._serve())
        return self.ended_by

    def end(self) -> None:
        """Ends it, from whatever thread: it takes a moment."""
        if self._server is not None:
            self._server.should_exit = True

    async def _serve(self) -> None:
        _allow_descriptors()
        # what is there now stays: it is not to be looked through again while requests wait
        gc.collect()
        gc.freeze()
        bodies = Bodies(self.limits)
        store = None
        if self.library is not None:
            store = StoreChanges(self.library, self.pool, self.everything)
        self._server = _Server(
            uvicorn.Config(
                application(self.pool, self.policy, self.end, bodies, store),
                # called like the class that it makes connections of
                http=cast("Any", Connections(self.limits, self.certificate)),
                h11_max_incomplete_event_size=HEADERS_LIMIT,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=cast("Any", self.limits.idle_s),
                timeout_graceful_shutdown=_GOODBYE_S,
            )
        )
        if threading.current_thread() is threading.main_thread():
            self._listen_to_signals(self._server)
        try:
            await self._server.serve([self.listener])
        finally:
            if store is not None:
                await store.close()
            await asyncio.gather(self.pool.close(), bodies.parser.close())

    def _listen_to_signals(self, server: "_Server") -> None:
        loop = asyncio.get_running_loop()

        def on_signal(number: signal.Signals) -> None:
            # twice means now
            server.force_exit = server.should_exit
            server.should_exit = True
            self.ended_by = number

        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # `nohup` has said that the end of the terminal is no reason
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, on_signal, number)


class _Server(uvicorn.Server):
    """A server whose signals are ours."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def _allow_descriptors() -> None:
    """Allow as many open files as a full gateway needs, where the system lets us."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        PortInUseError: Another program listens there, or we may not.
        LaunchError: It is not an address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    # a port that a server has just left can be taken at once; one in use cannot
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as exc:
        listener.close()
        raise cannot_listen(host, port, exc) from exc
    return listener


def url_of(listener: socket.socket, *, secure: bool = False) -> str:
    """The address of a socket that listens."""
    host, port = listener.getsockname()[:2]
    return http_url(host, port, "https" if secure else "http")
