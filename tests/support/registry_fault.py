"""One armed fault: what it does, which requests it is for, how often it has struck."""

import threading
from dataclasses import dataclass, field
from typing import Any, TypedDict

from tests.support.registry_messages import Request


class Aim(TypedDict, total=False):
    """Which requests a fault is for."""

    on: str
    method: str
    digest: str
    reference: str
    skip: int


@dataclass(slots=True, eq=False)
class Fault:
    """One armed fault."""

    name: str
    value: Any
    times: int | None
    on: str = "any"
    method: str = ""
    digest: str = ""
    reference: str = ""
    skip: int = 0
    hits: int = 0
    _happened: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout: float = 10) -> None:
        """Return when the fault has struck: when the body stands still, when the line is cut."""
        if not self._happened.wait(timeout):
            raise TimeoutError(f"the fault {self.name} did not strike in {timeout} s")

    def strike(self) -> None:
        self._happened.set()

    def concerns(self, request: Request, digest: str) -> bool:
        return (
            (self.times is None or self.hits < self.times)
            and self.on in {"any", request.kind}
            and self.method in {"", request.method}
            and self.digest in {"", digest}
            and self.reference in {"", request.reference}
        )


class HangUp(Exception):  # noqa: N818 - no error: it is what was ordered
    """The connection ends here, with a reset or in the middle of a body."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset
