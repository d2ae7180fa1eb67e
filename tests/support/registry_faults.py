"""How a server misbehaves: each method arms one fault, all of them combine, each counts its hits.

A fault is armed with what it does and may be aimed: `on` a kind of request (`blob`, `manifest`,
`tags`, `token`, `upload`, `ping`, `any`), at a `digest`, a `method`, after letting `skip` requests
through, for a number of `times` (None: until `calm`). Faults of one sort are used up in the order
in which they were armed, so `answer(503, times=2); answer(429)` gives 503, 503, 429.

    fault = registry.cut_after(1000)
    ...
    assert fault.hits == 1
"""

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Unpack

from tests.support.registry_conduct import Conduct
from tests.support.registry_distortions import DISTORTIONS
from tests.support.registry_fault import Aim, Fault, HangUp
from tests.support.registry_messages import (
    Reply,
    Request,
    Span,
    UnsatisfiableRangeError,
    error,
    requested_span,
)

_CODES = {
    401: ("UNAUTHORIZED", "authentication required"),
    403: ("DENIED", "requested access to the resource is denied"),
    404: ("NAME_UNKNOWN", "repository name not known to registry"),
    429: ("TOOMANYREQUESTS", "You have reached your pull rate limit"),
}
_PAGE = b"<!DOCTYPE html><html><body><h1>Sign in to the network</h1></body></html>"


