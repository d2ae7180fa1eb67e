"""A child that speaks with MCP servers: `python -m modelrunner.tools.mcp_bridge`.

The `mcp` package, its event loop, and whatever servers send stay in this process, whose memory is
limited. It reads JSON lines and writes JSON lines:

```
<- {"servers": [...], "starts_within_s": 60, "answers_within_s": 60}
-> {"servers": [{"tools": [...]}, {"problem": "..."}]}
<- {"id": 1, "server": 0, "tool": "add", "arguments": {}}
-> {"id": 1, "text": "3", "failed": false}
<- {"cancel": 1}
```
"""

import asyncio
import json
import os
import resource
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import IO, Any

_MEMORY_BYTES = 1024**3
_MOST_TOOLS = 256
_MOST_PAGES = 32
_LONGEST = 32 * 1024
_LONGEST_SCHEMA = 64 * 1024
_LONGEST_ABOUT = 4096
_SAID = 300
_CLOSED, _ENDED = "Connection closed", "the MCP server has ended"


class Bridge:
    """The servers, and the calls under way."""

    def __init__(self) -> None:
        self._sessions: dict[int, Any] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._end = asyncio.Event()
        self._starts_within_s = self._answers_within_s = 0.0

    async def run(self) -> None:
        """Start the servers, and answer until stdin ends."""
        lines = _Lines()
        await lines.listen()
        first = await lines.next()
        if first is None:
            return
        # what takes long to import is not the servers' time
        import_module("mcp")
        servers = first["servers"]
        self._starts_within_s = first["starts_within_s"]
        self._answers_within_s = first["answers_within_s"]
        ready: list[asyncio.Future[Any]] = [
            asyncio.get_running_loop().create_future() for _ in servers
        ]
        kept = [
            asyncio.create_task(self._keep(place, server, known))
            for place, (server, known) in enumerate(zip(servers, ready, strict=True))
        ]
        found = await asyncio.gather(*ready)
        with suppress(OSError, ValueError):
            # the servers have been started, and have limits of their own
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        _write({"servers": found})
        while (asked := await lines.next()) is not None:
            self._take(asked)
        self._end.set()
        for call in self._calls.values():
            call.cancel()
        await asyncio.gather(*kept, return_exceptions=True)

    def _take(self, asked: Mapping[str, Any]) -> None:
        if "cancel" in asked:
            call = self._calls.get(asked["cancel"])
            if call is not None:
                call.cancel()
            return
        number = asked["id"]
        task = asyncio.create_task(self._call(number, asked))
        self._calls[number] = task
        task.add_done_callback(lambda _task: self._calls.pop(number, None))

    async def _keep(
        self, place: int, server: Mapping[str, Any], ready: "asyncio.Future[Any]"
    ) -> None:
        """Hold the connection to one server, from its start to the end of all."""
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            try:
                async with asyncio.timeout(self._starts_within_s) as patience:
                    async with _connected(server, said) as session:
                        await session.initialize()
                        tools = await _tools(session)
                        self._sessions[place] = session
                        patience.reschedule(None)
                        ready.set_result({"tools": tools})
                        await self._end.wait()
            except TimeoutError:
                _fail(ready, f"no response for {self._starts_within_s:g} s")
            except Exception as exc:  # noqa: BLE001 - whatever a server does is its own fault
                _fail(ready, _reason(exc), said)
            finally:
                self._sessions.pop(place, None)

    async def _call(self, number: int, asked: Mapping[str, Any]) -> None:
        session = self._sessions.get(asked["server"])
        if session is None:
            _write({"id": number, "text": _ENDED, "failed": True})
            return
        try:
            async with asyncio.timeout(self._answers_within_s):
                result = await session.call_tool(asked["tool"], asked["arguments"])
            text, failed = _text(result), bool(getattr(result, "is_error", False))
        except TimeoutError:
            text, failed = f"timed out after {self._answers_within_s:g} s", True
        except Exception as exc:  # noqa: BLE001 - see above
            text, failed = _reason(exc), True
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}\n[cut: only {_LONGEST} characters of the result are kept]"
        _write({"id": number, "text": text, "failed": failed})


