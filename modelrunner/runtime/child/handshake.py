"""How a `LaunchSpec` reaches a server that is a Python program, and how the server answers.

The spec goes in as one JSON object on stdin, so that its key is in no argv and no environment; the
answer comes back as one JSON line on its own file descriptor, so that no library that prints can
spoil it:

    {"url": "http://127.0.0.1:40123", "context": 4096}
"""

import json
import os
from pathlib import Path
from typing import Any, TextIO

from modelrunner.frozen import asdict, frozen
from modelrunner.runtime.base import PATHS, LaunchSpec, LoraAdapter
from modelrunner.runtime.child.supervisor import ANNOUNCEMENT_FD
from modelrunner.runtime.sampling import Sampling
from modelrunner.wire import parse_json


@frozen
class Announcement:
    """A server's only line: where it listens, and the context it has, if it says."""

    url: str
    context: int | None = None


def dump(spec: LaunchSpec) -> str:
    """The spec as JSON; its paths become absolute, for a child that starts elsewhere."""
    fields: dict[str, Any] = asdict(spec)
    for name in PATHS:
        if fields[name] is not None:
            fields[name] = str(Path(fields[name]).absolute())
    for adapter in fields["adapters"]:
        adapter["path"] = str(Path(adapter["path"]).absolute())
    return json.dumps(fields)


def receive(stream: TextIO) -> LaunchSpec:
    """The spec that `dump` wrote, read in the child."""
    fields = parse_json(stream.read())
    for name in PATHS:
        if fields[name] is not None:
            fields[name] = Path(fields[name])
    for name in ("raw_flags", "devices", "tensor_split"):
        fields[name] = tuple(fields[name])
    fields["adapters"] = tuple(
        LoraAdapter(Path(entry["path"]), entry["scale"]) for entry in fields["adapters"]
    )
    fields["sampling"] = Sampling(**fields["sampling"])
    return LaunchSpec(**fields)


def announce(announcement: Announcement) -> None:
    """Say, in the child, that it listens."""
    os.write(ANNOUNCEMENT_FD, json.dumps(asdict(announcement)).encode() + b"\n")


def parse_line(line: str) -> Announcement:
    """The announcement in a child's line."""
    return Announcement(**parse_json(line))
