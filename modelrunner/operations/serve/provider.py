"""Servers that Docker Compose starts and ends with a project, as a provider of a service.

What Compose asks of a provider: https://github.com/docker/compose/blob/main/docs/extension.md
"""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from modelrunner.disk.files import STATE_HINT, disk_errors, write_lightly
from modelrunner.disk.inside import read_inside
from modelrunner.errors import RuntimeFailedError, UsageError
from modelrunner.net import http_url, interface_address, ip_of, is_loopback
from modelrunner.operations.serve.keys import KEY_VARIABLE
from modelrunner.serve.process.control import end
from modelrunner.serve.process.records import Record, running
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_object

_BRIDGE = "docker0"
"""The interface of Docker Engine on Linux: its address is this machine for all containers."""

_DESKTOP = "host.docker.internal"
"""How containers of Docker Desktop call this machine's loopback."""

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")


def url_for_containers(url: str) -> str:
    """Return the address at which containers reach a server on this machine.

    Args:
        url: Where it listens.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = ip_of(host)
    if address is not None and address.is_unspecified:
        host = interface_address(_BRIDGE) or _DESKTOP
    elif is_loopback(host):
        host = _DESKTOP
    return http_url(host, parts.port or 0, parts.scheme)


@dataclass(frozen=True, slots=True)
class Provided:
    """A server that was started for a service.

    Attributes:
        url: Where it listens.
        arguments: What `serve` was started with.
        models: Its models.
        key: Its API key; empty where it has none.
    """

    url: str
    arguments: tuple[str, ...]
    models: tuple[str, ...]
    key: str = field(repr=False)

    def variables(self) -> Mapping[str, str]:
        """Return what Compose sets in the services that depend on this one, after its name."""
        url = f"{url_for_containers(self.url)}/engines/v1/"
        # a client without a key of its own sends something, which is not looked at
        key = self.key or "none"
        return {"MODEL": ",".join(self.models), "URL": url, "API_KEY": key}


@dataclass(frozen=True, slots=True)
class Provider:
    """Starts and ends the servers of services.

    Attributes:
        state: The directory of what is remembered of them.
        servers: The directory of the records of all servers.
        environ: The environment of servers.
    """

    state: Path
    servers: Path
    environ: Mapping[str, str] = field(repr=False)

    def up(
        self,
        project: str,
        service: str,
        models: Sequence[str],
        options: Sequence[str],
        on_line: Callable[[str], None],
        *,
        host: str | None = None,
    ) -> Provided:
        """Start the server of a service; one that runs and is the same stays.

        Args:
            project: The project.
            service: The service.
            models: What is served.
            options: More options of `serve`.
            on_line: Takes what the server prints meanwhile.
            host: The address to listen on; by default the one at which containers reach it.

        Raises:
            UsageError: A name cannot be used, or there are no models.
            RuntimeFailedError: It does not start.
        """
        if not models:
            raise UsageError(
                "no model given for the service", hint="name it: `options: {model: ai/smollm2}`"
            )
        path = self._path(project, service)
        address = host or interface_address(_BRIDGE) or "127.0.0.1"
        arguments = ("serve", *models, "--host", address, *options)
        known = self._known(path)
        if known is not None:
            record = self._record(known)
            if record is not None and known.arguments == arguments:
                return known
            if record is not None:
                end(record)
        key = "" if is_loopback(address) else secrets.token_urlsafe(32)
        found = self._start(arguments, tuple(models), key, on_line)
        with disk_errors(self.state, STATE_HINT):
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_lightly(path, json.dumps(asdict(found)).encode(), private=True)
        return found

    def down(self, project: str, service: str) -> bool:
        """End the server of a service; return whether it ran."""
        path = self._path(project, service)
        known = self._known(path)
        record = None if known is None else self._record(known)
        if record is not None:
            end(record)
        path.unlink(missing_ok=True)
        return record is not None

    def _start(
        self,
        arguments: tuple[str, ...],
        models: tuple[str, ...],
        key: str,
        on_line: Callable[[str], None],
    ) -> Provided:
        environ = {**os.environ, **self.environ}
        if key:
            environ[KEY_VARIABLE] = key
        with subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "modelrunner",
                *arguments,
                "--detach",
                "--progress",
                "plain",
            ],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            said = []
            for line in _lines(process):
                said.append(line)
                on_line(sanitize_line(line))
            url = process.stdout.readline().strip() if process.stdout is not None else ""
        if process.returncode or not url:
            raise _failure(said)
        return Provided(url, arguments, models, key)

    def _path(self, project: str, service: str) -> Path:
        for name in (project, service):
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"invalid name of a project or service: {name[:100]!r}",
                    hint="use letters, digits, dots, hyphens and underscores",
                )
        return self.state / f"{project}+{service}.json"

    def _known(self, path: Path) -> Provided | None:
        with suppress(FileNotFoundError, ValueError, TypeError, KeyError):
            value = parse_object(read_inside(path))
            value |= {name: tuple(value[name]) for name in ("arguments", "models")}
            return Provided(**value)
        return None

    def _record(self, known: Provided) -> Record | None:
        return next((each for each in running(self.servers) if each.url == known.url), None)


def _lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    if process.stderr is not None:
        yield from filter(None, (line.strip() for line in process.stderr))


def _failure(said: Sequence[str]) -> RuntimeFailedError:
    """The error that `serve` has printed."""
    message, hint = "the server does not start", "start it by hand: `modelrunner serve`"
    for line in said:
        kind, _, text = line.partition(": ")
        if kind == "error":
            message = text
        if kind == "hint":
            hint = text
    return RuntimeFailedError(sanitize_line(message), hint=sanitize_line(hint))
