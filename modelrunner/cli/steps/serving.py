"""A server in front of people: where it is and who may ask, in the foreground and behind it."""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import typer

from modelrunner.cli.context import Context
from modelrunner.disk.files import STATE_HINT, disk_errors
from modelrunner.disk.inside import open_inside
from modelrunner.errors import PortInUseError
from modelrunner.net import http_url, ip_of, is_loopback, local_host, outward_address
from modelrunner.operations.serve import ServeOrder, name_of, serve
from modelrunner.serve.process.records import running


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is said when a server is there.

    Attributes:
        url: Where it is.
        pid: Its process.
        made_key: The API key, if it was made here: shown once and kept nowhere.
        ending: How it is ended.
    """

    url: str
    pid: int
    made_key: str | None
    ending: str


@contextmanager
def listening(context: Context, host: str, port: int) -> Iterator[socket.socket]:
    """The block with a socket, before anything is pulled for it.

    Raises:
        PortInUseError: Somebody listens there; if it is one of our servers, what to do.
    """
    # it brings the web server, which `--help` does without: here and below
    from modelrunner.serve.gateway import listen

    try:
        listener = listen(host, port)
    except PortInUseError as exc:
        ours = [each for each in running(context.settings.servers) if each.url.endswith(f":{port}")]
        if not ours:
            raise
        raise PortInUseError(
            f"port {port} is in use: modelrunner serves {', '.join(ours[0].models)} on it",
            hint="stop it with `modelrunner stop --all`, or use --port 0 for a free port",
            port=port,
        ) from exc
    with listener:
        yield listener


def serve_here(
    context: Context, order: ServeOrder, listener: socket.socket, made_key: str | None
) -> None:
    """Serves in the foreground, to the end."""
    from modelrunner.serve.gateway import url_of

    log = _log_file(order, listener)
    shows = not (context.console.quiet or context.console.json)
    _log_to(log, sys.stderr if shows else None)
    _announce(
        context,
        order,
        Announcement(url_of(listener), os.getpid(), made_key, "press Ctrl-C to stop"),
    )
    ended_by = serve(order, listener, log.with_suffix(""))
    if ended_by is not None:
        raise typer.Exit(128 + ended_by)


def serve_detached(
    context: Context, order: ServeOrder, listener: socket.socket, made_key: str | None
) -> None:
    """Serves in the background; returns when it answers.

    Raises:
        RuntimeFailedError: It does not.
    """
    from modelrunner.serve.gateway import url_of
    from modelrunner.serve.process.background import detach, wait_until_healthy

    log = _log_file(order, listener)

    def serve_there() -> int:
        _log_to(log, None)
        # a terminal that goes away is not this server's
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        serve(order, listener, log.with_suffix(""))
        return 0

    pid = detach(log, serve_there)
    url = url_of(listener)
    # or clients of a server that has ended would wait for us
    listener.close()
    wait_until_healthy(pid, url, log)
    _announce(context, order, Announcement(url, pid, made_key, "`modelrunner stop --all` stops it"))


def _announce(context: Context, order: ServeOrder, server: Announcement) -> None:
    """Where it is, what is open to whom, and how it is used."""
    console, names = context.console, [model.name for model in order.models]
    port = urlsplit(server.url).port or 0
    local = http_url(local_host(order.host), port)
    if console.json:
        # one line: whoever starts this reads it while the server goes on
        value = {
            "url": server.url,
            "openai_url": f"{local}/v1",
            "models": names,
            "pid": server.pid,
            "api_key": server.made_key,
        }
        console.emit_line(value)
    else:
        console.print(server.url)
    console.flush()
    if server.made_key is not None and not console.json:
        # even with --quiet
        console.note(f"API key: {server.made_key}")
    console.say(f"serving {', '.join(names)}; {server.ending}")
    key = server.made_key or ("YOUR_KEY" if order.api_key else "none")
    console.say(f"OPENAI_BASE_URL={local}/v1 OPENAI_API_KEY={key}")
    outward = _outward(order.host)
    if outward is not None:
        console.say(f"from other machines: OPENAI_BASE_URL={http_url(outward, port)}/v1")
    if not is_loopback(order.host):
        console.warn(
            f"anyone who can reach {server.url} and has the key can use {', '.join(names)}"
        )
    elif order.hosts and order.api_key is None:
        shown = ", ".join(sorted(order.hosts))
        console.warn(
            f"anyone who can reach {shown} can use {', '.join(names)} without a key: add"
            " `--api-key generated`"
        )


def _outward(host: str) -> str | None:
    """The address by which other machines reach a server on all addresses."""
    address = ip_of(host)
    if address is None or not address.is_unspecified:
        return None
    return outward_address(address.version)


def _log_file(order: ServeOrder, listener: socket.socket) -> Path:
    """The gateway's own log, empty; those of the runtimes are called by its name too."""
    with disk_errors(order.state, STATE_HINT):
        order.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = order.state / f"{name_of(order.host, listener)}.log"
        log.unlink(missing_ok=True)
        open_inside(log, "new", private=True).close()
    return log


def _log_to(log: Path, terminal: TextIO | None) -> None:
    """What happens goes to the file; what people should see to the terminal too."""
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
    return record.name.endswith(".pool") or record.levelno > logging.INFO
