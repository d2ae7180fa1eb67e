"""The process of a server: its port, its log, in the foreground or in the background.

What needs the libraries of the extra `serve` is imported in functions: without them, only what
serves must fail.
"""

import importlib.util
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from modelrunner.disk.files import STATE_HINT, disk_errors
from modelrunner.disk.inside import open_inside
from modelrunner.errors import PortInUseError, RuntimeFailedError, RuntimeUnavailableError
from modelrunner.operations.launch.builds import Builds
from modelrunner.runtime.base import Runtime
from modelrunner.serve.client.keys import ApiKeys
from modelrunner.serve.library import Library
from modelrunner.serve.models import Served
from modelrunner.serve.observability.request_log import RequestLog, request_log_of
from modelrunner.serve.process.background import (
    Lifeline,
    detach,
    end_with_parent,
    wait_for_end,
    wait_until_healthy,
)
from modelrunner.serve.process.certificate import Certificate
from modelrunner.serve.process.records import Record, record_name, recorded, running
from modelrunner.system import installation
from modelrunner.system.processes import process_start

# late imports: models are planned, and libraries looked for, without the gateway and what it loads
_MODULES = ("h11", "starlette", "uvicorn")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOrder:
    """What is served, where, and for whom.

    Attributes:
        models: The models.
        runtime: What runs them.
        host: The address to listen on.
        keys: What requests must carry, one of them; empty for nothing.
        origins: Web pages that may ask.
        hosts: Names by which a server on loopback may be asked, besides those of this machine.
        keep_alive: Seconds that a model stays loaded unused; None for ever.
        budget: Bytes of memory for all models together.
        gpus: Bytes of each GPU for all models together, by what identifies it.
        strict: Whether a model that needs more than the budget alone is refused: where one
            was set. One that needs more than was free at the start is tried alone.
        state: The directory for records and logs.
        builds: The builds that models worked with.
        library: The local store, where requests may read and change it.
        everything: Whether all models of the store are served, those that come later too.
        control_key: What requests carry that may change the store from anywhere; None for one that
            only this program knows.
        record_requests: Whether bodies of requests and answers are logged too.
        certificate: What the server shows to clients; None for plain HTTP.
    """

    models: Sequence[Served]
    runtime: Runtime
    host: str
    keys: ApiKeys
    origins: frozenset[str]
    hosts: frozenset[str]
    keep_alive: float | None
    budget: int | None
    strict: bool
    state: Path
    builds: Builds | None = None
    library: Library | None = None
    everything: bool = False
    control_key: str | None = field(default=None, repr=False)
    record_requests: bool = False
    certificate: Certificate | None = None
    gpus: tuple[tuple[str, int], ...] = ()

    @property
    def fingerprint(self) -> str | None:
        """What its certificate is known by."""
        return None if self.certificate is None else self.certificate.fingerprint


def require_libraries() -> None:
    """Looks for what the gateway is made of, before anything else is done.

    Raises:
        RuntimeUnavailableError: It is not installed.
    """
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise RuntimeUnavailableError(
            f"serving needs the Python module {missing[0]}", hint=f"`{installation.add('serve')}`"
        )


@contextmanager
def listening(state: Path, host: str, port: int) -> Iterator[socket.socket]:
    """Listen while the block runs, so that nothing is pulled for a port that is taken.

    Args:
        state: The directory of the records of servers.
        host: The address.
        port: The port; 0 for a free one.

    Raises:
        PortInUseError: The port is taken; if by a server of modelrunner, the hint stops it.
    """
    from modelrunner.serve.gateway import listen

    try:
        listener = listen(host, port)
    except PortInUseError as exc:
        ours = [each for each in running(state) if each.url.endswith(f":{port}")]
        if not ours:
            raise
        raise PortInUseError(
            f"port {port} is in use: modelrunner serves {', '.join(ours[0].models)} on it",
            hint="stop it with `modelrunner stop --all`, or use --port 0 for a free port",
            port=port,
        ) from exc
    with listener:
        yield listener


def url_of(order: ServeOrder, listener: socket.socket) -> str:
    """Return the address of a server."""
    from modelrunner.serve.gateway import url_of as found

    return found(listener, secure=order.certificate is not None)


def open_log(order: ServeOrder, listener: socket.socket, terminal: TextIO | None = None) -> Path:
    """Begin the log of a server in this process, and return its path.

    Args:
        order: What is served.
        listener: Where requests come from.
        terminal: Where loads, and what goes wrong, are shown too; None for nowhere.

    Raises:
        StoreAccessError, DiskFullError: The directory of logs cannot be written.
    """
    log = _new_log(order, listener)
    _log_to(log, terminal)
    return log


