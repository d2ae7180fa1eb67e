"""API keys: which there are, and which of them a request carries."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key.

    Attributes:
        secret: What requests carry.
        name: What logs and metrics call it; empty where nobody has named it.
    """

    secret: str = field(repr=False)
    name: str = ""


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys of a server; without any, requests need none."""

    keys: tuple[ApiKey, ...] = ()

    @classmethod
    def only(cls, secret: str | None) -> "ApiKeys":
        """The keys of a server that has one, or none."""
        return cls(() if secret is None else (ApiKey(secret),))

    def __bool__(self) -> bool:
        return bool(self.keys)

    def find(self, given: Sequence[bytes]) -> ApiKey | None:
        """Return the key that is among what a request carries.

        Every key is compared, and in constant time: how long it takes says nothing about a key.
        """
        found = None
        for key in self.keys:
            if carries(given, key.secret):
                found = key
        return found


def carries(given: Sequence[bytes], secret: str) -> bool:
    """Whether a secret is among what a request carries."""
    matches = [secrets.compare_digest(each, secret.encode()) for each in given]
    return any(matches)


def carried(headers: Mapping[bytes, bytes]) -> Sequence[bytes]:
    """Return what a request has in the headers where clients put keys."""
    kind, _, value = headers.get(b"authorization", b"").partition(b" ")
    given = [value.strip()] if kind.lower() == b"bearer" else []
    return [*given, headers[b"x-api-key"].strip()] if b"x-api-key" in headers else given
