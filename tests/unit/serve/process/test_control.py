"""Servers asked from the outside."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from modelrunner.errors import ModelNotFoundError
from modelrunner.serve.process.control import Stopped, states, stop
from modelrunner.serve.process.records import Record, recorded
from modelrunner.system.processes import process_start
from tests.support.serving import CONTROL_KEY, Running, Scripted, gateway, model

ONE, TWO, THREE = model("ai/one"), model("ai/two"), model("ai/three")


@contextmanager
def known(folder: Path, name: str, running: Running) -> Iterator[None]:
    """A gateway with the record of a server, which must keep a model: its process is ours."""
    record = Record(
        name=name,
        pid=os.getpid(),
        started=process_start(os.getpid()) or "",
        url=running.url,
        control_key=CONTROL_KEY,
        models=tuple(running.states()),
    )
    with recorded(folder, record):
        yield


def test_a_model_is_stopped_in_every_server_that_has_it(tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = []
        for name, models in (("1", (ONE, TWO)), ("2", (TWO, THREE)), ("3", (ONE, THREE))):
            running = stack.enter_context(gateway(Scripted(), *models))
            stack.enter_context(known(tmp_path, name, running))
            servers.append(running)
        assert stop(tmp_path, "one") == [
            Stopped(("ai/one:latest",), servers[0].url, server_ended=False),
            Stopped(("ai/one:latest",), servers[2].url, server_ended=False),
        ]
        left = [(state.url, state.model) for state in states(tmp_path)]
        assert left == [
            (servers[0].url, "ai/two:latest"),
            (servers[1].url, "ai/two:latest"),
            (servers[1].url, "ai/three:latest"),
            (servers[2].url, "ai/three:latest"),
        ]
        with pytest.raises(ModelNotFoundError, match=r"^ai/four is not being served"):
            stop(tmp_path, "ai/four")
