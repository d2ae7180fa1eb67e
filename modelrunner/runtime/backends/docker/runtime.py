"""The runtime `docker`: llama-server in a container that can do nothing else.

`python -m modelrunner.runtime.backends.docker.runtime` is the child's side: it takes a `LaunchSpec`
on stdin, makes the container, copies what it prints, says where it listens, and has it removed when
either of them ends, see `modelrunner.runtime.backends.docker.remover`. An image is never downloaded
unasked.
"""

import os
import queue
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from modelrunner.errors import RuntimeUnavailableError
from modelrunner.runtime.abilities import ABILITIES
from modelrunner.runtime.backends.docker import socket
from modelrunner.runtime.backends.docker import spec as container_spec
from modelrunner.runtime.backends.docker.remover import removed_at_the_end
from modelrunner.runtime.base import Availability, GivenGpus, LaunchSpec
from modelrunner.runtime.child import environment, handshake, ports, probe
from modelrunner.runtime.child.process import Command
from modelrunner.runtime.child.server import PROBE_S, AnnouncedServer
from modelrunner.system.processes import process_start
from modelrunner.wire import parse_count

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

LABEL = "modelrunner.owner"
"""Says which process a container belongs to: `PLACE PID`."""

_OK = 200
_TICK_S = 0.1
_NO_CODE = 1


class ContainerRuntime:
    """Serves with an image of llama.cpp.

    Args:
        environ: Our environment: where the daemon is.
        image: The image; empty for llama.cpp's own for the GPU that is here.
    """

    name = "docker"
    external = False
    abilities = ABILITIES[name]

    def __init__(self, environ: Mapping[str, str], image: str = "") -> None:
        self._environ = environ
        self._image = image or container_spec.IMAGES[container_spec.vendor()]

    def availability(self) -> Availability:
        """Whether the daemon of this machine answers and has the image."""
        try:
            self._daemon()
        except RuntimeUnavailableError as error:
            detail = error.message.removeprefix(f"{self.name}: ")
            return Availability(self.name, available=False, detail=detail, hint=error.hint)
        return Availability(self.name, available=True, detail=self._image)

    def version(self) -> str | None:
        """The image: what is in it shows when it is started."""
        return self._image if self.availability().available else None

    def build(self) -> None:
        """Return None: only the daemon knows which image would run."""
        return

    def image(self) -> None:
        """Return None: only the daemon knows which image would run."""
        return

    def device_query(self) -> GivenGpus:
        """Return which GPUs a container is given: only it could list them."""
        return container_spec.given(self._image)

    def start(self, spec: LaunchSpec, log: Path) -> AnnouncedServer:
        """Start a container with the spec's options."""
        daemon = self._daemon()
        ports.require_free(spec.port)
        command = Command(
            argv=(sys.executable, "-P", "-m", __name__, self._image, str(daemon)),
            environ=environment.for_child(self._environ),
            stdin=handshake.dump(spec),
            announces=True,
        )
        return AnnouncedServer(self.name, spec, command, log)

    def _daemon(self) -> Path:
        path = socket.find(self._environ)
        found = socket.status(path, "GET", f"/images/{self._image}/json")
        if found is None:
            raise RuntimeUnavailableError(
                f"{self.name}: no response from the daemon at {path}",
                hint=socket.START,
            )
        if found != _OK:
            raise RuntimeUnavailableError(
                f"{self.name}: image not found: {self._image}",
                hint=f"pull it with `docker pull {self._image}`",
            )
        return path


def main() -> NoReturn:
    """Serve what stdin says with the image and the daemon that are named."""
    import docker

    image, daemon = sys.argv[1:]
    spec = handshake.receive(sys.stdin)
    signal.signal(signal.SIGTERM, _leave)
    name = f"modelrunner-{secrets.token_hex(6)}"
    try:
        with (
            closing(docker.DockerClient(base_url=f"unix://{daemon}", version="auto")) as client,
            removed_at_the_end(Path(daemon), name),
        ):
            _sweep(client)
            sys.exit(_serve(client, image, name, spec))
    except docker.errors.DockerException as error:
        sys.exit(f"error: {_said(error)}")


