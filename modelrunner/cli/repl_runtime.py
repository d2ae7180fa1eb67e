"""A runtime that is started again when it dies amid a chat."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace

from modelrunner.chat.client import ChatClient
from modelrunner.runtime.server import Server

_DYING_S = 1.0
_TICK_S = 0.05

Start = Callable[[], AbstractContextManager[Server]]
"""Starts the model; the block is left when it is to end."""


class Restarter:
    """Starts the model again, and ends it with the block that `running` belongs to.

    Args:
        running: What ends with the chat.
        server: Who was talked to until now.
        client: How.
        start: How to start another.
    """

    def __init__(
        self, running: ExitStack, server: Server, client: ChatClient, start: Start
    ) -> None:
        self._running = running
        self._server = server
        self._client = client
        self._start = start

    def __call__(self) -> ChatClient | None:
        """Whom to talk to now; None if the runtime lives, or is not ours to start.

        Raises:
            RuntimeFailedError: It does not come up again.
        """
        if self._server.pid is None or not self._dead():
            return None
        self._server = self._running.enter_context(self._start())
        self._client = replace(
            self._client, base_url=self._server.base_url, api_key=self._server.api_key
        )
        return self._client

    def _dead(self) -> bool:
        """A connection may break a moment before the process is gone."""
        end = time.monotonic() + _DYING_S
        while self._server.alive():
            if time.monotonic() > end:
                return False
            time.sleep(_TICK_S)
        return True
