"""Restarts of a runtime that dies during a chat."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from modelrunner.chat.client import ChatClient
from modelrunner.frozen import replace
from modelrunner.runtime.base import Server

_DYING_S = 1.0
_TICK_S = 0.05

Start = Callable[[], AbstractContextManager[Server]]
"""Starts the model; leaving the block ends it."""


class Restarter:
    """Restarts the model, and ends it with the block of `running`.

    Args:
        running: The stack that ends with the chat.
        server: The server until now.
        client: Its client.
        start: Starts another server.
    """

    def __init__(
        self, running: ExitStack, server: Server, client: ChatClient, start: Start
    ) -> None:
        self._running = running
        self._server = server
        self._client = client
        self._start = start

    def __call__(self) -> ChatClient | None:
        """Return a client of a new server; None if the runtime lives, or is external.

        Raises:
            RuntimeFailedError: The restart fails.
        """
        if self._server.pid is None or not self._dead():
            return None
        self._server = self._running.enter_context(self._start())
        self._client = replace(
            self._client, base_url=self._server.base_url, api_key=self._server.api_key
        )
        return self._client

    def _dead(self) -> bool:
        """Whether the server has died: a connection can break a moment before its process ends."""
        end = time.monotonic() + _DYING_S
        while self._server.alive():
            if time.monotonic() > end:
                return False
            time.sleep(_TICK_S)
        return True
