"""What several transfers share: connections, bytes a second, and one end for all of them.

Each transfer asks again and again how many connections it may have. It gets a fair share, which
grows as others end; what it has, it keeps. A transfer on its own gets all there is.
"""

from _thread import allocate_lock

from modelrunner.transfer.limits import MOST_CONNECTIONS, Limits, Throttle


class CancelledError(Exception):
    """The transfers of this budget were called off: no failure of the one that hears it."""


class Budget:
    """One budget; all methods may be called from any thread.

    `sharers` is how many transfers there are to share it, those among them that have not begun.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.throttle = Throttle(self.limits.rate)
        self.sharers = 1
        self._most = min(self.limits.connections or MOST_CONNECTIONS, MOST_CONNECTIONS)
        self._held: dict[object, int] = {}
        self._lock = allocate_lock()
        self._cancelled = False

    def grant(self, transfer: object, wanted: int, held: int) -> int:
        """How many connections a transfer may have; 0 while others have them all.

        Args:
            transfer: Who asks.
            wanted: How many it could use.
            held: How many it has.
        """
        with self._lock:
            taken = sum(count for other, count in self._held.items() if other is not transfer)
            share = -(-self._most // max(1, self.sharers))
            granted = max(held, min(wanted, share, self._most - taken))
            self._held[transfer] = granted
            return granted

    def leave(self, transfer: object) -> None:
        """A transfer has ended: its connections are for the others."""
        with self._lock:
            self._held.pop(transfer, None)

    def cancel(self) -> None:
        """Calls all transfers off, now and from now on."""
        self._cancelled = True

    def check(self) -> None:
        """Says whether to go on.

        Raises:
            CancelledError: The transfers were called off.
        """
        if self._cancelled:
            raise CancelledError