@asynccontextmanager
async def _connected(server: Mapping[str, Any], said: IO[str]) -> AsyncIterator[Any]:
    """Connect to one server; the block gets the session."""
    from mcp import ClientSession, StdioServerParameters

    if server["url"] is None:
        from mcp.client.stdio import stdio_client

        program, *arguments = server["command"]
        started = StdioServerParameters(
            command=program, args=arguments, env=server["environment"], cwd=server["directory"]
        )
        async with (
            stdio_client(started, said) as (reading, writing),
            ClientSession(reading, writing) as session,
        ):
            yield session
        return
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    async with (
        create_mcp_http_client(headers=server["headers"]) as client,
        streamable_http_client(server["url"], http_client=client) as (reading, writing),
        ClientSession(reading, writing) as session,
    ):
        yield session


async def _tools(session: Any) -> list[dict[str, object]]:  # noqa: ANN401 - the library's
    from mcp.types import PaginatedRequestParams

    found: list[dict[str, object]] = []
    cursor: str | None = None
    for _page in range(_MOST_PAGES):
        params = None if cursor is None else PaginatedRequestParams(cursor=cursor)
        page = await session.list_tools(params=params)
        for tool in page.tools:
            schema = tool.input_schema
            if len(json.dumps(schema)) <= _LONGEST_SCHEMA and len(found) < _MOST_TOOLS:
                about = (tool.description or tool.title or "")[:_LONGEST_ABOUT]
                found.append({"name": tool.name, "description": about, "parameters": schema})
        cursor = page.next_cursor
        if not cursor:
            break
    return found


def _text(result: Any) -> str:  # noqa: ANN401 - the library's
    """What a result says, as text; what is none is named."""
    parts = []
    for block in getattr(result, "content", None) or []:
        match block.type:
            case "text":
                parts.append(block.text)
            case "image" | "audio":
                parts.append(f"[{block.type}: {block.mime_type}, {len(block.data) * 3 // 4} bytes]")
            case "resource":
                text = getattr(block.resource, "text", None)
                parts.append(text if text is not None else f"[{block.resource.uri}]")
            case _:
                parts.append(f"[{getattr(block, 'uri', block.type)}]")
    structured = getattr(result, "structured_content", None)
    if not parts and structured is not None:
        parts.append(json.dumps(structured, ensure_ascii=False, default=str))
    return "\n".join(parts)


def _fail(ready: "asyncio.Future[Any]", reason: str, said: IO[str] | None = None) -> None:
    if ready.done():
        return
    last = ""
    if said is not None:
        said.seek(0)
        lines = said.read().strip().splitlines()
        last = f": {lines[-1][-_SAID:]}" if lines else ""
    ready.set_result({"problem": f"{reason}{last}"})


def _reason(exc: BaseException) -> str:
    """What went wrong, in a line: of a group of errors the first."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    said = " ".join(str(exc).split())[:_SAID] or type(exc).__name__
    return _ENDED if said == _CLOSED else said


def _write(value: object) -> None:
    sys.__stdout__.write(f"{json.dumps(value)}\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


class _Lines:
    """Lines of stdin, without a thread that waits for one for ever."""

    def __init__(self) -> None:
        self._reader = asyncio.StreamReader(limit=8 * 1024 * 1024)

    async def listen(self) -> None:
        """Begin to read."""
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self._reader), sys.stdin)

    async def next(self) -> Any:  # noqa: ANN401 - what our parent has written
        """Return the next value; None at the end."""
        line = await self._reader.readline()
        # trusted: our own parent's
        return json.loads(line) if line else None


if __name__ == "__main__":
    # what libraries print is not for our parent
    # outside: a device
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    asyncio.run(Bridge().run())
