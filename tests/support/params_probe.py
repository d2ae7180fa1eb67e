"""A child process that prints what llama.cpp would be given for `LaunchSpec`s, in two ways.

Reads a list of specs on stdin, each as `handshake.dump` writes it; prints for each the parameters
that our own mapping makes, and those that llama.cpp's parser makes of the arguments for
`llama-server`.
"""

import json
import os
import sys
from collections.abc import Iterator
from io import StringIO

from modelrunner.runtime.backends import xllamacpp as backend
from modelrunner.runtime.child import handshake

OPEN = {"mmproj", "model", "sampling", "speculative", "cpuparams", "cpuparams_batch"}
"""Those that hold others."""

# what the parser sets from the terminal, and what has no effect on the server
IGNORED = {"use_color", "hostnames", "api_keys", "usage", "cors_origins_explicit"}


def leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    for name in dir(value):
        if name.startswith("_") or name in IGNORED:
            continue
        try:
            found = getattr(value, name)
        except Exception:  # noqa: BLE001 - some cannot be read
            continue
        if callable(found):
            continue
        where = f"{path}{name}"
        if name in OPEN or (path.startswith("speculative") and not is_plain(found)):
            yield from leaves(found, f"{where}.")
        elif name == "lora_adapters":
            yield where, [(each.path, each.scale) for each in found]
        else:
            yield where, found if is_plain(found) else repr(found)


def is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str | list | dict | set | tuple) or value is None


def main() -> None:
    found = []
    for text in json.load(sys.stdin):
        spec = handshake.receive(StringIO(text))
        before = dict(os.environ)
        pair = [dict(leaves(make(spec), "")) for make in (backend._params, backend._parsed)]
        os.environ.clear()
        os.environ.update(before)
        found.append(pair)
    # of llama.cpp's own words, nothing is to be between
    sys.stdout.write("\n" + json.dumps(found, default=repr, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
