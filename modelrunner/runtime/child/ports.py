"""Ports on loopback: a free one, and whether one is taken."""

import errno
import socket

from modelrunner.errors import LaunchError, PortInUseError
from modelrunner.text import os_reason

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a port that is free now; it may be taken before it is used."""
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
                f"port {port} on {LOOPBACK} needs root",
                hint="choose a port above 1023, or 0 for any free one",
                port=port,
            ) from error
        except OSError as error:
            raise port_in_use(port) from error


def port_in_use(port: int) -> PortInUseError:
    """The error for a port that is taken."""
    return PortInUseError(
        f"port {port} on {LOOPBACK} is already in use",
        hint="choose another port, or 0 for any free one",
        port=port,
    )


def cannot_listen(host: str, port: int, error: OSError) -> LaunchError:
    """Return the error for an address that a server of ours cannot listen on."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return LaunchError(
            f"cannot listen on {place}: {host} is not an address of this machine",
            hint=(
                "use --host with 127.0.0.1, the address of a network interface, or 0.0.0.0 for all"
            ),
            host=host,
        )
    if isinstance(error, PermissionError):
        hint = "choose a port above 1023 with --port, or 0 for any free one"
    else:
        hint = "choose another port with --port, or 0 for any free one"
    return PortInUseError(f"cannot listen on {place}: {os_reason(error)}", hint=hint, port=port)
