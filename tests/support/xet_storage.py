"""Xet storage in small, over real HTTP: what the Hub's own client downloads files from.

The client itself makes what is stored, in its form for a directory (`local://`): xorbs, in which
chunks lie one after the other, and shards, which say what files are made of. This serves both as
the CAS API does: <https://huggingface.co/docs/xet/api>.

```
GET /v2/reconstructions/FILE      Range of the file    {"offset_into_first_range", "terms", "xorbs"}
GET /xorbs/XORB?signed=1          Range of the xorb    chunks, each a header of 8 bytes and content
```
"""

import json
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.hugging_face import XET_TOKEN

_STORES = """
import hf_xet, sys
config = hf_xet.XetConfig().with_config({"telemetry.enabled": False})
with hf_xet.XetSession(config).new_upload_commit(endpoint=f"local://{sys.argv[1]}") as commit:
    file = commit.start_upload_file(sys.argv[2])
print(file.result().xet_info.hash)
"""
_ENTRY = 48
_VERIFIED, _EXTENDED = 1 << 31, 1 << 30


@dataclass(frozen=True)
class Term:
    """Chunks of a xorb, from `first` to `end` (exclusive)."""

    xorb: str
    first: int
    end: int


@dataclass
class XetStorage:
    """The storage while it runs.

    Attributes:
        refuses: What answers with this status: `reconstructions` or `xorbs`.
        stalls: What xorbs wait for, after half of what is asked for.
        wrong: Whether other bytes are delivered, each chunk as long as it has to be.
    """

    folder: Path
    url: str = ""
    files: dict[str, list[Term]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    refuses: dict[str, int] = field(default_factory=dict)
    stalls: threading.Event | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    wrong: bool = False

    def __post_init__(self) -> None:
        """Read what the folder has of an earlier one."""
        for shard in self.folder.glob("cas/**/shards/*.mdb"):
            self.files |= _files_in(shard.read_bytes())

    def keep(self, content: bytes) -> str:
        """Store a file; return what it is called."""
        source = self.folder / "source"
        source.write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-c", _STORES, str(self.folder / "cas"), str(source)],
            check=True,
            capture_output=True,
            text=True,
            env={"HF_XET_CACHE": str(self.folder / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"},
        )
        self.__post_init__()
        return done.stdout.strip()

    def xorb(self, name: str) -> bytes:
        """A xorb as it is stored."""
        (path,) = self.folder.glob(f"cas/**/xorbs/default.{name}")
        return path.read_bytes()


def _name(raw: bytes) -> str:
    """A hash as it is written in addresses: four numbers of 64 bits."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def _files_in(shard: bytes) -> dict[str, list[Term]]:
    """What files are made of: the first section of a shard."""
    found: dict[str, list[Term]] = {}
    at = _ENTRY
    while shard[at : at + 32] != b"\xff" * 32:
        name = _name(shard[at : at + 32])
        flags, count = struct.unpack_from("<2I", shard, at + 32)
        at += _ENTRY
        terms = []
        for _ in range(count):
            first, end = struct.unpack_from("<2I", shard, at + 40)
            terms.append(Term(_name(shard[at : at + 32]), first, end))
            at += _ENTRY
        at += _ENTRY * (count * bool(flags & _VERIFIED) + bool(flags & _EXTENDED))
        found[name] = terms
    return found


def _chunks(xorb: bytes) -> list[tuple[int, int, int]]:
    """Where each chunk begins and ends in a xorb, and how many bytes it has unpacked."""
    found, at = [], 0
    while at < len(xorb) and xorb[at : at + 7] != b"XETBLOB":
        packed = int.from_bytes(xorb[at + 1 : at + 4], "little")
        unpacked = int.from_bytes(xorb[at + 5 : at + 8], "little")
        found.append((at, at + 8 + packed, unpacked))
        at += 8 + packed
    return found


def reconstruction(storage: XetStorage, file: str, start: int, stop: int) -> dict[str, object]:
    """What a part of a file is made of: whole chunks, the first of which may begin before it."""
    terms, xorbs, at, skip = [], {}, 0, None
    for term in storage.files[file]:
        chunks = _chunks(storage.xorb(term.xorb))
        wanted = []
        for index in range(term.first, term.end):
            size = chunks[index][2]
            if at < stop and at + size > start:
                wanted.append(index)
                skip = start - at if skip is None else skip
            at += size
        if not wanted:
            continue
        first, end = wanted[0], wanted[-1] + 1
        span = {"start": first, "end": end}
        length = sum(chunks[index][2] for index in wanted)
        terms.append({"hash": term.xorb, "unpacked_length": length, "range": span})
        entry = {
            "chunks": span,
            "bytes": {"start": chunks[first][0], "end": chunks[end - 1][1] - 1},
        }
        url = f"{storage.url}/xorbs/{term.xorb}?signed={first}"
        xorbs.setdefault(term.xorb, []).append({"url": url, "ranges": [entry]})
    return {"offset_into_first_range": skip or 0, "terms": terms, "xorbs": xorbs}


def _distorted(part: bytes) -> bytes:
    """Chunks with other content, those that are not compressed."""
    other = bytearray(part)
    for begin, end, _ in _chunks(part):
        if part[begin + 4] == 0:
            other[begin + 8 : end] = bytes(end - begin - 8)
    return bytes(other)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        # whoever was interrupted does not read to the end
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def xet_storage(folder: Path) -> Iterator[XetStorage]:
    """The block in which it runs."""
    folder.mkdir(exist_ok=True)
    storage = XetStorage(folder)
    server = _Server(("127.0.0.1", 0), _handler(storage))
    storage.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield storage
    finally:
        if storage.stalls is not None:
            storage.stalls.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(storage: XetStorage) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class in a function
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            storage.requests.append(f"GET {self.path}")
            kind, name = urlsplit(self.path).path.strip("/").removeprefix("v2/").split("/")
            asked = (self.headers["Range"] or "bytes=0-").removeprefix("bytes=")
            first, _, last = asked.partition("-")
            start, stop = int(first), int(last) + 1 if last else sys.maxsize
            if kind in storage.refuses:
                self._answer(storage.refuses[kind], b"")
            elif kind == "xorbs":
                self._xorb(storage.xorb(name)[start:stop])
            elif self.headers["Authorization"] != f"Bearer {XET_TOKEN}":
                self._answer(401, b"")
            elif name not in storage.files:
                self._answer(404, b"")
            else:
                self._answer(200, json.dumps(reconstruction(storage, name, start, stop)).encode())

        def do_POST(self) -> None:
            storage.requests.append(f"POST {self.path}")
            self._answer(200, b"{}")

        def _xorb(self, part: bytes) -> None:
            part = _distorted(part) if storage.wrong else part
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if storage.stalls is not None:
                half = len(part) // 2
                self.wfile.write(part[:half])
                storage.stalled.set()
                storage.stalls.wait(60)
                return
            self.wfile.write(part)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
