"""A child that reads a file out of Xet storage.

It is the one that knows `hf_xet`, the Hub's own client of that storage. It reads an order from its
standard input, a line of JSON, and writes the bytes of the file to its standard output as they
come, from the order's `start` on. Where something goes wrong, standard error says what, and the
exit code is 1.

A child, since the package brings a runtime of threads of its own: here it can be ended at any time,
and is when standard input ends, as it does where the parent was killed.
"""

import os
import sys
from shutil import rmtree
from threading import Lock, Thread
from typing import Any

from modelrunner.wire import parse_json

_PATIENCE = {
    "client.connect_timeout": "15s",
    "client.retry_base_delay": "1s",
    "client.retry_max_attempts": 2,
    "client.retry_max_duration": "30s",
}
_MEMORY = {
    "reconstruction.download_buffer_size": "64mb",
    "reconstruction.download_buffer_perfile_size": "64mb",
    "reconstruction.download_buffer_limit": "128mb",
    "reconstruction.min_prefetch_buffer": "64mb",
}
"""What it holds of what comes faster than it is taken: by default up to 6 GB."""

_SILENCE = {"telemetry.enabled": False}
"""By default it reports every transfer."""

_removing = Lock()


def main() -> int:
    """Write the file that standard input asks for."""
    order = parse_json(sys.stdin.buffer.readline())
    folder = str(order["folder"])
    Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    try:
        import hf_xet  # type: ignore[import-untyped]
    except ImportError:
        return _fail("the Python module hf_xet is not installed")
    try:
        _write(hf_xet, order)
    except BrokenPipeError:
        _remove(folder)
        return 1
    except Exception as exc:  # noqa: BLE001 - whatever the package raises
        return _fail(str(exc))
    return 0


def _write(hf_xet: Any, order: dict[str, Any]) -> None:  # noqa: ANN401 - it has no types
    patience = {"client.read_timeout": f"{order['read_timeout_s']}s"}
    config = hf_xet.XetConfig().with_config({**_PATIENCE, **patience, **_MEMORY, **_SILENCE})
    group = hf_xet.XetSession(config).new_download_stream_group(
        endpoint=order["endpoint"],
        token=order["token"],
        token_expiry_unix_secs=order["expires"],
        custom_headers={"User-Agent": order["agent"]},
    )
    file = hf_xet.XetFileInfo(order["hash"], order["size"])
    out = sys.stdout.buffer
    for block in group.download_stream(file, start=order["start"]):
        out.write(block)
    out.flush()


def _fail(reason: str) -> int:
    # what is seen of it is cleaned by the parent
    sys.stderr.write(reason[:2000])
    return 1


def _end_with_parent(folder: str) -> None:
    sys.stdin.buffer.read()
    _remove(folder)
    os._exit(1)


def _remove(folder: str) -> None:
    """Remove the logs: who would have done it may have been killed."""
    with _removing:
        rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # its threads are not waited for
    os._exit(code)
