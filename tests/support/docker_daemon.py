"""A real Docker daemon of the tests' own: its data, socket and bridge are nobody else's.

with docker_daemon(folder) as daemon:
    run(["docker", "ps"], env={"DOCKER_HOST": daemon.host})
"""

import http.client
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAMS = ("dockerd", "containerd", "runc", "ip")
_READY_S = 60
_GOODBYE_S = 30


@dataclass(frozen=True)
class DockerDaemon:
    """A running daemon."""

    socket: Path
    log: Path

    @property
    def host(self) -> str:
        """What `DOCKER_HOST` is to be."""
        return f"unix://{self.socket}"


def missing_for_docker() -> str | None:
    """Why no daemon can be started here; None where one can."""
    absent = [program for program in PROGRAMS if _find(program) is None]
    if absent:
        return f"needs {', '.join(absent)} on PATH, as Debian's docker.io and iproute2 bring them"
    if os.geteuid() != 0:
        return "a Docker daemon is started by root"
    return None


@contextmanager
def docker_daemon() -> Iterator[DockerDaemon]:
    """The block in which a daemon runs; what it started ends with it."""
    # a short path: the address of a socket has room for a hundred characters
    with (
        TemporaryDirectory(prefix="docker-", ignore_cleanup_errors=True) as name,
        _bridge() as (bridge, subnet),
    ):
        folder = Path(name)
        daemon = DockerDaemon(folder / "docker.sock", folder / "log")
        with daemon.log.open("wb") as log:
            process = subprocess.Popen(
                [
                    _find("dockerd") or "",
                    *("--host", daemon.host),
                    *("--data-root", str(folder / "data")),
                    *("--exec-root", str(folder / "exec")),
                    *("--pidfile", str(folder / "pid")),
                    *("--storage-driver", "vfs"),
                    "--iptables=false",
                    "--ip6tables=false",
                    *("--bridge", bridge),
                    *("--default-address-pool", f"base={subnet}.0/17,size=24"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": _search_path()},
            )
        try:
            _wait(process, daemon)
            yield daemon
            # a bridge of a network outlives its daemon
            subprocess.run(["docker", "-H", daemon.host, "network", "prune", "--force"], check=True)
        finally:
            process.terminate()
            try:
                process.wait(_GOODBYE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            # a container in the host's network leaves a mount of it behind
            for network in (folder / "exec" / "netns").glob("*"):
                subprocess.run(["umount", network], check=False, capture_output=True)


@contextmanager
def _bridge() -> Iterator[tuple[str, str]]:
    """A bridge with addresses that no other daemon gives out: its name, and its pool's start."""
    block = random.randrange(64, 250)
    name = f"br{os.getpid()}x{block}"[:15]
    _ip("link", "add", name, "type", "bridge")
    try:
        _ip("addr", "add", f"10.{block}.128.1/24", "dev", name)
        _ip("link", "set", name, "up")
        yield name, f"10.{block}.0"
    finally:
        _ip("link", "delete", name)


def _ip(*arguments: str) -> None:
    done = subprocess.run([_find("ip") or "", *arguments], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def _search_path() -> str:
    """PATH, and where Debian keeps what only root runs."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _find(program: str) -> str | None:
    return shutil.which(program, path=_search_path())


def _wait(process: "subprocess.Popen[bytes]", daemon: DockerDaemon) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"dockerd ended: {daemon.log.read_text()[-2000:]}")
        if _answers(daemon.socket):
            return
        time.sleep(0.05)
    raise TimeoutError(f"dockerd did not come up: {daemon.log.read_text()[-2000:]}")


def _answers(path: Path) -> bool:
    connection = http.client.HTTPConnection("docker", timeout=5)
    with suppress(OSError), socket.socket(socket.AF_UNIX) as unix:
        unix.connect(str(path))
        connection.sock = unix
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200
    return False
