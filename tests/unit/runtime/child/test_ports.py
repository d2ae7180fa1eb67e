"""Ports that are free, and ports that are not."""

import socket

import pytest

from modelrunner.errors import PortInUseError
from modelrunner.runtime.child.ports import free_port, require_free


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_port_that_somebody_listens_on_is_named(address):
    with socket.create_server((address, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError) as caught:
            require_free(port)
    assert caught.value.message == f"port {port} on 127.0.0.1 is already in use"
    assert caught.value.hint == "choose another port, or 0 for any free one"
    assert caught.value.facts == {"port": port}


def test_free_port_and_any_port_are_accepted():
    require_free(free_port())
    require_free(0)


def test_port_that_was_used_a_moment_ago_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            pass
    require_free(port)