def serve_detached(order: ServeOrder, listener: socket.socket) -> int:
    """Serve in the background; return the process ID when the server answers.

    The listener is closed in this process.

    Raises:
        RuntimeFailedError: The server ended, or does not answer.
        StoreAccessError, DiskFullError: The directory of logs cannot be written.
    """
    log = _new_log(order, listener)

    def serve_there() -> int:
        _log_to(log, None)
        # a terminal that goes away is not this server's
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        serve(order, listener, log)
        return 0

    pid = detach(log, serve_there)
    url = url_of(order, listener)
    # or clients of a server that has ended would wait for us
    listener.close()
    wait_until_healthy(pid, url, log, order.fingerprint)
    return pid


@contextmanager
def serving_beside(order: ServeOrder, listener: socket.socket) -> Iterator[Lifeline]:
    """Serve in a process beside this one while the block runs.

    The server ends with this process, however that ends; where this process is killed, with the app
    that the lifeline names. The listener is closed in this process.

    Raises:
        RuntimeFailedError: The server ended, or does not answer.
        StoreAccessError, DiskFullError: The directory of logs cannot be written.
    """
    log = _new_log(order, listener)
    held, end = os.pipe()

    def serve_there() -> int:
        os.close(end)
        _log_to(log, None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        end_with_parent(held)
        serve(order, listener, log)
        return 0

    pid = detach(log, serve_there)
    os.close(held)
    url = url_of(order, listener)
    listener.close()
    try:
        wait_until_healthy(pid, url, log, order.fingerprint)
        yield Lifeline(end)
    finally:
        os.close(end)
        wait_for_end(pid)
    # its port is another one each time: what went well leaves nothing
    for path in log.parent.glob(f"{log.stem}[.-]*"):
        path.unlink(missing_ok=True)


def serve(order: ServeOrder, listener: socket.socket, log: Path) -> signal.Signals | None:
    """Serve to the end; return the signal that ended it, None where nothing was left to serve.

    Args:
        order: What is served.
        listener: Where requests come from.
        log: The log; the names of those of the runtimes begin with its own.

    Raises:
        StoreAccessError, DiskFullError: The state directory cannot be written.
    """
    from modelrunner.serve.client.access import AccessPolicy
    from modelrunner.serve.gateway import Gateway
    from modelrunner.serve.pool import ModelPool

    control_key = order.control_key or secrets.token_urlsafe(32)
    record = Record(
        name=name_of(order.host, listener),
        pid=os.getpid(),
        started=process_start(os.getpid()) or "",
        url=url_of(order, listener),
        control_key=control_key,
        models=tuple(model.name for model in order.models),
        fingerprint=order.fingerprint,
    )
    requests = RequestLog(request_log_of(log), bodies=order.record_requests)
    with disk_errors(order.state, STATE_HINT):
        requests.begin()
    pool = ModelPool(
        order.runtime,
        order.models,
        log.with_suffix(""),
        order.budget,
        order.keep_alive,
        strict=order.strict,
        history=None if order.builds is None else _History(order.builds, order.runtime),
        requests=requests,
        gpus=order.gpus,
    )
    policy = AccessPolicy(order.host, order.keys, control_key, order.origins, order.hosts)
    with recorded(order.state, record):
        gateway = Gateway(
            listener,
            pool,
            policy,
            certificate=order.certificate,
            library=order.library,
            everything=order.everything,
        )
        return gateway.run()


@dataclass(frozen=True, slots=True)
class _History:
    """Remembers with which build each model worked."""

    builds: Builds
    runtime: Runtime

    def ready(self, model: Served) -> None:
        if model.weights is not None:
            self.builds.note(model.weights, self.runtime)

    def explained(self, model: Served, error: RuntimeFailedError) -> RuntimeFailedError:
        if model.weights is None:
            return error
        return self.builds.explained(error, model.weights, model.name, self.runtime)


def name_of(host: str, listener: socket.socket) -> str:
    """What the files of a server are called by."""
    return record_name(host, listener.getsockname()[1])


def _new_log(order: ServeOrder, listener: socket.socket) -> Path:
    """Make an empty log for the gateway."""
    with disk_errors(order.state, STATE_HINT):
        order.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = order.state / f"{name_of(order.host, listener)}.log"
        log.unlink(missing_ok=True)
        open_inside(log, "new", private=True).close()
    return log


def _log_to(log: Path, terminal: TextIO | None) -> None:
    """Log everything to the file, and what a user should see to the terminal too."""
    file = logging.FileHandler(log, encoding="utf-8")
    written = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    written.converter = time.gmtime
    file.setFormatter(written)
    ours = logging.getLogger("modelrunner.serve")
    ours.setLevel(logging.INFO)
    ours.addHandler(file)
    web = logging.getLogger("uvicorn.error")
    web.setLevel(logging.WARNING)
    web.addHandler(file)
    web.propagate = False
    if terminal is not None:
        shown = logging.StreamHandler(terminal)
        shown.setFormatter(logging.Formatter("%(message)s"))
        shown.addFilter(_is_for_people)
        ours.addHandler(shown)


def _is_for_people(record: logging.LogRecord) -> bool:
    # requests are for the file
    return record.name.endswith((".pool", ".library")) or record.levelno > logging.INFO