def _serve(client: "DockerClient", image: str, name: str, spec: LaunchSpec) -> int:
    """The exit code of the container."""
    container = _create(client, image, name, spec)
    # before it starts: it is gone as soon as it ends
    printed = container.attach(stream=True, stdout=True, stderr=True)
    threading.Thread(target=_copy, args=(printed,), daemon=True).start()
    ended: queue.Queue[int] = queue.Queue()
    threading.Thread(target=_await_end, args=(container, ended), daemon=True).start()
    container.start()
    announced = False
    while ended.empty() and not announced:
        url = _url(container)
        health = probe.get(f"{url}/health", api_key="", timeout_s=PROBE_S) if url else None
        announced = health is not None and health.status == _OK
        if url and announced:
            handshake.announce(handshake.Announcement(url))
        else:
            time.sleep(_TICK_S)
    return ended.get()


def _create(client: "DockerClient", image: str, name: str, spec: LaunchSpec) -> "Container":
    from docker.types import DeviceRequest, LogConfig, Ulimit

    _make_network(client)
    on_cpu = spec.gpu_layers == 0 or spec.devices == ("none",)
    gpu = "none" if on_cpu else container_spec.vendor()
    rootless = "name=rootless" in client.info().get("SecurityOptions", ())
    options: dict[str, Any] = container_spec.options(spec, gpu, rootless=rootless)
    if gpu == "nvidia":
        options["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    if spec.memory_lock:
        options["ulimits"] = [Ulimit(name="memlock", soft=-1, hard=-1)]
    labels = {LABEL: f"{_place()} {os.getpid()} {process_start(os.getpid())}"}
    # what it prints is in our log, and not in the daemon's too
    return client.containers.create(
        image, name=name, labels=labels, log_config=LogConfig(type="none"), **options
    )


def _make_network(client: "DockerClient") -> None:
    from docker.errors import APIError

    if client.networks.list(names=[f"^{container_spec.NETWORK}$"]):
        return
    # somebody may be faster
    with suppress(APIError):
        client.networks.create(
            container_spec.NETWORK,
            driver="bridge",
            options=container_spec.NETWORK_OPTIONS,
            check_duplicate=True,
        )


def _sweep(client: "DockerClient") -> None:
    """Removes what a process left behind that is gone together with its remover."""
    from docker.errors import APIError

    for container in client.containers.list(all=True, filters={"label": LABEL}):
        place, _, owner = container.labels[LABEL].partition(" ")
        pid, _, start = owner.partition(" ")
        number = parse_count(pid)
        if place == _place() and number is not None and process_start(number) != start:
            with suppress(APIError):
                container.remove(force=True, v=True)


def _place() -> str:
    """Where a process ID means something: this machine, or the container that we are in."""
    import platform

    processes = Path("/proc/self/ns/pid")
    inside = str(processes.stat().st_ino) if processes.exists() else "all"
    return f"{platform.node()}/{inside}"


def _copy(printed: Iterator[bytes]) -> None:
    for chunk in printed:
        os.write(sys.stdout.fileno(), chunk)


def _await_end(container: "Container", ended: "queue.Queue[int]") -> None:
    from docker.errors import DockerException
    from requests import RequestException

    code = _NO_CODE
    with suppress(DockerException, RequestException):
        code = container.wait(condition="removed", timeout=None)["StatusCode"]
    ended.put(code)


def _url(container: "Container") -> str | None:
    from docker.errors import NotFound

    with suppress(NotFound):
        container.reload()
    published = container.ports.get(f"{container_spec.PORT}/tcp") or []
    return next((f"http://{ports.LOOPBACK}:{each['HostPort']}" for each in published), None)


def _said(error: Exception) -> str:
    """The daemon's reason; a port that is taken in the words that we look for."""
    text = str(getattr(error, "explanation", None) or error)
    if "address already in use" in text or "port is already allocated" in text:
        return f"couldn't bind the port: {text}"
    return text


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
