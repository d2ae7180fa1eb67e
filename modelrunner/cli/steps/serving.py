"""What `serve` prints of a server: its address, its key, and who can reach it."""

import os
import socket
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

import typer

from modelrunner.cli.context import Context
from modelrunner.net import http_url, ip_of, is_loopback, local_host, outward_address
from modelrunner.operations.serve import run
from modelrunner.operations.serve.run import ServeOrder


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


def serve_here(
    context: Context, order: ServeOrder, listener: socket.socket, made_key: str | None
) -> None:
    """Serve in the foreground, to the end."""
    shows = not (context.console.quiet or context.console.json)
    log = run.open_log(order, listener, sys.stderr if shows else None)
    url = run.url_of(listener)
    _announce(context, order, Announcement(url, os.getpid(), made_key, "press Ctrl-C to stop"))
    ended_by = run.serve(order, listener, log)
    if ended_by is not None:
        raise typer.Exit(128 + ended_by)


def serve_detached(
    context: Context, order: ServeOrder, listener: socket.socket, made_key: str | None
) -> None:
    """Serve in the background; return when the server answers."""
    url = run.url_of(listener)
    pid = run.serve_detached(order, listener)
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
