"""Servers that run, from the outside: what they serve, and how they are made to end."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from modelrunner.errors import ModelNotFoundError, RuntimeFailedError
from modelrunner.runtime.child import probe
from modelrunner.serve.process.records import CONTROL, Record, running
from modelrunner.text import sanitize_line

_ASK_S = 10.0
_END_S = 10.0
_TICK_S = 0.05
_OK = 200
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """A model that is served, as its server reports it; None if unknown."""

    model: str
    url: str
    id: str | None = None
    kind: str | None = None
    runtime: str | None = None
    state: str = "unreachable"
    memory_bytes: int | None = None
    context: int | None = None
    requests: int | None = None
    until: str | None = None
    pid: int | None = None
    server_pid: int
    log: str | None = None
    placement: Mapping[str, Any] | None = None

    @property
    def processor(self) -> str:
        """Where the layers are, in two words; empty where that is not known."""
        found = self.placement or {}
        some, count = found.get("gpu_layers"), found.get("layers")
        if not isinstance(some, int):
            return ""
        if not some:
            return "CPU"
        return "GPU" if some == count else f"GPU {some}/{count}"

    @classmethod
    def parse(cls, record: Record, value: Mapping[str, Any]) -> Self:
        """What a server says of one model."""
        known = {field.name for field in fields(cls)} - {"url", "server_pid"}
        said = {name: entry for name, entry in value.items() if name in known}
        return cls(url=record.url, server_pid=record.pid, **said)

    def to_dict(self) -> dict[str, object]:
        """The state as JSON has it."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Stopped:
    """What was stopped: models, and whether the server ended with them."""

    models: tuple[str, ...]
    url: str
    server_ended: bool

    def to_dict(self) -> dict[str, object]:
        """The same as JSON has it."""
        return {"models": list(self.models), "url": self.url, "server_ended": self.server_ended}


def states(folder: Path) -> list[ModelState]:
    """Every model that is served."""
    return [state for record in running(folder) for state in _states(record)]


def stop(folder: Path, text: str) -> list[Stopped]:
    """Stop a model wherever it is served; with its last model a server ends.

    Raises:
        ModelNotFoundError: No server has it.
        RuntimeFailedError: A server does not answer.
    """
    records = running(folder)
    stopped = []
    for record in records:
        answer = _post(record, "stop", {"model": text})
        if answer.status == _OK:
            ended = not answer.body["left"]
            if ended:
                _wait_for_end(record)
            stopped.append(Stopped((str(answer.body["stopped"]),), record.url, ended))
        elif answer.status != _NOT_FOUND:
            raise _deaf(record)
    if stopped:
        return stopped
    served = [model for record in records for model in _names(record)]
    raise ModelNotFoundError(
        f"{sanitize_line(text, 200)} is not being served",
        hint=f"served models: {', '.join(served)}"
        if served
        else "`modelrunner ps` lists served models: none now",
        served=served,
    )


def stop_all(folder: Path) -> list[Stopped]:
    """Ends every server, and with it its models."""
    records = running(folder)
    names = [tuple(_names(record)) for record in records]
    for record in records:
        # all at once: each takes some seconds
        _signal(record, signal.SIGTERM)
    for record in records:
        _wait_for_end(record)
    return [
        Stopped(models, record.url, server_ended=True)
        for models, record in zip(names, records, strict=True)
    ]


def end(record: Record) -> None:
    """End one server, and with it its models."""
    _signal(record, signal.SIGTERM)
    _wait_for_end(record)


def _states(record: Record) -> list[ModelState]:
    answer = probe.get(
        f"{record.local_url}{CONTROL}models",
        api_key=record.control_key,
        timeout_s=_ASK_S,
        fingerprint=record.fingerprint,
    )
    if answer is None or answer.status != _OK or not isinstance(answer.body, list):
        return [
            ModelState(model=name, url=record.url, server_pid=record.pid) for name in record.models
        ]
    return [ModelState.parse(record, entry) for entry in answer.body]


def _names(record: Record) -> Sequence[str]:
    return [state.model for state in _states(record)]


def _post(record: Record, what: str, value: Mapping[str, object]) -> probe.Answer:
    """Tells a server something; ending a runtime takes it some seconds.

    Raises:
        RuntimeFailedError: It does not answer.
    """
    url = f"{record.local_url}{CONTROL}{what}"
    answer = probe.post(
        url,
        value,
        api_key=record.control_key,
        timeout_s=_ASK_S,
        fingerprint=record.fingerprint,
    )
    if answer is None or not isinstance(answer.body, dict):
        raise _deaf(record)
    return answer


def _deaf(record: Record) -> RuntimeFailedError:
    return RuntimeFailedError(
        f"no response from the server at {record.url}",
        hint="stop it with `modelrunner stop --all`",
        pid=record.pid,
    )


def _wait_for_end(record: Record) -> None:
    """Waits for a server's end; one that does not come to it is made to."""
    end = time.monotonic() + _END_S
    while record.runs():
        if time.monotonic() > end:
            # the guards end its runtimes
            _signal(record, signal.SIGKILL)
            return
        time.sleep(_TICK_S)


def _signal(record: Record, number: signal.Signals) -> None:
    if record.runs():
        with suppress(ProcessLookupError):
            os.kill(record.pid, number)
