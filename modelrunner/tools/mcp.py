"""Tools of MCP servers: started for a block, called one by one, all ended with it."""

import importlib.util
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, Any

from modelrunner.errors import UsageError
from modelrunner.system import installation
from modelrunner.text import sanitize_line
from modelrunner.tools.call import DEADLINE_S, MARK, kill_marked
from modelrunner.tools.mcp_file import McpServer
from modelrunner.tools.tool import Result, Tool
from modelrunner.wire import parse_json

_PROGRAM = (sys.executable, "-P", "-m", "modelrunner.tools.mcp_bridge")
STARTS_WITHIN_S = 60.0
"""Seconds in which a server has to list its tools: its program may be downloaded first."""

_LATER_S = 30.0
"""Seconds beyond a limit in which the child has to say so."""

_ENDS_WITHIN_S = 5.0
_CHUNK = 64 * 1024
_LONGEST_LINE = 32 * 1024 * 1024
_ODD = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_NAME = 64


def require_mcp() -> None:
    """Make sure that MCP servers can be spoken to.

    Raises:
        UsageError: The extra `mcp` is not installed.
    """
    if importlib.util.find_spec("mcp") is None:
        raise UsageError(
            "MCP servers need the Python module mcp", hint=f"`{installation.add('mcp')}`"
        )


@contextmanager
def mcp_tools(
    servers: Sequence[McpServer],
    taken: Collection[str] = (),
    *,
    starts_within_s: float = STARTS_WITHIN_S,
    answers_within_s: float = DEADLINE_S,
) -> Iterator[tuple[Tool, ...]]:
    """The block in which servers run, with their tools.

    Args:
        servers: The servers.
        taken: Names of other tools.
        starts_within_s: Seconds in which every server has to be ready.
        answers_within_s: Seconds in which a call has to be answered.

    Raises:
        UsageError: A server does not start, or offers no tools.
    """
    mark = secrets.token_hex(16)
    with subprocess.Popen(
        _PROGRAM,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # Ctrl-C is for us
        start_new_session=True,
        env={**os.environ, MARK: mark},
    ) as child:
        connection = _Connection(child, starts_within_s, answers_within_s)
        try:
            yield _started(connection, servers, taken, mark)
        finally:
            connection.end()
            kill_marked(mark)


def _started(
    connection: "_Connection", servers: Sequence[McpServer], taken: Collection[str], mark: str
) -> tuple[Tool, ...]:
    asked = [server.to_dict() for server in servers]
    for entry, server in zip(asked, servers, strict=True):
        entry["environment"] = {**server.environment, MARK: mark}
    match connection.start(asked):
        case {"servers": [*found]} if len(found) == len(servers):
            pass
        case _:
            raise UsageError(
                "the MCP servers did not start", hint="remove servers from the file one by one"
            )
    offered = []
    for place, (server, said) in enumerate(zip(servers, found, strict=True)):
        problem = said.get("problem")
        if problem is not None:
            raise UsageError(
                f"MCP server {server.name}: {sanitize_line(str(problem), 500)}",
                hint=f"try it alone: `{sanitize_line(' '.join(server.command), 200)}`"
                if server.command
                else f"check the address {sanitize_line(server.url or '', 200)} and its headers",
            )
        offered += [(place, server, tool) for tool in said["tools"]]
    if not offered:
        names = ", ".join(server.name for server in servers)
        raise UsageError(
            f"no tools: {names} offers none", hint="name another MCP server in the file"
        )
    return _named(connection, offered, taken)


def _named(
    connection: "_Connection",
    offered: Sequence[tuple[int, McpServer, Mapping[str, Any]]],
    taken: Collection[str],
) -> tuple[Tool, ...]:
    """Return the tools, by names that functions can have, each another one."""
    plain = [_usable(str(tool["name"])) for _, _, tool in offered]
    used = set(taken)
    tools = []
    for (place, server, tool), name in zip(offered, plain, strict=True):
        clashes = plain.count(name) > 1 or name in taken
        own = _usable(f"{server.name}_{name}") if clashes else name
        number = 2
        while own in used:
            own = f"{_usable(f'{server.name}_{name}')[: _LONGEST_NAME - 4]}_{number}"
            number += 1
        used.add(own)
        run = partial(connection.call, place, str(tool["name"]))
        about = str(tool["description"])
        tools.append(Tool(own, about, _schema(tool["parameters"]), run=run))
    return tuple(tools)


def _schema(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {"type": "object", "properties": {}}


def _usable(name: str) -> str:
    return _ODD.sub("_", name.strip())[:_LONGEST_NAME].strip("_") or "tool"


class _Connection:
    """Lines to and from the child that speaks with the servers."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", starts_within_s: float, answers_within_s: float
    ) -> None:
        self._child = child
        self._starts_within_s = starts_within_s
        self._answers_within_s = answers_within_s
        self._rest = bytearray()
        self._number = 0

    def start(self, servers: Sequence[Mapping[str, object]]) -> Any:  # noqa: ANN401 - see `receive`
        """Have the servers started; what the child says of them, None where it says nothing."""
        asked = {
            "servers": servers,
            "starts_within_s": self._starts_within_s,
            "answers_within_s": self._answers_within_s,
        }
        return self.receive(self._starts_within_s + _LATER_S) if self.send(asked) else None

    def send(self, value: Mapping[str, object]) -> bool:
        """Write a line; whether the child is there to read it."""
        pipe = self._pipe(self._child.stdin)
        try:
            pipe.write(f"{json.dumps(value)}\n".encode())
            pipe.flush()
        except (OSError, ValueError):
            return False
        return True

    def receive(self, within_s: float) -> Any:  # noqa: ANN401 - what the child has written
        """Return the next value; None where none comes in time, or the child has ended."""
        end = time.monotonic() + within_s
        handle = self._pipe(self._child.stdout).fileno()
        while (line := self._line()) is None:
            ready, _, _ = select.select([handle], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(handle, _CHUNK) if ready else b""
            self._rest += piece
            if not piece or len(self._rest) > _LONGEST_LINE:
                return None
        try:
            return parse_json(line)
        except ValueError:
            return None

    def call(self, server: int, tool: str, arguments: str) -> Result:
        """Return what a tool answers.

        Args:
            server: Which server has it.
            tool: What the server calls it.
            arguments: A JSON object.
        """
        self._number += 1
        number = self._number
        given = parse_json(arguments)
        asked = {"id": number, "server": server, "tool": tool, "arguments": given}
        if not self.send(asked):
            return Result.failed("the MCP server has ended")
        end = time.monotonic() + self._answers_within_s + _LATER_S
        try:
            while (answer := self.receive(max(0.0, end - time.monotonic()))) is not None:
                match answer:
                    case {"id": id_, "text": str(text), "failed": bool(failed)} if id_ == number:
                        return Result.failed(text) if failed else Result(text)
                    case _:
                        # of a call that was canceled
                        continue
        except KeyboardInterrupt:
            self.send({"cancel": number})
            raise
        ended = self._child.poll() is not None or time.monotonic() < end
        return Result.failed("the MCP server has ended" if ended else "timed out")

    def end(self) -> None:
        """End the child, and what it has started."""
        with suppress(OSError):
            self._pipe(self._child.stdin).close()
        try:
            self._child.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _line(self) -> bytes | None:
        at = self._rest.find(b"\n")
        if at < 0:
            return None
        line = bytes(self._rest[:at])
        del self._rest[: at + 1]
        return line

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        if pipe is None:
            raise ValueError("the child has no pipe")
        return pipe
