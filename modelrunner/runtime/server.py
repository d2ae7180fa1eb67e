"""A model being served: where, with which key, whether it is ready, and how to end it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

Progress = Callable[[float | None], None]
"""Hears, a few times a second, the fraction of the load that is done; None where unknown."""


def unheard(_fraction: float | None) -> None:
    """The progress that nobody follows."""


class Server(ABC):
    """An OpenAI-compatible endpoint; leaving its `with` block ends it.

    Attributes:
        name: The runtime that serves it.
        api_key: What requests carry as `Authorization: Bearer ...`; empty where none is asked for.
        log: The file with everything that the server prints, if there is one.
        context: Tokens of one conversation as the server itself says once it is ready; it may be
            less than asked for, where the model was trained for less. None where it does not say.
    """

    name: str
    api_key: str
    log: Path | None = None
    context: int | None = None

    @property
    @abstractmethod
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`.

        Raises:
            RuntimeFailedError: The server is not ready, and its port not known yet.
        """

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The process whose end is the server's end; None where it is not ours."""

    @abstractmethod
    def wait_until_ready(self, deadline_s: float, on_progress: Progress = unheard) -> None:
        """Return when the model answers; a server that does not get there is stopped.

        Raises:
            RuntimeFailedError: The runtime refused the model, died, or took longer than that.
            PortInUseError: Somebody else took the port.
        """

    @abstractmethod
    def alive(self) -> bool:
        """Whether the process runs, or, where it is not ours, the endpoint answers."""

    @abstractmethod
    def stop(self) -> None:
        """End the server and everything that it started. Doing it twice does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
