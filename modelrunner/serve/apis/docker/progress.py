"""The steps of pulls and pushes as lines of JSON, as Docker's clients draw bars of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from modelrunner.events import Event, Finished, Planned, Retrying
from modelrunner.serve.apis.pulls import layer_of
from modelrunner.units import format_size

Mode = Literal["pull", "push"]

_MEGABYTE = 1024 * 1024
_WORDS: Mapping[Mode, str] = {"pull": "Downloaded", "push": "Uploaded"}
_DONE: Mapping[Mode, str] = {
    "pull": "Model pulled successfully",
    "push": "Model pushed successfully",
}


@dataclass(slots=True)
class TransferLines:
    """Makes the lines of one pull or push.

    Attributes:
        mode: Which of them it is.
        total: Bytes of the whole model, once they are known.
        cached: Bytes of a model of which nothing had to be transferred.
    """

    mode: Mode
    total: int = 0
    cached: int | None = None

    def of(self, event: Event) -> bytes | None:
        """Return the line of an event; None for one without a line."""
        match event:
            case Planned(total_bytes=total):
                self.total = total
            case Retrying(reason=reason):
                return warning(reason, self.mode)
            case Finished(total_bytes=total) if not self.total:
                self.cached = total
        layer = layer_of(event)
        return None if layer is None else self._layer(*layer)

    def success(self) -> bytes:
        """Return the last line."""
        done = _DONE[self.mode]
        if self.mode == "pull" and self.cached is not None:
            done = f"Using cached model: {format_size(self.cached)}"
        return success(done, self.mode)

    def _layer(self, digest: str, size: int, done: int) -> bytes:
        layer = {"id": digest, "size": size, "current": done}
        message = f"{_WORDS[self.mode]}: {done / _MEGABYTE:.2f} MB"
        return _line("progress", message, self.mode, self.total, layer)


def success(message: str, mode: Mode) -> bytes:
    """Return the last line of what succeeded."""
    return _line("success", message, mode)


def warning(message: str, mode: Mode) -> bytes:
    """Return a line that clients show beside the bars."""
    return _line("warning", message, mode)


def failure(message: str, mode: Mode) -> bytes:
    """Return the last line of a pull or push that failed."""
    return _line("error", message, mode)


def _line(
    kind: str,
    message: str,
    mode: Mode,
    total: int = 0,
    layer: Mapping[str, object] | None = None,
) -> bytes:
    nothing: Mapping[str, object] = {"size": 0, "current": 0}
    value = {
        "type": kind,
        "message": message,
        "total": total,
        "layer": nothing if layer is None else layer,
        "mode": mode,
    }
    # clients take the line for HTML and replace its entities before they parse it
    return json.dumps(value).replace("&", "\\u0026").encode() + b"\n"
