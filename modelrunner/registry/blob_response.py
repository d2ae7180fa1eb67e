"""An answer to the request for a blob: a stream of its bytes, or the error that it stands for.

The same for everything that is spoken to over HTTP: a registry, and the Hugging Face Hub.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

from modelrunner.errors import (
    InterruptedTransferError,
    ModelRunnerError,
    PartRefusedError,
    RangesUnsupportedError,
)
from modelrunner.oci.descriptor import Descriptor
from modelrunner.registry.blob_body import breaker, reader, start_of
from modelrunner.registry.endpoint import Endpoint
from modelrunner.registry.guard import origin
from modelrunner.registry.responses import web_page
from modelrunner.registry.source import BlobStream

if TYPE_CHECKING:
    import requests

_NO_PARTS = (400, 403, 405, 406, 416, 501)
"""What servers answer that know no ranges, or not this one: they are asked for the whole."""

Part = tuple[int, int | None]
"""The first byte, and the one after the last; None for the end."""


def range_header(part: Part, size: int) -> dict[str, str]:
    """The header that asks for a part of so many bytes; none where that is all of them."""
    offset, stop = part
    if offset == 0 and (stop is None or stop >= size):
        return {}
    last = "" if stop is None else str(stop - 1)
    return {"Range": f"bytes={offset}-{last}"}


def blob_stream(
    response: "requests.Response",
    part: Part,
    descriptor: Descriptor,
    *,
    what: str,
    endpoint: Endpoint,
    refusal: Callable[[], ModelRunnerError],
) -> BlobStream:
    """The stream of an answer's body.

    Args:
        response: The answer, its body not read yet.
        part: What was asked for.
        descriptor: The blob.
        what: The blob, as people name it.
        endpoint: Who was asked; the answer may come from where that sent us.
        refusal: What another status than a good one means there.

    Raises:
        RangesUnsupportedError: It is another part than was asked for.
        InterruptedTransferError: The address has expired.
        SizeMismatchError: The whole has another size.
        ModelRunnerError: The refusal.
    """
    status = response.status_code
    home = origin(response.url) == origin(endpoint.base)
    in_part = "Range" in response.request.headers
    if status == HTTPStatus.FORBIDDEN and not home:
        # a signed address that has run out, for which the next try asks for a new one; or a server
        # that takes ranges for an attack
        host = origin(response.url)[1]
        kind = PartRefusedError if in_part else InterruptedTransferError
        raise kind(
            f"{what}: {host} returned HTTP 403",
            hint=f"{endpoint.label} stores its blobs there: run the command again in case the URL "
            "has expired, or check the proxy; a login does not help",
        )
    if in_part and status in _NO_PARTS:
        raise RangesUnsupportedError(f"{what}: {endpoint.label} does not send this byte range")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise refusal()
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise web_page(what, endpoint.label)
    return BlobStream(
        start_of(response, part, descriptor, what),
        reader(response, endpoint.label, descriptor.size),
        abort=breaker(response),
    )
