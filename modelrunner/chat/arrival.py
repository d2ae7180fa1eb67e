"""When to look at what has come of an answer.

A small model writes a token each few milliseconds. To be woken for each of them takes time from
the cores that compute the next one. So once there is an answer, what came between two looks is
taken together: a person sees no difference.
"""

import socket
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from modelrunner.chat.answer import Delta, Done

if TYPE_CHECKING:
    from http.client import HTTPResponse

LOOK_S = 0.04
"""Seconds between two looks: a little less often than a screen is drawn."""

_NOTHING = Delta("", "")
_END_OF_CHUNK = 2
"""Bytes of the line feed after a chunk."""


class Connection:
    """The connection that a reply comes by.

    Args:
        reply: The reply, whose body is being read.
        connected: Its socket.

    Attributes:
        shows: Whether it can be seen that more has come: what TLS has decrypted is in no buffer of
            the socket.
    """

    def __init__(self, reply: "HTTPResponse", connected: socket.socket) -> None:
        self._reply = reply
        self._socket = connected
        self.shows = type(connected) is socket.socket

    def has_more(self) -> bool:
        """Whether the next chunk has begun to come."""
        patience = self._socket.gettimeout()
        self._socket.settimeout(0)
        try:
            # the end of the last chunk may still be there
            there = len(self._reply.fp.peek(1)) > _END_OF_CHUNK
            return there or bool(self._socket.recv(1, socket.MSG_PEEK))
        except (OSError, ValueError):
            # nothing yet; or it has ended, which the next read says
            return False
        finally:
            self._socket.settimeout(patience)


class Arriving:
    """The chunks of an answer as they come, or, once `paced`, at most every `LOOK_S`.

    Args:
        chunks: Reads them; each waits for the next one.
        connection: What they come by.

    Attributes:
        paced: Whether to wait between two looks.
        more: Whether more has come than the chunk in hand.
    """

    def __init__(self, chunks: Iterable[bytes], connection: Connection) -> None:
        self._chunks = chunks
        self._connection = connection
        self.paced = False
        self.more = False

    def pace(self) -> None:
        """Wait between two looks from now on, if what has come can be seen."""
        self.paced = self._connection.shows

    def __iter__(self) -> Iterator[bytes]:
        looked = time.monotonic()
        for chunk in self._chunks:
            self.more = self.paced and self._connection.has_more()
            yield chunk
            if self.more or not self.paced:
                continue
            wait = looked + LOOK_S - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            looked = time.monotonic()


def together(pieces: Iterator[Delta | Done], arriving: Arriving) -> Iterator[Delta | Done]:
    """An answer without empty pieces; what has come when it is looked at is one piece."""
    held = _NOTHING
    try:
        for piece in pieces:
            if isinstance(piece, Done):
                if held != _NOTHING:
                    yield held
                yield piece
                return
            if held.text and piece.reasoning:
                yield held
                held = _NOTHING
            held = Delta(held.text + piece.text, held.reasoning + piece.reasoning)
            if held != _NOTHING and not arriving.more:
                yield held
                held = _NOTHING
                arriving.pace()
    except Exception:
        # what came before is the person's
        if held != _NOTHING:
            yield held
        raise
