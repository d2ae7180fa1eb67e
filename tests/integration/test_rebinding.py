"""A name server that changes its mind: what is connected to is what was judged."""

import socket

import pytest

from modelrunner.errors import RegistryAnswerError, TransferError
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling
from tests.support.registry import Cdn, Registry

MODEL = docker_artifact(b"GGUF weights" * 1000)


@pytest.fixture
def registry():
    with Registry() as registry:
        registry.add(MODEL, "team/model", tags=["1"])
        yield registry


@pytest.fixture
def name_server(monkeypatch):
    """Gives the names below `.test` the addresses of a list, one after the other, then the last."""
    answers: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def look_up(host, *arguments, **named):
        left = answers.get(host)
        if left is None:
            return real(host, *arguments, **named)
        return real(left.pop(0) if len(left) > 1 else left[0], *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers


def send_to(registry, host, port):
    """The registry sends those who want blobs there."""
    registry.redirect_to(f"http://{host}:{port}/somewhere", on="blob", times=None)


@pytest.mark.parametrize("public_answers", [1, 2, 3])
def test_redirect_to_a_name_that_becomes_link_local_is_not_connected_to(
    store, registry, name_server, public_answers, monkeypatch
):
    connected = []
    connect = socket.socket.connect
    monkeypatch.setattr(
        socket.socket,
        "connect",
        lambda self, place: (connected.append(place[0]), connect(self, place))[1],
    )
    name_server["cdn.test"] = ["127.0.0.1"] * public_answers + ["169.254.169.254"]
    with Cdn() as cdn:
        send_to(registry, "cdn.test", cdn.port)
        with pytest.raises(TransferError):
            Pulling(store).pull(registry.reference("team/model:1"))
    assert "169.254.169.254" not in connected


def test_refusal_says_where_the_redirect_led(store, registry, name_server):
    name_server["cdn.test"] = ["127.0.0.1", "169.254.169.254"]
    send_to(registry, "cdn.test", 80)
    with pytest.raises(RegistryAnswerError, match=r"cdn\.test, a link-local address: not followed"):
        Pulling(store).pull(registry.reference("team/model:1"))


def test_name_that_is_judged_well_is_connected_to_at_that_address(store, registry, name_server):
    name_server["cdn.test"] = ["127.0.0.1"]
    with Cdn() as cdn:
        registry.redirect_blobs(to=cdn)
        link = cdn.link
        cdn.link = lambda *given, **named: link(*given, **named).replace("127.0.0.1", "cdn.test")
        assert Pulling(store).pull(registry.reference("team/model:1")).status == "pulled"
        assert {request.headers["Host"] for request in cdn.requests} == {f"cdn.test:{cdn.port}"}
