"""What a server has logged, and the requests that it has answered, for Docker's clients."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from modelrunner.disk.inside import open_inside
from modelrunner.serve.apis.docker.models import is_set
from modelrunner.serve.apis.served import Server
from modelrunner.serve.models import Called
from modelrunner.text import sanitize
from modelrunner.wire import parse_object

_LOG_LIMIT = 1024 * 1024
"""Bytes of the end of a log that are sent."""

_REQUESTS_LIMIT = 8 * 1024 * 1024
_MOST_REQUESTS = 10
"""Requests of a model that are listed, the latest ones; as many as Docker Model Runner keeps."""

_TICK_S = 0.25
_FIRST_ERROR = 400


@dataclass(slots=True)
class _Tail:
    """A file that grows.

    Attributes:
        path: The file.
        limit: Bytes of its end that are read at first.
    """

    path: Path
    limit: int
    _place: int | None = field(default=None, init=False)

    def new(self) -> bytes:
        """Return the whole lines that were added since the last time; none without a file."""
        with suppress(OSError), open_inside(self.path, "read") as file:
            size = file.seek(0, 2)
            if self._place is None:
                self._place = max(0, size - self.limit)
                partial = self._place > 0
            else:
                partial = False
                if size < self._place:
                    # begun again
                    self._place = 0
            file.seek(self._place)
            data = file.read(size - self._place) or b""
            end = data.rfind(b"\n") + 1
            self._place += end
            return data[data.find(b"\n") + 1 : end] if partial else data[:end]
        return b""

    def text(self) -> bytes:
        """Return new lines for a terminal: a runtime prints what it likes."""
        return sanitize(self.new().decode(errors="replace")).encode()

    def entries(self) -> list[Mapping[str, Any]]:
        """Return the requests of new lines; a line that a full disk has cut is left out."""
        found: list[Mapping[str, Any]] = []
        for line in self.new().splitlines():
            with suppress(ValueError):
                found.append(parse_object(line))
        return found


@dataclass(frozen=True, slots=True)
class Logs:
    """`/logs` and `/engines/requests`."""

    server: Server

    async def logs(self, request: Request) -> Response:
        """Send the logs of the server and, unless `no-engines` is set, of its runtimes."""
        pool = self.server.pool
        tails = [_Tail(pool.logs.with_name(f"{pool.logs.name}.log"), _LOG_LIMIT)]
        if not is_set(request, "no-engines"):
            tails += [_Tail(pool.log_of(model), _LOG_LIMIT) for model in pool.served]
        lines = _grown(tails, follow=is_set(request, "follow"))
        return StreamingResponse(lines, media_type="text/plain; charset=utf-8")

    async def requests(self, request: Request) -> Response:
        """List the latest requests by model, or send new ones as events."""
        wanted = request.query_params.get("model")
        chosen = None if wanted is None else self._named(wanted)
        path = self.server.pool.requests.path
        tail = None if path is None else _Tail(path, _REQUESTS_LIMIT)
        if request.headers.get("accept") == "text/event-stream":
            existing = is_set(request, "include_existing")
            events = self._events(tail, chosen, existing=existing)
            return StreamingResponse(events, media_type="text/event-stream")
        entries = [] if tail is None else await asyncio.to_thread(tail.entries)
        return JSONResponse(self._by_model(entries, chosen))

    def _named(self, text: str) -> str:
        """The name that requests of a model are logged by; the text itself for an unknown one."""
        called = Called.parse(text)
        found = (model for model in self.server.pool.served if model.is_called(called))
        return next((model.name for model in found), text)

    def _by_model(
        self, entries: Iterable[Mapping[str, Any]], chosen: str | None
    ) -> list[Mapping[str, object]]:
        found: dict[str, list[Mapping[str, object]]] = {}
        for entry in entries:
            name = entry.get("model")
            if isinstance(name, str) and chosen in (None, name):
                found.setdefault(name, []).append(_record(entry))
        ids = {model.name: str(model.digest) for model in self.server.pool.served}
        return [
            _records(ids.get(name, name), records[-_MOST_REQUESTS:])
            for name, records in found.items()
        ]

    async def _events(
        self, tail: _Tail | None, chosen: str | None, *, existing: bool
    ) -> AsyncIterator[bytes]:
        before = [] if tail is None else await asyncio.to_thread(tail.entries)
        if existing:
            for event in self._each("existing_request", before, chosen):
                yield event
        yield b'event: connected\ndata: {"status": "connected"}\n\n'
        while tail is not None:
            await asyncio.sleep(_TICK_S)
            new = await asyncio.to_thread(tail.entries)
            for event in self._each("new_request", new, chosen):
                yield event

    def _each(
        self, kind: str, entries: Iterable[Mapping[str, Any]], chosen: str | None
    ) -> Iterable[bytes]:
        for entry in entries:
            for group in self._by_model([entry], chosen):
                yield f"event: {kind}\ndata: {json.dumps([group])}\n\n".encode()


async def _grown(tails: Sequence[_Tail], *, follow: bool) -> AsyncIterator[bytes]:
    while True:
        for tail in tails:
            if piece := await asyncio.to_thread(tail.text):
                yield piece
        if not follow:
            return
        await asyncio.sleep(_TICK_S)


def _records(model: str, records: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    return {"count": len(records), "model": model, "config": {}, "records": records}


def _record(entry: Mapping[str, Any]) -> Mapping[str, object]:
    """A request as Docker's API has it; without bodies where these are not recorded."""
    status, answer = entry.get("status"), entry.get("response", "")
    failed = isinstance(status, int) and status >= _FIRST_ERROR
    found = {
        "id": entry.get("id"),
        "model": entry.get("model"),
        "method": entry.get("method"),
        "url": entry.get("path"),
        "request": entry.get("request", ""),
        "timestamp": _seconds(str(entry.get("time", ""))),
        "status_code": status,
    }
    return {**found, "error" if failed else "response": answer}


def _seconds(moment: str) -> int:
    """Seconds since 1970."""
    try:
        # bounded: a time that this server has written
        return int(datetime.fromisoformat(moment).timestamp())
    except ValueError:
        return 0
