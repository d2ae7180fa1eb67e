"""The steps of a pull as lines of JSON, in the form that Docker's clients draw bars of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from modelrunner.events import Event, Finished, Planned, Retrying
from modelrunner.serve.apis.pulls import layer_of
from modelrunner.units import format_size

_MEGABYTE = 1024 * 1024


@dataclass(slots=True)
class PullLines:
    """Makes the lines of one pull.

    Attributes:
        total: Bytes of the whole model, once they are known.
        cached: Bytes of a model of which nothing had to be transferred.
    """

    total: int = 0
    cached: int | None = None

    def of(self, event: Event) -> bytes | None:
        """Return the line of an event; None for one without a line."""
        match event:
            case Planned(total_bytes=total):
                self.total = total
            case Retrying(reason=reason):
                return warning(reason)
            case Finished(total_bytes=total) if not self.total:
                self.cached = total
        layer = layer_of(event)
        return None if layer is None else self._layer(*layer)

    def success(self) -> bytes:
        """Return the last line."""
        done = "Model pulled successfully"
        if self.cached is not None:
            done = f"Using cached model: {format_size(self.cached)}"
        return _line("success", done)

    def _layer(self, digest: str, size: int, done: int) -> bytes:
        layer = {"id": digest, "size": size, "current": done}
        return _line("progress", f"Downloaded: {done / _MEGABYTE:.2f} MB", self.total, layer)


def warning(message: str) -> bytes:
    """Return a line that clients show beside the bars."""
    return _line("warning", message)


def failure(message: str) -> bytes:
    """Return the last line of a pull that failed."""
    return _line("error", message)


def _line(
    kind: str, message: str, total: int = 0, layer: Mapping[str, object] | None = None
) -> bytes:
    nothing: Mapping[str, object] = {"size": 0, "current": 0}
    value = {
        "type": kind,
        "message": message,
        "total": total,
        "layer": nothing if layer is None else layer,
        "mode": "pull",
    }
    return json.dumps(value).encode() + b"\n"
