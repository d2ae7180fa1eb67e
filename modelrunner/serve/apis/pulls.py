"""A pull as the lines of an answer, whatever an API writes on them."""

from collections.abc import AsyncIterator, Callable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from modelrunner.errors import ModelRunnerError
from modelrunner.events import Advanced, Event, Skipped, Started, Verified
from modelrunner.serve.client.errors import refusal_for
from modelrunner.serve.relay import while_there


async def streamed(
    request: Request,
    lines: AsyncIterator[bytes],
    failure: Callable[[str], bytes],
    *,
    media_type: str,
) -> Response:
    """Return the answer to a request for a pull, whose first line has come.

    Args:
        request: Its client is watched: the pull ends where it goes away.
        lines: The lines.
        failure: Makes the last line, of a message, where the pull fails later.
        media_type: What the lines are.

    Raises:
        ModelRunnerError: The pull failed at once, such as for a name that no registry has.
        GoneError: The client went away.
    """
    first = await while_there(request.receive, _first(lines))
    return StreamingResponse(_rest(first, lines, failure), media_type=media_type)


def layer_of(event: Event) -> tuple[str, int, int] | None:
    """Return an event's blob, its size and its stored bytes; None for other events."""
    match event:
        case Skipped(digest, size) | Verified(digest, size):
            return digest, size, size
        case Started(digest, size, done) | Advanced(digest, size, done):
            return digest, size, done
        case _:
            return None


async def _first(lines: AsyncIterator[bytes]) -> bytes:
    return await anext(lines)


async def _rest(
    first: bytes, lines: AsyncIterator[bytes], failure: Callable[[str], bytes]
) -> AsyncIterator[bytes]:
    yield first
    try:
        async for line in lines:
            yield line
    except ModelRunnerError as exc:
        yield failure(refusal_for(exc).message)
