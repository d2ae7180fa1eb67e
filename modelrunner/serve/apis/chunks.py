"""The pieces of a runtime's chat, for APIs that make something else of them."""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.events import LongEventError, event_data
from modelrunner.serve.upstream import BrokenOffError
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_object

_LONGEST_MESSAGE = 2000

Chunk = Mapping[str, Any]
E_co = TypeVar("E_co", covariant=True)


class Taker(Protocol[E_co]):
    """An answer of an API, made of the pieces of a chat."""

    finish: str | None
    """Why the runtime ended; None while it has not."""

    def take(self, chunk: Chunk) -> Iterator[E_co]:
        """Return what a piece comes to."""
        ...


async def taken(answer: Taker[E_co], body: AsyncIterator[bytes]) -> AsyncIterator[list[E_co]]:
    """Have an answer take a stream; yields what each piece comes to.

    Raises:
        RefusalError: The runtime says that it has failed.
        BrokenOffError: It sends what is not a stream, or none that is complete.
    """
    async for chunk in _chunks(body):
        yield list(answer.take(chunk))
    if answer.finish is None:
        raise BrokenOffError("incomplete answer")


def choice_in(chunk: Chunk) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the answer of a piece, the only one that is asked for, and what it adds to it."""
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    return choice, choice.get("delta") or {}


async def _chunks(body: AsyncIterator[bytes]) -> AsyncIterator[Chunk]:
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
