"""The file that names MCP servers, as other programs have it: `{"mcpServers": {NAME: {...}}}`.

```json
{"mcpServers": {
  "files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "."]},
  "docs": {"url": "https://docs.example.com/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}}}}
```

`${NAME}` and `${NAME:-default}` stand for variables of the environment. Only the person at the
keyboard names such a file: its commands are run.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelrunner.errors import UsageError
from modelrunner.text import json_fault, os_hint, os_reason, sanitize_line
from modelrunner.wire import parse_json

_LIMIT = 1024 * 1024
_MOST_SERVERS = 32
_KEYS = ("mcpServers", "servers")
_REMOTE = ("http", "streamable-http", "streamable_http", "streamableHttp")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_LIKE = 'write it like {"mcpServers": {"files": {"command": "npx", "args": ["..."]}}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """A server: a program that speaks over its pipes, or an address.

    Attributes:
        name: What the file calls it.
        command: The program and its arguments; empty for an address.
        environment: Variables for the program.
        directory: Where it is started; None for the current directory.
        url: The address; None for a program.
        headers: Headers of each request to the address.
    """

    name: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    directory: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def to_entry(self) -> dict[str, object]:
        """Return it as a file has it, with the values of variables."""
        if self.url is not None:
            return {"type": "http", "url": self.url, "headers": dict(self.headers)}
        entry: dict[str, object] = {
            "command": self.command[0],
            "args": list(self.command[1:]),
            "env": dict(self.environment),
        }
        return entry if self.directory is None else {**entry, "cwd": self.directory}

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "name": self.name,
            "command": list(self.command),
            "environment": dict(self.environment),
            "directory": self.directory,
            "url": self.url,
            "headers": dict(self.headers),
        }


def read_servers(file: Path, environ: Mapping[str, str]) -> tuple[McpServer, ...]:
    """Return the servers of a file.

    Args:
        file: The file.
        environ: What `${NAME}` stands for.

    Raises:
        UsageError: It is not there, or names none that can be used.
    """
    shown = sanitize_line(str(file))
    entries = _entries(_document(file, shown), shown)
    found = tuple(
        _server(sanitize_line(name, 100), entry, shown, environ)
        for name, entry in entries.items()
        if not (isinstance(entry, dict) and entry.get("disabled") is True)
    )
    if not found:
        raise UsageError(f"{shown}: no MCP servers found", hint=_LIKE)
    if len(found) > _MOST_SERVERS:
        raise UsageError(
            f"{shown}: {len(found)} MCP servers, the limit is {_MOST_SERVERS}",
            hint='remove some, or set "disabled": true',
        )
    return found


def _document(file: Path, shown: str) -> object:
    try:
        # outside: a file that a person names
        with file.open("rb") as opened:
            raw = opened.read(_LIMIT + 1)
    except FileNotFoundError as exc:
        raise UsageError(f"{shown}: file not found", hint=_LIKE) from exc
    except OSError as exc:
        raise UsageError(f"cannot read {shown}: {os_reason(exc)}", hint=os_hint(exc)) from exc
    if len(raw) > _LIMIT:
        raise UsageError(f"{shown} exceeds {_LIMIT} bytes", hint="remove servers from the file")
    try:
        return parse_json(raw)
    except ValueError as exc:
        raise UsageError(f"{shown}: {json_fault(exc)}", hint=_LIKE) from exc


def _entries(document: object, shown: str) -> Mapping[str, object]:
    for key in _KEYS:
        entries = document.get(key) if isinstance(document, dict) else None
        if isinstance(entries, dict):
            return entries
    raise UsageError(f"{shown}: `mcpServers` must be an object", hint=_LIKE)


def _server(name: str, entry: object, shown: str, environ: Mapping[str, str]) -> McpServer:
    where = f"{shown}: server {name}"
    if not isinstance(entry, dict):
        raise UsageError(f"{where} must be an object", hint=_LIKE)
    kind, url, command = entry.get("type"), entry.get("url"), entry.get("command")
    if kind == "sse":
        raise UsageError(
            f"{where}: the transport sse is not supported",
            hint="use the server's address for streamable HTTP, often /mcp instead of /sse",
        )
    if isinstance(url, str) and command is None and kind in (None, *_REMOTE):
        address = _filled(url, where, environ)
        if not address.startswith(("http://", "https://")):
            raise UsageError(
                f"{where}: invalid `url` {sanitize_line(address, 200)}",
                hint="write it like https://example.com/mcp",
            )
        headers = _texts(entry.get("headers"), "headers", where, environ)
        return McpServer(name=name, url=address, headers=headers)
    if isinstance(command, str) and command and url is None and kind in (None, "stdio"):
        arguments = entry.get("args", [])
        if not isinstance(arguments, list) or not all(isinstance(each, str) for each in arguments):
            raise UsageError(f"{where}: `args` must be a list of strings", hint=_LIKE)
        directory = entry.get("cwd")
        if directory is not None and not isinstance(directory, str):
            raise UsageError(f"{where}: `cwd` must be a string", hint=_LIKE)
        words = tuple(_filled(word, where, environ) for word in (command, *arguments))
        variables = _texts(entry.get("env"), "env", where, environ)
        return McpServer(name=name, command=words, environment=variables, directory=directory)
    raise UsageError(f"{where} needs either `command` or `url`, as text", hint=_LIKE)


def _texts(value: Any, key: str, where: str, environ: Mapping[str, str]) -> dict[str, str]:  # noqa: ANN401 - whatever JSON has
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise UsageError(f"{where}: `{key}` must be an object of strings", hint=_LIKE)
    return {name: _filled(text, where, environ) for name, text in value.items()}


def _filled(text: str, where: str, environ: Mapping[str, str]) -> str:
    """Return a text with the values of variables in it."""

    def value(match: re.Match[str]) -> str:
        found = environ.get(match[1]) or match[2]
        if found is None:
            raise UsageError(
                f"{where}: the variable {match[1]} is not set",
                hint=f"set it, or write ${{{match[1]}:-default}}",
            )
        return found

    return _VARIABLE.sub(value, text)
