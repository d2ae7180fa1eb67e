"""Where the Docker daemon of this machine listens, and short questions to it.

They are asked by hand: whether a container could be started is to be known without loading the
SDK, and a container is to be removed by a process that has nothing else to do.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_count

START = "start it with `sudo systemctl start docker`, or install Docker"
_UNIX = "unix://"
_USUAL = Path("/var/run/docker.sock")
_PATIENCE_S = 10.0
_STATUS_LINE = 64


def find(environ: Mapping[str, str]) -> Path:
    """The socket of the daemon.

    Raises:
        RuntimeUnavailableError: There is none, it is another machine's, or we may not use it.
    """
    path = _said(environ) or next((each for each in _usual(environ) if each.exists()), _USUAL)
    if not path.exists():
        raise RuntimeUnavailableError(
            f"docker: no daemon: {path} not found",
            hint=START,
        )
    if not os.access(path, os.R_OK | os.W_OK):
        raise RuntimeUnavailableError(
            f"docker: no permission to use {path}",
            hint="run `sudo usermod -aG docker $USER`, then log in again",
        )
    return path


def status(path: Path, method: str, target: str) -> int | None:
    """The HTTP status of one request to the daemon; None if there is no answer."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE_S)
            connection.connect(str(path))
            connection.sendall(f"{method} {target} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
            line = connection.makefile("rb").readline(_STATUS_LINE).split()
    except OSError:
        return None
    return parse_count(line[1].decode("latin-1")) if len(line) > 1 else None


def _said(environ: Mapping[str, str]) -> Path | None:
    address = environ.get("DOCKER_HOST", "")
    if not address:
        return None
    if not address.startswith(_UNIX):
        raise RuntimeUnavailableError(
            "docker: DOCKER_HOST is another machine, which does not have the models: "
            f"{sanitize_line(address, 80)}",
            hint="use the daemon of this machine: `unset DOCKER_HOST`",
        )
    return Path(address.removeprefix(_UNIX))


def _usual(environ: Mapping[str, str]) -> list[Path]:
    """Where daemons listen: root's, one without root, and Docker Desktop's."""
    places = [_USUAL]
    if environ.get("XDG_RUNTIME_DIR"):
        places.append(Path(environ["XDG_RUNTIME_DIR"], "docker.sock"))
    if environ.get("HOME"):
        places.append(Path(environ["HOME"], ".docker", "run", "docker.sock"))
    return places
