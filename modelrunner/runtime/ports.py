"""Ports on loopback: a free one, and whether one is taken."""

import socket

from modelrunner.errors import PortInUseError

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on now; somebody may take it before it is used."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(port: int) -> None:
    """Accept a port that can be listened on, and 0, which is any.

    Raises:
        PortInUseError: Somebody listens there, or we may not.
    """
    with socket.socket() as probe:
        # a server that was stopped a moment ago is in nobody's way
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except PermissionError as error:
            raise PortInUseError(
                f"port {port} on {LOOPBACK} is only for root",
                hint="choose a port above 1023, or 0 for any free one",
                port=port,
            ) from error
        except OSError as error:
            raise port_in_use(port) from error


def port_in_use(port: int) -> PortInUseError:
    """The error for a port that somebody else has."""
    return PortInUseError(
        f"port {port} on {LOOPBACK} is taken",
        hint="choose another port, or 0 for any free one",
        port=port,
    )