class Faults:
    """The misbehaviour of one server."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def calm(self) -> None:
        """Behave from now on."""
        with self._lock:
            self._faults.clear()

    # Before the request is looked at.

    def latency(self, seconds: float, times: int | None = None, **aim: Unpack[Aim]) -> Fault:
        """Let every answer wait."""
        return self._arm("latency", seconds, times, "any", aim)

    def reset(self, times: int | None = 1, **aim: Unpack[Aim]) -> Fault:
        """Answer with a TCP reset."""
        return self._arm("reset", None, times, "any", aim)

    def answer(
        self,
        status: int,
        times: int | None = 1,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        **aim: Unpack[Aim],
    ) -> Fault:
        """Answer with this status; if no body is given, with the specification's error."""
        reply = Reply(status, {}, body or b"")
        if body is None and status in _CODES:
            reply = error(status, *_CODES[status])
        reply.headers |= headers or {}
        return self._arm("answer", reply, times, "any", aim)

    def html(self, times: int | None = None, **aim: Unpack[Aim]) -> Fault:
        """Answer 200 and a web page, as captive portals and proxies do."""
        page = Reply(200, {"Content-Type": "text/html; charset=utf-8"}, _PAGE)
        return self._arm("answer", page, times, "any", aim)

    def redirect_to(
        self, url: str, times: int | None = None, status: int = 307, **aim: Unpack[Aim]
    ) -> Fault:
        """Send blob requests (or what `on` says) to this URL."""
        return self._arm("answer", Reply(status, {"Location": url}), times, "blob", aim)

    def redirect_loop(self, times: int | None = None, **aim: Unpack[Aim]) -> Fault:
        """Send blob requests round in circles, each time to another URL of the same path."""
        return self._arm("loop", None, times, "blob", aim)

    # What is served.

    def corrupt(self, digest: str, at: int | None = None, times: int | None = None) -> Fault:
        """Flip the bits of one byte of the content: the middle one unless `at` says which."""
        return self._arm("corrupt", at, times, "any", {"digest": digest, "method": "GET"})

    def truncate(self, digest: str, n: int, times: int | None = None) -> Fault:
        """Serve the content without its last `n` bytes, consistently."""
        return self._arm("truncate", n, times, "any", {"digest": digest})

    def endless(self, digest: str, times: int | None = None) -> Fault:
        """After the content, serve zeros until the client goes; no length is announced."""
        return self._arm("endless", None, times, "any", {"digest": digest, "method": "GET"})

    def gzip_encoding(self, digest: str, times: int | None = None) -> Fault:
        """Serve the content with `Content-Encoding: gzip`, asked for or not."""
        return self._arm("gzip", None, times, "any", {"digest": digest})

    def etag_changes(self, times: int | None = None) -> Fault:
        """Give every answer an ETag of its own."""
        return self._arm("etag", itertools.count(), times, "blob", {})

    def manifest_override(
        self,
        ref: str,
        content: bytes,
        content_type: str | None = None,
        *,
        claimed_digest: str | None = None,
        times: int | None = None,
    ) -> Fault:
        """Serve these bytes for a tag or digest; the digest header stays unless one is claimed."""
        value = (content, content_type, claimed_digest)
        return self._arm("override", value, times, "manifest", {"reference": ref})

    def huge_manifest(self, size: int, *, declared: bool = True, times: int | None = None) -> Fault:
        """Serve manifests of `size` bytes, held nowhere, `declared` as such or chunked."""
        return self._arm("huge", (size, declared), times, "manifest", {})

    # Ranges.

    def ignore_ranges(self, times: int | None = None, **aim: Unpack[Aim]) -> Fault:
        """Answer ranges with 200 and everything."""
        return self._arm("ignore_ranges", None, times, "any", aim)

    def shift_ranges(self, by: int = 1, times: int | None = None, **aim: Unpack[Aim]) -> Fault:
        """Answer another range than the one asked for, and say so in `Content-Range`."""
        return self._arm("shift_ranges", by, times, "any", aim)

    def omit_content_range(self, times: int | None = None, **aim: Unpack[Aim]) -> Fault:
        """Answer 206 without saying which range."""
        return self._arm("omit_content_range", None, times, "any", aim)

    def short_ranges(self, limit: int, times: int | None = None, **aim: Unpack[Aim]) -> Fault:
        """Answer at most `limit` bytes of a range, as a server may."""
        return self._arm("short_ranges", limit, times, "any", aim)

    # How a body travels.

    def cut_after(self, n_bytes: int, times: int | None = 1, **aim: Unpack[Aim]) -> Fault:
        """Close the connection after so many bytes of a body that has more."""
        return self._arm("cut", n_bytes, times, "blob", aim)

    def stall_after(
        self, n_bytes: int, seconds: float, times: int | None = 1, **aim: Unpack[Aim]
    ) -> Fault:
        """Stand still for a while after so many bytes of a body that has more."""
        return self._arm("stall", (n_bytes, seconds), times, "blob", aim)

    def slow(self, bytes_per_s: float, times: int | None = None, **aim: Unpack[Aim]) -> Fault:
        """Send every body at this rate."""
        return self._arm("slow", bytes_per_s, times, "any", aim)

    def close_connections(self, times: int | None = None, **aim: Unpack[Aim]) -> Fault:
        """End the connection after each answer, and say so."""
        return self._arm("close", None, times, "any", aim)

    # For the server.

    def hinder(self, request: Request) -> Reply | None:
        """What happens before the request is looked at: nothing, a wait, an answer.

        Raises:
            HangUp: The connection is to be reset.
        """
        if fault := self._take("latency", request):
            self.pause(fault.value)
        if self._take("reset", request):
            raise HangUp(reset=True)
        if fault := self._take("answer", request):
            reply: Reply = fault.value
            return replace(reply, headers=dict(reply.headers))
        if fault := self._take("loop", request):
            return Reply(307, {"Location": f"{request.path}?hop={fault.hits}"})
        return None

    def distort(self, request: Request, reply: Reply) -> Reply:
        """The reply as it is served, its range chosen."""
        if request.method not in {"GET", "HEAD"}:
            return reply
        for name, change in DISTORTIONS:
            serves = reply.status == 200 and reply.digest
            replaces = name in {"override", "huge"} and reply.status in {200, 404}
            if (serves or replaces) and (fault := self._take(name, request, reply.digest)):
                reply = change(request, reply, fault.value)
        if reply.ranges and reply.status == 200:
            reply.headers.setdefault("Accept-Ranges", "bytes")
            if request.method == "GET" and request.range:
                reply = self._ranged(request, reply)
        if self._take("close", request):
            reply.headers["Connection"] = "close"
        return reply

    def conduct(self, request: Request, reply: Reply) -> Conduct:
        """How the body of this reply travels."""
        conduct = Conduct(self.pause)
        length = reply.length
        if slow := self._take("slow", request, reply.digest):
            conduct.rate = slow.value

        def within(offset: int) -> bool:
            return length is None or offset < length

        if stall := self._take("stall", request, reply.digest, fits=lambda value: within(value[0])):
            conduct.stall, (conduct.stall_at, conduct.stall_seconds) = stall, stall.value
        if cut := self._take("cut", request, reply.digest, fits=within):
            conduct.cut, conduct.cut_at = cut, cut.value
        return conduct

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the server lives."""
        self._closing.wait(seconds)

    def _arm(self, name: str, value: object, times: int | None, on: str, aim: Aim) -> Fault:
        fault = Fault(name, value, times, **{"on": on, **aim})  # type: ignore[arg-type]
        with self._lock:
            self._faults.append(fault)
        return fault

    def _take(
        self,
        name: str,
        request: Request,
        digest: str = "",
        fits: Callable[[Any], bool] = lambda _: True,
    ) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.name != name or not fault.concerns(request, digest):
                    continue
                if not fits(fault.value):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.hits += 1
                if name not in {"cut", "stall"}:
                    fault.strike()
                return fault
        return None

    def _ranged(self, request: Request, reply: Reply) -> Reply:
        size = len(reply.content)
        try:
            span = requested_span(request, size, reply.headers.get("ETag", ""))
        except UnsatisfiableRangeError:
            if self._take("ignore_ranges", request, reply.digest):
                return reply
            return Reply(416, {"Content-Range": f"bytes */{size}"})
        if span is None or self._take("ignore_ranges", request, reply.digest):
            return reply
        span = self._bent(request, reply, span, size)
        part = memoryview(reply.content)[span.first : span.last + 1]
        headers = {**reply.headers, "Content-Range": span.of(size)}
        if self._take("omit_content_range", request, reply.digest):
            del headers["Content-Range"]
        return replace(reply, status=206, headers=headers, content=part)

    def _bent(self, request: Request, reply: Reply, span: Span, size: int) -> Span:
        if fault := self._take("short_ranges", request, reply.digest):
            span = span.shortened(fault.value)
        if fault := self._take("shift_ranges", request, reply.digest):
            span = span.shifted(fault.value, size)
        return span
