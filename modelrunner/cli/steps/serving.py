"""What `serve` prints of a server: its address, its key, and who can reach it."""

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from modelrunner.cli.context import CommandEnd, Context
from modelrunner.net import http_url, ip_of, is_loopback, local_host, outward_address
from modelrunner.operations.serve import run
from modelrunner.operations.serve.run import ServeOrder
from modelrunner.serve.client.keys import ApiKey

OLLAMA_PORT = 11434


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is said when a server is there.

    Attributes:
        url: Where it is.
        pid: Its process.
        made_keys: The API keys that were made here: shown once and kept nowhere.
        ending: How it is ended.
    """

    url: str
    pid: int
    made_keys: Sequence[ApiKey]
    ending: str


def serve_here(
    context: Context, order: ServeOrder, listener: socket.socket, made_keys: Sequence[ApiKey]
) -> None:
    """Serve in the foreground, to the end."""
    shows = not (context.console.quiet or context.console.json)
    log = run.open_log(order, listener, sys.stderr if shows else None)
    url = run.url_of(order, listener)
    _announce(context, order, Announcement(url, os.getpid(), made_keys, "press Ctrl-C to stop"))
    ended_by = run.serve(order, listener, log)
    if ended_by is not None:
        raise CommandEnd(128 + ended_by)


def serve_detached(
    context: Context, order: ServeOrder, listener: socket.socket, made_keys: Sequence[ApiKey]
) -> None:
    """Serve in the background; return when the server answers."""
    url = run.url_of(order, listener)
    pid = run.serve_detached(order, listener)
    _announce(
        context, order, Announcement(url, pid, made_keys, "`modelrunner stop --all` stops it")
    )


def _announce(context: Context, order: ServeOrder, server: Announcement) -> None:
    """Where it is, what is open to whom, and how it is used."""
    console, names = context.console, [model.name for model in order.models]
    address = urlsplit(server.url)
    port = address.port or 0
    local = http_url(local_host(order.host), port, address.scheme)
    made = server.made_keys
    if console.json:
        # one line: whoever starts this reads it while the server goes on
        value = {
            "url": server.url,
            "openai_url": f"{local}/v1",
            "models": names,
            "pid": server.pid,
            "api_key": made[0].secret if made else None,
        }
        if any(key.name for key in made):
            value["api_keys"] = {key.name: key.secret for key in made}
        console.emit_line(value)
    else:
        console.print(server.url)
    console.flush()
    for key in () if console.json else made:
        # even with --quiet
        console.note(f"API key{f' of {key.name}' if key.name else ''}: {key.secret}")
    console.say(f"serving {', '.join(names) or 'no models yet'}; {server.ending}")
    shown = made[0].secret if made else "YOUR_KEY" if order.keys else "none"
    console.say(f"OPENAI_BASE_URL={local}/v1 OPENAI_API_KEY={shown}")
    note = ollama_note(local, port)
    if note is not None:
        console.say(note)
    outward = _outward(order.host)
    if outward is not None:
        others = http_url(outward, port, address.scheme)
        console.say(f"from other machines: OPENAI_BASE_URL={others}/v1")
    if not is_loopback(order.host):
        console.warn(
            f"anyone who can reach {server.url} and has the key can use {', '.join(names) or 'it'}"
        )
    elif order.hosts and not order.keys:
        shown = ", ".join(sorted(order.hosts))
        console.warn(
            f"anyone who can reach {shown} can use {', '.join(names) or 'it'} without a key: add"
            " `--api-key generated`"
        )


def ollama_note(url: str, port: int) -> str | None:
    """Return the line about clients of Ollama, where they look for a server by default."""
    if port != OLLAMA_PORT:
        return None
    return f"OLLAMA_HOST={url} is the default of Ollama's clients: they use it as it is"


def _outward(host: str) -> str | None:
    """The address by which other machines reach a server on all addresses."""
    address = ip_of(host)
    if address is None or not address.is_unspecified:
        return None
    return outward_address(address.version)
