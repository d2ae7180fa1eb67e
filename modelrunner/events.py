"""Events of a transfer, as data.

A `Listener` is any callable that takes an `Event`. Calls are serialized: a listener needs no lock.
Events are named tuples, which every start of a transfer makes five times faster than dataclasses.
"""

from collections.abc import Callable
from typing import NamedTuple


class Planned(NamedTuple):
    """The size of a transfer is known: in total, already stored, and resumed."""

    reference: str
    total_bytes: int
    present_bytes: int
    resumed_bytes: int


class Skipped(NamedTuple):
    """A blob is in the store already."""

    digest: str
    size: int
    title: str


class Waiting(NamedTuple):
    """Another process is downloading this blob; this one waits for it."""

    digest: str
    title: str


class Started(NamedTuple):
    """The transfer of a blob begins; `resumed` bytes of it were stored by an earlier one."""

    digest: str
    size: int
    resumed: int
    title: str


class Advanced(NamedTuple):
    """`done` bytes of a blob are in the store, resumed ones included."""

    digest: str
    size: int
    done: int


class Retrying(NamedTuple):
    """A request failed temporarily; it is repeated after `delay` seconds.

    `digest` is empty if the request was not for a blob.
    """

    digest: str
    reason: str
    attempt: int
    delay: float


class Verified(NamedTuple):
    """A blob is complete and matches its digest."""

    digest: str
    size: int


class Unpacking(NamedTuple):
    """All blobs have come, and archives of `size` bytes among them are unpacked."""

    reference: str
    size: int


class Finished(NamedTuple):
    """The model is complete and has its name."""

    reference: str
    digest: str
    total_bytes: int


Event = (
    Planned | Skipped | Waiting | Started | Advanced | Retrying | Verified | Unpacking | Finished
)
Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Ignore an event."""
