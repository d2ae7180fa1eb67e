"""What tests do not wait for is still asked for as it would be."""

import asyncio
import os

import pytest

from modelrunner.disk.files import flush, write_atomically
from tests.support import haste


def test_what_is_open_is_flushed_and_what_is_not_fails(tmp_path):
    assert os.fsync is haste.flushed
    write_atomically(tmp_path / "file", b"content")
    with (tmp_path / "file").open() as file:
        handle = file.fileno()
        assert flush(handle) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        flush(handle)


def test_a_hasty_module_has_all_of_asyncio_but_its_pauses(monkeypatch):
    paused = []

    async def sleep(seconds):
        paused.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    hasty = haste._Hasty()
    assert hasty.Event is asyncio.Event
    asyncio.run(hasty.sleep(2))
    assert paused == [0.2]


def test_a_server_that_is_asked_to_end_looks_soon_and_only_in_the_block():
    from uvicorn import server

    with haste.gateways():
        assert server.asyncio is not asyncio
    assert server.asyncio is asyncio
