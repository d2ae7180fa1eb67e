"""How content is spoiled before it is served: each makes a wrong reply of a right one."""

import gzip
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.support.registry_messages import SLICE, Reply, Request


def _overridden(
    request: Request, reply: Reply, value: tuple[bytes, str | None, str | None]
) -> Reply:
    content, content_type, claimed = value
    headers = dict(reply.headers) if reply.status == 200 else {}
    headers["Content-Type"] = content_type or headers.get("Content-Type", "application/json")
    if claimed is not None:
        headers["Docker-Content-Digest"] = claimed
    return Reply(200, headers, content, digest=reply.digest)


def _huge(request: Request, reply: Reply, value: tuple[int, bool]) -> Reply:
    size, declared = value
    start = b'{"schemaVersion":2,"annotations":{"padding":"'

    def tail() -> Iterator[bytes]:
        left = size - len(start)
        while left > 0:
            yield b"x" * min(left, SLICE)
            left -= SLICE

    headers = dict(reply.headers) if reply.status == 200 else {}
    headers.setdefault("Content-Type", "application/vnd.oci.image.manifest.v1+json")
    return Reply(200, headers, start, tail=tail(), declared=size if declared else None)


def _corrupted(request: Request, reply: Reply, at: int | None) -> Reply:
    content = bytearray(reply.content)
    if content:
        content[len(content) // 2 if at is None else at] ^= 0xFF
    return replace(reply, content=bytes(content))


def _truncated(request: Request, reply: Reply, n: int) -> Reply:
    return replace(reply, content=reply.content[: max(0, len(reply.content) - n)])


def _endless(request: Request, reply: Reply, value: None) -> Reply:
    return replace(reply, tail=itertools.repeat(bytes(SLICE)))


def _gzipped(request: Request, reply: Reply, value: None) -> Reply:
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    content = gzip.compress(bytes(reply.content), compresslevel=1, mtime=0)
    return replace(reply, headers=headers, content=content, ranges=False)


def _new_etag(request: Request, reply: Reply, counter: Iterator[int]) -> Reply:
    return replace(reply, headers={**reply.headers, "ETag": f'"version-{next(counter)}"'})


DISTORTIONS: tuple[tuple[str, Callable[[Request, Reply, Any], Reply]], ...] = (
    ("override", _overridden),
    ("huge", _huge),
    ("corrupt", _corrupted),
    ("truncate", _truncated),
    ("gzip", _gzipped),
    ("endless", _endless),
    ("etag", _new_etag),
)
