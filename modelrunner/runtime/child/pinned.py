"""Connections to a server whose certificate is known already, by a fingerprint."""

import hashlib
import ssl
from http.client import HTTPSConnection


class PinnedConnection(HTTPSConnection):
    """A connection that accepts one certificate, by its fingerprint, under any name.

    Servers on this machine are asked at loopback, for which their certificate need not be.
    """

    def __init__(self, host: str, port: int | None, timeout: float, fingerprint: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        super().__init__(host, port, timeout=timeout, context=context)
        self._fingerprint = fingerprint

    def connect(self) -> None:
        """Connect.

        Raises:
            OSError: The server has another certificate; nothing was sent to it.
        """
        super().connect()
        shown = self.sock.getpeercert(binary_form=True)
        if hashlib.sha256(shown or b"").hexdigest() != self._fingerprint:
            self.close()
            raise OSError("another certificate")
