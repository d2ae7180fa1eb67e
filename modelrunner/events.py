"""What happens during a transfer, as data: core emits events, the command line draws them.

A `Listener` is any callable that takes an `Event`. Calls are serialised: a listener needs no lock.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Planned:
    """The transfer is known: how much there is, here already, and to come."""

    reference: str
    total_bytes: int
    present_bytes: int
    resumed_bytes: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A blob that is there already."""

    digest: str
    size: int
    title: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Another process is fetching this blob: it is waited for."""

    digest: str
    title: str


@dataclass(frozen=True, slots=True)
class Started:
    """A blob begins to move; `resumed` bytes of it are here from an earlier try."""

    digest: str
    size: int
    resumed: int
    title: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """`done` bytes of a blob are here, all told."""

    digest: str
    size: int
    done: int


@dataclass(frozen=True, slots=True)
class Retrying:
    """A try failed in a way that may pass; the next one starts after `delay` seconds.

    `digest` is empty where no blob was asked for, but a manifest or a list.
    """

    digest: str
    reason: str
    attempt: int
    delay: float


@dataclass(frozen=True, slots=True)
class Verified:
    """A blob is complete and hashes to its name."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The whole transfer is done and named."""

    reference: str
    digest: str
    total_bytes: int


Event = Planned | Skipped | Waiting | Started | Advanced | Retrying | Verified | Finished
Listener = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """The listener that hears nothing."""
