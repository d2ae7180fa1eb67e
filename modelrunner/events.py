"""Events of a transfer, as data.

A `Listener` is any callable that takes an `Event`. Calls are serialized: a listener needs no lock.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Planned:
    """The size of a transfer is known: in total, already stored, and resumed."""

    reference: str
    total_bytes: int
    present_bytes: int
    resumed_bytes: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A blob is in the store already."""

    digest: str
    size: int
    title: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another process is downloading this blob; this one waits for it."""

    digest: str
    title: str


@dataclass(frozen=True, slots=True)
class Started:
    """The transfer of a blob begins; `resumed` bytes of it were stored by an earlier one."""

    digest: str
    size: int
    resumed: int
    title: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """`done` bytes of a blob are in the store, resumed ones included."""

    digest: str
    size: int
    done: int


@dataclass(frozen=True, slots=True)
class Retrying:
    """A request failed temporarily; it is repeated after `delay` seconds.

    `digest` is empty if the request was not for a blob.
    """

    digest: str
    reason: str
    attempt: int
    delay: float


@dataclass(frozen=True, slots=True)
class Verified:
    """A blob is complete and matches its digest."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The model is complete and has its name."""

    reference: str
    digest: str
    total_bytes: int


Event = Planned | Skipped | Waiting | Started | Advanced | Retrying | Verified | Finished
Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Ignore an event."""
