"""The pieces of a runtime's chat, for APIs that make something else of them."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.events import LongEventError, event_data
from modelrunner.serve.upstream import BrokenOffError
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_object

_LONGEST_MESSAGE = 2000


async def chat_chunks(body: AsyncIterator[bytes]) -> AsyncIterator[Mapping[str, Any]]:
    """The pieces of a stream.

    Raises:
        RefusalError: The runtime says that it has failed.
        BrokenOffError: It sends what is not a stream.
    """
    try:
        async for data in event_data(body):
            if data == b"[DONE]":
                continue
            chunk = parse_object(data)
            error = chunk.get("error")
            if error:
                said = error.get("message") if isinstance(error, dict) else error
                message = sanitize_line(str(said), _LONGEST_MESSAGE)
                raise RefusalError(500, message, "runtime_failed")
            yield chunk
    except (ValueError, LongEventError) as exc:
        raise BrokenOffError(str(exc)) from exc
