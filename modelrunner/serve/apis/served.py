"""What every API has of the server: its models, and the reading of small requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request

from modelrunner.serve.bodies.fields import InvalidBodyError, read_object
from modelrunner.serve.bodies.request import Bodies, GoneError, refusal_of
from modelrunner.serve.changes import StoreChanges
from modelrunner.serve.client.access import AccessPolicy
from modelrunner.serve.client.errors import FINAL, RefusalError
from modelrunner.serve.models import Facts, Served, not_found
from modelrunner.serve.pool import ModelPool, Slot
from modelrunner.units import format_moment, format_size

_SMALL = 16 * 1024


@dataclass(frozen=True, slots=True)
class Server:
    """What is served, and how.

    Attributes:
        pool: The models.
        policy: Who may ask, and who may change the store.
        bodies: The bodies of requests, with the limits of what clients may hold.
        end: Called when nothing is left to serve.
        store: The local store; None where only what was named at the start can be had.
    """

    pool: ModelPool
    policy: AccessPolicy
    bodies: Bodies
    end: Callable[[], None]
    store: StoreChanges | None = None

    def changing(self, request: Request) -> StoreChanges:
        """The store, for a request that changes it or downloads something.

        Raises:
            RefusalError: Whoever asks may not, or there is no store.
        """
        peer = request.client.host if request.client is not None else ""
        self.policy.check_change(peer, dict(request.scope["headers"]))
        return self.local_store()

    def local_store(self) -> StoreChanges:
        """The store, for a request that reads it.

        Raises:
            RefusalError: There is none.
        """
        if self.store is None:
            raise RefusalError(501, "this server has no local store", "unsupported", [FINAL])
        return self.store

    def slot(self, text: str) -> Slot:
        """A model by any of its names.

        Raises:
            RefusalError: None is called so: 404, which names those that there are.
        """
        model = self.pool.find(text)
        if model is None:
            raise RefusalError(404, not_found(text, self.pool.served), "not_found")
        return self.pool.slots[model.name]

    async def fields(self, request: Request, most: int = _SMALL) -> Mapping[str, object]:
        """A small JSON object; an empty body is an empty one.

        Args:
            request: Its body is read.
            most: How many bytes that may have.

        Raises:
            RefusalError: It is invalid, or not small.
        """
        try:
            async with self.bodies.read(request.scope, request.receive, most) as raw:
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


def size_of(facts: Facts) -> str | None:
    """The size of a model's files, such as `2.10GB`."""
    size = facts.size_bytes
    return None if size is None else format_size(size).replace(" ", "")


def moment(seconds: float) -> str:
    """A moment since 1970, in seconds, as a string of ISO 8601."""
    return format_moment(datetime.fromtimestamp(seconds, UTC))
