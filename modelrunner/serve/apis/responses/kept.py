"""Responses that were answered, for as long as there is room: what the next request may refer to.

In memory alone: they end with the server. Each belongs to the API key of its request.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

_MOST = 1000
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class KeptItem:
    """An item of input or output; one that several responses have is held once.

    Attributes:
        name: Its ID.
        raw: The item as JSON.
    """

    name: str
    raw: bytes


@dataclass(frozen=True, slots=True, eq=False)
class KeptResponse:
    """A response.

    Attributes:
        name: Its ID.
        raw: The response as JSON.
        items: Its whole input, with what came of earlier responses.
        output: Its output.
    """

    name: str
    raw: bytes
    items: tuple[KeptItem, ...]
    output: tuple[KeptItem, ...]

    @property
    def conversation(self) -> tuple[KeptItem, ...]:
        """Everything that a response after this one begins with."""
        return (*self.items, *self.output)


@dataclass(slots=True)
class KeptResponses:
    """What is kept, the oldest first.

    Attributes:
        most: Responses of all clients together.
        most_bytes: Bytes of them.
        size: Bytes that there are.
    """

    most: int = _MOST
    most_bytes: int = _MOST_BYTES
    size: int = 0
    _responses: "OrderedDict[tuple[str, str], KeptResponse]" = field(default_factory=OrderedDict)
    _uses: "Counter[KeptItem]" = field(default_factory=Counter)
    _items: dict[tuple[str, str], KeptItem] = field(default_factory=dict)

    def add(self, owner: str, response: KeptResponse) -> None:
        """Keep a response; the oldest ones make room."""
        self._responses[owner, response.name] = response
        self.size += len(response.raw)
        for item in response.conversation:
            self._uses[item] += 1
            if self._uses[item] == 1:
                self.size += len(item.raw)
            self._items[owner, item.name] = item
        while len(self._responses) > self.most or self.size > self.most_bytes:
            self._remove(next(iter(self._responses)))

    def find(self, owner: str, name: str) -> KeptResponse | None:
        """The response of a client; None where it is not kept, or another's."""
        return self._responses.get((owner, name))

    def find_item(self, owner: str, name: str) -> KeptItem | None:
        """An item of a client's responses."""
        return self._items.get((owner, name))

    def remove(self, owner: str, name: str) -> bool:
        """Forget a response; whether it was there."""
        if (owner, name) not in self._responses:
            return False
        self._remove((owner, name))
        return True

    def _remove(self, key: tuple[str, str]) -> None:
        owner, _ = key
        response = self._responses.pop(key)
        self.size -= len(response.raw)
        for item in response.conversation:
            self._uses[item] -= 1
            if self._uses[item]:
                continue
            del self._uses[item]
            self.size -= len(item.raw)
            if self._items.get((owner, item.name)) is item:
                del self._items[owner, item.name]
