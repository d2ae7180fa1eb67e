"""What every API has of the server: its models, and the reading of small requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request

from modelrunner.serve.client.errors import RefusalError
from modelrunner.serve.client.fields import InvalidBodyError, read_object
from modelrunner.serve.client.request import Bodies, GoneError, refusal_of
from modelrunner.serve.models import Served, find
from modelrunner.serve.pool import ModelPool, Slot
from modelrunner.text import listed
from modelrunner.units import format_moment, format_size

_SMALL = 16 * 1024


@dataclass(frozen=True, slots=True)
class Server:
    """What is served, and how.

    Attributes:
        pool: The models.
        bodies: The bodies of requests, with the limits of what clients may hold.
        end: Called when nothing is left to serve.
    """

    pool: ModelPool
    bodies: Bodies
    end: Callable[[], None]

    def slot(self, text: str) -> Slot:
        """A model by any of its names.

        Raises:
            RefusalError: None is called so: 404, which names those that there are.
        """
        model = find(self.pool.served, text)
        if model is None:
            names = listed([each.name for each in self.pool.served])
            raise RefusalError(
                404, f"model not found: {text[:200]}; this server has {names}", "not_found"
            )
        return self.pool.slots[model.name]

    async def fields(self, request: Request) -> Mapping[str, object]:
        """A small JSON object; an empty body is an empty one.

        Raises:
            RefusalError: It is invalid, or not small.
        """
        try:
            async with self.bodies.read(request.scope, request.receive, _SMALL) as raw:
                return read_object(raw or b"{}")
        except InvalidBodyError as exc:
            raise refusal_of(exc) from exc
        except GoneError as exc:
            raise RefusalError(499, "the client closed the connection", "gone") from exc


def capabilities_of(model: Served) -> list[str] | None:
    """What a model can do, in Docker Model Runner's words; None where nothing says it."""
    known = model.facts.capabilities
    if known is None:
        return None
    return [*(["chat"] if known.chat else []), *known.words]


def size_of(model: Served) -> str | None:
    """The size of a model's files, such as `2.10GB`."""
    size = model.facts.size_bytes
    return None if size is None else format_size(size).replace(" ", "")


def moment(seconds: float) -> str:
    """A moment since 1970, in seconds, as a string of ISO 8601."""
    return format_moment(datetime.fromtimestamp(seconds, UTC))
